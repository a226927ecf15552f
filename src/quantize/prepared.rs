//! Second moments of a layer's inputs, made ready for GPTQ.

use pollster::block_on;
use rayon::prelude::*;

use super::blocks::{Factor, product};
use super::options::GptqOptions;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor};
use crate::tensor::DType;

/// Largest damping tried.
const MOST_DAMPING: f64 = 1.0;
/// Widest inputs whose moments a GPU leaves to the host to factor, in f64.
const HOST_FACTORS: usize = 1024;

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
        let damped = |i: usize, j: usize, damping: f64| at(i, j) + if i == j { damping * mean } else { 0.0 };
        let upload = |entry: &(dyn Fn(usize, usize) -> f64 + Sync)| {
            let values: Vec<f32> = (0..n * n).into_par_iter().map(|e| entry(e / n, e % n) as f32).collect();
            device.upload_f32([n, n], &values)
        };
        let factor = loop {
            let entry = |i: usize, j: usize| damped(order[i], order[j], damping);
            let factor = match &device {
                Device::Gpu(_) if n > HOST_FACTORS => Factor::in_place(&device, upload(&entry)?)?,
                _ => Factor::on_host(&device, entry, n)?,
            };
            if let Some(factor) = factor {
                break factor;
            }
            damping *= 10.0;
            if damping > MOST_DAMPING {
                let what = "the inputs' second moments are not positive definite with any damping up to 1";
                return Err(Error::argument(site, what));
            }
            log::warn!("{site}: second moments are not positive definite; damping raised to {damping:e}");
        };
        let shift = cross.filter(|_| options.asymmetric).map(|cross| {
            let entry = |i: usize, j: usize| cross[order[i] * n + order[j]] - at(order[i], order[j]);
            upload(&entry)
        });
        Ok(Self {
            factor,
            moments: upload(&|i, j| damped(i, j, damping))?,
            diagonal: (0..n).map(|i| damped(i, i, damping) as f32).collect(),
            shift: shift.transpose()?,
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
            for (x, y) in columns.chunks_exact(rows).zip(bent.chunks_exact(rows)) {
                sums.iter_mut().zip(x.iter().zip(y)).for_each(|(s, (x, y))| *s += f64::from(*x) * f64::from(*y));
            }
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
        let mut out = weight.to_vec();
        let (Some(shift), n) = (&self.shift, self.n) else { return Ok(out) };
        let rows = weight.len() / n;
        let x = self.device.upload_f32([n, rows], &self.in_steps(weight))?;
        let x = product(&self.device, shift, &x)?;
        self.factor.solve(&self.device, &x)?;
        let add = block_on(self.device.read_f32(&x))?;
        for (line, column) in add.chunks_exact(rows).zip(&self.order) {
            line.iter().enumerate().for_each(|(r, add)| out[r * n + column] += add);
        }
        Ok(out)
    }

    /// `[rows, n]` as `[n, rows]` in the order of steps.
    pub(super) fn in_steps(&self, x: &[f32]) -> Vec<f32> {
        lines(x, self.n, |step| self.order[step])
    }

    /// A tensor of zeros over the steps or columns of `rows` rows.
    pub(super) fn lines(&self, dtype: DType, rows: usize) -> Result<DeviceTensor> {
        self.device.alloc(dtype, [self.n, rows])
    }
}

/// `[rows, n]` as `[n, rows]`.
pub(super) fn transposed<T: Copy + Default + Send + Sync>(x: &[T], n: usize) -> Vec<T> {
    lines(x, n, |column| column)
}

/// Of `x` `[rows, n]`, a line for each column `of(i)`.
fn lines<T: Copy + Default + Send + Sync>(x: &[T], n: usize, of: impl Fn(usize) -> usize + Sync) -> Vec<T> {
    let mut out = vec![T::default(); x.len()];
    out.par_chunks_exact_mut((x.len() / n).max(1)).enumerate().for_each(|(i, line)| {
        line.iter_mut().zip(x.iter().skip(of(i)).step_by(n)).for_each(|(o, x)| *o = *x);
    });
    out
}
