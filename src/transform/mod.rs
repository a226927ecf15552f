//! Exact rewrites of a model's weights: the function computed stays, the numbers become easier to quantize.
//!
//! [`Transformed`] is a [`ModelSource`] over another: it rewrites one layer at a time, in f64.

mod fold;
mod rotate;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hadamard;
use crate::model::{Layer, Linear, ModelConfig, ModelSource, OnlineRotation};
use rotate::Residual;

/// Which rewrites to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Multiply each RMS norm's weight into the linear layers that read it.
    pub fold_norms: bool,
    /// Rotate the residual stream by a randomised Hadamard matrix of this seed (QuaRot, arXiv:2404.00456, R1).
    /// Needs `fold_norms`: a norm without weight commutes with a rotation.
    pub residual: Option<u64>,
    /// Hadamard transforms at run time, undone in the weights.
    pub online: OnlineRotation,
}

impl Transform {
    /// No rewrite.
    pub const NONE: Self =
        Self { fold_norms: false, residual: None, online: OnlineRotation { out_proj: None, down_proj: None } };

    /// Norm folding, residual rotation, and online rotations over one norm group before `out_proj` and over
    /// the whole width before `down_proj`: QuaRot's scheme on this architecture.
    ///
    /// # Errors
    /// [`Error::Argument`] when a width has no Hadamard matrix.
    pub fn hadamard(config: &ModelConfig, seed: u64) -> Result<Self> {
        let has = |what: &str, width: usize| match hadamard::factor(width) {
            Some(_) => Ok(width),
            None => Err(Error::argument(
                "--rotate hadamard",
                format!("{what} {width} has no Hadamard matrix; pass --rotate none"),
            )),
        };
        let mamba = config.mamba_heads > 0;
        let mlp = config.intermediate_size > 0;
        Ok(Self {
            fold_norms: true,
            residual: Some(seed).filter(|_| has("hidden_size", config.hidden_size).is_ok()),
            online: OnlineRotation {
                out_proj: mamba.then(|| has("a norm group", config.d_inner() / config.n_groups)).transpose()?,
                down_proj: mlp.then(|| has("intermediate_size", config.intermediate_size)).transpose()?,
            },
        })
    }
}

/// A model under exact rewrites.
pub struct Transformed<'a> {
    source: &'a dyn ModelSource,
    config: ModelConfig,
    transform: Transform,
    residual: Option<Residual>,
}

impl<'a> Transformed<'a> {
    /// Prepares the rewrites.
    ///
    /// # Errors
    /// [`Error::Argument`] when the rewrites do not fit together or the model.
    pub fn new(source: &'a dyn ModelSource, transform: Transform) -> Result<Self> {
        if transform.residual.is_some() && !transform.fold_norms {
            return Err(Error::argument("rotation of the residual stream", "needs norm folding"));
        }
        if source.rotation() != OnlineRotation::default() {
            return Err(Error::argument(
                "transform",
                "the model is rotated already; start from the original checkpoint",
            ));
        }
        let mut config = source.config().clone();
        // The folded final norm belongs to the head alone.
        config.tied &= !transform.fold_norms;
        for (what, block, width) in [
            ("out_proj", transform.online.out_proj, config.d_inner()),
            ("down_proj", transform.online.down_proj, config.intermediate_size),
        ] {
            if let Some(block) = block.filter(|b| *b == 0 || width % b != 0 || hadamard::factor(*b).is_none()) {
                return Err(Error::argument(
                    format!("rotation before {what}"),
                    format!("no Hadamard transform of block {block} over width {width}"),
                ));
            }
        }
        let residual = transform.residual.map(|seed| Residual::new(config.hidden_size, seed)).transpose()?;
        Ok(Self { source, config, transform, residual })
    }
}

impl ModelSource for Transformed<'_> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn rotation(&self) -> OnlineRotation {
        self.transform.online
    }

    fn embedding(&self) -> Result<Linear> {
        let mut embedding = self.source.embedding()?;
        if let Some(r) = &self.residual {
            rotate::rows(&mut embedding, |row| r.apply(row))?;
        }
        Ok(embedding)
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let mut layer = self.source.layer(index)?;
        if self.transform.fold_norms {
            fold::norm(&mut layer)?;
        }
        if let Some(r) = &self.residual {
            rotate::residual(&mut layer, r)?;
        }
        rotate::online(&mut layer, self.transform.online)?;
        Ok(layer)
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        let norm = self.source.norm_f()?;
        Ok(if self.transform.fold_norms { vec![1.0; norm.len()] } else { norm })
    }

    fn head(&self) -> Result<Option<Linear>> {
        let mut head = self.source.head()?;
        if self.transform.fold_norms {
            let mut own = head.map_or_else(|| self.source.embedding(), Ok)?;
            fold::columns(&mut own, &self.source.norm_f()?)?;
            if let Some(r) = &self.residual {
                rotate::rows(&mut own, |row| r.apply(row))?;
            }
            head = Some(own);
        }
        Ok(head)
    }
}
