//! What form a weight's codes and scales have, and the search for scales that fit it.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{BITS, Group, Scales};
use crate::tensor::{DType, FloatType, Tensor, round_to};

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleFormat {
    /// Floats of this type.
    Plain(#[serde(deserialize_with = "FloatType::deserialize")] DType),
    /// Codes of this many bits under one f16 scale a row: [`Scales::Nested`].
    Nested(usize),
}

/// Bits, group and scales of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Bits of a code, 2 to 8.
    pub bits: usize,
    /// Inputs that share a scale.
    pub group: Group,
    /// How scales are stored.
    pub scales: ScaleFormat,
}

/// Candidates for a scale that are tried together.
const TOGETHER: usize = 8;

/// Type of a row's scale under [`ScaleFormat::Nested`].
pub const ROW_SCALE: DType = DType::F16;

/// A row's scales in the form they will be stored in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RowScales {
    /// The scale of each group, as readers will see it.
    pub(crate) values: Vec<f32>,
    /// Nested: each group's code.
    codes: Vec<u8>,
    /// Nested: the row's scale.
    row: f32,
}

impl RowScales {
    /// What each scale is a multiple of, where they are nested.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "GPTQ's, which a browser has not"))]
    pub(crate) fn unit(&self) -> f32 {
        self.row
    }
}

impl Format {
    /// # Errors
    /// [`Error::Argument`] for bits or a group that cannot be.
    pub fn check(&self) -> Result<()> {
        if !BITS.contains(&self.bits) {
            let what = format!("{}, not {} to {}", self.bits, BITS.start(), BITS.end());
            return Err(Error::argument("bits", what));
        }
        if let ScaleFormat::Nested(bits) = self.scales
            && !(2..=7).contains(&bits)
        {
            return Err(Error::argument("scale bits", format!("{bits}, not 2 to 7")));
        }
        match self.scales {
            ScaleFormat::Plain(dtype) if !dtype.is_float() => {
                Err(Error::argument("scale type", format!("{dtype} is no float type")))
            }
            _ => Ok(()),
        }
    }

    /// The scale of a row whose groups have codes of `bits`, at least `unit`, but for what f16 rounds where it is subnormal: a
    /// multiple of it has, where that can be, so few bits that matrix units take the weight ([`crate::kernels::ScaleBits`]).
    pub(crate) fn row_scale(&self, unit: f32, bits: usize) -> f32 {
        // A scale of one bit leaves a product the bits of the code.
        let kept = match (12 - self.bits).checked_sub(bits) {
            Some(left) => left.max(1) as u32,
            None => f16::MANTISSA_DIGITS,
        };
        let rest = (1u32 << (f32::MANTISSA_DIGITS - kept)) - 1;
        let unit = f32::from_bits((unit.max(0.0).to_bits() + rest) & !rest);
        holding(ROW_SCALE, unit, f32::from((1u8 << bits) - 1))
    }

    /// Codes are `-half .. half`.
    pub(crate) fn half(&self) -> f32 {
        f32::from(1u8 << (self.bits - 1))
    }

    /// Scales of one row that make `sum over inputs of importance * (w - code * scale)^2` small: for each group the
    /// best of a ladder of `steps` candidates between 0.4 (of 7 bits and more 0.85) and 1.05 of the one that the largest
    /// weight asks for. This is AWQ's search for clipping (arXiv:2306.00978), whose candidates go down to 0.5.
    /// `importance`: a weight for each input, such as the Hessian's diagonal.
    pub(crate) fn search(&self, row: &[f32], importance: &[f32], steps: usize) -> RowScales {
        let group = self.group.len(row.len()).max(1);
        let pairs = || row.chunks(group).zip(importance.chunks(group));
        let free: Vec<f32> = pairs().map(|(w, h)| self.best(w, h, steps)).collect();
        let ScaleFormat::Nested(bits) = self.scales else {
            return self.stored(&free, 1.0);
        };
        let top = f32::from((1u8 << bits) - 1);
        let unit = free.iter().fold(0f32, |m, s| m.max(*s)) / top;
        let mut scales = self.stored(&free, unit);
        // The codes are coarse: of the nearest few, the best for the weights rather than for the scale.
        for (g, (w, h)) in pairs().enumerate() {
            let near = scales.codes[g];
            let candidates: [u8; 5] = std::array::from_fn(|i| (near + i as u8).saturating_sub(2).clamp(1, top as u8));
            let losses = self.losses(w, h, candidates.map(|code| f32::from(code) * scales.row));
            let pairs = candidates.into_iter().zip(losses);
            let best = pairs.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(near, |(code, _)| code);
            scales.codes[g] = best;
            scales.values[g] = f32::from(best) * scales.row;
        }
        scales
    }

