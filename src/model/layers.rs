//! The parts of a model on the host: which weights each block has, and in what form. No maths.

use serde::{Deserialize, Serialize};

use crate::tensor::Tensor;

/// How many consecutive inputs of a row share one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// A weight matrix of signed integer codes with scales, symmetric: `w[o, i] = codes[o, i] * scales[o, i / group]`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLinear {
    /// 4 or 8.
    pub bits: usize,
    /// Inputs sharing a scale.
    pub group: Group,
    /// `[out, in]` I8, one byte a code whatever `bits` is.
    pub codes: Tensor,
    /// `[out, groups]` f32, f16 or bf16.
    pub scales: Tensor,
    /// Are activations quantized to int8 per token before the product?
    pub int8_activations: bool,
}

/// A linear layer's (or an embedding's) weight, `[out, in]`, no bias.
#[derive(Clone, Debug, PartialEq)]
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

/// A quantized weight's values in f32: `codes * scales`, each product rounded once.
///
/// # Errors
/// [`crate::Error::DType`] when the scales are not floating-point.
pub fn dequantize(q: &QuantizedLinear) -> crate::Result<Vec<f32>> {
    let cols = q.codes.shape.cols();
    let (group, count) = (q.group.len(cols).max(1), q.group.count(cols));
    let scales = q.scales.to_f32()?;
    let codes: &[i8] = bytemuck::cast_slice(&q.codes.bytes);
    let rows = codes.chunks(cols.max(1)).zip(scales.chunks(count.max(1)));
    Ok(rows.flat_map(|(row, s)| row.iter().enumerate().map(|(i, c)| f32::from(*c) * s[i / group])).collect())
}
