//! Linear layers on a device, larger ones than a binding in parts.

use std::ops::Range;

use super::{Input, Rounding, Token};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan, row_words};
use crate::kernels::{self, Columns, Epilogue, Groups, Halves, ScaleBits, ScaledWeight, SplitK};
use crate::model::{Linear, QuantizedLinear};
use crate::tensor::{DType, Shape, Tensor};

/// Parts begin at multiples of so many rows, where a binding holds them: so that the outputs of a token begin where a
/// binding may.
const ROWS: usize = 64;

/// Fewest rows of inputs for which they are cut for matrix units.
const FEWEST: usize = 64;

/// A linear layer on a device: rows of its weight, one part where a binding holds all.
pub(in super::super) struct DeviceLinear {
    pub(super) parts: Vec<Part>,
    pub(super) rounding: Option<Rounding>,
}

/// Rows of a weight from `first` on.
pub(super) struct Part {
    pub(super) first: usize,
    pub(super) held: Held,
    /// The same, cut for matrix units.
    pub(super) cut: Option<Cut>,
}

/// A float weight and room for its inputs as matrix units take them.
pub(super) struct Cut {
    weight: Halves,
    x: Halves,
}

/// Rows of a weight in the form that they are multiplied in.
pub(super) enum Held {
    Float(DeviceTensor),
    Int { codes: DeviceTensor, scales: DeviceTensor, scale_bits: ScaleBits, group: usize },
}

/// Cuts `rows` of up to `row_bytes` a tensor so that every part can be bound. A row that is too large by itself is left to
/// the allocation to refuse.
pub(super) fn cut(device: &Device, rows: usize, row_bytes: usize) -> Vec<Range<usize>> {
    let most = device.max_binding_bytes() / row_bytes.max(1) as u64;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if rows <= most {
        return std::iter::once(0..rows).collect();
    }
    let step = if most < ROWS { most.max(1) } else { most / ROWS * ROWS };
    (0..rows).step_by(step).map(|first| first..rows.min(first + step)).collect()
}

/// The rows of `tensor`, in parts, with the first row of each.
pub(super) fn floats(device: &Device, tensor: &Tensor) -> Result<Vec<(usize, DeviceTensor)>> {
    let parts = cut(device, tensor.shape.rows(), row_words(tensor.dtype, tensor.shape) * 4);
    parts.into_iter().map(|rows| Ok((rows.start, device.upload_part(tensor, rows)?))).collect()
}

/// Codes of `bits` and their scales, in parts, with the first row of each.
pub(super) fn codes(
    device: &Device,
    q: &QuantizedLinear,
    bits: usize,
    scales: &[f32],
) -> Result<Vec<(usize, DeviceTensor, DeviceTensor)>> {
    let (rows, cols) = (q.codes.shape.rows(), q.codes.shape.cols());
    let groups = scales.len() / rows.max(1);
    let all: &[i8] = bytemuck::cast_slice(&q.codes.bytes);
    let upload = |part: Range<usize>| {
        let of = |width: usize| part.start * width..part.end * width;
        let codes = device.upload_codes(bits, [part.len(), cols], &all[of(cols)])?;
        let scales = kernels::upload_scales(device, [part.len(), groups], &scales[of(groups)])?;
        Ok((part.start, codes, scales))
    };
    let words = row_words(if bits == 4 { DType::I4 } else { DType::I8 }, q.codes.shape);
    cut(device, rows, 4 * words.max(groups)).into_iter().map(upload).collect()
}

/// There is no kernel of 8-bit weights and 32-bit activations: they are held as f32, exact, at the price of memory.
fn has_no_kernel(q: &QuantizedLinear) -> bool {
    q.bits > 4 && !q.activations.int8()
}

/// Says of a weight that a model runs with, once, where it takes the memory of floats. Not of one that is uploaded for a while, as
/// calibration does: of that nobody can make another. `name` is for the message.
pub(super) fn warn_of_floats(name: &str, linear: &Linear) {
    if let Linear::Quantized(q) = linear
        && has_no_kernel(q)
    {
        log::warn!("{name}: a weight of {} bits without int8 activations is held as f32", q.bits);
    }
}

/// What there is no kernel for in codes, as f32.
pub(super) fn dequantized(q: &QuantizedLinear) -> Result<Tensor> {
    Ok(Tensor::from_f32(q.codes.shape, &q.dequantize()?))
}

