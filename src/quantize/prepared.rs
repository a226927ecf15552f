//! Second moments of a layer's inputs, made ready for GPTQ.

use pollster::block_on;
use rayon::prelude::*;

use super::blocks::{Factor, product};
use super::given::{Given, OnHost, trusted};
use super::options::GptqOptions;
use super::rtn::{ROWS_BYTES, rows_of_bytes};
use super::turn::{column_products, lines_of, rows_of, turned};
use crate::calibrate::{Means, Shift};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{TablePart, embed};
use crate::tensor::DType;

/// Mean square of inputs below which they tell nothing, and the damping of which f32 need not hold.
const SILENT: f64 = 1e-30;

/// Largest damping tried.
const MOST_DAMPING: f64 = 1.0;
/// Widest inputs whose moments a GPU leaves to the host to factor, in f64.
const HOST_FACTORS: usize = 1024;
/// The same of those that are weighed together, beside other work that takes memory.
const WEIGHED_BYTES: u64 = 128 << 20;

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
    /// In the order of columns, times the number beside it. Of it and the factor, what corrects a weight, from the right, for
    /// inputs that are not the original model's: `(x₀ - x) xᵀ (moments + damping)⁻¹`.
    shift: Option<(Shift, f32)>,
    /// The damping it took.
    pub damping: f64,
    /// What that added to the diagonal.
    added: f64,
}

/// Of an energy with damping, what f32 leaves of it without.
const NOISE: f64 = 1e-6;

/// The second moments alone, which are all that losses need.
pub(crate) struct Weigher {
    device: Device,
    n: usize,
    /// Damped.
    moments: DeviceTensor,
    /// What is on their diagonal and not to be weighed.
    added: f64,
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
    pub fn new(site: &str, moments: &[f64], shift: Option<&[f64]>, options: &GptqOptions) -> Result<Self> {
        Self::on(&Device::Cpu, site, moments, shift, options)
    }

    /// `moments`: `[n, n]`, mean of `x xᵀ` over the inputs of the quantized model; `shift`: `[n, n]`, mean of
    /// `(x₀ - x) xᵀ` with `x₀` the original model's. Where `device` cannot bind so large a matrix, the CPU takes its place.
    ///
    /// # Errors
    /// [`Error::Argument`] naming `site` when no damping up to 1 makes the moments positive definite, or they are not
    /// finite; GPU errors. Inputs of zeros are none: the weight is then rounded to nearest.
    pub fn on(
        device: &Device,
        site: &str,
        moments: &[f64],
        shift: Option<&[f64]>,
        options: &GptqOptions,
    ) -> Result<Self> {
        let n = moments.len().isqrt();
        let fits = (n * n * 4) as u64 <= device.max_binding_bytes();
        if !fits {
            log::warn!("{site}: {n} x {n} second moments are too large for {}; the CPU takes over", device.name());
        }
        let device = if fits { device.clone() } else { Device::Cpu };
        let shift = shift.filter(|_| options.asymmetric);
        Self::from_given(device, site, &mut OnHost { n, moments, shift, factors: HOST_FACTORS }, options)
    }

    /// As [`Prepared::on`], from sums; where they are on `device` and wide, they stay there. Of the shift it takes what is trusted of
    /// one over so many tokens.
    ///
    /// # Errors
    /// As [`Prepared::on`].
    pub(crate) fn of(device: &Device, site: &str, mut means: Means, options: &GptqOptions) -> Result<Self> {
        let trust = trusted(means.tokens, means.own.width());
        means.shift = means.shift.filter(|_| options.asymmetric && trust > 0.0);
        if means.own.width() > HOST_FACTORS && matches!((device, &means.device), (Device::Gpu(_), Device::Gpu(_))) {
            return Self::from_given(device.clone(), site, &mut means, options);
        }
        let (own, mut shift) = means.on_host()?;
        shift.iter_mut().flatten().for_each(|off| *off *= f64::from(trust));
        Self::on(device, site, &own, shift.as_deref(), options)
    }

