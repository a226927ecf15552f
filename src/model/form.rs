//! In what form a model's weights are, known before any is read.

use super::{Activations, Group, Linear, Role};
use crate::tensor::DType;

/// The form of a linear layer's or embedding's weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightForm {
    /// Linear layer or embedding.
    pub role: Role,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// What its elements are.
    pub stored: Stored,
}

/// What a weight's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Floats of this type.
    Float(DType),
    /// Integer codes with scales.
    Codes {
        /// Bits of a code.
        bits: usize,
        /// Inputs that share a scale.
        group: Group,
        /// The type that a device holds scales in, f32 or bf16.
        scales: DType,
        /// What inputs are rounded to.
        activations: Activations,
    },
}

/// The type that a device holds scales of a weight of `bits` in ([`crate::kernels::upload_scales`]): bf16 where they are stored so, or are
/// `nested`, products of a code of so many bits and a row's scale, to which `quantize::Format::row_scale` leaves so few that a product has
/// no more than 8, or what a weight's code has not of 12.
pub(crate) fn scale_type(bits: usize, plain: DType, nested: Option<usize>) -> DType {
    let is_short = nested.map_or(plain == DType::BF16, |codes| bits >= 4 && bits + codes <= 12);
    if is_short { DType::BF16 } else { DType::F32 }
}

impl WeightForm {
    /// The form of a weight that was read.
    #[must_use]
    pub fn of(linear: &Linear, role: Role) -> Self {
        let (rows, cols) = linear.dims();
        let stored = match linear {
            Linear::Float(t) => Stored::Float(t.dtype),
            Linear::Quantized(q) => Stored::Codes {
                bits: q.bits,
                group: q.group,
                scales: scale_type(q.bits, q.scales.dtype(), q.scales.nested_bits()),
                activations: q.activations,
            },
        };
        Self { role, rows, cols, stored }
    }

    /// Scales that a token's inputs have, where they are rounded.
    #[must_use]
    pub fn activation_groups(&self) -> usize {
        match self.stored {
            Stored::Float(_) => 0,
            Stored::Codes { activations, .. } => activations.group().map_or(0, |g| g.count(self.cols)),
        }
    }
}
