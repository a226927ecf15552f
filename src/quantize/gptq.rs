//! GPTQ (Frantar et al. 2022, arXiv:2210.17323): columns are rounded one after another, and the error of each is
//! made up for by those still to come, as the second moments of the layer's inputs say.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::format::{Format, RowScales, code};
use super::linalg::{cholesky, dot, invert_lower, solve_rows};
use super::refine::refine;
use crate::error::{Error, Result};
use crate::model::{Activations, QuantizedLinear};
use crate::tensor::{DType, Tensor};

/// Switches of [`gptq`]; each is measured in the ablation table of docs/quality.md.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GptqOptions {
    /// Added to the diagonal of the second moments, as a part of its mean.
    pub damping: f64,
    /// Round the inputs of largest second moment first. Groups stay where they are (static).
    pub act_order: bool,
    /// Candidates for each scale; 1 takes the largest weight.
    pub scale_steps: usize,
    /// Rounds of refining codes and scales afterwards.
    pub sweeps: usize,
    /// Aim at the output of the original model on its own inputs (GPTAQ, arXiv:2504.02692), not at that of the
    /// original weights on the quantized model's inputs.
    pub asymmetric: bool,
}

impl Default for GptqOptions {
    fn default() -> Self {
        Self { damping: 0.01, act_order: true, scale_steps: 48, sweeps: 4, asymmetric: true }
    }
}

/// Largest damping tried.
const MOST_DAMPING: f64 = 1.0;
/// Rows worked on together, so that a row of factors read once serves them all.
const ROWS: usize = 8;

/// Second moments of a layer's inputs, made ready for [`gptq`]. Shared by layers with the same input.
pub struct Prepared {
    n: usize,
    /// The column rounded at each step.
    order: Vec<usize>,
    /// `[n, n]` in the order of steps: what part of the error of step i is left to step j > i.
    factors: Vec<f32>,
    /// `[n, n]` the damped second moments, in the order of columns.
    pub(super) moments: Vec<f32>,
    /// `[n]` their diagonal.
    pub(super) diagonal: Vec<f32>,
    /// `[n, n]` in the order of columns: what corrects a weight, from the right, for inputs that are not the
    /// original model's: `(cross - moments) (moments + damping)⁻¹`.
    correction: Option<Vec<f32>>,
    /// The damping it took.
    pub damping: f64,
}

impl Prepared {
    /// `moments`: `[n, n]`, mean of `x xᵀ` over the inputs of the quantized model; `cross`: `[n, n]`, mean of
    /// `x₀ xᵀ` with `x₀` the original model's.
    ///
    /// # Errors
    /// [`Error::Argument`] naming `site` when no damping up to 1 makes the moments positive definite.
    pub fn new(site: &str, moments: &[f64], cross: Option<&[f64]>, options: &GptqOptions) -> Result<Self> {
        let n = moments.len().isqrt();
        let at = |i: usize, j: usize| moments[i * n + j];
        let mean = (0..n).map(|i| at(i, i)).sum::<f64>() / n.max(1) as f64;
        if !mean.is_finite() || mean <= 0.0 {
            let what = format!("the inputs' mean square is {mean:e}: calibration saw nothing, or no finite values");
            return Err(Error::argument(site, what));
        }
        let mut order: Vec<usize> = (0..n).collect();
        if options.act_order {
            order.sort_by(|a, b| at(*b, *b).total_cmp(&at(*a, *a)));
        }
        let mut damping = options.damping.max(1e-9);
        let (inverse, damping) = loop {
            // Reversed, so that the factor of the inverse comes out upper triangular in the order of steps.
            let entry = |e: usize| {
                let (i, j) = (order[n - 1 - e / n], order[n - 1 - e % n]);
                if i == j { at(i, i) + damping * mean } else { at(i, j) }
            };
            if let Some(l) = cholesky((0..n * n).map(entry).collect(), n) {
                break (invert_lower(&l, n), damping);
            }
            damping *= 10.0;
            if damping > MOST_DAMPING {
                let what = "the inputs' second moments are not positive definite with any damping up to 1";
                return Err(Error::argument(site, what));
            }
            log::warn!("{site}: second moments are not positive definite; damping raised to {damping:e}");
        };
        let mut factors = vec![0.0; n * n];
        for i in 0..n {
            let row = &inverse[(n - 1 - i) * n..][..n];
            let own = row[n - 1 - i];
            factors[i * n + i..(i + 1) * n].iter_mut().enumerate().for_each(|(d, f)| {
                *f = (row[n - 1 - i - d] / own) as f32;
            });
        }
        let damped = |e: usize| if e.is_multiple_of(n + 1) { moments[e] + damping * mean } else { moments[e] };
        let correction = cross.filter(|_| options.asymmetric).map(|cross| {
            // In the reversed order of steps, as the factor is; back in the order of columns after.
            let place: Vec<usize> = order.iter().rev().copied().collect();
            let mut rows: Vec<f64> =
                (0..n * n).map(|e| e / n * n + place[e % n]).map(|e| cross[e] - moments[e]).collect();
            solve_rows(&mut rows, &inverse, n);
            let mut out = vec![0.0; n * n];
            rows.iter().enumerate().for_each(|(e, v)| out[e / n * n + place[e % n]] = *v as f32);
            out
        });
        Ok(Self {
            diagonal: (0..n).map(|i| damped(i * (n + 1)) as f32).collect(),
            moments: (0..n * n).map(|e| damped(e) as f32).collect(),
            n,
            order,
            factors,
            correction,
            damping,
        })
    }

