//! Integer weights with scales, and how their inputs are rounded.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Codes a core looks at at a time.
const TASK: usize = 1 << 16;

/// How many consecutive inputs of a row share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// One scale a row.
    Channel,
    /// One scale for each run of this many inputs.
    Size(usize),
}

impl Group {
    /// Inputs a group, for rows of `cols` inputs.
    #[must_use]
    pub fn len(self, cols: usize) -> usize {
        match self {
            Self::Channel => cols,
            Self::Size(n) => n.min(cols),
        }
    }

    /// Groups a row of `cols` inputs has; the last may be shorter.
    #[must_use]
    pub fn count(self, cols: usize) -> usize {
        cols.div_ceil(self.len(cols).max(1))
    }
}

/// What a linear layer's input is rounded to before the product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Nothing: the product takes floats.
    #[default]
    Float,
    /// int8 with one scale for each token and group of inputs, found as the model runs; where a token has several, rounded up
    /// to 4 significant bits ([`crate::reference::quantize_tokens`]).
    Int8(Group),
    /// int8 with one scale for each group of inputs, the same for all tokens, which calibration fixed; `channel`: one
    /// for the whole input.
    Static(Group),
}

impl Activations {
    /// int8 with one scale a token.
    pub const TOKEN: Self = Self::Int8(Group::Channel);

    /// Are they int8?
    #[must_use]
    pub fn int8(self) -> bool {
        self != Self::Float
    }

    /// Inputs that share a scale, where they are int8.
    #[must_use]
    pub fn group(self) -> Option<Group> {
        match self {
            Self::Float => None,
            Self::Int8(group) | Self::Static(group) => Some(group),
        }
    }

    /// Scales that are stored with a weight of `cols` inputs.
    #[must_use]
    pub fn stored_scales(self, cols: usize) -> usize {
        match self {
            Self::Float | Self::Int8(_) => 0,
            Self::Static(group) => group.count(cols),
        }
    }
}

/// Scales of a weight, in the form they are stored in.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// `[out, groups]` f32, f16 or bf16.
    Plain(Tensor),
    /// `scale[o, g] = codes[o, g] * rows[o]`: scales of scales, as QLoRA (arXiv:2305.14314, section 3) and
    /// llama.cpp's K-quants have.
    Nested {
        /// `[out, groups]` I8, `1..2^bits`.
        codes: Tensor,
        /// Bits of a code, at most 7.
        bits: usize,
        /// `[out]` f32, f16 or bf16.
        rows: Tensor,
    },
}

impl Scales {
    /// `[out, groups]`.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Plain(scales) => scales.shape,
            Self::Nested { codes, .. } => codes.shape,
        }
    }

    /// Bits of nested scales' codes; `None` for plain scales.
    #[must_use]
    pub fn nested_bits(&self) -> Option<usize> {
        match self {
            Self::Plain(_) => None,
            Self::Nested { bits, .. } => Some(*bits),
        }
    }

    /// The type of the floats stored.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match self {
            Self::Plain(scales) => scales.dtype,
            Self::Nested { rows, .. } => rows.dtype,
        }
    }

    /// The scales, `[out, groups]`; those of nested ones are products rounded once.
    ///
    /// # Errors
    /// [`Error::DType`] when what should be floats is not; [`Error::Argument`] for codes without a row's scale.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        match self {
            Self::Plain(scales) => scales.to_f32(),
            Self::Nested { codes, rows, .. } => {
                let (groups, rows) = (codes.shape.cols().max(1), rows.to_f32()?);
                let codes: &[i8] = bytemuck::cast_slice(&codes.bytes);
                if codes.len().div_ceil(groups) > rows.len() {
                    let what = format!("{} codes of {groups} a row, but {} rows' scales", codes.len(), rows.len());
                    return Err(Error::argument("scales", what));
                }
                let mut scales = vec![0f32; codes.len()];
                let of_rows = scales.par_chunks_mut(groups).zip(codes.par_chunks(groups)).zip(&rows);
                of_rows.for_each(|((scales, codes), row)| {
                    scales.iter_mut().zip(codes).for_each(|(scale, code)| *scale = f32::from(*code) * row);
                });
                Ok(scales)
            }
        }
    }

    /// Bits all scales take.
    #[must_use]
    pub fn bits(&self) -> usize {
        match self {
            Self::Plain(scales) => 8 * scales.bytes.len(),
            Self::Nested { codes, bits, rows } => bits * codes.bytes.len() + 8 * rows.bytes.len(),
        }
    }
}

