//! Gathers statistics of a whole model, sequence by sequence, on the device it runs on.
//!
//! Each pass adds to sums on the device: f32 within a launch, compensated from launch to launch. At the end of a
//! sequence, and every [`FLUSH`] tokens of a long one, they move to f64 on the host. So memory grows with neither the
//! number nor the length of sequences (but for the keys and values of attention, which do by nature), and a sequence
//! adds the same whether or not the program stopped before it.

use std::collections::{BTreeMap, HashMap};

use super::sequences::chain;
use super::sites::{Site, Sites};
use super::stats::{SiteStats, Stats, StatsPart};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Need, Plan, Recording};
use crate::kernels::{self, ChannelSums, GramSums, MAGNITUDE_BINS};
use crate::model::OnlineRotation;
use crate::runtime::{Engine, ObservedPass};

/// Tokens after which sums move to the host; counts of 32 bits would hold those of many more (`extents.rs`).
pub(super) const FLUSH: usize = 1 << 16;

/// Where in a sequence a pass begins, which decides the states that are looked at: those after whole chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Begins {
    /// At its first token, before which the state is nothing.
    Sequence,
    /// Behind a whole number of chunks.
    Chunk,
    /// Within a chunk.
    Within,
}

/// Sums of one site on the device.
pub(super) struct Probe {
    pub(super) sums: ChannelSums,
    /// `[n, n]` products of channels.
    products: Option<GramSums>,
}

/// A model with everything that looks at it.
pub struct Calibrator {
    engine: Engine,
    sites: Sites,
    chunk: usize,
    probes: BTreeMap<String, Probe>,
    passes: HashMap<(usize, Begins), ObservedPass>,
    /// Looks at the states a sequence ends with.
    ends: Option<Recording>,
    stats: Stats,
}

impl Calibrator {
    /// Goes on from `stats`, the last of whose parts is the one that grows.
    ///
    /// # Errors
    /// [`Error::Argument`] when `stats` has no part.
    pub fn new(engine: Engine, rotation: OnlineRotation, stats: Stats) -> Result<Self> {
        if stats.meta.parts.is_empty() {
            return Err(Error::argument("calibration", "statistics without a text to go on with"));
        }
        Ok(Self {
            sites: Sites::new(engine.config(), rotation),
            chunk: engine.config().chunk_size.max(1),
            engine,
            probes: BTreeMap::new(),
            passes: HashMap::new(),
            ends: None,
            stats,
        })
    }

    /// Kernels it runs besides the engine's, to be checked before they are trusted.
    #[must_use]
    pub fn needs() -> [Need; 2] {
        ["channel_stats", "gram"].map(|kernel| Need { kernel, format: None })
    }

    /// The statistics so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Adds one sequence, from a fresh state.
    ///
    /// # Errors
    /// As [`Engine::observe`]; [`Error::Argument`] naming a site whose values are not finite, or for no tokens, after which there
    /// is no state to look at.
    pub async fn sequence(&mut self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::argument("calibration", "a sequence of no tokens"));
        }
        self.engine.reset()?;
        let (mut start, mut flushed) = (0, 0);
        while start < ids.len() {
            let tokens = piece(start, ids.len(), self.engine.pass_tokens(), self.chunk);
            let begins = match start {
                0 => Begins::Sequence,
                _ if start.is_multiple_of(self.chunk) => Begins::Chunk,
                _ => Begins::Within,
            };
            self.pass(&ids[start..start + tokens], begins)?;
            start += tokens;
            if start - flushed >= FLUSH && start < ids.len() {
                self.collect().await?;
                flushed = start;
            }
        }
        self.ends()?;
        self.collect().await?;
        if let Some(part) = self.stats.meta.parts.last_mut() {
            part.add(ids);
        }
        Ok(())
    }

    fn pass(&mut self, ids: &[u32], begins: Begins) -> Result<()> {
        let key = (ids.len(), begins);
        if !self.passes.contains_key(&key) {
            let pass = self.record(ids.len(), begins)?;
            self.passes.insert(key, pass);
        }
        match self.passes.get(&key) {
            Some(pass) => self.engine.observe(pass, ids),
            None => Ok(()),
        }
    }

    fn record(&mut self, tokens: usize, begins: Begins) -> Result<ObservedPass> {
        let Self { engine, sites, probes, chunk, stats, .. } = self;
        let (device, covariance) = (engine.device().clone(), stats.meta.covariance);
        let first = usize::from(begins == Begins::Sequence);
        let looks = if begins == Begins::Within { 0 } else { tokens.div_ceil(*chunk) };
        let mut look = |plan: &mut Plan, name: String, tensor: &DeviceTensor| {
            let states = name.strip_prefix("layer.").and_then(|n| n.strip_suffix(".state_passing"));
            if let Some(index) = states.and_then(|i| i.parse().ok()) {
                if first >= looks {
                    return Ok(());
                }
                let site = Site { name: sites.state(index), samples: sites.states(looks, first), linear: false };
                return probe(probes, &device, &site, false)?.add(plan, tensor, &site);
            }
            for site in sites.of(&name, tensor) {
                probe(probes, &device, &site, covariance && site.linear)?.add(plan, tensor, &site)?;
            }
            Ok(())
        };
        engine.record_observed(tokens, &mut look)
    }

    /// Looks at the states the sequence ends with.
    fn ends(&mut self) -> Result<()> {
        if self.ends.is_none() {
            let device = self.engine.device().clone();
            let mut plan = Plan::new(&device);
            for index in 0..self.engine.config().blocks.len() {
                let Some(state) = self.engine.state().ssm(index) else { continue };
                let site = Site { name: self.sites.state(index), samples: self.sites.states(1, 0), linear: false };
                probe(&mut self.probes, &device, &site, false)?.add(&mut plan, state, &site)?;
            }
            self.ends = Some(plan.record()?);
        }
        self.ends.as_ref().map_or(Ok(()), Recording::run)
    }

    /// Moves the sums to the host.
    async fn collect(&mut self) -> Result<()> {
        take_all(&self.probes, self.engine.device(), &mut self.stats).await
    }
}

