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
    let codes = stacked([&a.codes, &b.codes, &c.codes])?;
    let (true, Some(codes), Some(scales)) =
        (alike(b) && alike(c), codes, stacked_scales([&a.scales, &b.scales, &c.scales])?)
    else {
        return Ok(None);
    };
    Ok(Some(Linear::Quantized(QuantizedLinear {
        bits: a.bits,
        group: a.group,
        codes,
        scales,
        activations: a.activations,
        input_scales: a.input_scales.clone(),
    })))
}

/// The scales of all, where they are of one kind.
fn stacked_scales(all: [&Scales; 3]) -> Result<Option<Scales>> {
    if let [Scales::Plain(a), Scales::Plain(b), Scales::Plain(c)] = all {
        return Ok(stacked([a, b, c])?.map(Scales::Plain));
    }
    let nested =
        all.map(|s| if let Scales::Nested { codes, bits, rows } = s { Some((codes, *bits, rows)) } else { None });
    let [Some(a), Some(b), Some(c)] = nested else { return Ok(None) };
    let (codes, rows) = (stacked([a.0, b.0, c.0])?, stacked([a.2, b.2, c.2])?);
    let nested = |(codes, rows)| Scales::Nested { codes, bits: a.1, rows };
    Ok(codes.zip(rows).filter(|_| [b.1, c.1] == [a.1; 2]).map(nested))
}

/// The rows of all, of tensors of one type and width.
fn stacked(tensors: [&Tensor; 3]) -> Result<Option<Tensor>> {
    let [first, ..] = tensors;
    let [_, columns @ ..] = first.shape.dims() else { return Ok(None) };
    let fits = |t: &&Tensor| t.dtype == first.dtype && t.shape.dims().get(1..) == Some(columns);
    if !tensors.iter().all(fits) {
        return Ok(None);
    }
    let rows = tensors.iter().map(|t| t.shape.dims()[0]).sum::<usize>();
    let bytes = tensors.map(|t| t.bytes.as_slice()).concat();
    Tensor::new(first.dtype, Shape::new(&[&[rows], columns].concat()), bytes).map(Some)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::model::{Activations, Group};
    use crate::tensor::DType;

    /// `[rows, 8]` in groups of 4, with scales of scales.
    fn nested(rows: usize, bits: usize) -> Linear {
        let codes = (0..rows * 8).map(|i| (i % 15) as u8).collect();
        let of_scales = (0..rows * 2).map(|i| 1 + (i % 7) as u8).collect();
        let units: Vec<f32> = (0..rows).map(|i| 0.5 + i as f32).collect();
        Linear::Quantized(QuantizedLinear {
            bits: 4,
            group: Group::Size(4),
            codes: Tensor::new(DType::I8, [rows, 8], codes).unwrap(),
            scales: Scales::Nested {
                codes: Tensor::new(DType::I8, [rows, 2], of_scales).unwrap(),
                bits,
                rows: Tensor::from_f32_as(DType::F16, [rows], &units).unwrap(),
            },
            activations: Activations::TOKEN,
            input_scales: Vec::new(),
        })
    }

    #[test]
    fn scales_of_scales_are_joined() {
        let all = [nested(4, 6), nested(8, 6), nested(2, 6)];
        let values = |l: &Linear| match l {
            Linear::Quantized(q) => q.dequantize().unwrap(),
            Linear::Float(_) => unreachable!(),
        };
        let one = joined([&all[0], &all[1], &all[2]]).unwrap().unwrap();
        assert_eq!((one.dims(), values(&one)), ((14, 8), all.iter().flat_map(values).collect()));
        assert!(joined([&all[0], &nested(8, 5), &all[2]]).unwrap().is_none(), "of other bits");
    }
}
