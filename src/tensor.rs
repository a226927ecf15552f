//! Host tensors: a dtype, a shape in torch order (last axis fastest) and contiguous data.

use std::fmt;

use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Elements a core converts at a time.
const TASK: usize = 1 << 14;

/// Element type. `I4` is two elements a byte, low nibble first; all other types as in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Unsigned 32-bit integer (token ids, packed words).
    U32,
    /// Signed 8-bit code.
    I8,
    /// Signed 4-bit code.
    I4,
}

/// How to deserialize a [`DType`] that must be one of the three floating-point types: only these are offered.
#[derive(serde::Deserialize)]
#[serde(remote = "DType", rename_all = "lowercase")]
pub(crate) enum FloatType {
    F32,
    F16,
    BF16,
}

impl DType {
    /// Bits of one element.
    #[must_use]
    pub fn bits(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 32,
            Self::F16 | Self::BF16 => 16,
            Self::I8 => 8,
            Self::I4 => 4,
        }
    }

    /// Is this one of the three floating-point types?
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::U32 => "u32",
            Self::I8 => "i8",
            Self::I4 => "i4",
        })
    }
}

/// Sizes of the axes, slowest first. Rank 0 to 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: usize,
}

impl Shape {
    /// A shape of rank ≤ 4.
    ///
    /// # Panics
    /// If there are more than four axes; a file's rank is checked by the reader before.
    #[must_use]
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= 4, "rank {} is above 4", dims.len());
        let mut all = [1; 4];
        all[..dims.len()].copy_from_slice(dims);
        Self { dims: all, rank: dims.len() }
    }

    /// The axes' sizes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.dims().iter().product()
    }

    /// Size of the last axis (1 for rank 0).
    #[must_use]
    pub fn cols(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Product of all axes but the last.
    #[must_use]
    pub fn rows(&self) -> usize {
        let n = self.rank.saturating_sub(1);
        self.dims[..n].iter().product()
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self::new(&dims)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A contiguous tensor on the host, little-endian bytes.
#[derive(Debug, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Axes.
    pub shape: Shape,
    /// `rows * ceil(cols * bits / 8)` bytes: each row of `I4` is padded to whole ones.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor from raw bytes.
    ///
    /// # Errors
    /// [`Error::Argument`] when the byte count does not fit shape and dtype.
    pub fn new(dtype: DType, shape: impl Into<Shape>, bytes: Vec<u8>) -> Result<Self> {
        let tensor = Self { dtype, shape: shape.into(), bytes };
        tensor.short().map_or(Ok(tensor), |what| Err(Error::argument("tensor", what)))
    }

    /// What is wrong with the number of bytes, if anything.
    pub(crate) fn short(&self) -> Option<String> {
        let Self { dtype, shape, bytes } = self;
        let rows = shape.dims().split_last().map_or(&[][..], |(_, rows)| rows);
        let row = shape.cols().checked_mul(dtype.bits()).map(|bits| bits.div_ceil(8));
        let Some(need) = row.and_then(|row| rows.iter().try_fold(row, |bytes, rows| bytes.checked_mul(*rows))) else {
            return Some(format!("{dtype} {shape} is beyond any memory"));
        };
        (bytes.len() != need).then(|| format!("{dtype} {shape} takes {need} bytes, got {}", bytes.len()))
    }

    /// An f32 tensor.
    ///
    /// # Panics
    /// When the number of values is not the shape's.
    #[must_use]
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32]) -> Self {
        let shape = shape.into();
        assert_eq!(shape.elements(), values.len(), "values for shape {shape}");
        Self { dtype: DType::F32, shape, bytes: copied(bytemuck::cast_slice(values)) }
    }

    /// The values as f32, converted from f16 or bf16 exactly.
    ///
    /// # Errors
    /// [`Error::DType`] for integer tensors.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let elements = |bytes| self.bytes.par_chunks_exact(bytes).with_min_len(TASK);
        let halves = || elements(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
        Ok(match self.dtype {
            DType::F32 => elements(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            DType::F16 => halves().map(|h| f16::from_bits(h).to_f32()).collect(),
            DType::BF16 => halves().map(|h| bf16::from_bits(h).to_f32()).collect(),
            got => {
                return Err(Error::DType { kernel: "to_f32", arg: "tensor", expected: "f32, f16 or bf16", got });
            }
        })
    }

    /// `values` rounded (half to even) to a floating-point `dtype`.
    ///
    /// # Errors
    /// [`Error::DType`] for integer types, [`Error::Argument`] for a wrong count.
    pub fn from_f32_as(dtype: DType, shape: impl Into<Shape>, values: &[f32]) -> Result<Self> {
        let bytes = match dtype {
            DType::F32 => copied(bytemuck::cast_slice(values)),
            DType::F16 => halves(values, |v| f16::from_f32(v).to_le_bytes()),
            DType::BF16 => halves(values, |v| bf16::from_f32(v).to_le_bytes()),
            got => {
                return Err(Error::DType { kernel: "from_f32_as", arg: "dtype", expected: "f32, f16 or bf16", got });
            }
        };
        Self::new(dtype, shape, bytes)
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Self { dtype: self.dtype, shape: self.shape, bytes: copied(&self.bytes) }
    }
}

/// A copy. Memory that was never used before: the system makes it as it is written, on all cores.
fn copied(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0; bytes.len()];
    out.par_chunks_mut(4 * TASK).zip(bytes.par_chunks(4 * TASK)).for_each(|(out, bytes)| out.copy_from_slice(bytes));
    out
}

/// Two bytes of each value.
fn halves(values: &[f32], of: impl Fn(f32) -> [u8; 2] + Sync) -> Vec<u8> {
    let mut out = vec![0; 2 * values.len()];
    out.par_chunks_mut(2 * TASK).zip(values.par_chunks(TASK)).for_each(|(out, values)| {
        out.chunks_exact_mut(2).zip(values).for_each(|(out, value)| out.copy_from_slice(&of(*value)));
    });
    out
}

/// `value` rounded (half to even) to `dtype` and back; integer types leave it as it is.
#[must_use]
pub fn round_to(dtype: DType, value: f32) -> f32 {
    match dtype {
        DType::F16 => f16::from_f32(value).to_f32(),
        DType::BF16 => bf16::from_f32(value).to_f32(),
        _ => value,
    }
}

/// The values of words of two f16 each, the lower half first.
#[must_use]
pub fn unpack_halves(words: &[u32]) -> Vec<f32> {
    bytemuck::cast_slice::<u32, f16>(words).iter().map(|h| h.to_f32()).collect()
}

/// `preferred` if it holds every value exactly, else f32.
#[must_use]
pub fn exact_dtype(preferred: DType, values: &[f32]) -> DType {
    let exact = values.par_iter().with_min_len(TASK).all(|v| round_to(preferred, *v).to_bits() == v.to_bits());
    if exact { preferred } else { DType::F32 }
}
