//! GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns are rounded one after another, and the error of each is
//! made up for by those still to come, as the second moments of the layer's inputs say. In the form of Babai's nearest
//! plane: with second moments `MᵀM`, M lower triangular, what earlier errors leave to step i is `Σ M[i, k] e[k] / M[i,
//! i]`, so that no inverse is needed.

use pollster::block_on;
use rayon::prelude::*;

use super::blocks::{BLOCK, at};
use super::format::{Format, RowScales};
use super::options::GptqOptions;
use super::prepared::Prepared;
use super::refine::refine;
use super::timed::timed;
use crate::error::{Error, Result};
use crate::gpu::Plan;
use crate::kernels::{GptqBlock, Part, Update, gptq_block, rank_update};
use crate::model::{Activations, QuantizedLinear};
use crate::tensor::{DType, Tensor};

/// Quantizes `weight` `[rows, n]` so that its outputs on the calibrated inputs change little, on the device of
/// `prepared`. Blocks.
///
/// # Errors
/// [`Error::Argument`] when the weight's rows are not as long as the moments, or for a format that cannot be; GPU
/// errors.
pub fn gptq(
    weight: &[f32],
    prepared: &Prepared,
    format: &Format,
    activations: Activations,
    options: &GptqOptions,
) -> Result<QuantizedLinear> {
    Ok(aimed_gptq(weight, prepared, format, activations, options)?.0)
}

/// As [`gptq`], with the weight that it rounded: `weight`, or where the original model's inputs count what comes closest to its outputs.
///
/// # Errors
/// As [`gptq`].
pub(crate) fn aimed_gptq(
    weight: &[f32],
    prepared: &Prepared,
    format: &Format,
    activations: Activations,
    options: &GptqOptions,
) -> Result<(QuantizedLinear, Vec<f32>)> {
    gptq_in(weight, prepared, format, activations, options, BLOCK)
}

/// As [`aimed_gptq`], in blocks of at most `block` steps, which changes nothing but the time.
pub(super) fn gptq_in(
    weight: &[f32],
    prepared: &Prepared,
    format: &Format,
    activations: Activations,
    options: &GptqOptions,
    block: usize,
) -> Result<(QuantizedLinear, Vec<f32>)> {
    let n = prepared.n;
    format.check()?;
    if n == 0 || weight.is_empty() || !weight.len().is_multiple_of(n) {
        return Err(Error::argument("gptq", format!("{} weights in rows of {n}", weight.len())));
    }
    let rows = weight.len() / n;
    let (mut codes, mut scales) = (Vec::with_capacity(weight.len()), Vec::with_capacity(rows));
    let mut aimed = Vec::with_capacity(weight.len());
    for weight in weight.chunks(prepared.rows_at_once() * n) {
        let target = timed(|| format!("{rows} x {n}: targets"), || prepared.target(weight))?;
        let search = |row: &[f32]| format.search(row, &prepared.diagonal, options.scale_steps);
        let found = || Ok(target.par_chunks_exact(n).map(search).collect());
        let mut own: Vec<RowScales> = timed(|| format!("{rows} x {n}: scales"), found)?;
        let codes_of = || choose(&target, &own, prepared, format, block);
        let mut chosen = timed(|| format!("{rows} x {n}: codes"), codes_of)?;
        if options.sweeps > 0 {
            let sweeps = || refine(&target, &mut chosen, &mut own, prepared, format, options.sweeps);
            timed(|| format!("{rows} x {n}: sweeps"), sweeps)?;
        }
        codes.extend(chosen);
        scales.extend(own);
        aimed.extend(target);
    }
    let quantized = QuantizedLinear {
        bits: format.bits,
        group: format.group,
        codes: Tensor::new(DType::I8, [rows, n], bytemuck::cast_vec(codes))?,
        scales: format.gather(&scales)?,
        activations,
        input_scales: Vec::new(),
    };
    Ok((quantized, aimed))
}

/// The codes `[rows, n]` of `target` under these scales.
fn choose(target: &[f32], scales: &[RowScales], prepared: &Prepared, format: &Format, block: usize) -> Result<Vec<i8>> {
    let (n, rows, device) = (prepared.n, scales.len(), &prepared.device);
    let group = format.group.len(n).max(1);
    let mut columns = scale_lines(scales);
    // No division: the shader has no exact one.
    columns.extend(columns.iter().map(|s| s.recip()).collect::<Vec<f32>>());
    let steps: Vec<u32> = (prepared.order.iter().zip(&prepared.factor.diagonal))
        .flat_map(|(column, inverse)| [(column / group) as u32, inverse.to_bits()])
        .collect();
    let wanted = device.upload_f32([n, rows], &prepared.in_steps(target))?;
    let (adjusted, codes) = (prepared.lines(DType::F32, rows)?, prepared.lines(DType::I8, rows)?);
    let scales = device.upload_f32([2 * n.div_ceil(group), rows], &columns)?;
    let steps = device.upload_words(DType::U32, [n, 2], &steps)?;
    let errors = device.alloc(DType::F32, [block, rows])?;
    let m = &prepared.factor.m;
    let tensors = GptqBlock {
        wanted: &wanted,
        adjusted: &adjusted,
        factor: m,
        steps: &steps,
        scales: &scales,
        codes: &codes,
        errors: &errors,
    };
    let mut plan = Plan::new(device);
    for first in (0..n).step_by(block) {
        let width = block.min(n - first);
        gptq_block(&mut plan, &tensors, first, width, format.half() - 1.0)?;
        let next = first + width;
        if next < n {
            let how = Update { rows: n - next, cols: rows, depth: width, by_rows: true, ..Update::default() };
            rank_update(&mut plan, Part::new(m, next, first), at(&errors, 0), at(&adjusted, next), &how)?;
        }
    }
    plan.record()?.run_paced()?;
    Ok(prepared.in_rows(&block_on(device.read_codes(&codes))?))
}

/// `[groups, rows]`.
pub(super) fn scale_lines(scales: &[RowScales]) -> Vec<f32> {
    let groups = scales.first().map_or(0, |s| s.values.len());
    let mut out = vec![0.0; groups * scales.len()];
    out.par_chunks_exact_mut(scales.len().max(1)).enumerate().for_each(|(g, line)| {
        line.iter_mut().zip(scales).for_each(|(value, scales)| *value = scales.values[g]);
    });
    out
}
