//! The orthonormal block-diagonal Hadamard transform, in one pass for each factor of its block.

use super::bindings::hadamard::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::scaled::Scaled;
use super::{
    expect, expect_dtype, f32_tensor, hadamard_mix, hadamard_mix_quantize, hadamard_quantize, hadamard_runs,
    hadamard_signs, hadamard_whole, quantize_maxima,
};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::hadamard::{checked_factors, factor};
use crate::shaders::hadamard::{Format, Params};
use crate::tensor::DType;

/// Longest run the shader transforms, and elements of one workgroup.
const SPAN: usize = 4096;

/// What a transform needs besides its arguments. Transforms of one shape, one after the other, may share it.
#[derive(Clone, Debug)]
pub struct HadamardBuffers {
    block: usize,
    /// `(order, stride, signs)` of each dense pass.
    dense: Vec<(usize, usize, DeviceTensor)>,
    /// Length of the fast transform's runs.
    run: usize,
    /// `[rows, cols]`; only where there are several passes.
    scratch: Option<DeviceTensor>,
    /// `[rows, cols / run]`, of few rows: where one dispatch does both passes ([`hadamard_runs`]).
    maxima: Option<DeviceTensor>,
    /// Signs of what is left of the block beyond runs of 256, where one dispatch does all ([`hadamard_whole`],
    /// [`hadamard_mix_quantize`]).
    whole: Option<DeviceTensor>,
}

impl HadamardBuffers {
    /// Does [`hadamard_codes_with`] take rows of `cols` columns with a scale for each `group` of them on this device?
    #[must_use]
    pub fn fits_codes(&self, device: &Device, cols: usize, group: usize) -> bool {
        let whole = || self.whole.is_some() && hadamard_whole::pays(device, hadamard_mix_quantize::NAME);
        hadamard_quantize::fits(cols, self.run, group) || (whole() && hadamard_mix_quantize::groups(cols, group))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.block as f32).sqrt()
    }

    /// Columns of a block.
    #[must_use]
    pub fn block(&self) -> usize {
        self.block
    }

    /// Bytes on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let signs = self.dense.iter().map(|(_, _, signs)| signs);
        signs.chain(&self.scratch).chain(&self.maxima).chain(&self.whole).map(DeviceTensor::bytes).sum()
    }

    /// For tensors of up to `rows` rows of `cols` columns.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] when `block` has no construction or does not divide `cols`; otherwise as
    /// [`Device::alloc`].
    pub fn new(device: &Device, rows: usize, cols: usize, block: usize) -> Result<Self> {
        let factors = checked_factors("hadamard: `block`", block, cols)?;
        let run = factors.pow2.min(SPAN);
        // The part of Sylvester's matrix beyond a workgroup's reach is a dense matrix too.
        let high = (factors.pow2 > SPAN).then_some((factors.pow2 / SPAN, SPAN));
        let dense = factors.dense_strides().chain(high);
        let dense = dense.map(|(order, stride)| Ok((order, stride, hadamard_signs(device, order)?)));
        let dense = dense.collect::<Result<Vec<_>>>()?;
        let several = dense.len() + usize::from(run > 1) > 1;
        let scratch = several.then(|| device.alloc(DType::F32, [rows, cols])).transpose()?;
        let few = hadamard_runs::most(rows, run).filter(|_| dense.len() == 1);
        let maxima = few.map(|rows| device.alloc(DType::F32, [rows, cols / run])).transpose()?;
        let whole = hadamard_whole::order(cols, block).filter(|_| several);
        let whole = whole.map(|order| hadamard_signs(device, order)).transpose()?;
        Ok(Self { block, dense, run, scratch, maxima, whole })
    }
}

