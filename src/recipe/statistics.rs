//! What calibrated rewrites need to know of a model's activations, found out block by block as they are done.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Forms, Recipe, awq};
use crate::calibrate::{Besides, InputStats, SiteStats, Stats, Windows};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Block, ModelConfig, ModelSource, Names};
use crate::quantize::timed;
use crate::transform::{self, Inputs, Known, MeanCovariance, Transform, Transformed, stream_tap};

/// `source` under the rewrites of `recipe`. Where those take statistics of activations, they are gathered on `calibration`:
/// a block's when it is read, on the way through it and any before it that were not read yet; all at once now for a KLT of
/// the stream.
///
/// # Errors
/// As [`Transformed::with`] and running the model; [`Error::Argument`] when texts are needed and there are none.
pub fn transformed<'a>(
    source: &'a dyn ModelSource,
    recipe: &Recipe,
    device: &Device,
    calibration: Option<&Windows>,
) -> Result<Transformed<'a>> {
    let transform = recipe.transform;
    if !transform.needs_stats() {
        return Transformed::new(source, transform);
    }
    let missing = || Error::argument("transform", "KLT, smoothing and permutations need calibration text");
    let windows = calibration.ok_or_else(missing)?;
    Transformed::with(source, transform, Gathered::new(source, recipe, device, windows)?)
}

/// Statistics of a model's blocks, each gathered when it is first asked for.
struct Gathered<'a> {
    base: Transformed<'a>,
    transform: Transform,
    /// Where factors are to be searched.
    forms: Option<Forms>,
    /// Before the first block of which nothing was found yet; nothing behind the head or after an error.
    walk: Mutex<Option<InputStats>>,
    /// Of each block, and of the head, but for covariances that only the stream's axes come of: a block's takes 134 MB for a stream of 4096.
    found: Vec<OnceLock<Inputs>>,
    /// Of those, as far as the walk has come.
    residual: Mutex<MeanCovariance>,
}

impl<'a> Gathered<'a> {
    /// Embeds the sequences of `windows`.
    fn new(source: &'a dyn ModelSource, recipe: &Recipe, device: &Device, windows: &Windows) -> Result<Self> {
        let transform = recipe.transform;
        // Of the model under the rewrites that come before those that need them.
        let base = Transformed::new(source, transform.base())?;
        let forms = transform.smooth.searches().then(|| awq::forms(&base, recipe)).transpose()?;
        let (config, embedding) = (base.config(), base.embedding()?);
        let walk = InputStats::new(device, config, base.rotation(), &embedding, &windows.0)?;
        let found = (0..=config.blocks.len()).map(|_| OnceLock::new()).collect();
        let residual = Mutex::new(MeanCovariance::new(config.hidden_size));
        Ok(Self { base, transform, forms, walk: Mutex::new(Some(walk)), found, residual })
    }
}

impl Known for Gathered<'_> {
    fn of(&self, index: usize) -> Result<&Inputs> {
        let none = || Error::argument("transform", format!("there is no block {index}"));
        let asked = self.found.get(index).ok_or_else(none)?;
        let mut walk = self.walk.lock().unwrap_or_else(PoisonError::into_inner);
        let head = self.found.len() - 1;
        // With the last block's come the head's, so that the device need not keep the streams.
        let last = if index + 1 == head { head } else { index };
        for (at, place) in self.found.iter().enumerate().take(last + 1).filter(|(_, place)| place.get().is_none()) {
            let name = if at == head { "head".to_owned() } else { format!("layer {at}") };
            let found = timed(|| format!("{name}: statistics for the transform"), || self.next(&mut walk, at))?;
            place.get_or_init(|| found);
        }
        asked.get().ok_or_else(none)
    }

    fn residual_covariance(&self, config: &ModelConfig) -> Result<Vec<f64>> {
        self.of(config.blocks.len())?; // and all before
        self.residual.lock().unwrap_or_else(PoisonError::into_inner).clone().finish()
    }
}

