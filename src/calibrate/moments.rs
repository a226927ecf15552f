//! Second moments of a site's activations over all sequences.

use pollster::block_on;
use rayon::prelude::*;

use super::extents::Rounding;
use super::walk::Collect;
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, GramSums, Halves};
use crate::tensor::DType;

/// Sums over the inputs of one linear layer, on the device.
pub(crate) struct Moments {
    device: Device,
    width: usize,
    rounding: Rounding,
    /// Scales of the rounding, where they are fixed.
    fixed: Option<DeviceTensor>,
    sums: GramSums,
    own: Numbers,
    /// Inputs in the original model, and the sums of their products with the quantized model's.
    original: Option<(Numbers, GramSums)>,
    codes: DeviceTensor,
    scales: DeviceTensor,
    rounded: DeviceTensor,
}

/// Inputs of a pass as products take them.
enum Numbers {
    /// As they are; a copy where they are kept.
    Floats(Option<DeviceTensor>),
    /// Cut for matrix units.
    Halves(Halves),
}

/// Sums over tokens `[n, n]`, where they were added up.
pub(crate) struct Means {
    pub(crate) device: Device,
    /// Of `x xᵀ`.
    pub(crate) own: GramSums,
    /// Of `x₀ xᵀ`, with the original model's `x₀`.
    pub(crate) cross: Option<GramSums>,
    pub(crate) tokens: usize,
}

impl Means {
    /// One of the sums divided by the tokens, on the host.
    ///
    /// # Errors
    /// As [`Device::read_f32`].
    pub(crate) fn on_host(&self, sums: &GramSums) -> Result<Vec<f64>> {
        let mut values = block_on(sums.read(&self.device))?;
        values.par_iter_mut().for_each(|sum| *sum /= self.tokens.max(1) as f64);
        Ok(values)
    }
}

impl Moments {
    /// For inputs of `width` in passes of up to `tokens`, which are rounded as `rounding` says.
    pub(crate) fn new(
        device: &Device,
        width: usize,
        rounding: &Rounding,
        tokens: usize,
        with_original: bool,
    ) -> Result<Self> {
        let groups = rounding.activations.group().map_or(1, |group| group.count(width));
        Ok(Self {
            device: device.clone(),
            width,
            fixed: match rounding.scales.as_slice() {
                [] => None,
                scales => Some(device.upload_f32([scales.len()], scales)?),
            },
            rounding: rounding.clone(),
            sums: GramSums::of_one(device, width)?,
            own: Numbers::new(device, tokens, width, false)?,
            original: match with_original {
                true => Some((Numbers::new(device, tokens, width, true)?, GramSums::of_two(device, width, width)?)),
                false => None,
            },
            codes: device.alloc(DType::I8, [tokens, width])?,
            scales: device.alloc(DType::F32, [tokens * groups])?,
            rounded: device.alloc(DType::F32, [tokens, width])?,
        })
    }

    /// `x` as the product will see it.
    fn rounded(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<DeviceTensor> {
        let Some(group) = self.rounding.activations.group() else { return Ok(x.clone()) };
        let rows = x.shape.rows();
        let codes = self.codes.view(DType::I8, [rows, self.width])?;
        let scales = self.scales.view(DType::F32, [rows, group.count(self.width)])?;
        let out = self.rounded.view(DType::F32, x.shape)?;
        match &self.fixed {
            None => kernels::quantize_tokens(plan, x, &codes, &scales, group.len(self.width))?,
            Some(fixed) => kernels::quantize_static(plan, x, fixed, &codes, &scales, group.len(self.width))?,
        }
        kernels::dequantize(plan, &codes, &scales, &out, group.len(self.width))?;
        Ok(out)
    }

    /// The sums, over `tokens` in all.
    pub(crate) fn means(self, tokens: usize) -> Means {
        let cross = self.original.map(|(_, sums)| sums);
        Means { device: self.device, own: self.sums, cross, tokens }
    }
}

impl Collect for Moments {
    fn with_original(&self) -> bool {
        self.original.is_some()
    }

    fn keep(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<()> {
        match &self.original {
            Some((Numbers::Floats(Some(kept)), _)) => plan.copy(x, &kept.view(DType::F32, x.shape)?),
            Some((Numbers::Halves(kept), _)) => kernels::split_columns(plan, x, &kept.of(x.shape.rows())?),
            _ => Ok(()),
        }
    }

    fn add(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<()> {
        let x = self.rounded(plan, x)?;
        match &self.own {
            Numbers::Floats(_) => kernels::gram(plan, &x, &self.sums)?,
            Numbers::Halves(own) => {
                let own = own.of(x.shape.rows())?;
                kernels::split_columns(plan, &x, &own)?;
                kernels::gram_halves(plan, &own, &self.sums)?;
            }
        }
        match (&self.own, &self.original) {
            (_, Some((Numbers::Floats(Some(kept)), sums))) => {
                kernels::cross_gram(plan, &kept.view(DType::F32, x.shape)?, &x, sums)
            }
            (Numbers::Halves(own), Some((Numbers::Halves(kept), sums))) => {
                let rows = x.shape.rows();
                kernels::cross_gram_halves(plan, &kept.of(rows)?, &own.of(rows)?, sums)
            }
            _ => Ok(()),
        }
    }
}

impl Numbers {
    /// Room for `tokens` rows of `width`, where there must be any.
    fn new(device: &Device, tokens: usize, width: usize, kept: bool) -> Result<Self> {
        if Halves::suit(device, width) {
            return Ok(Self::Halves(Halves::new(device, tokens, width)?));
        }
        Ok(Self::Floats(kept.then(|| device.alloc(DType::F32, [tokens, width])).transpose()?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::model::{Activations, Group};

    /// What GPTQ sees of inputs under fixed scales is what the product sees: rounded, and cut at 127 steps.
    #[test]
    fn fixed_scales_round_and_saturate() {
        let device = Device::Cpu;
        let activations = Activations::Static(Group::Size(4));
        let rounding = Rounding { activations, scales: vec![0.5, 0.01] };
        let moments = Moments::new(&device, 5, &rounding, 2, false).unwrap();
        let x = device.upload_f32([2, 5], &[0.6, -3.2, 100.0, 0.0, 0.5, 0.2, 0.9, 1.0, -80.0, -9.0]).unwrap();
        let mut plan = Plan::new(&device);
        moments.add(&mut plan, &x).unwrap();
        plan.record().unwrap().run().unwrap();
        let means = moments.means(2);
        let found = means.on_host(&means.own).unwrap();
        let seen = [[0.5, -3.0, 63.5, 0.0, 0.5], [0.0, 1.0, 1.0, -63.5, -1.27]];
        for (i, mean) in found.iter().enumerate() {
            let want = seen.iter().map(|x| x[i / 5] * x[i % 5]).sum::<f64>() / 2.0;
            assert!((mean - want).abs() < 1e-4, "{i}: {mean} for {want}");
        }
    }
}
