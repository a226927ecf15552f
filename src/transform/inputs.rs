//! What calibration and the caller give to a transform, as plain arrays.

use std::collections::BTreeMap;

use super::{Matrix, MeanCovariance};
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// Statistics of an activation `[tokens, channels]`. What a transform does not ask for may be empty.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteStats {
    /// Largest magnitude of each channel.
    pub absmax: Vec<f64>,
    /// Root of each channel's mean square; empty: of the covariance's diagonal.
    pub rms: Vec<f64>,
    /// Mean of `x xᵀ`, `[channels, channels]`; centred or not, as the caller likes.
    pub covariance: Vec<f64>,
    /// Weight of this site where sites are averaged.
    pub sensitivity: f64,
}

impl Default for SiteStats {
    fn default() -> Self {
        Self { absmax: Vec::new(), rms: Vec::new(), covariance: Vec::new(), sensitivity: 1.0 }
    }
}

/// Everything a [`super::Transform`] may need beside the model.
///
/// Statistics go by the runtime's taps (`layer.3.norm`: the input of block 3's first linear layers, `layer.3.gated_norm`,
/// `layer.3.up_proj`: the input of `down_proj`, `layer.3.attention`: of `o_proj`, `layer.3.in_proj`: the output of
/// `in_proj`; `norm_f`: the head's input), taken on the model under [`super::Transform::base`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Statistics by tap.
    pub stats: BTreeMap<String, SiteStats>,
    /// Matrices for [`super::Rotation::Given`]: `residual`, `[hidden, hidden]`, orthogonal; `layer.3.values` and
    /// `layer.3.keys`, `[kv_heads * head_dim, head_dim]`, one invertible matrix a KV head, for every attention block.
    pub given: BTreeMap<String, Matrix>,
    /// Factors for [`super::Exponent::Search`], by tap: what each channel is divided by; of attention's values, each
    /// channel of the KV heads.
    pub factors: BTreeMap<String, Vec<f64>>,
}

/// What is known of a model: all of it beforehand, as [`Inputs`], or found out when a block is asked for.
pub trait Known: Send + Sync {
    /// At least what concerns block `index`; where there is no such block, the head.
    ///
    /// # Errors
    /// Whatever finding it out may give.
    fn of(&self, index: usize) -> Result<&Inputs>;

    /// Of the stream's normed readings, over all blocks and the head that have one, by their sensitivity. MambaQuant takes the first
    /// block's alone. Whoever finds blocks out one by one need not keep those of all.
    ///
    /// # Errors
    /// As [`Known::of`] and [`super::mean_covariance`].
    fn residual_covariance(&self, config: &ModelConfig) -> Result<Vec<f64>> {
        let mut mean = MeanCovariance::new(config.hidden_size);
        for index in 0..=config.blocks.len() {
            if let Some(site) =
                self.of(index)?.stats.get(&stream_tap(config, index)).filter(|s| !s.covariance.is_empty())
            {
                mean.add(site.sensitivity, &site.covariance)?;
            }
        }
        mean.finish()
    }
}

/// The tap that block `index`, or the head, reads the stream by.
pub(crate) fn stream_tap(config: &ModelConfig, index: usize) -> String {
    if index < config.blocks.len() { format!("layer.{index}.norm") } else { "norm_f".to_owned() }
}

impl Known for Inputs {
    fn of(&self, _: usize) -> Result<&Inputs> {
        Ok(self)
    }
}

impl<K: Known + ?Sized> Known for &K {
    fn of(&self, index: usize) -> Result<&Inputs> {
        (**self).of(index)
    }

    fn residual_covariance(&self, config: &ModelConfig) -> Result<Vec<f64>> {
        (**self).residual_covariance(config)
    }
}

impl Inputs {
    /// The statistics at a site.
    pub(super) fn site(&self, name: &str) -> Result<&SiteStats> {
        let missing =
            || Error::argument("transform", format!("needs statistics of `{name}`; calibrate the model first"));
        self.stats.get(name).ok_or_else(missing)
    }

    /// Root mean square of each of a site's `n` channels.
    pub(super) fn rms(&self, name: &str, n: usize) -> Result<Vec<f64>> {
        let stats = self.site(name)?;
        if stats.rms.is_empty() && stats.covariance.len() == n * n {
            return Ok((0..n).map(|i| stats.covariance[i * n + i].max(0.0).sqrt()).collect());
        }
        Ok(sized(name, "rms", &stats.rms, n)?.to_vec())
    }

    /// The factors found for a site of `n` channels.
    pub(super) fn found(&self, site: &str, n: usize) -> Result<Vec<f64>> {
        let none = || Error::argument("smooth", format!("no factors were searched for `{site}`"));
        Ok(sized(site, "factors", self.factors.get(site).ok_or_else(none)?, n)?.to_vec())
    }

    /// The caller's matrix of this name.
    pub(super) fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<Matrix> {
        let missing = || Error::argument("transform", format!("no matrix is given for `{name}`"));
        let m = self.given.get(name).ok_or_else(missing)?;
        if (m.rows(), m.cols()) != (rows, cols) {
            let reason = format!("is [{}, {}], expected [{rows}, {cols}]", m.rows(), m.cols());
            return Err(Error::argument(format!("matrix `{name}`"), reason));
        }
        Ok(m.clone())
    }
}

/// `values`, if there is one for each of `n` channels.
pub(super) fn sized<'a>(site: &str, what: &str, values: &'a [f64], n: usize) -> Result<&'a [f64]> {
    if values.len() == n {
        return Ok(values);
    }
    Err(Error::argument(format!("statistics of `{site}`"), format!("{} values of {what}, expected {n}", values.len())))
}
