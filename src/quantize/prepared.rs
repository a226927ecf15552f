//! Second moments of a layer's inputs, made ready for GPTQ.

use pollster::block_on;
use rayon::prelude::*;

use super::blocks::{Factor, product};
use super::given::{Given, OnHost};
use super::options::GptqOptions;
use crate::calibrate::Means;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor};
use crate::tensor::DType;

/// Largest damping tried.
const MOST_DAMPING: f64 = 1.0;
/// Widest inputs whose moments a GPU leaves to the host to factor, in f64.
const HOST_FACTORS: usize = 1024;
/// Rows or lines of a matrix that are turned together.
const ROWS: usize = 32;

/// Second moments of a layer's inputs, made ready for [`super::gptq`]. Shared by layers with the same input.
pub struct Prepared {
    pub(super) device: Device,
    pub(super) n: usize,
    /// The column rounded at each step.
    pub(super) order: Vec<usize>,
    /// Of the damped second moments, in the order of steps.
    pub(super) factor: Factor,
    /// `[n, n]` the damped second moments, in the order of columns.
    pub(super) moments: DeviceTensor,
    /// `[n]` their diagonal.
    pub(super) diagonal: Vec<f32>,
    /// `[n, n]` in the order of steps: `cross - moments`. Of it and the factor, what corrects a weight, from the right,
    /// for inputs that are not the original model's: `(cross - moments) (moments + damping)⁻¹`.
    shift: Option<DeviceTensor>,
    /// The damping it took.
    pub damping: f64,
}

/// Energy of a weight's outputs, row by row, and what replacing it loses of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Losses {
    /// `e H eᵀ` of each row's error.
    pub lost: Vec<f64>,
    /// `w H wᵀ` of each row.
    pub all: Vec<f64>,
}

impl Losses {
    /// The part lost of the energy of these rows' outputs.
    #[must_use]
    pub fn relative(&self, rows: std::ops::Range<usize>) -> f64 {
        let sum = |values: &[f64]| values.get(rows.clone()).unwrap_or_default().iter().sum::<f64>();
        sum(&self.lost) / sum(&self.all).max(f64::MIN_POSITIVE)
    }
}

impl Prepared {
    /// As [`Prepared::on`], for the CPU.
    ///
    /// # Errors
    /// As [`Prepared::on`].
    pub fn new(site: &str, moments: &[f64], cross: Option<&[f64]>, options: &GptqOptions) -> Result<Self> {
        Self::on(&Device::Cpu, site, moments, cross, options)
    }

    /// `moments`: `[n, n]`, mean of `x xᵀ` over the inputs of the quantized model; `cross`: `[n, n]`, mean of
    /// `x₀ xᵀ` with `x₀` the original model's. Where `device` cannot bind so large a matrix, the CPU takes its place.
    ///
    /// # Errors
    /// [`Error::Argument`] naming `site` when no damping up to 1 makes the moments positive definite; GPU errors.
    pub fn on(
        device: &Device,
        site: &str,
        moments: &[f64],
        cross: Option<&[f64]>,
        options: &GptqOptions,
    ) -> Result<Self> {
        let n = moments.len().isqrt();
        let fits = (n * n * 4) as u64 <= device.max_binding_bytes();
        if !fits {
            log::warn!("{site}: {n} x {n} second moments are too large for {}; the CPU takes over", device.name());
        }
        let device = if fits { device.clone() } else { Device::Cpu };
        let cross = cross.filter(|_| options.asymmetric);
        Self::from_given(device, site, &mut OnHost { n, moments, cross, factors: HOST_FACTORS }, options)
    }