    /// `scales` as they can be stored; `unit` is the row scale wished for, where they are nested.
    fn stored(&self, scales: &[f32], unit: f32) -> RowScales {
        match self.scales {
            ScaleFormat::Plain(dtype) => {
                let values = scales.iter().map(|s| stored_scale(dtype, *s)).collect();
                RowScales { values, codes: Vec::new(), row: 1.0 }
            }
            ScaleFormat::Nested(bits) => {
                let row = self.row_scale(unit, bits);
                let mut stored = RowScales { values: vec![0.0; scales.len()], codes: vec![1; scales.len()], row };
                scales.iter().enumerate().for_each(|(g, s)| self.set(&mut stored, g, *s));
                stored
            }
        }
    }

    /// Sets the scale of group `g` to the storable value nearest to `scale`.
    pub(crate) fn set(&self, scales: &mut RowScales, g: usize, scale: f32) {
        match self.scales {
            ScaleFormat::Plain(dtype) => scales.values[g] = stored_scale(dtype, scale),
            ScaleFormat::Nested(bits) => {
                let code = (scale / scales.row).round_ties_even().clamp(1.0, f32::from((1u8 << bits) - 1));
                scales.codes[g] = code as u8;
                scales.values[g] = code * scales.row;
            }
        }
    }

    /// The scales of all rows as one tensor.
    pub(crate) fn gather(&self, rows: &[RowScales]) -> Result<Scales> {
        let groups = rows.first().map_or(0, |r| r.values.len());
        match self.scales {
            ScaleFormat::Plain(dtype) => {
                let values: Vec<f32> = rows.iter().flat_map(|r| r.values.iter().copied()).collect();
                Ok(Scales::Plain(Tensor::from_f32_as(dtype, [rows.len(), groups], &values)?))
            }
            ScaleFormat::Nested(bits) => {
                let codes = rows.iter().flat_map(|r| r.codes.iter().copied()).collect();
                let row: Vec<f32> = rows.iter().map(|r| r.row).collect();
                Ok(Scales::Nested {
                    codes: Tensor::new(DType::I8, [rows.len(), groups], codes)?,
                    bits,
                    rows: Tensor::from_f32_as(ROW_SCALE, [rows.len()], &row)?,
                })
            }
        }
    }

    /// The best scale of one group on a ladder of `steps` rungs; 1 rung is the largest weight over the largest code.
    fn best(&self, w: &[f32], h: &[f32], steps: usize) -> f32 {
        let largest = w.iter().fold(0f32, |m, w| m.max(w.abs()));
        let top = largest / (self.half() - 1.0).max(1.0);
        if largest == 0.0 || steps < 2 {
            return top;
        }
        // With few bits much may be clipped; with eight, nearly nothing.
        let lowest = if self.bits >= 7 { 0.85 } else { 0.4 };
        let rung = |i: usize| top * (1.05 - (1.05 - lowest) * i as f32 / (steps - 1) as f32);
        let (mut best, mut least) = (top, self.loss(w, h, top));
        for first in (0..steps).step_by(TOGETHER) {
            let scales: [f32; TOGETHER] = std::array::from_fn(|i| rung((first + i).min(steps - 1)));
            for (scale, loss) in scales.into_iter().zip(self.losses(w, h, scales)) {
                if loss < least {
                    (best, least) = (scale, loss);
                }
            }
        }
        best
    }

    fn loss(&self, w: &[f32], h: &[f32], scale: f32) -> f32 {
        self.losses(w, h, [scale])[0]
    }

    /// Of several scales at once, so that a processor need not wait for one sum after another.
    fn losses<const N: usize>(&self, w: &[f32], h: &[f32], scales: [f32; N]) -> [f32; N] {
        let (inverses, half) = (scales.map(f32::recip), self.half());
        let mut sums = [0.0; N];
        for (w, h) in w.iter().zip(h) {
            for ((sum, scale), inverse) in sums.iter_mut().zip(scales).zip(inverses) {
                *sum += h * (w - code(*w, inverse, half) * scale).powi(2);
            }
        }
        sums
    }
}

/// The code of a weight, half to even, as a number.
pub(crate) fn code(w: f32, inverse_scale: f32, half: f32) -> f32 {
    // 1.5 * 2^23: in a sum with it no bits are left for a fraction, and processors round half to even. A search for scales
    // does this 50 times for each weight; where a processor has no instruction for it, `round_ties_even` is a call.
    const WHOLE: f32 = 12_582_912.0;
    ((w * inverse_scale).clamp(-half, half - 1.0) + WHOLE) - WHOLE
}

/// The smallest scale of f32 and bf16. Inverses, products with codes and those with second moments of inputs must be normal
/// numbers: GPUs may take others for zeros, and 0 / 0 would spread through a row.
const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);
/// The largest: of a larger one the inverse is not normal.
const LARGEST: f32 = f32::from_bits((127 + 126) << 23);

/// A scale as it will be read back, of what `dtype` holds the nearest. A group of zeros has scale 1, so that nobody divides by 0,
/// and so has one whose weights are not finite, or subnormal, which GPUs may take for zeros.
pub(super) fn stored_scale(dtype: DType, scale: f32) -> f32 {
    if !scale.is_normal() || scale < 0.0 {
        return 1.0;
    }
    let (least, most) = match dtype {
        DType::F16 => (f16::MIN_POSITIVE_SUBNORMAL.to_f32(), f16::MAX.to_f32()),
        _ => (SMALLEST, LARGEST),
    };
    round_to(dtype, scale).clamp(least, most)
}

