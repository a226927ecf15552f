//! Rows of an embedding table stored as floats.

use super::bindings::embed::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::embed::{Format, Params};
use crate::tensor::DType;

/// Which rows of the vocabulary a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePart {
    /// The id of its first row.
    pub first: usize,
    /// Rows of the whole table.
    pub vocab: usize,
}

impl TablePart {
    /// All of `vocab` rows.
    #[must_use]
    pub fn whole(vocab: usize) -> Self {
        Self { first: 0, vocab }
    }

    /// Refuses a table of no rows, and one of `held` rows that are not in the vocabulary.
    pub(super) fn check(self, what: &'static str, held: usize) -> Result<()> {
        let Self { first, vocab } = self;
        if held == 0 {
            return Err(Error::argument(what, "it has no rows"));
        }
        if first.checked_add(held).is_none_or(|end| end > vocab) {
            return Err(Error::argument(what, format!("{held} rows from {first} of a table of {vocab}")));
        }
        Ok(())
    }
}

/// `out[r] = table[ids[r] - part.first]`.
///
/// `ids`: `[rows]` u32, below `vocab` (checked where ids enter; others take the last row);
/// `table`: `[part.rows, cols]` f32, f16 or bf16; `out`: `[rows, cols]` f32.
/// Rows of `out` whose ids are not in the part are left alone: a table larger than a binding takes a launch for each part.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for an empty table, or a part beyond
/// the vocabulary.
pub fn embed(
    plan: &mut Plan,
    ids: &DeviceTensor,
    table: &DeviceTensor,
    part: TablePart,
    out: &DeviceTensor,
) -> Result<()> {
    expect_dtype("embed", "ids", ids, DType::U32, "u32")?;
    f32_tensor("embed", "out", out)?;
    let (rows, held, cols) = (ids.shape.elements(), table.shape.rows(), table.shape.cols());
    expect("embed", "ids", ids, [rows])?;
    expect("embed", "out", out, [rows, cols])?;
    part.check("embed: `table`", held)?;
    let format = match table.dtype {
        DType::F32 => Format::WF32,
        DType::F16 => Format::WF16,
        DType::BF16 => Format::WBf16,
        got => return Err(Error::DType { kernel: "embed", arg: "table", expected: "f32, f16 or bf16", got }),
    };
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        vocab: part.vocab as u32,
        part_first: part.first as u32,
        part_rows: held as u32,
    };
    launch(plan, format, params, Bindings { ids, table, out }, Grid::cover(rows * cols, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "embed", cases: CASES, setup, work };

/// `bits`: 32 is f32, 16 f16, 0 bf16. Ids are below `ids`; the table is rows from `first` on of `of`, where
/// given.
const CASES: &[Case] = &[
    Case {
        name: "f32_nano",
        args: &[("rows", 5.0), ("vocab", 512.0), ("cols", 128.0), ("ids", 512.0), ("bits", 32.0)],
    },
    Case {
        name: "f16_odd_cols",
        args: &[("rows", 9.0), ("vocab", 33.0), ("cols", 77.0), ("ids", 33.0), ("bits", 16.0)],
    },
    Case {
        name: "bf16_odd_cols",
        args: &[("rows", 9.0), ("vocab", 33.0), ("cols", 77.0), ("ids", 33.0), ("bits", 0.0)],
    },
    Case {
        name: "bf16_8b_token",
        args: &[("rows", 1.0), ("vocab", 64.0), ("cols", 4096.0), ("ids", 64.0), ("bits", 0.0)],
    },
    Case {
        name: "ids_beyond_vocabulary",
        args: &[("rows", 40.0), ("vocab", 6.0), ("cols", 5.0), ("ids", 4e9), ("bits", 32.0)],
    },
    Case {
        name: "part_in_the_middle",
        args: &[
            ("rows", 40.0),
            ("vocab", 6.0),
            ("cols", 5.0),
            ("ids", 20.0),
            ("first", 8.0),
            ("of", 20.0),
            ("bits", 16.0),
        ],
    },
    Case {
        name: "last_part_of_ids_beyond",
        args: &[
            ("rows", 40.0),
            ("vocab", 6.0),
            ("cols", 5.0),
            ("ids", 4e9),
            ("first", 14.0),
            ("of", 20.0),
            ("bits", 16.0),
        ],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let dtype = match a.usize("bits") {
        32 => DType::F32,
        16 => DType::F16,
        _ => DType::BF16,
    };
    let ids = s.integers([rows], a.usize("ids") as u32)?;
    let table = s.input_as(dtype, [a.usize("vocab"), cols], Fill::Normal(1.0))?;
    let (part, out) = part_of_case(s, a)?;
    embed(s.plan(), &ids, &table, part, &out)
}

/// The part that `first` and `of` say, and what is to be overwritten, or left alone where ids are not of the part.
pub(super) fn part_of_case(s: &mut Setup, a: &Args) -> Result<(TablePart, DeviceTensor)> {
    let shape = [a.usize("rows"), a.usize("cols")];
    let Some(vocab) = a.get("of") else {
        return Ok((TablePart::whole(a.usize("vocab")), s.output("out", DType::F32, shape)?));
    };
    let part = TablePart { first: a.usize("first"), vocab: vocab as usize };
    Ok((part, s.state("out", shape, Fill::Normal(1.0))?))
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: n * 4 + n * if a.usize("bits") == 32 { 4 } else { 2 }, ops: n }
}
