//! Second moments of a site's activations over all sequences.

use pollster::block_on;
use rayon::prelude::*;

use super::extents::Rounding;
use super::walk::Collect;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, Epilogue, GramSums, Halves};
use crate::model::Linear;
use crate::runtime::Product;
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

/// How products are summed, and with the original model what tells of `x₀ - x`.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Products {
    /// Of floats.
    Floats(Option<GramSums>),
    /// On matrix units, of one f16 a number, which is as much as most models' activations have, and less of an error than that of
    /// their int8 codes by far: room for a pass, and totals alone.
    Halves(Halves, Option<Off>),
}

/// What the quantized model's inputs are off, as it is summed on matrix units: room for a pass, and totals.
struct Off {
    /// The weight that reads the inputs, and its outputs of a pass, where those are summed.
    outputs: Option<(Product, DeviceTensor)>,
    room: Halves,
    totals: DeviceTensor,
}

/// What the quantized model's inputs are off, summed with them over tokens.
pub(crate) enum Shift {
    /// `(x₀ - x) xᵀ`, `[n, n]`.
    Inputs(DeviceTensor),
    /// `x (W (x₀ - x))ᵀ`, `[n, rows]`, of the one weight `W` `[rows, n]` that reads them: all that GPTQ takes from the former, and
    /// less to add up where `n` is large beside `rows`.
    Outputs(DeviceTensor),
}

/// Sums over tokens `[n, n]`, where they were added up.
pub(crate) struct Means {
    pub(crate) device: Device,
    /// Of `x xᵀ`.
    pub(crate) own: GramSums,
    /// With the original model's `x₀`.
    pub(crate) shift: Option<Shift>,
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
    /// As [`Device::read_f32`]; [`Error::Argument`] for [`Shift::Outputs`].
    pub(crate) fn on_host(&self) -> Result<(Vec<f64>, Option<Vec<f64>>)> {
        let mean = |sum: f64| sum / self.tokens.max(1) as f64;
        let own = block_on(self.own.read(&self.device))?.into_par_iter().map(mean).collect();
        let shift = match &self.shift {
            Some(Shift::Outputs(_)) => return Err(Error::argument("moments", "sums of outputs stay on the device")),
            Some(Shift::Inputs(sums)) => Some(block_on(self.device.read_f32(sums))?),
            None => None,
        };
        Ok((own, shift.map(|sums| sums.into_par_iter().map(|sum| mean(f64::from(sum))).collect())))
    }
}

impl Moments {
    /// For inputs of `width` in passes of up to `tokens`, which are rounded as `rounding` says. `writer`: the weight that
    /// alone reads them, where there is but one and sums of its outputs will do.
    pub(crate) fn new(
        device: &Device,
        width: usize,
        rounding: &Rounding,
        tokens: usize,
        with_original: bool,
        writer: Option<&Linear>,
    ) -> Result<Self> {
        let products = match (Halves::suit(device, width), with_original) {
            (false, _) => Products::Floats(with_original.then(|| GramSums::of_two(device, width, width)).transpose()?),
            (true, with) => Products::Halves(
                Halves::new(device, tokens, width, 1)?,
                with.then(|| Off::new(device, width, tokens, writer)).transpose()?,
            ),
        };
        Self::of(device, width, rounding, tokens, products)
    }

    fn of(device: &Device, width: usize, rounding: &Rounding, tokens: usize, products: Products) -> Result<Self> {
        let with_original = matches!(products, Products::Floats(Some(_)) | Products::Halves(_, Some(_)));
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
            Products::Floats(shift) => shift.map(|sums| Shift::Inputs(sums.totals().clone())),
            Products::Halves(_, Some(Off { outputs: Some(_), totals, .. })) => Some(Shift::Outputs(totals)),
            Products::Halves(_, off) => off.map(|off| Shift::Inputs(off.totals)),
        };
        Means { device: self.device, own: self.own, shift, tokens }
    }
}

impl Off {
    fn new(device: &Device, width: usize, tokens: usize, writer: Option<&Linear>) -> Result<Self> {
        match writer.filter(|w| matches!(w, Linear::Float(_)) && outputs_pay(w.dims())) {
            Some(writer) => Self::of_outputs(device, width, tokens, writer),
            None => Self::of_inputs(device, width, tokens),
        }
    }

