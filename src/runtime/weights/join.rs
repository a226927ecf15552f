//! Linear layers of one input as one product: a launch instead of several, and wider products.

use super::linear::{DeviceLinear, Held, Part};
use crate::error::Result;
use crate::gpu::{ALIGNMENT, DeviceTensor};
use crate::kernels;
use crate::model::{Linear, QuantizedLinear, Scales};
use crate::tensor::{Shape, Tensor};

/// Layers one behind the other, their rows' outputs side by side; `None` where they differ in form.
pub(super) fn joined(layers: [&Linear; 3]) -> Result<Option<Linear>> {
    let floats = layers.map(|l| if let Linear::Float(t) = l { Some(t) } else { None });
    if let [Some(a), Some(b), Some(c)] = floats {
        return Ok(stacked([a, b, c])?.map(Linear::Float));
    }
    let quantized = layers.map(|l| if let Linear::Quantized(q) = l { Some(q) } else { None });
    let [Some(a), Some(b), Some(c)] = quantized else { return Ok(None) };
    let alike = |q: &QuantizedLinear| {
        (a.bits, a.group, a.activations) == (q.bits, q.group, q.activations) && a.input_scales == q.input_scales
    };
    let [Scales::Plain(x), Scales::Plain(y), Scales::Plain(z)] = [&a.scales, &b.scales, &c.scales] else {
        return Ok(None);
    };
    let (true, Some(codes), Some(scales)) =
        (alike(b) && alike(c), stacked([&a.codes, &b.codes, &c.codes])?, stacked([x, y, z])?)
    else {
        return Ok(None);
    };
    Ok(Some(Linear::Quantized(QuantizedLinear { codes, scales: Scales::Plain(scales), ..a.clone() })))
}

/// The rows of all, of tensors of one type and width.
fn stacked(tensors: [&Tensor; 3]) -> Result<Option<Tensor>> {
    let [first, ..] = tensors;
    let (dtype, cols) = (first.dtype, first.shape.cols());
    if tensors.iter().any(|t| t.dtype != dtype || t.shape.cols() != cols || t.shape.dims().len() != 2) {
        return Ok(None);
    }
    let rows = tensors.iter().map(|t| t.shape.rows()).sum::<usize>();
    let bytes = tensors.iter().flat_map(|t| t.bytes.iter().copied()).collect();
    Tensor::new(dtype, Shape::new(&[rows, cols]), bytes).map(Some)
}

impl DeviceLinear {
    /// Consecutive parts of so many rows, in the same memory; `None` where one would begin at an offset that no binding
    /// may have, or where the layer is split already.
    pub(super) fn thirds(&self, rows: [usize; 3]) -> Option<[Self; 3]> {
        let starts = [0, rows[0], rows[0] + rows[1]];
        let [Part { held, .. }] = self.parts.as_slice() else { return None };
        let bound = |t: Option<DeviceTensor>| t.filter(|t| t.offset % ALIGNMENT == 0);
        let part = |t: &DeviceTensor, i: usize| bound(t.rows(starts[i], rows[i]).ok());
        let of = |i: usize| {
            let held = match held {
                Held::Float(t) => Held::Float(part(t, i)?),
                Held::Int { codes, scales, scale_bits, group } => Held::Int {
                    codes: part(codes, i)?,
                    scales: bound(kernels::scales_of(scales, starts[i], rows[i]))?,
                    scale_bits: *scale_bits,
                    group: *group,
                },
            };
            Some(Self { parts: vec![Part { first: 0, held, cut: None }], rounding: self.rounding.clone() })
        };
        Some([of(0)?, of(1)?, of(2)?])
    }
}