/// `y = H x / sqrt(block)` for each run `x` of `block` columns, `H` of [`crate::hadamard::order_matrix`].
/// QuaRot, arXiv:2404.00456.
///
/// `x`, `out`: `[rows, cols]` f32, `block` dividing `cols`; or both f16, where `cols` is a multiple of 4 and `block` a power of two up
/// to 4096. Sums are f32. Makes its own [`HadamardBuffers`].
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`]
/// naming a block that has no construction or does not divide `cols`.
pub fn hadamard(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor, block: usize) -> Result<()> {
    let buffers = HadamardBuffers::new(&plan.device().clone(), x.shape.rows(), x.shape.cols(), block)?;
    hadamard_with(plan, x, out, &buffers)
}

/// As [`hadamard`], with buffers that were made before.
///
/// # Errors
/// As [`hadamard`], and [`crate::Error::Argument`] when the buffers are for a smaller tensor.
pub fn hadamard_with(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor, buffers: &HadamardBuffers) -> Result<()> {
    let halves = x.dtype == DType::F16;
    if halves {
        expect_dtype("hadamard", "out", out, DType::F16, "f16")?;
    } else {
        f32_tensor("hadamard", "x", x)?;
        f32_tensor("hadamard", "out", out)?;
    }
    expect("hadamard", "out", out, x.shape)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    checked_factors("hadamard: `block`", buffers.block, cols)?;
    if buffers.dense.is_empty() && buffers.run == 1 {
        return plan.copy(x, out);
    }
    if halves && (!buffers.dense.is_empty() || !cols.is_multiple_of(4)) {
        let reason = format!("a transform of f16 in blocks of {} of {cols} columns", buffers.block);
        return Err(Error::argument("hadamard: `x`", reason));
    }
    // One row is better spread over workgroups, in a pass a factor.
    if let Some(signs) =
        buffers.whole.as_ref().filter(|_| rows > 1 && hadamard_whole::pays(plan.device(), hadamard_whole::NAME))
    {
        return hadamard_whole(plan, x, signs, out, buffers.scale());
    }
    let from = dense_passes(plan, x, out, buffers)?;
    if buffers.run == 1 {
        return Ok(());
    }
    let params = Params { count: (rows * cols) as u32, log_run: buffers.run.ilog2(), scale: buffers.scale() };
    let format = match halves {
        true => Format::Halves,
        false if (rows * cols).is_multiple_of(4) => Format::Quads,
        false => Format::Any,
    };
    launch(plan, format, params, Bindings { x: &from, out }, Grid::cover(rows * cols, SPAN))
}

/// As [`hadamard_with`], then [`super::quantize_tokens`] into `out`, in one dispatch with the last pass, or with all passes
/// where matrix units make it worth while ([`hadamard_mix_quantize`]); few rows take two dispatches that spread each row
/// over workgroups. `between`, of the shape of `x`, may be overwritten.
///
/// # Errors
/// As [`hadamard_with`] and [`hadamard_quantize`].
pub fn hadamard_codes_with(
    plan: &mut Plan,
    x: &DeviceTensor,
    between: &DeviceTensor,
    out: Scaled<'_>,
    buffers: &HadamardBuffers,
) -> Result<()> {
    f32_tensor("hadamard", "x", x)?;
    f32_tensor("hadamard", "between", between)?;
    expect("hadamard", "between", between, x.shape)?;
    checked_factors("hadamard: `block`", buffers.block, x.shape.cols())?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    if let (Some(maxima), [(_, _, signs)]) = (&buffers.maxima, &buffers.dense[..])
        && rows <= maxima.shape.rows()
        && out.group >= cols
    {
        let maxima = maxima.view(DType::F32, [rows, cols / buffers.run])?;
        hadamard_runs(plan, x, signs, between, &maxima, buffers.run, buffers.scale())?;
        return quantize_maxima(plan, between, &maxima, out);
    }
    if let Some(signs) =
        buffers.whole.as_ref().filter(|_| hadamard_whole::pays(plan.device(), hadamard_mix_quantize::NAME))
    {
        return hadamard_mix_quantize(plan, x, signs, out, buffers.scale());
    }
    let from = dense_passes(plan, x, between, buffers)?;
    hadamard_quantize(plan, &from, out, buffers.run, buffers.scale())
}

/// Adds the passes before the fast one, if there is one; gives the result of the last. They alternate between scratch and
/// `out` so that the last of all passes can write `out`. That one also scales.
fn dense_passes(
    plan: &mut Plan,
    x: &DeviceTensor,
    out: &DeviceTensor,
    buffers: &HadamardBuffers,
) -> Result<DeviceTensor> {
    let scratch = buffers.scratch.as_ref().map(|s| s.view(DType::F32, [x.shape.rows(), x.shape.cols()])).transpose()?;
    let passes = buffers.dense.len() + usize::from(buffers.run > 1);
    let mut from = x.clone();
    for (pass, (order, stride, signs)) in buffers.dense.iter().enumerate() {
        let left = passes - 1 - pass;
        let to = scratch.as_ref().filter(|_| left % 2 == 1).unwrap_or(out);
        let scale = if left == 0 { buffers.scale() } else { 1.0 };
        hadamard_mix(plan, &from, signs, to, *order, *stride, scale)?;
        from = to.clone();
    }
    Ok(from)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "hadamard", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "block_1_is_a_copy", args: &[("rows", 3.0), ("cols", 5.0), ("block", 1.0)] },
    Case { name: "pairs_of_odd_count", args: &[("rows", 3.0), ("cols", 1342.0), ("block", 2.0)] },
    Case { name: "heads_of_64", args: &[("rows", 2.0), ("cols", 1344.0), ("block", 64.0)] },
    Case { name: "runs_across_workgroups", args: &[("rows", 5.0), ("cols", 1536.0), ("block", 512.0)] },
    Case { name: "nemotron_8b_norm_group", args: &[("rows", 2.0), ("cols", 8192.0), ("block", 1024.0)] },
    Case { name: "nemotron_8b_hidden", args: &[("rows", 3.0), ("cols", 4096.0), ("block", 4096.0)] },
    Case { name: "nemotron_8b_inner", args: &[("rows", 2.0), ("cols", 8192.0), ("block", 8192.0)] },
    Case { name: "nemotron_8b_mlp_token", args: &[("rows", 1.0), ("cols", 21504.0), ("block", 21504.0)] },
    Case { name: "small_mlp", args: &[("rows", 5.0), ("cols", 1344.0), ("block", 1344.0)] },
    Case { name: "dense_only", args: &[("rows", 7.0), ("cols", 36.0), ("block", 12.0)] },
    Case { name: "nemotron_4b_mlp", args: &[("rows", 2.0), ("cols", 12288.0), ("block", 12288.0)] },
    Case { name: "paley_over_27", args: &[("rows", 2.0), ("cols", 7168.0), ("block", 7168.0)] },
    Case { name: "order_140", args: &[("rows", 2.0), ("cols", 4480.0), ("block", 4480.0)] },
    Case { name: "order_464", args: &[("rows", 2.0), ("cols", 1856.0), ("block", 1856.0)] },
    Case { name: "three_passes", args: &[("rows", 2.0), ("cols", 15680.0), ("block", 15680.0)] },
    Case { name: "sylvester_beyond_a_workgroup", args: &[("rows", 1.0), ("cols", 32768.0), ("block", 32768.0)] },
    Case { name: "f16_pairs", args: &[("rows", 3.0), ("cols", 4.0), ("block", 2.0), ("bits", 16.0)] },
    Case { name: "f16_quads", args: &[("rows", 5.0), ("cols", 36.0), ("block", 4.0), ("bits", 16.0)] },
    Case { name: "f16_heads_of_64", args: &[("rows", 3.0), ("cols", 1344.0), ("block", 64.0), ("bits", 16.0)] },
    Case { name: "f16_runs_across_spans", args: &[("rows", 5.0), ("cols", 1536.0), ("block", 512.0), ("bits", 16.0)] },
    Case { name: "f16_norm_group", args: &[("rows", 2.0), ("cols", 8192.0), ("block", 1024.0), ("bits", 16.0)] },
    Case { name: "f16_runs_of_2048", args: &[("rows", 3.0), ("cols", 2048.0), ("block", 2048.0), ("bits", 16.0)] },
    Case { name: "f16_hidden", args: &[("rows", 3.0), ("cols", 4096.0), ("block", 4096.0), ("bits", 16.0)] },
    // docs/driver-faults.md: Intel's Windows driver 32.0.101.8509 to .8860 crashes in llama.cpp's transform of 64..512.
    Case { name: "intel_windows_fwht_64", args: &[("rows", 3.0), ("cols", 64.0), ("block", 64.0)] },
    Case { name: "intel_windows_fwht_128", args: &[("rows", 3.0), ("cols", 128.0), ("block", 128.0)] },
    Case { name: "intel_windows_fwht_256", args: &[("rows", 3.0), ("cols", 256.0), ("block", 256.0)] },
    Case { name: "intel_windows_fwht_512", args: &[("rows", 3.0), ("cols", 512.0), ("block", 512.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let shape = [a.usize("rows"), a.usize("cols")];
    let dtype = if a.get("bits") == Some(16.0) { DType::F16 } else { DType::F32 };
    let x = s.input_as(dtype, shape, Fill::Outliers)?;
    let out = s.output("out", dtype, shape)?;
    hadamard(s.plan(), &x, &out, a.usize("block"))
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    // As if in one pass; the dense factors cost their order an element.
    let cost = factor(a.usize("block")).map_or(0, |f| f.dense.iter().sum::<usize>() + f.pow2.ilog2() as usize);
    Work { bytes: n * a.get("bits").map_or(8, |b| b as usize / 4), ops: n * (cost + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1536 columns, mamba2-130m's, are 12 runs of 128: not all rows of whole runs of 256 are of a matrix of these.
    #[test]
    fn every_block_that_has_a_construction_has_buffers() {
        for block in (1..=84).map(|runs| 256 * runs).filter(|block| factor(*block).is_some()) {
            let made = HadamardBuffers::new(&Device::Cpu, 1, block, block);
            assert!(made.is_ok(), "{block}: {made:?}");
        }
    }
}