    fn of_inputs(device: &Device, width: usize, tokens: usize) -> Result<Self> {
        Ok(Self {
            outputs: None,
            room: Halves::new(device, tokens, width, 1)?,
            totals: device.alloc(DType::F32, [width, width])?,
        })
    }

    fn of_outputs(device: &Device, width: usize, tokens: usize, writer: &Linear) -> Result<Self> {
        let (rows, _) = writer.dims();
        Ok(Self {
            outputs: Some((Product::new(device, writer, tokens)?, device.alloc(DType::F32, [tokens, rows])?)),
            room: Halves::new(device, tokens, rows, 1)?,
            totals: device.alloc(DType::F32, [width, rows])?,
        })
    }

    /// `off`: x₀ - x of a pass; `x`: its inputs.
    fn add(&self, plan: &mut Plan, off: &DeviceTensor, x: &Halves) -> Result<()> {
        let tokens = off.shape.rows();
        let halves = self.room.of(tokens)?;
        match &self.outputs {
            None => {
                kernels::split_columns(plan, off, &halves)?;
                kernels::matmul_halves(plan, &halves, x, &self.totals, Epilogue::Add)
            }
            Some((weight, outputs)) => {
                let outputs = outputs.view(DType::F32, [tokens, outputs.shape.cols()])?;
                weight.apply(plan, off, &outputs)?;
                kernels::split_columns(plan, &outputs, &halves)?;
                kernels::matmul_halves(plan, x, &halves, &self.totals, Epilogue::Add)
            }
        }
    }
}

/// Is it less work to add up what a weight of `(rows, width)` makes of inputs that are off, two products of them by all inputs,
/// than one of the inputs by themselves?
fn outputs_pay((rows, width): (usize, usize)) -> bool {
    rows.is_multiple_of(8) && 2 * rows < width
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
                if let (Some(off), Some(shift)) = (&off, shift) {
                    shift.add(plan, off, &halves)?;
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

    /// Sums of what a weight makes of inputs that are off are those of the inputs, times the weight.
    #[test]
    fn outputs_tell_what_inputs_tell() {
        let choice = std::env::var("WGQUANT_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
        let device = block_on(Device::open(&crate::gpu::DeviceChoice::from(choice.as_str()), None)).unwrap();
        let (width, rows, passes) = (40, 8, [24, 13]);
        let values = |n: usize, seed: usize| -> Vec<f32> {
            (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
        };
        let weight = values(rows * width, 1);
        let linear = Linear::Float(crate::tensor::Tensor::from_f32([rows, width], &weight));
        let of = |off: Off| {
            let products = Products::Halves(Halves::new(&device, 24, width, 1).unwrap(), Some(off));
            let rounding = Rounding::from(Activations::Float);
            let moments = Moments::of(&device, width, &rounding, 24, products).unwrap();
            for (tokens, seed) in passes.into_iter().zip(2..) {
                let [first, own] = [seed, seed + 10]
                    .map(|seed| device.upload_f32([tokens, width], &values(tokens * width, seed)).unwrap());
                let mut plan = Plan::new(&device);
                moments.keep(&mut plan, &first).unwrap();
                moments.add(&mut plan, &own).unwrap();
                plan.record().unwrap().run().unwrap();
            }
            moments.means(passes.iter().sum()).shift.unwrap()
        };
        let inputs = of(Off::of_inputs(&device, width, 24).unwrap());
        let outputs = of(Off::of_outputs(&device, width, 24, &linear).unwrap());
        let (Shift::Inputs(inputs), Shift::Outputs(outputs)) = (inputs, outputs) else { panic!("each as it was made") };
        let [inputs, outputs] = [inputs, outputs].map(|t| block_on(device.read_f32(&t)).unwrap());
        let want: Vec<f32> = (0..width * rows)
            .map(|e| (0..width).map(|i| inputs[i * width + e / rows] * weight[e % rows * width + i]).sum())
            .collect();
        let (nmse, _) = crate::kernels::check::error(&outputs, &want);
        assert!(nmse < 1e-6, "NMSE {nmse:.1e}");
    }

    /// What GPTQ sees of inputs under fixed scales is what the product sees: rounded, and cut at 127 steps.
    #[test]
    fn fixed_scales_round_and_saturate() {
        let device = Device::Cpu;
        let activations = Activations::Static(Group::Size(4));
        let rounding = Rounding { activations, scales: vec![0.5, 0.01] };
        let moments = Moments::new(&device, 5, &rounding, 2, false, None).unwrap();
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
