//! Recipes that need no file: the same bits everywhere, and the presets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Recipe, Rule};
use crate::calibrate::Calibration;
use crate::error::{Error, Result};
use crate::kernels::TOKEN_GROUP;
use crate::model::{Activations, Block, Group, ModelConfig};
use crate::quantize::{Format, GptqOptions, ROW_SCALE, ScaleFormat};
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

/// Inputs of a token that share a scale in the presets, and a block of their online rotations: a product of one token then makes the
/// codes of the next one's ([`TOKEN_GROUP`]), and scales are closer to the numbers.
const GROUPS: Activations = Activations::Int8(Group::Size(TOKEN_GROUP));

/// A recipe that comes with the program, by the name of its measurements in docs/quality.md. Activations are int8 by groups of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// 8 bits everywhere.
    W8A8,
    /// 4-bit linear layers by groups of 32, 5 bits where most is lost (out_proj, head): about 4.5 in all.
    W4A8,
    /// Mamba-2 blocks in 4 bits; MLP, attention, head and embedding in 8.
    Mixed,
}

impl Preset {
    /// Every preset with its name.
    pub const ALL: [(&'static str, Self); 3] = [("w8a8", Self::W8A8), ("w4a8", Self::W4A8), ("mixed", Self::Mixed)];

    /// The preset of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, preset)| preset)
    }

    /// Its rules for a model with these blocks.
    fn rules(self, config: &ModelConfig, tied: bool) -> Vec<Rule> {
        let nested = |bits, group| Format { bits, group: Group::Size(group), scales: ScaleFormat::Nested(6) };
        let channel = |bits| Format { bits, group: Group::Channel, scales: ScaleFormat::Plain(ROW_SCALE) };
        let rule = |class: &str, format, activations| Rule {
            modules: vec![class.to_owned()],
            weights: Some(format),
            activations,
            activation_percentile: None,
        };
        let linear = |format| rule("Linear", format, GROUPS);
        // A tied one is the head.
        let inputs = if tied { Activations::TOKEN } else { Activations::Float };
        let embedding = |format| rule("Embedding", format, inputs);
        let mamba = config.blocks.contains(&Block::Mamba2);
        let mut rules = match self {
            Self::W4A8 => vec![linear(nested(4, 32)), embedding(nested(4, 32))],
            Self::W8A8 | Self::Mixed => vec![linear(channel(8)), embedding(channel(8))],
        };
        match self {
            Self::W4A8 => {
                let most = [mamba.then_some(r"re:.*\.out_proj$"), (!tied).then_some("lm_head")];
                rules.extend(most.into_iter().flatten().map(|m| rule(m, nested(5, 32), GROUPS)));
            }
            Self::Mixed if mamba => rules.push(rule(r"re:.*\.(in|out)_proj$", nested(4, 32), GROUPS)),
            _ => {}
        }
        rules
    }
}

impl Recipe {
    /// A preset for a model of this shape: GPTQ under `transform`, its online rotations in blocks of 32 and smoothed too; or nearest
    /// rounding without `calibrated`.
    #[must_use]
    pub fn preset(preset: Preset, config: &ModelConfig, float: DType, transform: Transform, calibrated: bool) -> Self {
        let transform = transform.in_blocks(config, TOKEN_GROUP);
        let transform = if calibrated { transform.smoothed() } else { transform };
        Self {
            float,
            calibration: Calibration::default(),
            gptq: calibrated.then(GptqOptions::default),
            transform,
            rules: preset.rules(config, config.tied && !transform.fold_norms),
        }
    }

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
        let rule = |class: &str, weights, activations| Rule {
            modules: vec![class.into()],
            weights,
            activations,
            activation_percentile: None,
        };
        let mut rules = vec![rule("Linear", format(bits.weight(), group), bits.activations())];
        let tied = config.tied && !transform.fold_norms;
        if embedding && (!tied || bits.activations().int8()) {
            let inputs = if tied { bits.activations() } else { Activations::Float };
            rules.push(rule("Embedding", format(8, Group::Channel), inputs));
        }
        Self { float, calibration: Calibration::default(), gptq: None, transform, rules }
    }
}
