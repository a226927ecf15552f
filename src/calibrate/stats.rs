//! Statistics of activations, as they are kept: sums, so that they merge and go on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, hex};
use crate::error::{Error, Result};

/// Version of the file.
pub(super) const VERSION: u32 = 1;
/// Bins an octave.
const BINS: f64 = 8.0;
/// Exponent of the first bin's upper end, less its width.
const LOWEST: f64 = -40.0;

/// What was calibrated on: a draw of sequences from one text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsPart {
    /// The text's file name.
    pub file: String,
    /// SHA-256, chained over sequences, of the token ids seen.
    pub tokens_sha256: String,
    /// Sequences seen.
    pub sequences: usize,
    /// Tokens of each.
    pub length: usize,
    /// Tokens in all.
    pub tokens: u64,
    /// Seed of the draw.
    pub seed: u64,
}

/// What statistics are of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsMeta {
    /// Version of the file.
    pub version: u32,
    /// Program that made it.
    pub tool: String,
    /// Name of the model's directory.
    pub model: String,
    /// SHA-256 of the names, sizes and hashes of its files.
    pub model_sha256: String,
    /// Where it ran.
    pub device: String,
    /// Are there products of channels, for Hessians and covariances?
    pub covariance: bool,
    /// Texts.
    pub parts: Vec<StatsPart>,
}

impl StatsMeta {
    /// Of a model and a first text.
    ///
    /// # Errors
    /// As [`Checkpoint::fingerprint`].
    pub fn new(model: &Checkpoint, device: String, covariance: bool, part: StatsPart) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            tool: format!("wgquant {}", env!("CARGO_PKG_VERSION")),
            model: model.name(),
            model_sha256: Self::sha256_of(model)?,
            device,
            covariance,
            parts: vec![part],
        })
    }

    /// SHA-256 of the names, sizes and hashes of a model's files.
    ///
    /// # Errors
    /// As [`Checkpoint::fingerprint`].
    pub fn sha256_of(model: &Checkpoint) -> Result<String> {
        Ok(Self::sha256_of_files(&model.fingerprint()?))
    }

    /// As [`StatsMeta::sha256_of`], of a model's [`Checkpoint::fingerprint`].
    pub(crate) fn sha256_of_files(fingerprint: &serde_json::Value) -> String {
        hex(&Sha256::digest(fingerprint.to_string().as_bytes()))
    }

    /// Is this a run of the same program, model, device, draw and switches, that may go on?
    ///
    /// # Errors
    /// [`Error::StatsMismatch`] naming what differs.
    pub fn same_run(&self, other: &Self) -> Result<()> {
        self.same_model(other)?;
        let same = |what, here: &dyn ToString, there: &dyn ToString| match (here.to_string(), there.to_string()) {
            (here, there) if here == there => Ok(()),
            (here, there) => Err(Error::StatsMismatch { what, here, there }),
        };
        same("program", &self.tool, &other.tool)?;
        same("number of texts", &self.parts.len(), &other.parts.len())?;
        same("device", &self.device, &other.device)?;
        for (a, b) in self.parts.iter().zip(&other.parts) {
            same("tokens a sequence", &a.length, &b.length)?;
            same("seed", &a.seed, &b.seed)?;
        }
        Ok(())
    }

    /// Takes up what other statistics are of, whose sums may be added if this is no error.
    ///
    /// # Errors
    /// [`Error::StatsMismatch`] naming what differs, or the text that both have.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        self.same_model(other)?;
        let theirs = |p: &&StatsPart| other.parts.iter().any(|q| q.tokens_sha256 == p.tokens_sha256);
        if let Some(twice) = self.parts.iter().find(theirs) {
            let here = format!("{} ({})", twice.file, twice.tokens_sha256);
            return Err(Error::StatsMismatch { what: "text", here, there: "the same tokens".to_owned() });
        }
        // Draws of one text by one seed begin alike; texts of one name may be different ones.
        let alike = |p: &&StatsPart| {
            let same = |q: &StatsPart| (&q.file, q.seed, q.length) == (&p.file, p.seed, p.length);
            other.parts.iter().any(same)
        };
        if let Some(part) = self.parts.iter().find(alike) {
            let StatsPart { file, seed, .. } = part;
            log::warn!(
                "{file}: both were drawn from a text of this name by seed {seed}; if it is the same text, what both have counts twice"
            );
        }
        self.parts.extend(other.parts.iter().cloned());
        Ok(())
    }

    /// Are both of one model, and with the same sums?
    fn same_model(&self, other: &Self) -> Result<()> {
        let mismatch = |what, here: String, there: String| Err(Error::StatsMismatch { what, here, there });
        if self.model_sha256 != other.model_sha256 {
            let name = |m: &Self| format!("{} ({})", m.model, m.model_sha256.get(..12).unwrap_or(&m.model_sha256));
            return mismatch("model", name(self), name(other));
        }
        if self.covariance != other.covariance {
            return mismatch("covariance", self.covariance.to_string(), other.covariance.to_string());
        }
        Ok(())
    }
}