/// Of a weight's scales and those of its inputs, where rows have several. Of all rows: parts of a weight take the kernels that
/// the whole would take.
fn scale_bits(q: &QuantizedLinear, scales: &[f32]) -> ScaleBits {
    let cols = q.codes.shape.cols();
    let short = |group: usize, scales: &[f32], bits| group >= cols || ScaleBits::of(scales, bits) == ScaleBits::Short;
    let inputs = q.activations.group().map_or(cols, |group| group.len(cols));
    let both =
        short(q.group.len(cols), scales, q.bits) && (q.input_scales.is_empty() || short(inputs, &q.input_scales, 8));
    if both { ScaleBits::Short } else { ScaleBits::Any }
}

impl DeviceLinear {
    /// `name` is for messages.
    pub(super) fn upload(device: &Device, name: &str, linear: &Linear) -> Result<Self> {
        Self::place(device, linear).map_err(|e| e.named(name))
    }

    fn place(device: &Device, linear: &Linear) -> Result<Self> {
        match linear {
            Linear::Float(tensor) => Self::float(device, tensor),
            Linear::Quantized(q) if has_no_kernel(q) => Self::float(device, &dequantized(q)?),
            Linear::Quantized(q) => {
                let scales = q.scales.to_f32()?;
                let (scale_bits, group) = (scale_bits(q, &scales), q.group.len(q.codes.shape.cols()));
                let parts = codes(device, q, if q.bits > 4 { 8 } else { 4 }, &scales)?.into_iter();
                let part = |(first, codes, scales)| Part {
                    first,
                    held: Held::Int { codes, scales, scale_bits, group },
                    cut: None,
                };
                Ok(Self { parts: parts.map(part).collect(), rounding: Rounding::upload(device, q)? })
            }
        }
    }

    fn float(device: &Device, tensor: &Tensor) -> Result<Self> {
        let parts = floats(device, tensor)?.into_iter();
        let parts = parts.map(|(first, t)| Part { first, held: Held::Float(t), cut: None }).collect();
        Ok(Self { parts, rounding: None })
    }

    /// Makes products of up to `tokens` rows with float weights run on matrix units, where the device has any. It takes as
    /// much memory as the weights (f32: twice) and 4 bytes an input.
    pub(super) fn cut(&mut self, device: &Device, tokens: usize) -> Result<()> {
        let mut plan = Plan::new(device);
        for Part { held, cut, .. } in &mut self.parts {
            let Held::Float(weight) = held else { continue };
            let (rows, k) = (weight.shape.rows(), weight.shape.cols());
            let largest = 4 * (k * tokens.max(rows)) as u64;
            if Halves::suit(device, rows) && tokens >= FEWEST && largest <= device.max_binding_bytes() {
                let parts = if weight.dtype == DType::F32 { 2 } else { 1 };
                let tokens = tokens.next_multiple_of(8);
                let made = Cut { weight: Halves::new(device, k, rows, parts)?, x: Halves::new(device, k, tokens, 2)? };
                kernels::split_rows(&mut plan, weight, &made.weight)?;
                *cut = Some(made);
            }
        }
        if plan.dispatches() == 0 { Ok(()) } else { plan.record()?.run() }
    }

    /// How its inputs are to be made int8, where they are.
    pub(in super::super) fn rounding(&self) -> Option<&Rounding> {
        self.rounding.as_ref()
    }

    /// Of one integer weight whose inputs' scales are made from each token: how both share scales.
    pub(in super::super) fn groups(&self) -> Option<Groups> {
        let Rounding { group: token, fixed: None } = self.rounding.as_ref()? else { return None };
        let ScaledWeight { codes, group, .. } = self.whole().ok()?;
        Some(Groups { bits: codes.dtype.bits(), weight: group, token: *token })
    }

