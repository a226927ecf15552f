//! Second moments of a site's activations over all sequences.

use pollster::block_on;
use rayon::prelude::*;

use super::extents::Rounding;
use super::walk::Collect;
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, Epilogue, GramSums, Halves};
use crate::tensor::DType;

/// Sums over the inputs of one linear layer, on the device.
pub(crate) struct Moments {
    device: Device,
    width: usize,
    rounding: Rounding,
    /// Scales of the rounding, where they are fixed.
    fixed: Option<DeviceTensor>,
    own: GramSums,
    products: Products,
    /// The original model's inputs of a pass, then what the quantized model's are off.
    kept: Option<DeviceTensor>,
    codes: DeviceTensor,
    scales: DeviceTensor,
    rounded: DeviceTensor,
}

/// How products are summed, and with the original model the sums of `(x₀ - x) xᵀ`.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Products {
    /// Of floats.
    Floats(Option<GramSums>),
    /// On matrix units, of one f16 a number, which is as much as most models' activations have, and less of an error than that of
    /// their int8 codes by far: room for a pass, and totals alone.
    Halves(Halves, Option<(Halves, DeviceTensor)>),
}

/// Sums over tokens `[n, n]`, where they were added up.
pub(crate) struct Means {
    pub(crate) device: Device,
    /// Of `x xᵀ`.
    pub(crate) own: GramSums,
    /// Of `(x₀ - x) xᵀ`, with the original model's `x₀`.
    pub(crate) shift: Option<DeviceTensor>,
    pub(crate) tokens: usize,
}

impl Means {
    /// What sums are multiplied with.
    pub(crate) fn scale(&self) -> f32 {
        1.0 / self.tokens.max(1) as f32
    }

    /// The sums divided by the tokens, on the host: of `x xᵀ`, and of `(x₀ - x) xᵀ`.
    ///
    /// # Errors
    /// As [`Device::read_f32`].
    pub(crate) fn on_host(&self) -> Result<(Vec<f64>, Option<Vec<f64>>)> {
        let mean = |sum: f64| sum / self.tokens.max(1) as f64;
        let own = block_on(self.own.read(&self.device))?.into_par_iter().map(mean).collect();
        let shift = self.shift.as_ref().map(|shift| block_on(self.device.read_f32(shift))).transpose()?;
        Ok((own, shift.map(|sums| sums.into_par_iter().map(|sum| mean(f64::from(sum))).collect())))
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
        let room = || Halves::new(device, tokens, width, 1);
        let products = match (Halves::suit(device, width), with_original) {
            (false, _) => Products::Floats(with_original.then(|| GramSums::of_two(device, width, width)).transpose()?),
            (true, false) => Products::Halves(room()?, None),
            (true, true) => Products::Halves(room()?, Some((room()?, device.alloc(DType::F32, [width, width])?))),
        };
        let groups = rounding.activations.group().map_or(1, |group| group.count(width));
        Ok(Self {
            device: device.clone(),
            width,
            fixed: match rounding.scales.as_slice() {
                [] => None,
                scales => Some(device.upload_f32([scales.len()], scales)?),
            },
            rounding: rounding.clone(),
            own: match products {
                Products::Floats(_) => GramSums::of_one(device, width)?,
                Products::Halves(..) => GramSums::of_halves(device, width)?,
            },
            products,
            kept: with_original.then(|| device.alloc(DType::F32, [tokens, width])).transpose()?,
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
        let shift = match self.products {
            Products::Floats(shift) => shift.map(|sums| sums.totals().clone()),
            Products::Halves(_, shift) => shift.map(|(_, totals)| totals),
        };
        Means { device: self.device, own: self.own, shift, tokens }
    }
}

impl Collect for Moments {
    fn with_original(&self) -> bool {
        self.kept.is_some()
    }

    fn keep(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<()> {
        self.kept.as_ref().map_or(Ok(()), |kept| plan.copy(x, &kept.view(DType::F32, x.shape)?))
    }

    fn add(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<()> {
        let x = self.rounded(plan, x)?;
        let off = self.kept.as_ref().map(|kept| kept.view(DType::F32, x.shape)).transpose()?;
        if let Some(off) = &off {
            kernels::subtract(plan, &x, off)?;
        }
        match &self.products {
            Products::Floats(shift) => {
                kernels::gram(plan, &x, &self.own)?;
                if let (Some(off), Some(shift)) = (&off, shift) {
                    kernels::cross_gram(plan, off, &x, shift)?;
                }
            }
            Products::Halves(room, shift) => {
                let halves = room.of(x.shape.rows())?;
                kernels::split_columns(plan, &x, &halves)?;
                kernels::gram_halves(plan, &halves, &self.own)?;
                if let (Some(off), Some((room, shift))) = (&off, shift) {
                    let off_halves = room.of(x.shape.rows())?;
                    kernels::split_columns(plan, off, &off_halves)?;
                    kernels::matmul_halves(plan, &off_halves, &halves, shift, Epilogue::Add)?;
                }
            }
        }
        Ok(())
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
        let (found, _) = moments.means(2).on_host().unwrap();
        let seen = [[0.5, -3.0, 63.5, 0.0, 0.5], [0.0, 1.0, 1.0, -63.5, -1.27]];
        for (i, mean) in found.iter().enumerate() {
            let want = seen.iter().map(|x| x[i / 5] * x[i % 5]).sum::<f64>() / 2.0;
            assert!((mean - want).abs() < 1e-4, "{i}: {mean} for {want}");
        }
    }
}
