//! Exact rewrites of a model's weights: the function computed stays, the numbers become easier to quantize.
//!
//! [`Transformed`] is a [`ModelSource`](crate::model::ModelSource) over another: it rewrites one block at a time, in
//! f64, and rounds once. [`Transform`] says what it does, and is what recipes hold; [`Inputs`] brings what calibration
//! measured and the caller's own matrices. The rewrites themselves are functions on f64 blocks ([`wide`]): [`scale`],
//! [`heads`], [`permute`]; [`StateAxis`] is the one that stays at run time. All but the online Hadamard transforms are
//! free there.

mod eigen;
mod exponent;
pub mod heads;
mod inputs;
mod klt;
mod matrix;
pub mod order;
pub mod permute;
mod plant;
mod rotation;
pub mod scale;
mod smooth;
mod state;
mod taps;
mod transformed;
pub mod wide;

use serde::{Deserialize, Serialize};

pub use exponent::Exponent;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use inputs::stream_tap;
pub use inputs::{Inputs, Known, SiteStats};
pub use klt::{MeanCovariance, klt, klt_blocks, mean_covariance};
pub use matrix::Matrix;
pub use order::Permutation;
pub use plant::{Outliers, Planted};
pub use rotation::Rotation;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use smooth::column_absmax;
pub use smooth::{Smooth, factors};
pub use state::StateAxis;
pub use transformed::Transformed;
pub use wide::Layer;

use crate::error::{Error, Result};
use crate::hadamard;
use crate::model::{Block, ModelConfig, OnlineRotation};

/// Which rewrites to do, in this order but for `keys`, which come before `smooth`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// Multiply each RMS norm's weight into the linear layers that read it.
    #[serde(default)]
    pub fold_norms: bool,
    /// Move outliers of activations into weights, by calibrated factors.
    #[serde(default, skip_serializing_if = "Smooth::is_none")]
    pub smooth: Smooth,
    /// Order the inputs of `out_proj` and `down_proj`, by calibrated masses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permute: Option<Permutation>,
    /// Rotate the values of each KV head (QuaRot, arXiv:2404.00456, R2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Rotation>,
    /// Rotate the queries and keys of each KV head (R3; offline, as there are no positions).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Rotation>,
    /// Rotate the residual stream (R1). Needs `fold_norms`: a norm without weight commutes with a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<Rotation>,
    /// Hadamard transforms at run time, undone in the weights: blocks of any size that divides the width and has a
    /// Hadamard matrix.
    #[serde(default)]
    pub online: OnlineRotation,
}

impl Default for Transform {
    fn default() -> Self {
        Self::NONE
    }
}

impl Transform {
    /// No rewrite.
    pub const NONE: Self = Self {
        fold_norms: false,
        smooth: Smooth::NONE,
        permute: None,
        values: None,
        keys: None,
        residual: None,
        online: OnlineRotation { out_proj: None, down_proj: None },
    };

    /// Norm folding, residual rotation, and online rotations over one norm group before `out_proj` and over
    /// the whole width before `down_proj`: QuaRot's scheme on this architecture. The stream is not rotated where its width
    /// has no Hadamard matrix.
    ///
    /// # Errors
    /// As [`Transform::online_block`].
    pub fn hadamard(config: &ModelConfig, seed: u64) -> Result<Self> {
        Self::hadamard_in(config, seed, None)
    }

    /// As [`Transform::hadamard`], online rotations in blocks of `block` where they can be.
    ///
    /// # Errors
    /// As [`Transform::online_block`].
    pub fn hadamard_in(config: &ModelConfig, seed: u64, block: Option<usize>) -> Result<Self> {
        let residual = hadamard::factor(config.hidden_size).map(|_| Rotation::RandomHadamard(seed));
        let online = OnlineRotation {
            out_proj: Self::online_block(config, Block::Mamba2, block)?,
            down_proj: Self::online_block(config, Block::Mlp, block)?,
        };
        Ok(Self { fold_norms: true, residual, online, ..Self::NONE })
    }

    /// Channels of a block of the rotation before the last layer of Mamba-2 or MLP blocks: `wanted` where that divides the
    /// width and has a Hadamard matrix, else a norm group or the whole width; none where the model has no such blocks.
    ///
    /// # Errors
    /// [`Error::Argument`] when neither has a Hadamard matrix, and for sizes of no model.
    pub fn online_block(config: &ModelConfig, kind: Block, wanted: Option<usize>) -> Result<Option<usize>> {
        config.countable()?;
        let (what, width) = match kind {
            _ if !config.blocks.contains(&kind) => return Ok(None),
            Block::Mamba2 => ("a norm group", config.d_inner() / config.n_groups.max(1)),
            Block::Mlp => ("intermediate_size", config.intermediate_size),
            Block::Attention => return Ok(None),
        };
        let whole = Some(width).filter(|width| hadamard::factor(*width).is_some());
        let none = || {
            let why = format!(
                "{what} {width} has no Hadamard matrix; pass a --rotate-block that has and divides it, --rotate-sites \
                 without it, or --rotate none"
            );
            Error::argument("--rotate", why)
        };
        wanted.filter(|block| fits(*block, width)).or(whole).ok_or_else(none).map(Some)
    }