    fn from_given(device: Device, site: &str, given: &mut dyn Given, options: &GptqOptions) -> Result<Self> {
        let squares = given.diagonal()?;
        let n = squares.len();
        let mut mean = squares.iter().sum::<f64>() / n.max(1) as f64;
        if !mean.is_finite() || mean < 0.0 {
            let what = format!("the inputs' mean square is {mean:e}: calibration saw nothing, or no finite values");
            return Err(Error::argument(site, what));
        }
        if mean < SILENT {
            log::warn!("{site}: all inputs are zero (mean square {mean:e}); the weight is rounded to nearest");
            mean = 1.0; // what is added to the diagonal is all there is: GPTQ's result is rounding to nearest then
        }
        let mut order: Vec<usize> = (0..n).collect();
        if options.act_order {
            order.sort_by(|a, b| squares[*b].total_cmp(&squares[*a]));
        }
        let shift = given.shift(&device)?;
        let mut damping = options.damping.max(1e-9);
        let factor = loop {
            if let Some(factor) = given.factor(&device, &order, damping * mean)? {
                break factor;
            }
            if damping >= MOST_DAMPING {
                let what = "the inputs' second moments are not positive definite with any damping up to 1";
                return Err(Error::argument(site, what));
            }
            damping = (damping * 10.0).min(MOST_DAMPING);
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
            added: damping * mean,
        })
    }

    /// `tr(E H Eᵀ) / tr(W H Wᵀ)`, H with the damping: the part of the output's energy that replacing `weight` by `other` loses.
    ///
    /// # Errors
    /// As [`Prepared::losses`].
    pub fn relative_loss(&self, weight: &[f32], other: &[f32]) -> Result<f64> {
        Ok(self.losses(weight, other)?.relative(0..weight.len() / self.n))
    }

    /// What replacing `weight` `[rows, n]` by `other` loses of each row's output, by the damped moments.
    ///
    /// # Errors
    /// GPU errors.
    pub fn losses(&self, weight: &[f32], other: &[f32]) -> Result<Losses> {
        Weigher { added: 0.0, ..self.weigher() }.losses(weight, other)
    }

    /// What is needed for losses by the moments without damping, as inputs have them.
    pub(crate) fn weigher(&self) -> Weigher {
        Weigher { device: self.device.clone(), n: self.n, moments: self.moments.clone(), added: self.added }
    }

    /// Rows of a weight that the device takes at a time, whole words of codes: a head's would take the host 20 GB.
    pub(super) fn rows_at_once(&self) -> usize {
        rows_of_bytes(&self.device, self.n, ROWS_BYTES)
    }

    /// The rows of `weight` as they should be for the quantized model's inputs.
    pub(super) fn target(&self, weight: &[f32]) -> Result<Vec<f32>> {
        let (Some((shift, scale)), n) = (&self.shift, self.n) else { return Ok(weight.to_vec()) };
        let (rows, columns) = (weight.len() / n, (0..n).collect::<Vec<_>>());
        // `[n, rows]`: x (W (x₀ - x))ᵀ.
        let (off, scale) = match shift {
            Shift::Inputs(shift) => {
                let lines = lines_of(rows, &columns, |r, columns, part| {
                    part.iter_mut().zip(&weight[r * n..][columns]).for_each(|(value, weight)| *value = weight * scale);
                });
                (product(&self.device, shift, &self.device.upload_f32([n, rows], &lines)?)?, 1.0)
            }
            Shift::Outputs(off) => (off.clone(), *scale),
        };
        if off.shape.cols() != rows {
            let what = format!("{rows} rows, with sums of the outputs of {}", off.shape.cols());
            return Err(Error::argument("gptq", what));
        }
        let x = self.lines(DType::F32, rows)?;
        let steps: Vec<u32> = self.order.iter().map(|column| *column as u32).collect();
        let steps = self.device.upload_words(DType::U32, [1, n], &steps)?;
        let mut plan = Plan::new(&self.device);
        embed(&mut plan, &steps, &off, TablePart::whole(n), &x)?;
        plan.record()?.run()?;
        self.factor.solve(&self.device, &x)?;
        let mut out = self.in_rows(&block_on(self.device.read_f32(&x))?);
        out.par_iter_mut().zip(weight).for_each(|(out, weight)| *out = scale * *out + weight);
        Ok(out)
    }

    /// `[rows, n]` as `[n, rows]` in the order of steps.
    pub(super) fn in_steps(&self, x: &[f32]) -> Vec<f32> {
        turned(x, &self.order)
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

impl Weigher {
    /// As [`Prepared::losses`], without the damping where it is known.
    pub(crate) fn losses(&self, weight: &[f32], other: &[f32]) -> Result<Losses> {
        let lost = self.energies(weight, |e| weight[e] - other[e])?;
        Ok(Losses { lost, all: self.energies(weight, |e| weight[e])? })
    }

    /// `x H xᵀ` of each row of a matrix of these elements, as large as `weight`.
    fn energies(&self, weight: &[f32], element: impl Fn(usize) -> f32 + Sync) -> Result<Vec<f64>> {
        let (n, columns) = (self.n, (0..self.n).collect::<Vec<_>>());
        let mut out = Vec::with_capacity(weight.len() / n);
        for part in weight.chunks(rows_of_bytes(&self.device, n, WEIGHED_BYTES) * n) {
            let (first, rows) = (out.len(), part.len() / n);
            let lines = lines_of(rows, &columns, |r, columns, part| {
                part.iter_mut().zip(columns).for_each(|(value, c)| *value = element((first + r) * n + c));
            });
            let tensor = self.device.upload_f32([n, rows], &lines)?;
            let bent = block_on(self.device.read_f32(&product(&self.device, &self.moments, &tensor)?))?;
            let (damped, squares) = (column_products(&lines, &bent, rows), column_products(&lines, &lines, rows));
            // As it was added, in f32. What is left by rounding of inputs that are silent, or below 0, is none; NaN stays NaN.
            let added = f64::from(self.added as f32);
            let without = |(damped, square): (f64, f64)| {
                let rest = damped - added * square;
                if rest < NOISE * damped { 0.0 } else { rest }
            };
            match self.added {
                0.0 => out.extend(damped),
                _ => out.extend(damped.into_iter().zip(squares).map(without)),
            }
        }
        Ok(out)
    }
}

/// Is a weight `[rows, n]` quantized in one piece, with sums that stay on the device?
pub(crate) fn whole_on_device(device: &Device, rows: usize, n: usize) -> bool {
    n > HOST_FACTORS && rows <= rows_of_bytes(device, n, ROWS_BYTES)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// Of inputs that are silent nothing is lost, whatever was added to them.
    #[test]
    fn silent_inputs_lose_nothing() {
        let (device, n, added) = (Device::Cpu, 7, 0.1);
        let moments: Vec<f32> = (0..n * n).map(|e| if e / n == e % n { added as f32 } else { 0.0 }).collect();
        let weigher = Weigher { moments: device.upload_f32([n, n], &moments).unwrap(), device, n, added };
        let (weight, other): (Vec<f32>, Vec<f32>) =
            (0..3 * n).map(|e| ((e as f32).sin(), (e as f32 * 1.3).cos())).unzip();
        let losses = weigher.losses(&weight, &other).unwrap();
        assert_eq!((losses.relative(0..3), losses.all), (0.0, vec![0.0; 3]));
        let not_a_number = weigher.losses(&weight, &[f32::NAN; 21]).unwrap();
        assert!(not_a_number.relative(0..3).is_nan());
    }
}
