//! Dynamic int8 quantization of activations, one scale a token or a group of its inputs.

use super::bindings::quantize_tokens::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::scaled::group_of;
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::quantize_tokens::{Format, Params};
use crate::tensor::DType;

/// Threads of a workgroup (`shaders/quantize_tokens.wgsl`).
const WG: usize = 64;

/// Columns that a workgroup of 256 holds in registers, 16 a thread (`shaders/shared/spans.wgsl`).
pub(super) const SPAN: usize = 4096;

/// Groups of a row that one finds the largest values of (`shaders/shared/held_row.wgsl`).
const GROUPS: usize = 1024;

/// Can a workgroup hold a row of up to `spans` spans? With groups, up to three.
pub(super) fn held([cols, group]: [usize; 2], spans: usize) -> bool {
    let groups = group >= cols || (cols <= 3 * SPAN && group.is_multiple_of(4) && cols.div_ceil(group) <= GROUPS);
    cols > 0 && cols.is_multiple_of(4) && cols <= spans * SPAN && groups
}

/// `scales[r, g] = max|x[r, group g]| / 127`, `codes = round(x / scale)`, ties to even, within ±127; a group of zeros
/// (or of values below 1e-35) has scale 1. ZeroQuant, Yao et al. 2022, arXiv:2206.01861; by groups, Atom, Zhao et al.
/// 2023, arXiv:2310.19102.
///
/// `x`: `[rows, cols]` f32; `codes`: `[rows, cols]` int8; `scales`: `[rows, ceil(cols / group)]` f32 (or `[rows]` for
/// one group). `group` is a multiple of 4, or `cols` or more for one group a row.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for no columns or a group
/// that does not fit.
pub fn quantize_tokens(
    plan: &mut Plan,
    x: &DeviceTensor,
    codes: &DeviceTensor,
    scales: &DeviceTensor,
    group: usize,
) -> Result<()> {
    f32_tensor("quantize_tokens", "x", x)?;
    expect_dtype("quantize_tokens", "codes", codes, DType::I8, "i8")?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    if cols == 0 {
        return Err(Error::argument("quantize_tokens: `x`", "it has no columns"));
    }
    expect("quantize_tokens", "codes", codes, [rows, cols])?;
    let group = group_of("quantize_tokens", ["group", "scales"], scales, [rows, cols], group, 4)?;
    let params = Params { rows: rows as u32, cols: cols as u32, group: group as u32 };
    if held([cols, group], 6) {
        return launch(plan, Format::Quads, params, Bindings { x, codes, scales }, Grid::linear(rows));
    }
    let (groups, team) = (cols.div_ceil(group), group.div_ceil(4).next_power_of_two().min(WG));
    let grid = Grid::linear(rows * groups.div_ceil(WG / team));
    launch(plan, Format::Scalars, params, Bindings { x, codes, scales }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "quantize_tokens", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_column", args: &[("rows", 3.0), ("cols", 1.0), ("size", 1.0)] },
    Case { name: "padded_last_word", args: &[("rows", 5.0), ("cols", 131.0), ("size", 1.0)] },
    Case { name: "nano_hidden", args: &[("rows", 9.0), ("cols", 128.0), ("size", 1.0)] },
    Case { name: "tiny_values", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1e-30)] },
    Case { name: "nemotron_8b_down_proj", args: &[("rows", 1.0), ("cols", 21504.0), ("size", 1.0)] },
    Case { name: "beyond_six_spans", args: &[("rows", 2.0), ("cols", 24580.0), ("size", 1.0)] },
    Case { name: "six_spans", args: &[("rows", 2.0), ("cols", 24576.0), ("size", 1.0)] },
    Case { name: "just_beyond_a_span", args: &[("rows", 3.0), ("cols", 4100.0), ("size", 1.0)] },
    Case { name: "three_spans_of_groups", args: &[("rows", 2.0), ("cols", 12288.0), ("size", 1.0), ("group", 64.0)] },
    Case { name: "long_row_of_groups", args: &[("rows", 2.0), ("cols", 12416.0), ("size", 1.0), ("group", 128.0)] },
    Case { name: "groups_of_32", args: &[("rows", 3.0), ("cols", 1344.0), ("size", 1.0), ("group", 32.0)] },
    Case { name: "groups_of_64_ragged", args: &[("rows", 5.0), ("cols", 203.0), ("size", 1.0), ("group", 64.0)] },
    Case { name: "groups_of_96_no_power", args: &[("rows", 3.0), ("cols", 672.0), ("size", 1.0), ("group", 96.0)] },
    Case { name: "groups_of_one_word", args: &[("rows", 2.0), ("cols", 331.0), ("size", 1.0), ("group", 4.0)] },
    Case {
        name: "more_groups_than_threads",
        args: &[("rows", 3.0), ("cols", 10240.0), ("size", 1.0), ("group", 32.0)],
    },
    Case { name: "most_groups_ragged", args: &[("rows", 2.0), ("cols", 12284.0), ("size", 1.0), ("group", 12.0)] },
    Case { name: "groups_of_512", args: &[("rows", 2.0), ("cols", 1100.0), ("size", 1.0), ("group", 512.0)] },
    // docs/driver-faults.md: MoltenVK #2711 (a reduction's barriers), f16 staging, values that may flush to zero.
    Case { name: "metal_dropped_barrier_32", args: &[("rows", 33.0), ("cols", 32.0), ("size", 1.0)] },
    Case { name: "metal_dropped_barrier_33", args: &[("rows", 33.0), ("cols", 33.0), ("size", 1.0)] },
    Case { name: "metal_dropped_barrier_1025", args: &[("rows", 33.0), ("cols", 1025.0), ("size", 1.0)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1e5)] },
    Case { name: "below_the_smallest_scale", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1e-37)] },
    Case { name: "denormal_row_is_zero", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1e-40)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let group = a.get("group").map_or(cols, |g| g as usize);
    let values = s.values(rows * cols, Fill::Outliers);
    let values: Vec<f32> = values.iter().map(|v| v * a.f64("size") as f32).collect();
    let x = s.device().upload_f32([rows, cols], &values)?;
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows, cols.div_ceil(group)])?;
    quantize_tokens(s.plan(), &x, &codes, &scales, group)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 5 * n + 4 * a.usize("rows"), ops: 5 * n }
}