    /// The same with online rotations in blocks of `block`, where that divides a width and has a Hadamard matrix: a kernel that makes
    /// int8 codes of groups of as many channels then rotates them itself. Others stay.
    #[must_use]
    pub fn in_blocks(self, config: &ModelConfig, block: usize) -> Self {
        let of = |own: Option<usize>, width: usize| own.map(|own| if fits(block, width) { block } else { own });
        let OnlineRotation { out_proj, down_proj } = self.online;
        let widths = [config.d_inner() / config.n_groups.max(1), config.intermediate_size];
        Self {
            online: OnlineRotation { out_proj: of(out_proj, widths[0]), down_proj: of(down_proj, widths[1]) },
            ..self
        }
    }

    /// The same, and smoothed where that costs nothing at run time. Rotations spread an outlier over its block, smoothing takes it away:
    /// with both, a model whose channels were scaled comes out the same. The exponent is SmoothQuant's (arXiv:2211.10438).
    #[must_use]
    pub fn smoothed(self) -> Self {
        let at = Some(Exponent::Fixed(0.5));
        let norms = at.filter(|_| !self.fold_norms);
        Self { smooth: Smooth { norms, gated_norm: at, relu2: at, values: at, conv: None }, ..self }
    }

    /// The rewrite that the model must be under when statistics for this one are taken.
    #[must_use]
    pub fn base(&self) -> Self {
        Self { fold_norms: self.fold_norms, ..Self::NONE }
    }

    /// Does it need products of channels?
    #[must_use]
    pub fn needs_covariance(&self) -> bool {
        [self.values, self.keys, self.residual].into_iter().any(aligned)
    }

    /// The taps whose products of channels it needs, of block `index` or, where there is no such block, of the head: those of other
    /// inputs would fill a host's memory.
    #[must_use]
    pub fn covariances(&self, config: &ModelConfig, index: usize) -> Vec<String> {
        let (keys, values) = match config.blocks.get(index) {
            None if aligned(self.residual) => return vec!["norm_f".to_owned()],
            None => return Vec::new(),
            Some(Block::Attention) => (aligned(self.keys), aligned(self.values)),
            Some(_) => (false, false),
        };
        let taps = [(aligned(self.residual) || keys, "norm"), (values, "attention")];
        taps.into_iter().filter(|(read, _)| *read).map(|(_, tap)| format!("layer.{index}.{tap}")).collect()
    }

    /// Does it need statistics of activations?
    #[must_use]
    pub fn needs_stats(&self) -> bool {
        !self.smooth.is_none() || self.permute.is_some() || self.needs_covariance()
    }

    /// Refuses what does not fit together or the model.
    ///
    /// # Errors
    /// [`Error::Argument`] naming what does not.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<()> {
        self.smooth.check()?;
        if self.residual.is_some() && !self.fold_norms {
            return Err(Error::argument("rotation of the residual stream", "needs norm folding"));
        }
        if self.smooth.norms.is_some() && self.fold_norms {
            return Err(Error::argument("smoothing of norms", "needs norms with a weight: no norm folding"));
        }
        let online = self.online;
        for (what, exponent, rotated) in [
            ("gated_norm", self.smooth.gated_norm, online.out_proj.is_some()),
            ("relu2", self.smooth.relu2, online.down_proj.is_some()),
            ("values", self.smooth.values, self.values.is_some()),
        ] {
            if exponent == Some(Exponent::Search) && rotated {
                let why =
                    "is searched for inputs as they are, and a rotation follows there; give a number, or no rotation";
                return Err(Error::argument(format!("smooth.{what}"), why));
            }
        }
        if self.permute == Some(Permutation::Balance) && online == OnlineRotation::default() {
            return Err(Error::argument("permute", "there is no online rotation whose blocks it could balance"));
        }
        self.check_rotations(config)
    }

    /// Refuses rotations over widths that have no such matrix, and at run time before layers that are not there.
    fn check_rotations(&self, config: &ModelConfig) -> Result<()> {
        for (what, rotation, width) in [
            ("the residual stream", self.residual, config.hidden_size),
            ("values", self.values, config.head_dim),
            ("keys", self.keys, config.head_dim),
        ] {
            let needs = rotation.is_some_and(Rotation::needs_hadamard);
            // 0: there are no heads, and nothing is rotated.
            if needs && width > 0 && hadamard::factor(width).is_none() {
                let why = format!("no Hadamard transform of its {width} channels; `klt` needs none");
                return Err(Error::argument(format!("rotation of {what}"), why));
            }
        }
        let sites = [
            ("out_proj", self.online.out_proj, (Block::Mamba2, "Mamba-2"), config.d_inner()),
            ("down_proj", self.online.down_proj, (Block::Mlp, "MLP"), config.intermediate_size),
        ];
        for (what, block, (kind, name), width) in sites {
            let Some(block) = block else { continue };
            let why = match config.blocks.contains(&kind) {
                false => format!("block {block}, but the model has no {name} block"),
                true if fits(block, width) => continue,
                true => format!("no Hadamard transform of block {block} over width {width}"),
            };
            return Err(Error::argument(format!("rotation before {what}"), why));
        }
        Ok(())
    }
}

/// Can `width` channels be rotated in blocks of `block` by Hadamard transforms?
fn fits(block: usize, width: usize) -> bool {
    block > 0 && width.is_multiple_of(block) && hadamard::factor(block).is_some()
}

/// Is it one along the axes of what it rotates?
fn aligned(rotation: Option<Rotation>) -> bool {
    rotation.is_some_and(Rotation::needs_covariance)
}
