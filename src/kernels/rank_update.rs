//! Sums of outer products, on parts of matrices.

use super::bindings::rank_update::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::f32_tensor;
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::rank_update::{Format, Params};

/// Side of a workgroup's tile.
const TILE: usize = 64;

/// A part of an f32 matrix: from this row and column on.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// The matrix.
    pub tensor: &'a DeviceTensor,
    /// First row.
    pub row: usize,
    /// First column.
    pub col: usize,
}

impl<'a> Part<'a> {
    /// The part of `tensor` from `row` and `col` on.
    #[must_use]
    pub fn new(tensor: &'a DeviceTensor, row: usize, col: usize) -> Self {
        Self { tensor, row, col }
    }

    /// Refuses a matrix that does not hold `rows` x `cols` from here, or is too large for the shader's indices.
    fn holds(&self, name: &'static str, rows: usize, cols: usize) -> Result<()> {
        f32_tensor("rank_update", name, self.tensor)?;
        let shape = self.tensor.shape;
        let within = |first: usize, count: usize, all: usize| first.checked_add(count).is_some_and(|end| end <= all);
        let inside = within(self.row, rows, shape.rows()) && within(self.col, cols, shape.cols());
        if !inside || u32::try_from(shape.rows() * shape.cols()).is_err() {
            let what = format!("{rows} x {cols} from {}, {} of {shape}", self.row, self.col);
            return Err(Error::argument(format!("rank_update: `{name}`"), what));
        }
        Ok(())
    }

    /// Do its rows begin with whole vec4s?
    fn in_quads(&self) -> bool {
        self.tensor.shape.cols().is_multiple_of(4) && self.col.is_multiple_of(4)
    }

    fn first(&self) -> u32 {
        (self.row * self.tensor.shape.cols() + self.col) as u32
    }
}

/// What [`rank_update`] does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Update {
    /// Rows of c's part.
    pub rows: usize,
    /// Columns of c's part.
    pub cols: usize,
    /// Outer products added up.
    pub depth: usize,
    /// a's part is `[rows, depth]`, not `[depth, rows]`.
    pub by_rows: bool,
    /// Subtract.
    pub minus: bool,
    /// Overwrite c.
    pub fresh: bool,
    /// Leave tiles of 64 x 64 alone that lie wholly above the diagonal of c's part.
    pub lower: bool,
}

/// `c ± a · b` into `c`, in f32 and in the order of the depth.
///
/// Parts of f32 matrices: `a` `[depth, rows]` (or `[rows, depth]`), `b` `[depth, cols]`, `c` `[rows, cols]`.
///
/// # Errors
/// [`Error::Argument`] or [`Error::DType`] naming the argument at fault.
pub fn rank_update(plan: &mut Plan, a: Part<'_>, b: Part<'_>, c: Part<'_>, how: &Update) -> Result<()> {
    let (a_rows, a_cols) = if how.by_rows { (how.rows, how.depth) } else { (how.depth, how.rows) };
    a.holds("a", a_rows, a_cols)?;
    b.holds("b", how.depth, how.cols)?;
    c.holds("c", how.rows, how.cols)?;
    let stride = |part: &Part<'_>| part.tensor.shape.cols() as u32;
    let params = Params {
        rows: how.rows as u32,
        cols: how.cols as u32,
        depth: how.depth as u32,
        a_first: a.first(),
        a_stride: stride(&a),
        a_by_rows: how.by_rows.into(),
        b_first: b.first(),
        b_stride: stride(&b),
        c_first: c.first(),
        c_stride: stride(&c),
        sign: if how.minus { -1.0 } else { 1.0 },
        fresh: how.fresh.into(),
        lower: how.lower.into(),
    };
    let grid = Grid::linear(how.rows.div_ceil(TILE) * how.cols.div_ceil(TILE));
    let whole = how.rows.is_multiple_of(4) && how.cols.is_multiple_of(4);
    let format = if whole && [a, b, c].iter().all(Part::in_quads) { Format::Quads } else { Format::Any };
    launch(plan, format, params, Bindings { a: a.tensor, b: b.tensor, c: c.tensor }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "rank_update", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("rows", 1.0), ("cols", 1.0), ("depth", 1.0)] },
    Case {
        name: "part_past_a_tile",
        args: &[("rows", 65.0), ("cols", 67.0), ("depth", 33.0), ("row", 3.0), ("col", 5.0), ("minus", 1.0)],
    },
    Case {
        name: "by_rows",
        args: &[("rows", 70.0), ("cols", 37.0), ("depth", 19.0), ("row", 2.0), ("col", 7.0), ("by_rows", 1.0)],
    },
    Case { name: "fresh", args: &[("rows", 40.0), ("cols", 130.0), ("depth", 48.0), ("fresh", 1.0)] },
    Case {
        name: "lower_of_a_cholesky_step",
        args: &[("rows", 200.0), ("cols", 200.0), ("depth", 128.0), ("minus", 1.0), ("lower", 1.0)],
    },
    Case { name: "one_quad", args: &[("rows", 4.0), ("cols", 4.0), ("depth", 1.0), ("pad", 4.0)] },
    Case {
        name: "quads_past_a_tile",
        args: &[
            ("rows", 68.0),
            ("cols", 72.0),
            ("depth", 33.0),
            ("row", 3.0),
            ("col", 8.0),
            ("pad", 4.0),
            ("minus", 1.0),
        ],
    },
    Case {
        name: "quads_by_rows",
        args: &[
            ("rows", 72.0),
            ("cols", 36.0),
            ("depth", 20.0),
            ("row", 2.0),
            ("col", 4.0),
            ("pad", 4.0),
            ("by_rows", 1.0),
        ],
    },
    Case {
        name: "quads_fresh",
        args: &[("rows", 40.0), ("cols", 132.0), ("depth", 48.0), ("pad", 4.0), ("fresh", 1.0)],
    },
    Case {
        name: "quads_lower",
        args: &[("rows", 200.0), ("cols", 200.0), ("depth", 128.0), ("pad", 4.0), ("minus", 1.0), ("lower", 1.0)],
    },
    Case {
        name: "quads_upper_by_rows",
        args: &[("rows", 132.0), ("cols", 200.0), ("depth", 31.0), ("pad", 8.0), ("by_rows", 1.0)],
    },
];

