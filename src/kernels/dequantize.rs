//! Codes and scales back to f32.

use super::bindings::dequantize::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor, group_within};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::dequantize::{Format, Params};
use crate::tensor::DType;

/// `out = code * scale` of the code's group.
///
/// `codes`: `[rows, cols]` int8 or int4; `scales`: `[rows, ceil(cols / group)]` f32; `out`: `[rows, cols]` f32. A
/// group above `cols` is `cols`.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for group 0.
pub fn dequantize(
    plan: &mut Plan,
    codes: &DeviceTensor,
    scales: &DeviceTensor,
    out: &DeviceTensor,
    group: usize,
) -> Result<()> {
    let format = match codes.dtype {
        DType::I8 => Format::Int8,
        DType::I4 => Format::Int4,
        got => return Err(Error::DType { kernel: "dequantize", arg: "codes", expected: "i8 or i4", got }),
    };
    f32_tensor("dequantize", "scales", scales)?;
    f32_tensor("dequantize", "out", out)?;
    let (rows, cols) = (codes.shape.rows(), codes.shape.cols());
    let group = group_within("dequantize", cols, group)?;
    expect("dequantize", "scales", scales, [rows, cols.div_ceil(group)])?;
    expect("dequantize", "out", out, [rows, cols])?;
    let params = Params { rows: rows as u32, cols: cols as u32, group: group as u32 };
    launch(plan, format, params, Bindings { codes, scales, out }, Grid::cover(codes.words(), 64))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "dequantize", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_code", args: &[("bits", 4.0), ("rows", 1.0), ("cols", 1.0), ("group", 1.0)] },
    Case { name: "int8_channel", args: &[("bits", 8.0), ("rows", 6.0), ("cols", 257.0), ("group", 257.0)] },
    Case { name: "int8_groups_within_words", args: &[("bits", 8.0), ("rows", 3.0), ("cols", 31.0), ("group", 3.0)] },
    Case { name: "int4_short_last_group", args: &[("bits", 4.0), ("rows", 8.0), ("cols", 1344.0), ("group", 128.0)] },
    Case { name: "int4_padded_last_word", args: &[("bits", 4.0), ("rows", 5.0), ("cols", 133.0), ("group", 64.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, group) = (a.usize("rows"), a.usize("cols"), a.usize("group"));
    let codes = s.codes(a.usize("bits"), [rows, cols])?;
    let scales = s.input([rows, cols.div_ceil(group)], Fill::Uniform(1e-4, 1e-2))?;
    let out = s.output("out", DType::F32, [rows, cols])?;
    dequantize(s.plan(), &codes, &scales, &out, group)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 4 * n + n * a.usize("bits") / 8 + 4 * n.div_ceil(a.usize("group")), ops: n }
}