    /// As [`Prepared::on`], from sums; where they are on `device` and wide, they stay there.
    ///
    /// # Errors
    /// As [`Prepared::on`].
    pub(crate) fn of(device: &Device, site: &str, mut means: Means, options: &GptqOptions) -> Result<Self> {
        means.cross = means.cross.filter(|_| options.asymmetric);
        if means.own.width() > HOST_FACTORS && matches!((device, &means.device), (Device::Gpu(_), Device::Gpu(_))) {
            return Self::from_given(device.clone(), site, &mut means, options);
        }
        let own = means.on_host(&means.own)?;
        let cross = means.cross.as_ref().map(|sums| means.on_host(sums)).transpose()?;
        Self::on(device, site, &own, cross.as_deref(), options)
    }

    fn from_given(device: Device, site: &str, given: &mut dyn Given, options: &GptqOptions) -> Result<Self> {
        let squares = given.diagonal()?;
        let n = squares.len();
        let mean = squares.iter().sum::<f64>() / n.max(1) as f64;
        if !mean.is_finite() || mean <= 0.0 {
            let what = format!("the inputs' mean square is {mean:e}: calibration saw nothing, or no finite values");
            return Err(Error::argument(site, what));
        }
        let mut order: Vec<usize> = (0..n).collect();
        if options.act_order {
            order.sort_by(|a, b| squares[*b].total_cmp(&squares[*a]));
        }
        let shift = given.shift(&device, &order)?;
        let mut damping = options.damping.max(1e-9);
        let factor = loop {
            if let Some(factor) = given.factor(&device, &order, damping * mean)? {
                break factor;
            }
            damping *= 10.0;
            if damping > MOST_DAMPING {
                let what = "the inputs' second moments are not positive definite with any damping up to 1";
                return Err(Error::argument(site, what));
            }
            log::warn!("{site}: second moments are not positive definite; damping raised to {damping:e}");
        };
        Ok(Self {
            factor,
            moments: given.damped(&device, damping * mean)?,
            diagonal: squares.iter().map(|square| (square + damping * mean) as f32).collect(),
            shift,
            device,
            n,
            order,
            damping,
        })
    }

    /// `tr(E H Eᵀ) / tr(W H Wᵀ)`: the part of the output's energy that replacing `weight` by `other` loses.
    ///
    /// # Errors
    /// As [`Prepared::losses`].
    pub fn relative_loss(&self, weight: &[f32], other: &[f32]) -> Result<f64> {
        Ok(self.losses(weight, other)?.relative(0..weight.len() / self.n))
    }

    /// What replacing `weight` `[rows, n]` by `other` loses of each row's output.
    ///
    /// # Errors
    /// GPU errors.
    pub fn losses(&self, weight: &[f32], other: &[f32]) -> Result<Losses> {
        let error: Vec<f32> = weight.par_iter().zip(other).map(|(w, o)| w - o).collect();
        Ok(Losses { lost: self.energies(&error)?, all: self.energies(weight)? })
    }

    /// `x H xᵀ` of each row.
    fn energies(&self, x: &[f32]) -> Result<Vec<f64>> {
        let mut out = Vec::with_capacity(x.len() / self.n);
        for x in x.chunks(self.rows_at_once() * self.n) {
            let rows = x.len() / self.n;
            let columns: Vec<f32> = transposed(x, self.n);
            let tensor = self.device.upload_f32([self.n, rows], &columns)?;
            let bent = block_on(self.device.read_f32(&product(&self.device, &self.moments, &tensor)?))?;
            let mut sums = vec![0f64; rows];
            sums.par_chunks_mut(ROWS).enumerate().for_each(|(block, sums)| {
                let part = block * ROWS..block * ROWS + sums.len();
                for (x, y) in columns.chunks_exact(rows).zip(bent.chunks_exact(rows)) {
                    let both = x[part.clone()].iter().zip(&y[part.clone()]);
                    sums.iter_mut().zip(both).for_each(|(s, (x, y))| *s += f64::from(*x) * f64::from(*y));
                }
            });
            out.extend(sums);
        }
        Ok(out)
    }

    /// Rows of a weight that the device takes at a time, whole words of codes.
    pub(super) fn rows_at_once(&self) -> usize {
        let most = self.device.max_binding_bytes() / (4 * self.n.max(1)) as u64;
        usize::try_from(most).unwrap_or(1 << 20).clamp(4, 1 << 20) / 4 * 4
    }

