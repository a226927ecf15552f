//! Second moments as they are given: means on the host, or sums where they were added up.

use pollster::block_on;
use rayon::prelude::*;

use super::blocks::Factor;
use crate::calibrate::{Means, Shift};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::gather_moments;
use crate::tensor::DType;

/// Tokens for each of a layer's inputs up to which nothing is taken of what the inputs seem to be off from the original model's, and from
/// which on all of it: what is predicted of that from so many inputs, GPTQ's other targets, is mostly noise before (docs/quality.md).
const TRUSTED: [f64; 2] = [8.0, 32.0];

/// The part taken of `(x₀ - x) xᵀ` over so many tokens, for `n` inputs.
pub(super) fn trusted(tokens: usize, n: usize) -> f32 {
    let [none, all] = TRUSTED;
    ((tokens as f64 / n.max(1) as f64 - none) / (all - none)).clamp(0.0, 1.0) as f32
}

/// What [`super::Prepared`] is made from. Orders are of columns; `added` is added to the diagonal.
pub(super) trait Given {
    /// Mean squares of the inputs, `[n]`.
    fn diagonal(&self) -> Result<Vec<f64>>;

    /// What the inputs are off, and what makes means of it: asked for once.
    fn shift(&mut self, device: &Device) -> Result<Option<(Shift, f32)>>;

    /// The moments' factor in this order; `None` when they are not positive definite.
    fn factor(&self, device: &Device, order: &[usize], added: f64) -> Result<Option<Factor>>;

    /// The moments, `[n, n]`.
    fn damped(&self, device: &Device, added: f64) -> Result<DeviceTensor>;
}

/// Means `[n, n]`.
pub(super) struct OnHost<'a> {
    pub(super) n: usize,
    pub(super) moments: &'a [f64],
    pub(super) shift: Option<&'a [f64]>,
    /// Widest inputs whose moments a GPU leaves to the host to factor, in f64.
    pub(super) factors: usize,
}

impl OnHost<'_> {
    fn at(&self, i: usize, j: usize, added: f64) -> f64 {
        self.moments[i * self.n + j] + if i == j { added } else { 0.0 }
    }

    fn upload(&self, device: &Device, entry: impl Fn(usize, usize) -> f64 + Sync) -> Result<DeviceTensor> {
        let n = self.n;
        let values: Vec<f32> = (0..n * n).into_par_iter().map(|e| entry(e / n, e % n) as f32).collect();
        device.upload_f32([n, n], &values)
    }
}

impl Given for OnHost<'_> {
    fn diagonal(&self) -> Result<Vec<f64>> {
        Ok((0..self.n).map(|i| self.at(i, i, 0.0)).collect())
    }

    fn shift(&mut self, device: &Device) -> Result<Option<(Shift, f32)>> {
        let Some(shift) = self.shift else { return Ok(None) };
        let means = self.upload(device, |i, j| shift[i * self.n + j])?;
        Ok(Some((Shift::Inputs(means), 1.0)))
    }

    fn factor(&self, device: &Device, order: &[usize], added: f64) -> Result<Option<Factor>> {
        let entry = |i: usize, j: usize| self.at(order[i], order[j], added);
        match device {
            Device::Gpu(_) if self.n > self.factors => Factor::in_place(device, self.upload(device, entry)?),
            _ => Factor::on_host(device, entry, self.n),
        }
    }

    fn damped(&self, device: &Device, added: f64) -> Result<DeviceTensor> {
        self.upload(device, |i, j| self.at(i, j, added))
    }
}

/// Sums on the device that works with them, so that nothing of `n²` goes through the host.
impl Given for Means {
    fn diagonal(&self) -> Result<Vec<f64>> {
        let n = self.own.width();
        let order: Vec<usize> = (0..n).collect();
        let out = self.device.alloc(DType::F32, [1, n])?;
        gather(self, &order, 0.0, &out)?;
        Ok(block_on(self.device.read_f32(&out))?.into_iter().map(f64::from).collect())
    }

    fn shift(&mut self, _: &Device) -> Result<Option<(Shift, f32)>> {
        Ok(self.shift.take().map(|sums| (sums, self.scale() * trusted(self.tokens, self.own.width()))))
    }

    fn factor(&self, device: &Device, order: &[usize], added: f64) -> Result<Option<Factor>> {
        let out = device.alloc(DType::F32, [order.len(), order.len()])?;
        gather(self, order, added, &out)?;
        Factor::in_place(device, out)
    }

    fn damped(&self, device: &Device, added: f64) -> Result<DeviceTensor> {
        let order: Vec<usize> = (0..self.own.width()).collect();
        let out = device.alloc(DType::F32, [order.len(), order.len()])?;
        gather(self, &order, added, &out)?;
        Ok(out)
    }
}

fn gather(means: &Means, order: &[usize], added: f64, out: &DeviceTensor) -> Result<()> {
    let places: Vec<u32> = order.iter().map(|column| *column as u32).collect();
    let places = means.device.upload_words(DType::U32, [1, order.len()], &places)?;
    let mut plan = Plan::new(&means.device);
    gather_moments(&mut plan, &means.own, &places, [means.scale(), added as f32], out)?;
    plan.record()?.run()
}
