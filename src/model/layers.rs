//! The parts of a model on the host: which weights each block has, and in what form. No maths.

use serde::{Deserialize, Serialize};

use super::{ModelConfig, QuantizedLinear};
use crate::hadamard;
use crate::tensor::Tensor;

/// A linear layer's (or an embedding's) weight, `[out, in]`, no bias.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a few hundred bytes beside megabytes of weights")]
pub enum Linear {
    /// f32, f16 or bf16.
    Float(Tensor),
    /// Integer codes and scales.
    Quantized(QuantizedLinear),
}

impl Linear {
    /// `(out, in)`.
    #[must_use]
    pub fn dims(&self) -> (usize, usize) {
        let t = match self {
            Self::Float(t) => t,
            Self::Quantized(q) => &q.codes,
        };
        (t.shape.rows(), t.shape.cols())
    }
}

/// A Mamba-2 mixer. Row order of `in_proj`: z `d_inner`, x `d_inner`, B `groups * state`, C likewise, dt `heads`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// `[2 d_inner + 2 groups state + heads, hidden]`.
    pub in_proj: Linear,
    /// `[conv_dim, kernel]` f32; the last tap multiplies the current token.
    pub conv_weight: Vec<f32>,
    /// `[conv_dim]`; zeros where the model has none.
    pub conv_bias: Vec<f32>,
    /// `[heads]`.
    pub dt_bias: Vec<f32>,
    /// `[heads]`; A = -exp(A_log).
    pub a_log: Vec<f32>,
    /// `[heads]`.
    pub d: Vec<f32>,
    /// Gated norm's weight, `[d_inner]`.
    pub norm: Vec<f32>,
    /// `[hidden, d_inner]`.
    pub out_proj: Linear,
}

/// Grouped-query attention without positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// `[heads * head_dim, hidden]`.
    pub q_proj: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub k_proj: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub v_proj: Linear,
    /// `[hidden, heads * head_dim]`.
    pub o_proj: Linear,
}

/// `down(relu(up x)^2)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// `[intermediate, hidden]`.
    pub up_proj: Linear,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear,
}

/// What a block does between its norm and its residual addition.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "a few hundred bytes beside megabytes of weights; one is held at a time")]
pub enum Mixer {
    /// `M`
    Mamba2(Mamba2),
    /// `*`
    Attention(Attention),
    /// `-`
    Mlp(Mlp),
}

/// One block: `h = h + mixer(rms_norm(h) * norm)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// `[hidden]`; ones after norm folding.
    pub norm: Vec<f32>,
    /// The block's body.
    pub mixer: Mixer,
}

impl Layer {
    /// Its linear layers with their names in a checkpoint, in the order they run.
    #[must_use]
    pub fn linears(&self) -> Vec<(&'static str, &Linear)> {
        match &self.mixer {
            Mixer::Mamba2(m) => vec![("in_proj", &m.in_proj), ("out_proj", &m.out_proj)],
            Mixer::Attention(a) => {
                vec![("q_proj", &a.q_proj), ("k_proj", &a.k_proj), ("v_proj", &a.v_proj), ("o_proj", &a.o_proj)]
            }
            Mixer::Mlp(m) => vec![("up_proj", &m.up_proj), ("down_proj", &m.down_proj)],
        }
    }

    /// As [`Layer::linears`], to change them.
    pub fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear)> {
        match &mut self.mixer {
            Mixer::Mamba2(m) => vec![("in_proj", &mut m.in_proj), ("out_proj", &mut m.out_proj)],
            Mixer::Attention(a) => vec![
                ("q_proj", &mut a.q_proj),
                ("k_proj", &mut a.k_proj),
                ("v_proj", &mut a.v_proj),
                ("o_proj", &mut a.o_proj),
            ],
            Mixer::Mlp(m) => vec![("up_proj", &mut m.up_proj), ("down_proj", &mut m.down_proj)],
        }
    }
}

/// Hadamard rotations that stay in the graph at run time; `None` where there is none.
///
/// The residual rotation is folded into the weights and needs nothing at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnlineRotation {
    /// Block size of the transform before every `out_proj`, dividing `d_inner`.
    pub out_proj: Option<usize>,
    /// Block size of the transform before every `down_proj`, dividing the intermediate size.
    pub down_proj: Option<usize>,
}

impl OnlineRotation {
    /// The site whose blocks do not divide its width in a model of this configuration or have no Hadamard matrix, and why, if there is one.
    pub(super) fn misfit(self, config: &ModelConfig) -> Option<(&'static str, String)> {
        let sites =
            [("out_proj", self.out_proj, config.d_inner()), ("down_proj", self.down_proj, config.intermediate_size)];
        sites.into_iter().find_map(|(site, size, width)| {
            let why = match size? {
                size if size == 0 || width == 0 || width % size != 0 => {
                    format!("{size}, which does not divide {width}")
                }
                size if hadamard::factor(size).is_none() => format!("{size}, which no Hadamard matrix is known of"),
                _ => return None,
            };
            Some((site, why))
        })
    }
}
