//! Rows of an embedding table stored as codes.

use super::bindings::embed_codes::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::embed::{TablePart, part_of_case};
use super::weight_scales::{ScaledWeight, upload_scales};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::embed_codes::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "embed_codes";

/// `out[r] = codes[ids[r]]` times the scales of their groups.
///
/// `ids`: `[rows]` u32, below `vocab` (checked where ids enter; others take the last row);
/// `table`: codes `[part.rows, cols]` int8 or int4, of any group; `out`: `[rows, cols]` f32.
/// Rows of `out` whose ids are not in the part are left alone: a table larger than a binding takes a launch for each part.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for an empty table, or a part beyond
/// the vocabulary.
pub fn embed_codes(
    plan: &mut Plan,
    ids: &DeviceTensor,
    table: ScaledWeight<'_>,
    part: TablePart,
    out: &DeviceTensor,
) -> Result<()> {
    let ScaledWeight { codes, scales, .. } = table;
    let format = match codes.dtype {
        DType::I8 => Format::Int8,
        DType::I4 => Format::Int4,
        got => return Err(Error::DType { kernel: NAME, arg: "codes", expected: "i8 or i4", got }),
    };
    expect_dtype(NAME, "ids", ids, DType::U32, "u32")?;
    f32_tensor(NAME, "out", out)?;
    let (rows, held, cols) = (ids.shape.elements(), codes.shape.rows(), codes.shape.cols());
    expect(NAME, "ids", ids, [rows])?;
    expect(NAME, "out", out, [rows, cols])?;
    part.check("embed_codes: `codes`", held)?;
    let (group, scale_bits) = table.check(NAME, [held, cols], 1)?;
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        group: group as u32,
        scale_bits,
        vocab: part.vocab as u32,
        part_first: part.first as u32,
        part_rows: held as u32,
    };
    let words = cols.div_ceil(if format == Format::Int8 { 4 } else { 8 });
    launch(plan, format, params, Bindings { ids, codes, weight_scales: scales, out }, Grid::cover(rows * words, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// Ids are below `ids`; the table is rows from `first` on of `of`, where given; int8 with a scale a row, unless `bits` and
/// `group` are given.
const CASES: &[Case] = &[
    Case { name: "nano", args: &[("rows", 5.0), ("vocab", 512.0), ("cols", 128.0), ("ids", 512.0)] },
    Case { name: "odd_cols", args: &[("rows", 9.0), ("vocab", 33.0), ("cols", 77.0), ("ids", 33.0)] },
    Case { name: "one_column", args: &[("rows", 300.0), ("vocab", 33.0), ("cols", 1.0), ("ids", 33.0)] },
    Case { name: "nemotron_8b_token", args: &[("rows", 1.0), ("vocab", 64.0), ("cols", 4096.0), ("ids", 64.0)] },
    Case {
        name: "int4_groups_of_32",
        args: &[("rows", 9.0), ("vocab", 33.0), ("cols", 96.0), ("ids", 33.0), ("bits", 4.0), ("group", 32.0)],
    },
    Case {
        name: "int4_odd_cols",
        args: &[("rows", 7.0), ("vocab", 12.0), ("cols", 45.0), ("ids", 12.0), ("bits", 4.0), ("group", 6.0)],
    },
    Case {
        name: "int8_ragged_last_group",
        args: &[("rows", 7.0), ("vocab", 12.0), ("cols", 45.0), ("ids", 12.0), ("group", 32.0)],
    },
    Case {
        name: "int8_short_scales",
        args: &[("rows", 9.0), ("vocab", 7.0), ("cols", 45.0), ("ids", 7.0), ("group", 32.0), ("short_scales", 1.0)],
    },
    Case {
        name: "int4_part_of_ids_beyond",
        args: &[
            ("rows", 40.0),
            ("vocab", 6.0),
            ("cols", 16.0),
            ("ids", 4e9),
            ("first", 14.0),
            ("of", 20.0),
            ("bits", 4.0),
            ("group", 8.0),
        ],
    },
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
    let group = a.get("group").map_or(cols, |g| g as usize);
    let codes = s.codes(a.get("bits").map_or(8, |b| b as usize), [vocab, cols])?;
    let shape = [vocab, cols.div_ceil(group)];
    let (fill, short) = (Fill::Uniform(0.001, 0.1), a.get("short_scales").is_some());
    let mut scales = s.values(shape[0] * shape[1], fill);
    if short {
        scales.iter_mut().for_each(|s| *s = crate::tensor::round_to(DType::BF16, *s));
    }
    let scales = upload_scales(s.device(), shape, &scales)?;
    let (part, out) = part_of_case(s, a)?;
    embed_codes(s.plan(), &ids, ScaledWeight { codes: &codes, scales: &scales, group }, part, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 5 * n, ops: n }
}
