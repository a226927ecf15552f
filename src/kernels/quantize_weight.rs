//! Round-to-nearest codes of a weight with given scales.

use super::bindings::quantize_weight::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor, group_within};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::quantize_weight::{Format, Params};
use crate::tensor::DType;

/// `codes = round(w / scale)`, ties to even, within ±127 (int8) or ±7 (int4); scale 0 gives code 0. Symmetric form of
/// Jacob et al. 2017, arXiv:1712.05877.
///
/// `w`: `[rows, cols]` f32; `scales`: `[rows, ceil(cols / group)]` f32; `codes`: `[rows, cols]` int8 or int4. A group
/// above `cols` is `cols`.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for group 0.
pub fn quantize_weight(
    plan: &mut Plan,
    w: &DeviceTensor,
    scales: &DeviceTensor,
    codes: &DeviceTensor,
    group: usize,
) -> Result<()> {
    f32_tensor("quantize_weight", "w", w)?;
    f32_tensor("quantize_weight", "scales", scales)?;
    let format = match codes.dtype {
        DType::I8 => Format::Int8,
        DType::I4 => Format::Int4,
        got => return Err(Error::DType { kernel: "quantize_weight", arg: "codes", expected: "i8 or i4", got }),
    };
    let (rows, cols) = (w.shape.rows(), w.shape.cols());
    let group = group_within("quantize_weight", cols, group)?;
    expect("quantize_weight", "scales", scales, [rows, cols.div_ceil(group)])?;
    expect("quantize_weight", "codes", codes, [rows, cols])?;
    let params = Params { rows: rows as u32, cols: cols as u32, group: group as u32 };
    launch(plan, format, params, Bindings { w, scales, codes }, Grid::cover(codes.words(), 64))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "quantize_weight", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_code", args: &[("bits", 4.0), ("rows", 1.0), ("cols", 1.0), ("group", 1.0)] },
    Case { name: "int8_channel", args: &[("bits", 8.0), ("rows", 6.0), ("cols", 257.0), ("group", 257.0)] },
    Case { name: "int8_groups_within_words", args: &[("bits", 8.0), ("rows", 3.0), ("cols", 31.0), ("group", 3.0)] },
    Case { name: "int4_short_last_group", args: &[("bits", 4.0), ("rows", 8.0), ("cols", 1344.0), ("group", 128.0)] },
    Case { name: "int4_padded_last_word", args: &[("bits", 4.0), ("rows", 5.0), ("cols", 133.0), ("group", 64.0)] },
    // docs/driver-faults.md: halves must go to even.
    Case {
        name: "halves_round_to_even",
        args: &[("bits", 8.0), ("rows", 6.0), ("cols", 257.0), ("group", 257.0), ("ties", 1.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, group) = (a.usize("rows"), a.usize("cols"), a.usize("group"));
    let ties = a.get("ties").is_some();
    let mut values = s.values(rows * cols, Fill::Normal(0.05));
    if ties {
        // Odd and even halves of a step: exact on every device, since the scale is a power of two.
        values.iter_mut().for_each(|v| *v = (*v * 64.0).round_ties_even() / 64.0);
    }
    let w = s.device().upload_f32([rows, cols], &values)?;
    let (dtype, top) = if a.usize("bits") == 4 { (DType::I4, 7.0) } else { (DType::I8, 127.0) };
    // Around 3 sigma, so that some codes are clamped.
    let mut scales = s.values(rows * cols.div_ceil(group), Fill::Uniform(0.1 / top, 0.2 / top));
    if ties {
        scales.fill(1.0 / 32.0);
    }
    let scales = s.device().upload_f32([rows, cols.div_ceil(group)], &scales)?;
    let codes = s.rounded_output("codes", dtype, [rows, cols])?;
    quantize_weight(s.plan(), &w, &scales, &codes, group)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 4 * n + n * a.usize("bits") / 8 + 4 * n.div_ceil(a.usize("group")), ops: 4 * n }
}