/// A weight matrix of signed integer codes with scales, symmetric: `w[o, i] = codes[o, i] * scales[o, i / group]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLinear {
    /// 2 to 8.
    pub bits: usize,
    /// Inputs sharing a scale.
    pub group: Group,
    /// `[out, in]` I8, one byte a code whatever `bits` is.
    pub codes: Tensor,
    /// `[out, groups]`.
    pub scales: Scales,
    /// What inputs are rounded to before the product.
    pub activations: Activations,
    /// Scales of [`Activations::Static`], one for each group of inputs; empty for others.
    pub input_scales: Vec<f32>,
}

/// What [`usable_scale`] wants, in words.
pub(super) const SCALE_RULE: &str = "scales must be positive, and they and their inverses normal f32";

/// May numbers be divided by it? On any GPU: some flush subnormal numbers to zero.
pub(super) fn usable_scale(scale: f32) -> bool {
    // The inverse of the smallest normal number is the largest whose inverse is normal.
    (f32::MIN_POSITIVE..=f32::MIN_POSITIVE.recip()).contains(&scale)
}

/// Is one of `codes` beyond the signed range of `bits`? There are gigabytes of them, so no task ends half way: the compiler then looks at
/// many at a time.
pub(super) fn beyond(bits: usize, codes: &[u8]) -> bool {
    if bits >= 8 {
        return false;
    }
    let (half, unused) = (1u8 << (bits - 1), u8::MAX << bits);
    codes.par_chunks(TASK).any(|codes| codes.iter().fold(0, |all, code| all | code.wrapping_add(half)) & unused != 0)
}

/// Refuses a tensor of `what` that has not the bytes that its shape and type take.
pub(super) fn whole(name: &str, what: &str, tensor: &Tensor) -> Result<()> {
    let wrong = |short| Error::argument(format!("weight `{name}`"), format!("has other bytes of {what}: {short}"));
    tensor.short().map_or(Ok(()), |short| Err(wrong(short)))
}

/// Bits a code may have.
pub const BITS: std::ops::RangeInclusive<usize> = 2..=8;

impl QuantizedLinear {
    /// Codes must fit their bits and scales their codes, all of them be there, and no group be of nothing.
    ///
    /// # Errors
    /// [`Error::Argument`] naming `module` and what is wrong.
    pub fn check(&self, module: &str) -> Result<()> {
        let wrong = |what: String| Err(Error::argument(format!("weight `{module}`"), what));
        if !BITS.contains(&self.bits) {
            return wrong(format!("has {} bits; {} to {} can be stored", self.bits, BITS.start(), BITS.end()));
        }
        if [Some(self.group), self.activations.group()].contains(&Some(Group::Size(0))) {
            return wrong("has groups of 0 inputs".to_owned());
        }
        whole(module, "codes", &self.codes)?;
        if self.codes.dtype != DType::I8 || beyond(self.bits, &self.codes.bytes) {
            return wrong(format!("has codes beyond {} bits", self.bits));
        }
        let want = [self.codes.shape.rows(), self.group.count(self.codes.shape.cols())];
        let (shape, dtype) = (self.scales.shape(), self.scales.dtype());
        if shape.dims() != want || !dtype.is_float() {
            return wrong(format!("has scales {dtype} {shape}, expected floats {want:?}"));
        }
        let (have, need) = (self.input_scales.len(), self.activations.stored_scales(self.codes.shape.cols()));
        if have != need {
            return wrong(format!("has {have} input scales, expected {need}"));
        }
        if let Some(i) = self.input_scales.iter().position(|s| !usable_scale(*s)) {
            return wrong(format!("has the input scale {:e} at index {i}; {SCALE_RULE}", self.input_scales[i]));
        }
        if let Scales::Nested { codes, bits, rows } = &self.scales {
            if rows.shape.dims() != [want[0]] {
                return wrong(format!("has row scales {}, expected [{}]", rows.shape, want[0]));
            }
            if codes.dtype != DType::I8 {
                return wrong(format!("has scale codes {}, expected i8", codes.dtype));
            }
            whole(module, "scale codes", codes)?;
            let outside = |codes: &[u8]| codes.iter().fold(false, |any, c| any | !(1..1u8 << bits).contains(c));
            if !(1..=7).contains(bits) || codes.bytes.par_chunks(TASK).any(outside) {
                return wrong(format!("has scale codes beyond 1..2^{bits}"));
            }
        }
        let (what, floats) = match &self.scales {
            Scales::Plain(scales) => ("scale", scales),
            Scales::Nested { rows, .. } => ("row scale", rows),
        };
        whole(module, &format!("{what}s"), floats)?;
        let floats = floats.to_f32()?;
        let unusable =
            |(task, scales): (usize, &[f32])| scales.iter().position(|s| !usable_scale(*s)).map(|i| task * TASK + i);
        if let Some(i) = floats.par_chunks(TASK).enumerate().find_map_first(unusable) {
            return wrong(format!("has the {what} {:e} at index {i}; {SCALE_RULE}", floats[i]));
        }
        Ok(())
    }