    /// The rows of `weight` as they should be for the quantized model's inputs.
    pub(super) fn target(&self, weight: &[f32]) -> Result<Vec<f32>> {
        let (Some(shift), n) = (&self.shift, self.n) else { return Ok(weight.to_vec()) };
        let rows = weight.len() / n;
        let x = self.device.upload_f32([n, rows], &self.in_steps(weight))?;
        let x = product(&self.device, shift, &x)?;
        self.factor.solve(&self.device, &x)?;
        let mut out = self.in_rows(&block_on(self.device.read_f32(&x))?);
        out.par_iter_mut().zip(weight).for_each(|(out, weight)| *out += weight);
        Ok(out)
    }

    /// `[rows, n]` as `[n, rows]` in the order of steps.
    pub(super) fn in_steps(&self, x: &[f32]) -> Vec<f32> {
        let (columns, rows) = (transposed(x, self.n), (x.len() / self.n).max(1));
        let mut out = vec![0.0; x.len()];
        out.par_chunks_exact_mut(rows).zip(&self.order).for_each(|(line, column)| {
            line.copy_from_slice(&columns[column * rows..][..rows]);
        });
        out
    }

    /// The inverse of [`Prepared::in_steps`].
    pub(super) fn in_rows<T: Copy + Default + Send + Sync>(&self, lines: &[T]) -> Vec<T> {
        rows_of(lines, &self.order)
    }

    /// A tensor of zeros over the steps or columns of `rows` rows.
    pub(super) fn lines(&self, dtype: DType, rows: usize) -> Result<DeviceTensor> {
        self.device.alloc(dtype, [self.n, rows])
    }
}

/// `[rows, n]` as `[n, rows]`. Memory comes in runs of some 64 bytes, so a few lines are made together.
pub(super) fn transposed<T: Copy + Default + Send + Sync>(x: &[T], n: usize) -> Vec<T> {
    let rows = x.len() / n.max(1);
    let mut out = vec![T::default(); x.len()];
    out.par_chunks_mut((ROWS * rows).max(1)).enumerate().for_each(|(block, lines)| {
        let (first, count) = (block * ROWS, lines.len() / rows);
        for (r, row) in x.chunks_exact(n).enumerate() {
            row[first..first + count].iter().enumerate().for_each(|(i, value)| lines[i * rows + r] = *value);
        }
    });
    out
}

/// `[n, rows]`, whose line i is of column `order[i]`, as `[rows, n]`.
pub(super) fn rows_of<T: Copy + Default + Send + Sync>(lines: &[T], order: &[usize]) -> Vec<T> {
    let n = order.len().max(1);
    let rows = lines.len() / n;
    let mut out = vec![T::default(); lines.len()];
    out.par_chunks_mut(ROWS * n).enumerate().for_each(|(block, part)| {
        let (first, count) = (block * ROWS, part.len() / n);
        for (line, column) in lines.chunks_exact(rows.max(1)).zip(order) {
            line[first..first + count].iter().enumerate().for_each(|(r, value)| part[r * n + column] = *value);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::{rows_of, transposed};

    #[test]
    fn lines_and_rows_are_inverse() {
        for (rows, n) in [(1, 1), (3, 70), (70, 3), (33, 65)] {
            let x: Vec<usize> = (0..rows * n).collect();
            let lines = transposed(&x, n);
            assert!((0..rows * n).all(|e| lines[e] == e % rows * n + e / rows), "{rows} x {n}");
            assert_eq!(rows_of(&lines, &(0..n).collect::<Vec<_>>()), x);
            let back: Vec<usize> = (0..n).rev().collect();
            let turned: Vec<usize> =
                x.chunks(n).flat_map(|row| row.iter().rev().copied().collect::<Vec<_>>()).collect();
            assert_eq!(rows_of(&lines, &back), turned);
        }
    }
}