/// Sums over the samples of one site, `n` channels.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteStats {
    /// Samples of each channel.
    pub samples: u64,
    /// Smallest values, `[n]`.
    pub min: Vec<f32>,
    /// Largest values, `[n]`.
    pub max: Vec<f32>,
    /// Sums of x, x², x³, x⁴, `[n]` each.
    pub powers: [Vec<f64>; 4],
    /// Samples of all channels by magnitude: [`crate::kernels::MAGNITUDE_BINS`].
    pub magnitudes: Vec<u64>,
    /// Sums of `x xᵀ`, `[n, n]`, of inputs of linear layers.
    pub products: Option<Vec<f64>>,
}

/// Statistics of a model's activations by site (named as `sites.rs` says).
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// What they are of.
    pub meta: StatsMeta,
    /// By name.
    pub sites: BTreeMap<String, SiteStats>,
}

impl SiteStats {
    /// Channels.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.min.len()
    }

    /// Largest magnitudes, `[n]`.
    #[must_use]
    pub fn absmax(&self) -> Vec<f32> {
        self.min.iter().zip(&self.max).map(|(a, b)| a.abs().max(b.abs())).collect()
    }

    /// Largest magnitude of all channels.
    #[must_use]
    pub fn largest(&self) -> f32 {
        self.absmax().into_iter().fold(0.0, f32::max)
    }

    /// Smallest and largest value of all channels.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        let fold = |v: &[f32], start, f: fn(f32, f32) -> f32| v.iter().copied().fold(start, f);
        (fold(&self.min, f32::INFINITY, f32::min), fold(&self.max, f32::NEG_INFINITY, f32::max))
    }

    /// Means of x to the `power` (1 to 4), `[n]`.
    ///
    /// # Panics
    /// With any other power.
    #[must_use]
    pub fn moment(&self, power: usize) -> Vec<f64> {
        self.powers[power - 1].iter().map(|s| s / self.samples.max(1) as f64).collect()
    }

    /// Kurtosis of each channel (3 for a normal distribution), `[n]`; 0 for a constant one.
    #[must_use]
    pub fn kurtosis(&self) -> Vec<f64> {
        let [a, b, c, d] = [1, 2, 3, 4].map(|p| self.moment(p));
        (0..self.channels()).map(|i| kurtosis([a[i], b[i], c[i], d[i]])).collect()
    }

    /// Kurtosis of all channels taken together: outlier channels show here.
    #[must_use]
    pub fn kurtosis_of_all(&self) -> f64 {
        let mean = |p: usize| self.moment(p).iter().sum::<f64>() / self.channels().max(1) as f64;
        kurtosis([1, 2, 3, 4].map(mean))
    }

    /// The magnitude that a share `p` (0 to 1) of all samples does not exceed, to an eighth of an octave.
    #[must_use]
    pub fn percentile(&self, p: f64) -> f64 {
        let wanted = p.clamp(0.0, 1.0) * self.magnitudes.iter().sum::<u64>() as f64;
        let mut below = 0.0;
        for (bin, count) in self.magnitudes.iter().enumerate().filter(|(_, n)| **n > 0) {
            let count = *count as f64;
            if below + count >= wanted {
                let (low, high) = (edge(bin), edge(bin + 1));
                let at = low + (high - low) * ((wanted - below) / count).clamp(0.0, 1.0);
                return at.min(f64::from(self.largest()));
            }
            below += count;
        }
        f64::from(self.largest())
    }

    /// Largest over median magnitude of a channel: 1 where all channels are alike.
    #[must_use]
    pub fn outlier_ratio(&self) -> f64 {
        max_over_median(self.absmax().into_iter().map(f64::from).collect())
    }

    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser reads statistics and gathers none"))]
    pub(super) fn empty(channels: usize, products: bool) -> Self {
        Self {
            samples: 0,
            min: vec![f32::MAX; channels],
            max: vec![f32::MIN; channels],
            powers: std::array::from_fn(|_| vec![0.0; channels]),
            magnitudes: vec![0; crate::kernels::MAGNITUDE_BINS],
            products: products.then(|| vec![0.0; channels * channels]),
        }
    }

    /// Adds other samples.
    pub(super) fn add(&mut self, other: &Self) {
        self.samples += other.samples;
        self.min.iter_mut().zip(&other.min).for_each(|(a, b)| *a = a.min(*b));
        self.max.iter_mut().zip(&other.max).for_each(|(a, b)| *a = a.max(*b));
        let sum = |a: &mut [f64], b: &[f64]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        self.powers.iter_mut().zip(&other.powers).for_each(|(a, b)| sum(a, b));
        self.magnitudes.iter_mut().zip(&other.magnitudes).for_each(|(a, b)| *a += b);
        if let (Some(a), Some(b)) = (&mut self.products, &other.products) {
            sum(a, b);
        }
    }
}

