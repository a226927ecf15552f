//! Random weights by counter: any part of a tensor can be drawn by any thread, and the bytes are the same.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::Result;
use crate::model::Scales;
use crate::quantize::{Format, ROW_SCALE, ScaleFormat};
use crate::tensor::{DType, Shape, Tensor};

/// Elements a task draws.
const TASK: usize = 1 << 16;

/// A stream of random words, each a function of its index: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Copy)]
pub(super) struct Stream(u64);

impl Stream {
    /// The stream of a tensor called `name`; FNV-1a tells names apart.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self(mix(hash ^ mix(seed)))
    }

    /// Word `index`.
    pub(super) fn word(self, index: usize) -> u64 {
        mix(self.0.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Number `index`, uniform in `low..high`.
    pub(super) fn uniform(self, index: usize, low: f32, high: f32) -> f32 {
        let unit = (self.word(index) >> 40) as f32 / (1u32 << 24) as f32;
        low + (high - low) * unit
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Codes of `bits` for each random byte, distributed as a normal variable rounded by its largest value.
struct Codes {
    table: [u8; 256],
    /// Standard deviation of a code.
    deviation: f32,
}

impl Codes {
    fn new(bits: usize) -> Self {
        let top = f32::from((1u8 << (bits - 1)) - 1).max(1.0);
        let largest = quantile(255);
        let codes: [i8; 256] = std::array::from_fn(|i| (quantile(i) / largest * top).round_ties_even() as i8);
        let squares: f32 = codes.iter().map(|c| f32::from(*c).powi(2)).sum();
        Self { table: codes.map(i8::cast_unsigned), deviation: (squares / 256.0).sqrt() }
    }
}

/// The normal quantile of `(i + 1/2) / 256`, by Abramowitz and Stegun's 26.2.23 (good to 5e-4).
fn quantile(i: usize) -> f32 {
    let p = (i as f64 + 0.5) / 256.0;
    let t = (-2.0 * p.min(1.0 - p).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let z = t - above / below;
    (if p < 0.5 { -z } else { z }) as f32
}

/// Codes of `shape` and scales for them, as if a matrix of elements with standard deviation `deviation` had been
/// quantized to `format`.
pub(super) fn quantized(stream: Stream, shape: Shape, format: &Format, deviation: f32) -> Result<(Tensor, Scales)> {
    let codes = Codes::new(format.bits);
    let mut bytes = vec![0u8; shape.elements()];
    bytes.par_chunks_mut(TASK).enumerate().for_each(|(task, out)| {
        for (i, out) in out.chunks_mut(8).enumerate() {
            let random = stream.word(task * (TASK / 8) + i).to_le_bytes();
            out.iter_mut().zip(random).for_each(|(o, r)| *o = codes.table[usize::from(r)]);
        }
    });
    let unit = deviation / codes.deviation;
    Ok((Tensor::new(DType::I8, shape, bytes)?, scales(Stream(mix(stream.0)), shape, format, unit)?))
}

/// Scales near `unit`, no two groups alike: one that is read for another shows in the result.
fn scales(stream: Stream, shape: Shape, format: &Format, unit: f32) -> Result<Scales> {
    let (rows, groups) = (shape.rows(), format.group.count(shape.cols()));
    match format.scales {
        ScaleFormat::Plain(dtype) => {
            let values: Vec<f32> = (0..rows * groups).map(|i| unit * stream.uniform(i, 0.9, 1.1)).collect();
            Ok(Scales::Plain(Tensor::from_f32_as(dtype, [rows, groups], &values)?))
        }
        ScaleFormat::Nested(bits) => {
            let top = ((1usize << bits) - 1) as f32;
            let least = format.row_scale(1.1 * unit / top, bits);
            let row = |i: usize| least * [1.0, 2.0][i % 2];
            let code = |i| (unit * stream.uniform(i, 0.9, 1.1) / row(i / groups)).round().clamp(1.0, top) as u8;
            let codes = (0..rows * groups).map(code).collect();
            let values: Vec<f32> = (0..rows).map(row).collect();
            Ok(Scales::Nested {
                codes: Tensor::new(DType::I8, [rows, groups], codes)?,
                bits,
                rows: Tensor::from_f32_as(ROW_SCALE, [rows], &values)?,
            })
        }
    }
}

/// Floats of `shape`, uniform, with this standard deviation.
pub(super) fn floats(stream: Stream, shape: Shape, dtype: DType, deviation: f32) -> Result<Tensor> {
    let limit = deviation * 3f32.sqrt();
    let size = dtype.bits() / 8;
    let mut bytes = vec![0u8; shape.elements() * size];
    bytes.par_chunks_mut(TASK * size).enumerate().for_each(|(task, out)| {
        for (i, out) in out.chunks_mut(size).enumerate() {
            let value = stream.uniform(task * TASK + i, -limit, limit);
            match dtype {
                DType::F16 => out.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
                DType::BF16 => out.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
                _ => out.copy_from_slice(&value.to_le_bytes()),
            }
        }
    });
    Tensor::new(dtype, shape, bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::model::{Activations, Group, QuantizedLinear};

    /// Of every form, the values have the deviation asked for and the codes the range they may.
    #[test]
    fn values_have_the_deviation_asked_for() {
        let shape = Shape::from([96, 1024]);
        let forms = [
            (8, Group::Channel, ScaleFormat::Plain(DType::BF16)),
            (4, Group::Size(128), ScaleFormat::Plain(DType::F32)),
            (4, Group::Size(32), ScaleFormat::Nested(6)),
            (5, Group::Size(32), ScaleFormat::Nested(6)),
            (2, Group::Size(64), ScaleFormat::Plain(DType::F16)),
        ];
        for (bits, group, scales) in forms {
            let (codes, scales) = quantized(Stream::new(1, "w"), shape, &Format { bits, group, scales }, 0.03).unwrap();
            let activations = Activations::Float;
            let q = QuantizedLinear { bits, group, codes, scales, activations, input_scales: Vec::new() };
            q.check("w").unwrap();
            let values = q.dequantize().unwrap();
            let got = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
            assert!((got / 0.03 - 1.0).abs() < 0.05, "{bits} bits: {got}");
            let largest = q.codes.bytes.iter().map(|b| b.cast_signed().unsigned_abs()).max().unwrap();
            assert_eq!(usize::from(largest), (1 << (bits - 1)) - 1);
        }
        let values = floats(Stream::new(1, "w"), shape, DType::F16, 0.03).unwrap().to_f32().unwrap();
        let got = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        assert!((got / 0.03 - 1.0).abs() < 0.02, "{got}");
    }

    #[test]
    fn streams_differ_by_seed_and_name() {
        let words = |seed, name| (0..4).map(|i| Stream::new(seed, name).word(i)).collect::<Vec<_>>();
        assert_eq!(words(1, "a"), words(1, "a"));
        assert_ne!(words(1, "a"), words(2, "a"));
        assert_ne!(words(1, "a"), words(1, "b"));
    }
}