/// Moves the sums of all sites to `stats`.
pub(super) async fn take_all(probes: &BTreeMap<String, Probe>, device: &Device, stats: &mut Stats) -> Result<()> {
    for (name, probe) in probes {
        let found = probe.take(device).await?;
        check_finite(name, &found)?;
        let empty = || SiteStats::empty(found.channels(), found.products.is_some());
        stats.sites.entry(name.clone()).or_insert_with(empty).add(&found);
    }
    Ok(())
}

/// # Errors
/// [`Error::Argument`] naming the site for values that are not finite.
pub(super) fn check_finite(site: &str, found: &SiteStats) -> Result<()> {
    if found.powers.iter().flatten().any(|s| !s.is_finite()) {
        let what = "has values that are not finite, or too large for their fourth power to be";
        return Err(Error::argument(format!("the activations of {site}"), what));
    }
    Ok(())
}

impl StatsPart {
    /// Counts one more sequence.
    fn add(&mut self, ids: &[u32]) {
        self.tokens_sha256 = chain(&self.tokens_sha256, ids);
        self.sequences += 1;
        self.tokens += ids.len() as u64;
    }
}

/// Tokens of the pass that begins at `start`. Passes end where chunks do, so that states are seen after the same
/// tokens whatever the length of passes.
fn piece(start: usize, length: usize, pass: usize, chunk: usize) -> usize {
    let most = if pass >= chunk { pass - pass % chunk } else { pass.min(chunk - start % chunk) };
    most.min(length - start)
}

/// The sums of a site, made when it is first seen.
pub(super) fn probe<'a>(
    probes: &'a mut BTreeMap<String, Probe>,
    device: &Device,
    site: &Site,
    products: bool,
) -> Result<&'a mut Probe> {
    let new = |site: &Site| Probe::new(device, site.samples.channels, products);
    match probes.entry(site.name.clone()) {
        std::collections::btree_map::Entry::Occupied(found) => Ok(found.into_mut()),
        std::collections::btree_map::Entry::Vacant(none) => Ok(none.insert(new(site)?)),
    }
}

impl Probe {
    /// Of `n` channels, with their products or without.
    pub(super) fn new(device: &Device, n: usize, products: bool) -> Result<Self> {
        let products = products.then(|| GramSums::of_one(device, n)).transpose()?;
        Ok(Self { sums: ChannelSums::new(device, n)?, products })
    }

    pub(super) fn channels(&self) -> usize {
        self.sums.range.shape.cols()
    }

    pub(super) fn add(&self, plan: &mut Plan, tensor: &DeviceTensor, site: &Site) -> Result<()> {
        kernels::channel_stats(plan, tensor, site.samples, &self.sums)?;
        match &self.products {
            Some(products) => kernels::gram(plan, tensor, products),
            None => Ok(()),
        }
    }

    /// What was added since the last time.
    pub(super) async fn take(&self, device: &Device) -> Result<SiteStats> {
        let range = device.read_f32(&self.sums.range).await?;
        let sums = device.read_f32(&self.sums.sums).await?;
        let counts = device.read(&self.sums.counts).await?;
        self.sums.reset(device)?;
        let products = match &self.products {
            Some(sums) => {
                let values = sums.read(device).await?;
                sums.reset(device)?;
                Some(values)
            }
            None => None,
        };
        let n = range.len() / 2;
        let powers = exact(&sums);
        let mut magnitudes = vec![0u64; MAGNITUDE_BINS];
        for row in counts.chunks(MAGNITUDE_BINS) {
            magnitudes.iter_mut().zip(row).for_each(|(sum, count)| *sum += u64::from(*count));
        }
        Ok(SiteStats {
            samples: magnitudes.iter().sum::<u64>() / n.max(1) as u64,
            min: range[..n].to_vec(),
            max: range[n..].to_vec(),
            powers: std::array::from_fn(|p| powers[p * n..][..n].to_vec()),
            magnitudes,
            products,
        })
    }
}

/// Totals with what they lost, which is their second half.
fn exact(values: &[f32]) -> Vec<f64> {
    let (totals, lost) = values.split_at(values.len() / 2);
    totals.iter().zip(lost).map(|(t, l)| f64::from(*t) + f64::from(*l)).collect()
}

#[cfg(test)]
mod tests {
    use super::piece;

    fn pieces(length: usize, pass: usize, chunk: usize) -> Vec<usize> {
        let mut all = Vec::new();
        while all.iter().sum::<usize>() < length {
            all.push(piece(all.iter().sum(), length, pass, chunk));
        }
        all
    }

    #[test]
    fn passes_end_where_chunks_do() {
        assert_eq!(pieces(300, 256, 128), [256, 44]);
        assert_eq!(pieces(300, 200, 128), [128, 128, 44]);
        assert_eq!(pieces(300, 100, 128), [100, 28, 100, 28, 44]);
        assert_eq!(pieces(129, 128, 128), [128, 1]);
    }
}