fn setup(s: &mut Setup, args: &Args) -> Result<()> {
    let flag = |name| args.get(name).is_some_and(|v| v != 0.0);
    let (row, col) = (args.get("row").unwrap_or(0.0) as usize, args.get("col").unwrap_or(0.0) as usize);
    let how = Update {
        rows: args.usize("rows"),
        cols: args.usize("cols"),
        depth: args.usize("depth"),
        by_rows: flag("by_rows"),
        minus: flag("minus"),
        fresh: flag("fresh"),
        lower: flag("lower"),
    };
    let (a_rows, a_cols) = if how.by_rows { (how.rows, how.depth) } else { (how.depth, how.rows) };
    // Columns beyond the parts, other ones for each matrix; with `pad` such that rows are of whole vec4s.
    let pad = args.get("pad").map(|pad| pad as usize);
    let width = |cols: usize, n: usize| pad.map_or(col + cols + n, |pad| (col + cols).next_multiple_of(4) + n * pad);
    let a = s.input([row + a_rows, width(a_cols, 1)], Fill::Outliers)?;
    let b = s.input([row + how.depth, width(how.cols, 2)], Fill::Normal(1.0))?;
    let c = s.state("c", [row + how.rows, width(how.cols, 3)], Fill::Normal(1.0))?;
    let part = |tensor| Part::new(tensor, row, col);
    rank_update(s.plan(), part(&a), part(&b), part(&c), &how)
}

fn work(a: &Args) -> Work {
    let (rows, cols, depth) = (a.usize("rows"), a.usize("cols"), a.usize("depth"));
    Work { bytes: 4 * (depth * (rows + cols) + 2 * rows * cols), ops: 2 * rows * cols * depth }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::tensor::DType;

    /// Rows and columns that no number counts are not there, either.
    #[test]
    fn parts_that_begin_beyond_everything_are_refused() {
        let device = Device::Cpu;
        let (t, c) = (device.alloc(DType::F32, [4, 4]).unwrap(), device.alloc(DType::F32, [4, 4]).unwrap());
        let how = Update { rows: 4, cols: 4, depth: 4, ..Update::default() };
        let part = |row, col| Part::new(&t, row, col);
        for (row, col) in [(usize::MAX - 1, 0), (0, usize::MAX - 1), (1, 0)] {
            let error = rank_update(&mut Plan::new(&device), part(row, col), part(0, 0), Part::new(&c, 0, 0), &how);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("rank_update: `a`"), "{error}");
        }
    }
}