/// Kurtosis from the means of x, x², x³, x⁴.
#[must_use]
pub fn kurtosis([m1, m2, m3, m4]: [f64; 4]) -> f64 {
    let variance = m2 - m1 * m1;
    // Of a constant, rounding is all there is.
    if variance <= 1e-12 * m2 {
        return 0.0;
    }
    (m4 - 4.0 * m1 * m3 + 6.0 * m1 * m1 * m2 - 3.0 * m1.powi(4)) / (variance * variance)
}

/// The largest of these over their median; 0 for none, infinite where more than half are 0.
#[must_use]
pub fn max_over_median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let Some(max) = values.last().copied().filter(|m| *m > 0.0) else { return 0.0 };
    max / ((values[(n - 1) / 2] + values[n / 2]) / 2.0)
}

/// Lower end of a bin.
pub(super) fn edge(bin: usize) -> f64 {
    if bin == 0 {
        return 0.0;
    }
    let octave = (bin as f64 / BINS).floor();
    (LOWEST + octave).exp2() * (1.0 + (bin as f64 - octave * BINS) / BINS)
}

impl Stats {
    /// Of nothing yet.
    #[must_use]
    pub fn new(meta: StatsMeta) -> Self {
        Self { meta, sites: BTreeMap::new() }
    }

    /// Of nothing yet, and of one text that has no name: for use at once, not for a file.
    #[must_use]
    pub fn of_one_text(covariance: bool) -> Self {
        let part = StatsPart {
            file: String::new(),
            tokens_sha256: String::new(),
            sequences: 0,
            length: 0,
            tokens: 0,
            seed: 0,
        };
        Self::new(StatsMeta {
            version: VERSION,
            tool: String::new(),
            model: String::new(),
            model_sha256: String::new(),
            device: String::new(),
            covariance,
            parts: vec![part],
        })
    }

    /// Tokens of all texts.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.meta.parts.iter().map(|p| p.tokens).sum()
    }

    /// The input of the linear layer called `module`.
    #[must_use]
    pub fn input(&self, module: &str) -> Option<&SiteStats> {
        let shared = ["k_proj", "v_proj"].iter().find_map(|part| module.strip_suffix(part));
        match shared {
            Some(mixer) => self.sites.get(&format!("{mixer}q_proj")),
            None => self.sites.get(module),
        }
    }

    /// Adds the statistics of other texts of the same model.
    ///
    /// # Errors
    /// [`Error::StatsMismatch`] when they are of another model, with and without covariance, or of the same text.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        let mismatch =
            |what: &'static str, here: String, there: String| Err(Error::StatsMismatch { what, here, there });
        self.meta.same_model(&other.meta)?;
        let products = |site: &SiteStats| if site.products.is_some() { " with products" } else { "" };
        let size = |(name, site): (&String, &SiteStats)| format!("{name} {}{}", site.channels(), products(site));
        let sizes = |s: &Self| s.sites.iter().map(size).collect::<Vec<_>>();
        let (here, there) = (sizes(self), sizes(other));
        if let Some((h, t)) = here.iter().zip(&there).find(|(h, t)| h != t) {
            return mismatch("sites", h.clone(), t.clone());
        }
        if here.len() != there.len() {
            return mismatch("sites", here.len().to_string(), there.len().to_string());
        }
        self.meta.merge(&other.meta)?;
        for (site, other) in self.sites.values_mut().zip(other.sites.values()) {
            site.add(other);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_where_the_kernel_cuts() {
        assert_eq!(edge(40 * 8), 1.0);
        assert_eq!(edge(40 * 8 + 1), 1.125);
        assert_eq!(edge(41 * 8 + 4), 3.0);
    }

    #[test]
    fn percentiles_of_a_uniform_distribution() {
        let mut site = SiteStats::empty(1, false);
        for i in 1..=1000 {
            let x = f64::from(i) / 1000.0;
            let bin = (1..512).rev().find(|b| edge(*b) <= x).unwrap_or(0);
            site.magnitudes[bin] += 1;
        }
        site.max = vec![1.0];
        site.min = vec![0.0];
        for p in [0.1, 0.5, 0.9, 0.99, 1.0] {
            assert!((site.percentile(p) - p).abs() < 0.07 * p, "{p}: {}", site.percentile(p));
        }
    }

    #[test]
    fn kurtosis_of_two_values_is_one_and_of_a_constant_zero() {
        assert!((kurtosis([0.5, 0.5, 0.5, 0.5]) - 1.0).abs() < 1e-12);
        assert_eq!(kurtosis([3.0, 9.0, 27.0, 81.0]), 0.0);
        assert_eq!(max_over_median(vec![1.0, 8.0, 2.0, 2.0]), 4.0);
    }
}
