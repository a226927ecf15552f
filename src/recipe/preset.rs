//! Recipes of one line: the same bits everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Recipe, Rule};
use crate::calibrate::Calibration;
use crate::error::{Error, Result};
use crate::model::{Activations, Group, ModelConfig};
use crate::quantize::{Format, ScaleFormat};
use crate::tensor::DType;
use crate::transform::Transform;

/// Weight and activation bits of the linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bits {
    /// int8 weights per channel, int8 activations per token.
    W8A8,
    /// int4 weights, int8 activations per token.
    W4A8,
    /// int4 weights, float activations.
    W4A16,
}

impl Bits {
    /// Every scheme.
    pub const ALL: [Self; 3] = [Self::W8A8, Self::W4A8, Self::W4A16];

    /// Bits of a weight.
    #[must_use]
    pub fn weight(self) -> usize {
        if self == Self::W8A8 { 8 } else { 4 }
    }

    /// What activations are rounded to.
    #[must_use]
    pub fn activations(self) -> Activations {
        if self == Self::W4A16 { Activations::Float } else { Activations::TOKEN }
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::W8A8 => "w8a8",
            Self::W4A8 => "w4a8",
            Self::W4A16 => "w4a16",
        })
    }
}

impl FromStr for Bits {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|b| b.to_string() == text.to_ascii_lowercase());
        found.ok_or_else(|| Error::argument("--scheme", format!("`{text}` is not one of w8a8, w4a8, w4a16")))
    }
}

impl Recipe {
    /// Linear layers and head with the same bits, rounded to nearest. 8-bit weights have one scale a channel, 4-bit
    /// ones one a `group`. `embedding`: int8 by row; one that a tied head shares stays float under float activations.
    #[must_use]
    pub fn uniform(
        config: &ModelConfig,
        bits: Bits,
        group: Group,
        embedding: bool,
        float: DType,
        transform: Transform,
    ) -> Self {
        let group = if bits == Bits::W8A8 { Group::Channel } else { group };
        let format = |bits, group| Some(Format { bits, group, scales: ScaleFormat::Plain(float) });
        let rule = |class: &str, weights, activations| Rule { modules: vec![class.into()], weights, activations };
        let mut rules = vec![rule("Linear", format(bits.weight(), group), bits.activations())];
        let tied = config.tied && !transform.fold_norms;
        if embedding && (!tied || bits.activations().int8()) {
            rules.push(rule("Embedding", format(8, Group::Channel), Activations::Float));
        }
        Self { float, calibration: Calibration::default(), gptq: None, transform, rules }
    }
}