    /// `tr(E H Eᵀ) / tr(W H Wᵀ)`: the part of the output's energy that replacing `weight` by `other` loses.
    #[must_use]
    pub fn relative_loss(&self, weight: &[f32], other: &[f32]) -> f64 {
        let energy = |row: &[f64]| -> f64 {
            let moments = self.moments.chunks_exact(self.n);
            moments.zip(row).map(|(m, x)| x * m.iter().zip(row).map(|(m, y)| f64::from(*m) * y).sum::<f64>()).sum()
        };
        let rows = weight.par_chunks_exact(self.n).zip(other.par_chunks_exact(self.n));
        let (lost, all) = rows
            .map(|(w, o)| {
                let error: Vec<f64> = w.iter().zip(o).map(|(w, o)| f64::from(*w) - f64::from(*o)).collect();
                let own: Vec<f64> = w.iter().map(|w| f64::from(*w)).collect();
                (energy(&error), energy(&own))
            })
            .collect::<Vec<_>>()
            .into_iter()
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        lost / all.max(f64::MIN_POSITIVE)
    }

    /// The rows of `weight` as they should be for the quantized model's inputs.
    fn target(&self, weight: &[f32]) -> Vec<f32> {
        let Some(correction) = &self.correction else { return weight.to_vec() };
        let n = self.n;
        let mut out = weight.to_vec();
        out.par_chunks_exact_mut(n).for_each(|row| {
            let mut add = vec![0f64; n];
            for (w, line) in row.iter().zip(correction.chunks_exact(n)) {
                add.iter_mut().zip(line).for_each(|(a, c)| *a += f64::from(*w) * f64::from(*c));
            }
            row.iter_mut().zip(add).for_each(|(w, a)| *w += a as f32);
        });
        out
    }
}

/// Quantizes `weight` `[rows, n]` so that its outputs on the calibrated inputs change little.
///
/// # Errors
/// [`Error::Argument`] when the weight's rows are not as long as the moments, or for a format that cannot be.
pub fn gptq(
    weight: &[f32],
    prepared: &Prepared,
    format: &Format,
    activations: Activations,
    options: &GptqOptions,
) -> Result<QuantizedLinear> {
    let n = prepared.n;
    format.check()?;
    if n == 0 || weight.is_empty() || !weight.len().is_multiple_of(n) {
        return Err(Error::argument("gptq", format!("{} weights in rows of {n}", weight.len())));
    }
    let rows = weight.len() / n;
    let target = prepared.target(weight);
    let mut codes = vec![0i8; rows * n];
    let pieces = codes.par_chunks_mut(ROWS * n).zip(target.par_chunks(ROWS * n));
    let scales: Vec<Vec<RowScales>> =
        pieces.map(|(codes, target)| some_rows(target, codes, prepared, format, options)).collect();
    let scales: Vec<RowScales> = scales.into_iter().flatten().collect();
    Ok(QuantizedLinear {
        bits: format.bits,
        group: format.group,
        codes: Tensor::new(DType::I8, [rows, n], bytemuck::cast_vec(codes))?,
        scales: format.gather(&scales)?,
        activations,
    })
}

/// The codes and scales of a few rows.
fn some_rows(
    target: &[f32],
    codes: &mut [i8],
    prepared: &Prepared,
    format: &Format,
    options: &GptqOptions,
) -> Vec<RowScales> {
    let n = prepared.n;
    let (group, half) = (format.group.len(n).max(1), format.half());
    let mut scales: Vec<RowScales> =
        target.chunks_exact(n).map(|row| format.search(row, &prepared.diagonal, options.scale_steps)).collect();
    let mut left: Vec<f32> =
        target.chunks_exact(n).flat_map(|row| prepared.order.iter().map(|column| row[*column])).collect();
    for (step, column) in prepared.order.iter().enumerate() {
        let factors = &prepared.factors[step * n + step + 1..(step + 1) * n];
        for (r, row) in left.chunks_exact_mut(n).enumerate() {
            let scale = scales[r].values[column / group];
            // No division: the shader has no exact one.
            let code = code(row[step], scale.recip(), half);
            codes[r * n + column] = code as i8;
            let error = row[step] - code * scale;
            row[step + 1..].iter_mut().zip(factors).for_each(|(w, f)| *w -= error * f);
        }
    }
    if options.sweeps > 0 {
        let rows = target.chunks_exact(n).zip(codes.chunks_exact_mut(n)).zip(&mut scales);
        rows.for_each(|((target, codes), scales)| refine(target, codes, scales, prepared, format, options.sweeps));
    }
    scales
}

/// Mean square of what a change of `[n]` weights does to the output, by the undamped moments `[n, n]`.
#[must_use]
pub fn output_error(moments: &[f64], change: &[f64]) -> f64 {
    moments.chunks_exact(change.len()).zip(change).map(|(row, c)| c * dot(row, change)).sum()
}
