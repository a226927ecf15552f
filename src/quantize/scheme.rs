//! Which parts of a model get which bits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::rtn::quantize_linear;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Activations, Group, Layer, Linear};
use crate::tensor::{DType, Tensor};

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

/// What to quantize and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// Bits of the linear layers and the head.
    pub bits: Bits,
    /// Group of the 4-bit weights; 8-bit ones have one scale a channel.
    pub group: Group,
    /// Quantize the embedding to int8 by row.
    pub embedding: bool,
    /// Type scales are stored in.
    pub scale_dtype: DType,
}

impl Scheme {
    /// The group of a weight of `cols` inputs. A row must be whole groups, or other tools refuse the file: where
    /// it is not, the largest smaller group that fits is taken.
    ///
    /// # Errors
    /// [`Error::Argument`] when none of at least 16 fits.
    pub fn group_of(&self, cols: usize) -> Result<Group> {
        match self.group {
            _ if self.bits == Bits::W8A8 => Ok(Group::Channel),
            Group::Size(n) if n < cols => {
                let fits = (16..=n).rev().find(|g| cols.is_multiple_of(*g) && g.is_multiple_of(8));
                fits.map(Group::Size).ok_or_else(|| {
                    Error::argument(
                        "--group-size",
                        format!("no group of 16 to {n} divides rows of {cols}; pass --group-size channel"),
                    )
                })
            }
            _ => Ok(Group::Channel),
        }
    }

    /// Is the embedding int8, where `tied` says that it is the head as well?
    #[must_use]
    pub fn quantizes_embedding(&self, tied: bool) -> bool {
        self.embedding && (!tied || self.bits.activations().int8())
    }

    async fn linear(&self, device: &Device, linear: &Linear) -> Result<Linear> {
        let bits = self.bits;
        let group = self.group_of(linear.dims().1)?;
        let q = quantize_linear(device, linear, bits.weight(), group, self.scale_dtype, bits.activations());
        Ok(Linear::Quantized(q.await?))
    }
}

/// A block with its linear layers quantized; everything else is as it was.
///
/// # Errors
/// As [`quantize_linear`].
pub async fn quantize_layer(device: &Device, mut layer: Layer, scheme: &Scheme) -> Result<Layer> {
    for (_, linear) in layer.linears_mut() {
        *linear = scheme.linear(device, linear).await?;
    }
    Ok(layer)
}

/// The head, quantized like the linear layers; `None` stays `None` (tied).
///
/// # Errors
/// As [`quantize_linear`].
pub async fn quantize_head(device: &Device, head: Option<Linear>, scheme: &Scheme) -> Result<Option<Linear>> {
    match head {
        Some(head) => Ok(Some(scheme.linear(device, &head).await?)),
        None => Ok(None),
    }
}

/// The embedding: int8 by row, or floats of the scales' type. One that a tied head shares stays float under float
/// activations.
///
/// # Errors
/// As [`quantize_linear`].
pub async fn quantize_embedding(device: &Device, embedding: Linear, tied: bool, scheme: &Scheme) -> Result<Linear> {
    if scheme.quantizes_embedding(tied) {
        let q = quantize_linear(device, &embedding, 8, Group::Channel, scheme.scale_dtype, Activations::Float).await?;
        return Ok(Linear::Quantized(q));
    }
    match embedding {
        Linear::Float(t) => Ok(Linear::Float(Tensor::from_f32_as(scheme.scale_dtype, t.shape, &t.to_f32()?)?)),
        quantized => Ok(quantized),
    }
}