impl Gathered<'_> {
    /// What there is to know of the block, or the head, that `walk` has come to.
    fn next(&self, walk: &mut Option<InputStats>, at: usize) -> Result<Inputs> {
        let broken = || Error::argument("calibration", "goes no further after an error");
        let mut streams = walk.take().ok_or_else(broken)?;
        let config = self.base.config();
        let (names, covariances) = (sites(config, at), self.transform.covariances(config, at));
        let read_at = |tap: &String| names.iter().find(|(_, t)| t == tap).map(|(site, _)| site.clone());
        let look = Besides {
            products: covariances.iter().filter_map(read_at).collect(),
            projected: self.transform.smooth.conv.is_some(),
        };
        let head = at == config.blocks.len();
        let (stats, rest) = if head {
            (streams.head(&self.base.norm_f()?, look)?, None)
        } else {
            (streams.block(at, &self.base.layer(at)?, look)?, Some(streams))
        };
        let mut inputs = inputs(&names, &stats);
        self.add_residual(at, &mut inputs)?;
        if let Some(forms) = self.forms.as_ref().filter(|_| !head) {
            awq::search(&self.base, at, &self.transform.smooth, forms, &mut inputs)?;
        }
        *walk = rest;
        Ok(inputs)
    }

    /// Takes what the stream's axes come of, and keeps of it what a block's own rewrites read, too.
    fn add_residual(&self, at: usize, inputs: &mut Inputs) -> Result<()> {
        let config = self.base.config();
        let of_block = Transform { residual: None, ..self.transform }.covariances(config, at);
        let tap = stream_tap(config, at);
        let Some(site) = inputs.stats.get_mut(&tap).filter(|s| !s.covariance.is_empty()) else { return Ok(()) };
        if self.transform.residual.is_some_and(transform::Rotation::needs_covariance) {
            let mut mean = self.residual.lock().unwrap_or_else(PoisonError::into_inner);
            mean.add(site.sensitivity, &site.covariance)?;
        }
        if !of_block.contains(&tap) {
            site.covariance = Vec::new();
        }
        Ok(())
    }
}

/// The sites of block `index`, or of the head, with the names that transforms have for them: those of the runtime's taps.
fn sites(config: &ModelConfig, index: usize) -> Vec<(String, String)> {
    let names = Names::default();
    let Some(block) = config.blocks.get(index) else {
        return vec![(names.head().to_owned(), stream_tap(config, index))];
    };
    let (reader, writer, written) = match block {
        Block::Mamba2 => ("in_proj", "out_proj", "gated_norm"),
        Block::Attention => ("q_proj", "o_proj", "attention"),
        Block::Mlp => ("up_proj", "down_proj", "up_proj"),
    };
    let site = |part: &str| names.mixer(index, part);
    let tap = |name: &str| format!("layer.{index}.{name}");
    vec![(site(reader), stream_tap(config, index)), (site(writer), tap(written)), (site("zxbcdt"), tap("in_proj"))]
}

/// What was found at these sites.
fn inputs(sites: &[(String, String)], stats: &Stats) -> Inputs {
    let there = sites.iter().filter_map(|(site, tap)| Some((tap.clone(), plain(stats.sites.get(site)?))));
    Inputs { stats: there.collect(), ..Inputs::default() }
}

impl Inputs {
    /// What statistics of a whole model, such as a file of them, say to transforms of the model with this configuration. They must have been
    /// taken on the model under [`Transform::base`]: as it is, or with norms folded. What smoothed convolutions read is not among them, and
    /// covariances are where they were asked for.
    #[must_use]
    pub fn from_stats(stats: &Stats, config: &ModelConfig) -> Self {
        let all: Vec<_> = (0..=config.blocks.len()).flat_map(|index| sites(config, index)).collect();
        inputs(&all, stats)
    }
}

