//! Rows of an embedding table stored as int8 codes.

use super::bindings::embed_w8::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::embed::{TablePart, part_of_case};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::embed_w8::Params;
use crate::tensor::DType;

/// `out[r] = codes[ids[r]] * scales[ids[r]]`.
///
/// `ids`: `[rows]` u32, below `vocab` (checked where ids enter; others take the last row);
/// `codes`: `[part.rows, cols]` int8; `scales`: `[part.rows]` f32; `out`: `[rows, cols]` f32.
/// Rows of `out` whose ids are not in the part are left alone: a table larger than a binding takes a launch for each part.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for an empty table, or a part beyond
/// the vocabulary.
pub fn embed_w8(
    plan: &mut Plan,
    ids: &DeviceTensor,
    codes: &DeviceTensor,
    scales: &DeviceTensor,
    part: TablePart,
    out: &DeviceTensor,
) -> Result<()> {
    expect_dtype("embed_w8", "ids", ids, DType::U32, "u32")?;
    expect_dtype("embed_w8", "codes", codes, DType::I8, "i8")?;
    f32_tensor("embed_w8", "scales", scales)?;
    f32_tensor("embed_w8", "out", out)?;
    let (rows, held, cols) = (ids.shape.elements(), codes.shape.rows(), codes.shape.cols());
    expect("embed_w8", "ids", ids, [rows])?;
    expect("embed_w8", "scales", scales, [held])?;
    expect("embed_w8", "out", out, [rows, cols])?;
    part.check("embed_w8: `codes`", held)?;
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        vocab: part.vocab as u32,
        part_first: part.first as u32,
        part_rows: held as u32,
    };
    launch(plan, params, Bindings { ids, codes, scales, out }, Grid::cover(rows * cols.div_ceil(4), 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "embed_w8", cases: CASES, setup, work };

/// Ids are below `ids`; the table is rows from `first` on of `of`, where given.
const CASES: &[Case] = &[
    Case { name: "nano", args: &[("rows", 5.0), ("vocab", 512.0), ("cols", 128.0), ("ids", 512.0)] },
    Case { name: "odd_cols", args: &[("rows", 9.0), ("vocab", 33.0), ("cols", 77.0), ("ids", 33.0)] },
    Case { name: "one_column", args: &[("rows", 300.0), ("vocab", 33.0), ("cols", 1.0), ("ids", 33.0)] },
    Case { name: "nemotron_8b_token", args: &[("rows", 1.0), ("vocab", 64.0), ("cols", 4096.0), ("ids", 64.0)] },
    Case { name: "ids_beyond_vocabulary", args: &[("rows", 40.0), ("vocab", 6.0), ("cols", 5.0), ("ids", 4e9)] },
    Case {
        name: "part_in_the_middle",
        args: &[("rows", 40.0), ("vocab", 6.0), ("cols", 5.0), ("ids", 20.0), ("first", 8.0), ("of", 20.0)],
    },
    Case {
        name: "last_part_of_ids_beyond",
        args: &[("rows", 40.0), ("vocab", 6.0), ("cols", 5.0), ("ids", 4e9), ("first", 14.0), ("of", 20.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, vocab, cols) = (a.usize("rows"), a.usize("vocab"), a.usize("cols"));
    let ids = s.integers([rows], a.usize("ids") as u32)?;
    let codes = s.codes(8, [vocab, cols])?;
    let scales = s.input([vocab], Fill::Uniform(0.001, 0.1))?;
    let (part, out) = part_of_case(s, a)?;
    embed_w8(s.plan(), &ids, &codes, &scales, part, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 5 * n, ops: n }
}