    /// The one integer weight that it is.
    pub(in super::super) fn whole(&self) -> Result<ScaledWeight<'_>> {
        match &self.parts[..] {
            [Part { held: Held::Int { codes, scales, group, .. }, .. }] => {
                Ok(ScaledWeight { codes, scales, group: *group })
            }
            _ => Err(Error::argument("linear layer", "it is not one weight of integers")),
        }
    }

    /// That, where products of tokens in groups take it and are fast on `device` ([`kernels::grouped_pays`]).
    pub(in super::super) fn grouped(&self, device: &Device) -> Option<ScaledWeight<'_>> {
        let weight = self.whole().ok()?;
        kernels::grouped_pays(device, weight.codes.shape.cols(), self.groups()?).then_some(weight)
    }

    /// `[out, in]`.
    pub(super) fn shape(&self) -> Shape {
        let rows = self.parts.iter().map(|p| p.held.weight().shape.rows()).sum();
        Shape::from([rows, self.parts.first().map_or(0, |p| p.held.weight().shape.cols())])
    }

    /// Scales that a token of its inputs has.
    pub(super) fn activation_groups(&self) -> usize {
        let cols = self.shape().cols();
        self.rounding.as_ref().map_or(0, |rounding| cols.div_ceil(rounding.group.max(1)))
    }

    /// Elements of the weight.
    pub(in super::super) fn elements(&self) -> usize {
        self.parts.iter().map(|p| p.held.weight().shape.elements()).sum()
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        let fixed = self.rounding.as_ref().and_then(|r| r.fixed.as_ref()).map_or(0, |f| f.tensor.bytes());
        self.parts.iter().map(|p| p.held.bytes()).sum::<usize>() + fixed
    }

    /// `out (epilogue)= input · weightᵀ`; one row goes through the matvec kernels. A launch for each part, which makes
    /// some columns of `out`. `split`: how integer products of several tokens may be cut.
    pub(in super::super) fn apply(
        &self,
        plan: &mut Plan,
        input: &Input,
        out: &DeviceTensor,
        e: Epilogue,
        split: Option<SplitK<'_>>,
    ) -> Result<()> {
        kernels::expect("linear layer", "out", out, [out.shape.rows(), self.shape().rows()])?;
        for Part { first, held, cut } in &self.parts {
            let out = Columns::new("linear layer", out, *first, held.weight().shape.rows())?;
            if let Some(cut) = cut.as_ref().filter(|_| Cut::suits(&out)) {
                cut.apply(plan, input.float()?, out, e)?;
                continue;
            }
            held.apply(plan, input, self.rounding.is_some(), out, e, split)?;
        }
        Ok(())
    }
}

impl Cut {
    fn suits(out: &Columns<'_>) -> bool {
        let rows = out.tensor.shape.rows();
        rows >= FEWEST && rows.is_multiple_of(8) && out.in_quads()
    }

    fn apply(&self, plan: &mut Plan, input: &DeviceTensor, out: Columns<'_>, e: Epilogue) -> Result<()> {
        let x = self.x.rows(input.shape.rows())?;
        kernels::split_rows(plan, input, &x)?;
        kernels::matmul_halves(plan, &x, &self.weight, out, e)
    }
}

impl Held {
    fn weight(&self) -> &DeviceTensor {
        match self {
            Self::Float(t) => t,
            Self::Int { codes, .. } => codes,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Float(t) => t.bytes(),
            Self::Int { codes, scales, .. } => codes.bytes() + scales.bytes(),
        }
    }

    fn apply(
        &self,
        plan: &mut Plan,
        input: &Input,
        rounded: bool,
        out: Columns<'_>,
        e: Epilogue,
        split: Option<SplitK<'_>>,
    ) -> Result<()> {
        // Where no binding may begin, the kernels of several rows do.
        let one = out.as_row();
        match (self, &input.int8) {
            (Self::Float(w), _) => match one {
                Some(out) => kernels::matvec_f32(plan, input.float()?, w, &out, e),
                None => kernels::matmul_f32(plan, input.float()?, w, out, e),
            },
            (Self::Int { codes, scales, group, .. }, None) if let (Some(out), Some(token)) = (&one, &input.token) => {
                let of_weight = ScaledWeight { codes, scales, group: *group };
                match token {
                    Token::Normed { x, weight, eps, group } => {
                        kernels::rms_norm_matvec(plan, x, (weight, *eps, *group), of_weight, out, e)
                    }
                    Token::Gated { y, gate, offset, weight, norm, group } => {
                        let gate = Columns::new("linear layer", gate, *offset, y.shape.cols())?;
                        kernels::rms_norm_gated_matvec(plan, y, &gate, weight, (*norm, *group), of_weight, out, e)
                    }
                }
            }
            (Self::Int { codes, scales, scale_bits, group }, Some(int8)) if rounded => {
                let x = int8.scaled();
                let weight = ScaledWeight { codes, scales, group: *group };
                match (codes.dtype, one) {
                    (DType::I4, Some(out)) => kernels::matvec_w4a8(plan, x, weight, &out, e),
                    (DType::I4, None) => kernels::matmul_w4a8(plan, x, weight, *scale_bits, out, e, split),
                    (_, Some(out)) => kernels::matvec_w8a8(plan, x, weight, &out, e),
                    (_, None) => kernels::matmul_w8a8(plan, x, weight, *scale_bits, out, e, split),
                }
            }
            (Self::Int { codes, scales, group, .. }, _) => {
                let weight = ScaledWeight { codes, scales, group: *group };
                match one {
                    Some(out) => kernels::matvec_w4a16(plan, input.float()?, weight, &out, e),
                    None => kernels::matmul_w4a16(plan, input.float()?, weight, out, e),
                }
            }
        }
    }
}
