//! A block's weights in f64: read once, rewritten by any number of transforms, rounded once.

use rayon::prelude::*;

use super::Matrix;
use crate::error::{Error, Result};
use crate::model::{self, Linear};
use crate::tensor::{DType, Tensor, exact_dtype};

/// Numbers that a task converts, at least.
const TASK: usize = 1 << 16;

/// As [`model::Mamba2`].
#[derive(Clone, Debug, PartialEq)]
pub struct Mamba2 {
    /// `[2 d_inner + 2 groups state + heads, hidden]`, rows z, x, B, C, dt.
    pub in_proj: Matrix,
    /// `[conv_dim, kernel]`.
    pub conv_weight: Matrix,
    /// `[conv_dim]`.
    pub conv_bias: Vec<f64>,
    /// `[heads]`.
    pub dt_bias: Vec<f64>,
    /// `[heads]`.
    pub a_log: Vec<f64>,
    /// `[heads]`.
    pub d: Vec<f64>,
    /// Gated norm's weight, `[d_inner]`.
    pub norm: Vec<f64>,
    /// `[hidden, d_inner]`.
    pub out_proj: Matrix,
}

/// As [`model::Attention`].
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// `[heads * head_dim, hidden]`.
    pub q_proj: Matrix,
    /// `[kv_heads * head_dim, hidden]`.
    pub k_proj: Matrix,
    /// `[kv_heads * head_dim, hidden]`.
    pub v_proj: Matrix,
    /// `[hidden, heads * head_dim]`.
    pub o_proj: Matrix,
}

/// As [`model::Mlp`].
#[derive(Clone, Debug, PartialEq)]
pub struct Mlp {
    /// `[intermediate, hidden]`.
    pub up_proj: Matrix,
    /// `[hidden, intermediate]`.
    pub down_proj: Matrix,
}

/// As [`model::Mixer`].
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

/// As [`model::Layer`].
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// `[hidden]`.
    pub norm: Vec<f64>,
    /// The block's body.
    pub mixer: Mixer,
}

impl Layer {
    /// The weights of `layer`, exactly.
    ///
    /// # Errors
    /// [`Error::Argument`] when it is quantized.
    pub fn widen(layer: &model::Layer) -> Result<Self> {
        let mixer = match &layer.mixer {
            model::Mixer::Mamba2(m) => Mixer::Mamba2(Mamba2 {
                in_proj: matrix(&m.in_proj)?,
                conv_weight: Matrix::new(
                    m.conv_bias.len(),
                    m.conv_weight.len() / m.conv_bias.len().max(1),
                    vector(&m.conv_weight),
                )?,
                conv_bias: vector(&m.conv_bias),
                dt_bias: vector(&m.dt_bias),
                a_log: vector(&m.a_log),
                d: vector(&m.d),
                norm: vector(&m.norm),
                out_proj: matrix(&m.out_proj)?,
            }),
            model::Mixer::Attention(a) => Mixer::Attention(Attention {
                q_proj: matrix(&a.q_proj)?,
                k_proj: matrix(&a.k_proj)?,
                v_proj: matrix(&a.v_proj)?,
                o_proj: matrix(&a.o_proj)?,
            }),
            model::Mixer::Mlp(m) => Mixer::Mlp(Mlp { up_proj: matrix(&m.up_proj)?, down_proj: matrix(&m.down_proj)? }),
        };
        Ok(Self { norm: vector(&layer.norm), mixer })
    }

    /// Rounds to f32, into the layer these weights came from. A weight that still fits its type keeps it.
    pub fn narrow(&self, into: &mut model::Layer) {
        into.norm = round(&self.norm);
        if let (Mixer::Mamba2(wide), model::Mixer::Mamba2(m)) = (&self.mixer, &mut into.mixer) {
            m.conv_weight = round(wide.conv_weight.values());
            m.conv_bias = round(&wide.conv_bias);
            m.dt_bias = round(&wide.dt_bias);
            m.a_log = round(&wide.a_log);
            m.d = round(&wide.d);
            m.norm = round(&wide.norm);
        }
        for ((_, linear), wide) in into.linears_mut().into_iter().zip(self.linears()) {
            narrow(wide, linear);
        }
    }

    /// In the order of [`model::Layer::linears`].
    fn linears(&self) -> Vec<&Matrix> {
        match &self.mixer {
            Mixer::Mamba2(m) => vec![&m.in_proj, &m.out_proj],
            Mixer::Attention(a) => vec![&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj],
            Mixer::Mlp(m) => vec![&m.up_proj, &m.down_proj],
        }
    }

    /// The linear layers that read the (normed) residual stream.
    pub(super) fn readers(&mut self) -> Vec<&mut Matrix> {
        match &mut self.mixer {
            Mixer::Mamba2(m) => vec![&mut m.in_proj],
            Mixer::Attention(a) => vec![&mut a.q_proj, &mut a.k_proj, &mut a.v_proj],
            Mixer::Mlp(m) => vec![&mut m.up_proj],
        }
    }

    /// The linear layer that writes to the residual stream.
    pub(super) fn writer(&mut self) -> &mut Matrix {
        match &mut self.mixer {
            Mixer::Mamba2(m) => &mut m.out_proj,
            Mixer::Attention(a) => &mut a.o_proj,
            Mixer::Mlp(m) => &mut m.down_proj,
        }
    }
}

/// A weight in f64.
pub(super) fn matrix(linear: &Linear) -> Result<Matrix> {
    match linear {
        Linear::Float(t) => Matrix::new(t.shape.rows(), t.shape.cols(), vector(&t.to_f32()?)),
        Linear::Quantized(_) => {
            Err(Error::argument("transform", "the model is quantized already; start from the original checkpoint"))
        }
    }
}

/// `wide` rounded to f32, in the type of `linear` where that holds it exactly.
pub(super) fn narrow(wide: &Matrix, linear: &mut Linear) {
    let (shape, values) = ([wide.rows(), wide.cols()], round(wide.values()));
    let before = if let Linear::Float(t) = linear { t.dtype } else { DType::F32 };
    let exact = Tensor::from_f32_as(exact_dtype(before, &values), shape, &values);
    *linear = Linear::Float(exact.unwrap_or_else(|_| Tensor::from_f32(shape, &values)));
}

pub(super) fn vector(values: &[f32]) -> Vec<f64> {
    values.par_iter().with_min_len(TASK).map(|v| f64::from(*v)).collect()
}

pub(super) fn round(values: &[f64]) -> Vec<f32> {
    values.par_iter().with_min_len(TASK).map(|v| *v as f32).collect()
}