    /// The values in f32: `codes * scales`, each product rounded once.
    ///
    /// # Errors
    /// [`Error::DType`] when the scales are not floating-point; [`Error::Argument`] when there are not as many as the codes want.
    pub fn dequantize(&self) -> Result<Vec<f32>> {
        let cols = self.codes.shape.cols();
        let (group, count) = (self.group.len(cols).max(1), self.group.count(cols));
        let scales = self.scales.to_f32()?;
        let codes: &[i8] = bytemuck::cast_slice(&self.codes.bytes);
        let rows = codes.len().div_ceil(cols.max(1));
        if rows.checked_mul(count) != Some(scales.len()) {
            let what = format!("{} for {rows} rows of {count}", scales.len());
            return Err(Error::argument("scales", what));
        }
        let mut out = vec![0f32; codes.len()];
        let rows = out.par_chunks_mut(cols.max(1)).zip(codes.par_chunks(cols.max(1)));
        rows.zip(scales.par_chunks(count.max(1))).for_each(|((out, codes), scales)| {
            for ((out, codes), scale) in out.chunks_mut(group).zip(codes.chunks(group)).zip(scales) {
                out.iter_mut().zip(codes).for_each(|(o, c)| *o = f32::from(*c) * scale);
            }
        });
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_beyond_their_bits_are_seen() {
        for bits in 1..=8 {
            let half = 1i16 << (bits - 1);
            for code in i8::MIN..=i8::MAX {
                let wide = !(-half..half).contains(&i16::from(code));
                assert_eq!(beyond(bits, &[0, code.cast_unsigned(), 0]), wide, "{code} of {bits} bits");
            }
        }
        let mut many = vec![0xff; 2 * TASK + 7];
        assert!(!beyond(4, &many) && !beyond(4, &[]));
        many[2 * TASK + 5] = 8;
        assert!(beyond(4, &many) && !beyond(5, &many));
    }

    #[test]
    fn usable_scales_have_normal_inverses() {
        let rule = |scale: f32| scale > 0.0 && scale.is_normal() && scale.recip().is_normal();
        let edges = [f32::MIN_POSITIVE, f32::MIN_POSITIVE.recip(), 1.0, f32::INFINITY, f32::NAN, 0.0];
        let near = edges.map(f32::to_bits).into_iter().flat_map(|bits| bits.saturating_sub(2)..=bits + 2);
        for scale in near.flat_map(|bits| [bits, bits | 1 << 31]).map(f32::from_bits) {
            assert_eq!(usable_scale(scale), rule(scale), "{scale:e}");
        }
    }

    #[test]
    fn scales_that_are_not_there_are_refused() {
        let codes = |shape: [usize; 2]| Tensor::new(DType::I8, shape, vec![1; shape[0] * shape[1]]).unwrap();
        let nested = |rows: usize| {
            let rows = Tensor::from_f32([rows], &vec![0.5; rows]);
            Scales::Nested { codes: codes([4, 2]), bits: 6, rows }
        };
        assert_eq!(nested(4).to_f32().unwrap(), [0.5; 8]);
        let told = nested(1).to_f32().unwrap_err().to_string();
        assert!(told.contains("8 codes of 2 a row, but 1 rows' scales"), "{told}");
        let mut weight = QuantizedLinear {
            bits: 4,
            group: Group::Size(4),
            codes: codes([2, 8]),
            scales: Scales::Plain(Tensor::from_f32([2, 2], &[1.0; 4])),
            activations: Activations::Float,
            input_scales: Vec::new(),
        };
        assert_eq!(weight.dequantize().unwrap(), [1.0; 16]);
        weight.scales = Scales::Plain(Tensor::from_f32([1, 1], &[1.0]));
        let told = weight.dequantize().unwrap_err().to_string();
        assert!(told.contains("1 for 2 rows of 2"), "{told}");
    }
}
