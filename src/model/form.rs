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
        /// What inputs are rounded to.
        activations: Activations,
    },
}

impl WeightForm {
    /// The form of a weight that was read.
    #[must_use]
    pub fn of(linear: &Linear, role: Role) -> Self {
        let (rows, cols) = linear.dims();
        let stored = match linear {
            Linear::Float(t) => Stored::Float(t.dtype),
            Linear::Quantized(q) => Stored::Codes { bits: q.bits, group: q.group, activations: q.activations },
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