fn plain(site: &SiteStats) -> transform::SiteStats {
    let tokens = site.samples.max(1) as f64;
    transform::SiteStats {
        absmax: site.absmax().into_iter().map(f64::from).collect(),
        rms: site.moment(2).into_iter().map(f64::sqrt).collect(),
        covariance: site.products.iter().flatten().map(|sum| sum / tokens).collect(),
        ..transform::SiteStats::default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::calibrate::Calibrator;
    use crate::model::{Model, ModelFile};
    use crate::recipe::Preset;
    use crate::runtime::{Engine, EngineOptions};
    use crate::transform::{Rotation, Transform};

    fn nano() -> ModelFile {
        ModelFile::open(std::path::Path::new("assets/nano")).unwrap()
    }

    fn recipe(file: &ModelFile) -> Recipe {
        let transform = Transform::hadamard(file.config(), 0).unwrap();
        Recipe::preset(Preset::W4A8, file.config(), file.float_dtype(), transform, true)
    }

    fn texts() -> Windows {
        Windows([70, 33].map(|n| (0..n).map(|i| 3 + i * 37 % 1900).collect()).to_vec())
    }

    fn gathered<'a>(source: &'a dyn ModelSource, recipe: &Recipe) -> Gathered<'a> {
        Gathered::new(source, recipe, &Device::Cpu, &texts()).unwrap()
    }

    /// Statistics of the whole model are those that are gathered block by block.
    #[test]
    fn statistics_that_are_kept_say_the_same() {
        let file = nano();
        let recipe = recipe(&file);
        let base = Transformed::new(&file, recipe.transform.base()).unwrap();
        let options = EngineOptions { context: 128, pass_tokens: 128, ..Default::default() };
        let engine = Engine::new(&Device::Cpu, &base, options).unwrap();
        let mut calibrator = Calibrator::new(engine, base.rotation(), Stats::of_one_text(false)).unwrap();
        texts().0.iter().for_each(|ids| pollster::block_on(calibrator.sequence(ids)).unwrap());
        let kept = Inputs::from_stats(calibrator.stats(), file.config());
        let known = gathered(&file, &recipe);
        let mut count = 0;
        for index in 0..=file.config().blocks.len() {
            for (tap, want) in &known.of(index).unwrap().stats {
                let got = &kept.stats[tap];
                for (got, want) in [(&got.rms, &want.rms), (&got.absmax, &want.absmax)] {
                    let near = 1e-4 * want.iter().fold(0.0, |most: f64, v| most.max(*v));
                    assert!(
                        got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() <= near),
                        "{tap}"
                    );
                }
                count += 1;
            }
        }
        assert_eq!(kept.stats.len(), count);
    }

    #[test]
    fn blocks_may_be_asked_for_in_any_order_and_those_behind_wait() {
        let file = nano();
        let (recipe, head) = (recipe(&file), file.config().blocks.len());
        let in_order = gathered(&file, &recipe);
        for index in 0..head {
            assert!(in_order.found[index].get().is_none(), "block {index} before it was asked for");
            in_order.of(index).unwrap();
        }
        assert!(in_order.found[head].get().is_some() && in_order.walk.lock().unwrap().is_none());
        let backwards = gathered(&file, &recipe);
        for index in (0..=head).rev() {
            let (got, want) = (backwards.of(index).unwrap(), in_order.of(index).unwrap());
            assert!(!got.stats.is_empty() && got == want, "block {index}");
        }
        assert!(in_order.of(head + 1).is_err());
    }

    #[test]
    fn only_a_rotation_of_the_stream_along_its_own_axes_asks_for_all_beforehand() {
        let file = nano();
        let mut recipe = recipe(&file);
        for (residual, all) in [(Rotation::Hadamard, false), (Rotation::Klt, true), (Rotation::KltHadamard, true)] {
            recipe.transform.residual = Some(residual);
            let known = gathered(&file, &recipe);
            let model = Transformed::with(&file, recipe.transform, &known).unwrap();
            model.embedding().unwrap();
            assert!(known.found.iter().all(|f| f.get().is_some() == all), "{residual:?}");
        }
    }

    #[test]
    fn nothing_is_gathered_behind_an_error() {
        let file = nano();
        let mut model = Model::load(&file).unwrap();
        let at = (1..model.layers.len()).find(|i| file.config().blocks[*i] == Block::Mamba2).unwrap();
        model.layers[at].norm[0] = f32::NAN;
        let known = gathered(&model, &recipe(&file));
        known.of(0).unwrap();
        for words in ["not finite", "no further after an error"] {
            let line = known.of(at).err().unwrap().to_string();
            assert!(line.contains(words), "{line}");
        }
        known.of(0).unwrap();
    }
}