/// As [`stored_scale`], for codes up to `top`, which stand for up to `top * scale`: subnormal f16 lie so far apart that the nearest one
/// may ask for larger codes, and then it is the next.
pub(super) fn holding(dtype: DType, scale: f32, top: f32) -> f32 {
    let stored = stored_scale(dtype, scale);
    let coarse = dtype == DType::F16 && stored < f16::MIN_POSITIVE.to_f32();
    // From half a code above on, which rounds to the even one.
    if coarse && scale / stored >= 1.0 + 0.5 / top { stored + f16::MIN_POSITIVE_SUBNORMAL.to_f32() } else { stored }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::kernels::ScaleBits;

    fn nested(bits: usize) -> Format {
        Format { bits, group: Group::Size(32), scales: ScaleFormat::Nested(6) }
    }

    /// A row's scale is not below what was asked for, nor half as much above, and short: of int4 weights with codes of 6 bits it
    /// has 2 bits.
    #[test]
    fn row_scales_are_rounded_up_to_few_bits() {
        for (unit, want) in [(1.0, 1.0), (1.01, 1.5), (1.5, 1.5), (1.51, 2.0), (0.0007, 0.000_732_421_9), (0.0, 1.0)] {
            assert_eq!(nested(4).row_scale(unit, 6), want, "{unit}");
        }
        assert_eq!(nested(4).row_scale(1.01, 7), 2.0);
        assert_eq!(nested(4).row_scale(1.01, 4), 1.125);
        assert_eq!(nested(5).row_scale(1.01, 6), 2.0);
        assert_eq!(nested(6).row_scale(1.01, 6), 2.0);
        // Nothing is short of such a weight, so it has what f16 has.
        assert_eq!(nested(8).row_scale(1.01, 6), 1.010_742_2);
    }

    /// So matrix units take nested scales as they take bf16's.
    #[test]
    fn nested_scales_are_short() {
        let weight: Vec<f32> = (0..64 * 256).map(|i| (i as f32 * 0.7).sin() * (1.0 + (i % 37) as f32)).collect();
        for bits in 3..=6 {
            let format = nested(bits);
            let rows: Vec<RowScales> = weight.chunks(256).map(|row| format.search(row, &[1.0; 256], 16)).collect();
            let scales = format.gather(&rows).unwrap().to_f32().unwrap();
            assert_eq!(ScaleBits::of(&scales, bits), ScaleBits::Short, "{bits} bits");
            assert!(rows.iter().all(|row| row.codes.iter().any(|code| *code > 31)), "codes of 6 bits are used");
        }
    }

    /// Only of zeros, and of what no type holds, the scale is 1.
    #[test]
    fn scales_can_be_divided_by() {
        let step = 2f32.powi(-24);
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for odd in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-39] {
                assert_eq!(stored_scale(dtype, odd), 1.0, "{odd} as {dtype}");
            }
            for scale in [f32::MIN_POSITIVE, 1e-31, 1e-20, 1e-9, 0.1, 1e6, f32::MAX] {
                let stored = stored_scale(dtype, scale);
                assert!(stored.is_normal() && stored.recip().is_normal(), "{scale:e} as {dtype}: {stored:e}");
                assert_eq!(round_to(dtype, stored), stored, "{scale:e} as {dtype}");
            }
        }
        assert_eq!([1e-9, 1.4 * step, 1e6].map(|s| stored_scale(DType::F16, s)), [step, step, 65504.0]);
        assert_eq!(stored_scale(DType::BF16, 1e6), round_to(DType::BF16, 1e6));
        // The next one only where codes would be beyond: of 1.4 steps up to 15, but not of 20.4 or with top 1.
        assert_eq!(
            [(1.4, 15.0), (20.4, 15.0), (1.4, 1.0)].map(|(s, top)| holding(DType::F16, s * step, top) / step),
            [2.0, 20.0, 1.0]
        );
    }

    /// f16 has nothing below 2^-24, and a row is not for that zeros.
    #[test]
    fn rows_of_small_weights_are_not_lost() {
        let step = 2f32.powi(-24);
        assert_eq!([1e-10, 1.4 * step].map(|unit| nested(4).row_scale(unit, 6)), [step, 2.0 * step]);
        assert_eq!([1.4 * step, 80.3 * step].map(|unit| nested(8).row_scale(unit, 6)), [2.0 * step, 80.0 * step]);
        let weight: Vec<f32> = (0..256).map(|i| 1.3e-6 * (i as f32 * 0.7).sin()).collect();
        let row = nested(4).search(&weight, &[1.0; 256], 1);
        let (mut lost, mut all) = (0f32, 0f32);
        for (i, w) in weight.iter().enumerate() {
            let scale = row.values[i / 32];
            lost += ((w - code(*w, scale.recip(), 8.0) * scale) / step).powi(2);
            all += (w / step).powi(2);
        }
        assert!(lost < 0.05 * all, "{lost} of {all}");
    }
}
