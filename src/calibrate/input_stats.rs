//! Statistics of what a model's linear layers take, a block at a time: only one block and the streams before it are on the
//! device, and products of channels of those of its inputs that were asked for. A [`super::Calibrator`] needs all weights there.

use std::cell::{Cell, RefCell};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use pollster::block_on;

use super::calibrator::{FLUSH, Probe, probe, take_all};
use super::sites::Sites;
use super::spool::{PART_BESIDE, Spool};
use super::stats::Stats;
use super::walk::{Watch, pass_tokens, through};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::model::{Layer, Linear, ModelConfig, OnlineRotation};
use crate::runtime::{Stage, StagePass};

/// A walk through a model that gathers statistics of every linear layer's input. What fails half way is not gone on with.
pub(crate) struct InputStats {
    stage: Stage,
    streams: Spool,
    inputs: Inputs,
}

impl InputStats {
    /// Embeds `sequences` with the model's `embedding`.
    ///
    /// # Errors
    /// As [`Stage::new`]; [`crate::Error::Argument`] for a token outside the vocabulary.
    pub(crate) fn new(
        device: &Device,
        config: &ModelConfig,
        rotation: OnlineRotation,
        embedding: &Linear,
        sequences: &[Vec<u32>],
    ) -> Result<Self> {
        let streams = Spool::embed(device, sequences, embedding, PART_BESIDE)?;
        let stage = Stage::new(device, config, rotation, streams.longest(), pass_tokens(device, config))?;
        let inputs = Inputs {
            sites: Sites::new(config, rotation),
            device: device.clone(),
            look: RefCell::default(),
            probes: RefCell::default(),
            tokens: Cell::default(),
            stats: RefCell::new(Stats::of_one_text(false)),
        };
        Ok(Self { stage, streams, inputs })
    }

    /// Passes all sequences through block `index`, the next one, and gives the statistics of its sites, and what `look` says besides.
    ///
    /// # Errors
    /// As [`Stage::load`] and running a plan; [`crate::Error::Argument`] naming a site whose values are not finite.
    pub(crate) fn block(&mut self, index: usize, layer: &Layer, look: Besides) -> Result<Stats> {
        self.inputs.look.replace(look);
        through(&self.stage, &mut self.streams, index, layer, &self.inputs)?;
        self.inputs.finish()
    }

    /// Those of the head's input, behind the final norm of this weight and all blocks.
    ///
    /// # Errors
    /// As [`InputStats::block`].
    pub(crate) fn head(mut self, norm: &[f32], look: Besides) -> Result<Stats> {
        self.inputs.look.replace(look);
        let (stage, inputs) = (&self.stage, &self.inputs);
        let mut passes: HashMap<usize, StagePass> = HashMap::new();
        for sequence in 0..self.streams.sequences() {
            let stream = self.streams.read(sequence)?;
            let length = self.streams.length(sequence);
            for first in (0..length).step_by(stage.pass_tokens()) {
                let n = stage.pass_tokens().min(length - first);
                let look = &mut |plan: &mut Plan, name: String, x: &DeviceTensor| inputs.look(plan, &name, x);
                let pass = match passes.entry(n) {
                    Entry::Occupied(pass) => pass.into_mut(),
                    Entry::Vacant(none) => none.insert(stage.record_norm(norm, n, look)?),
                };
                stage.run(pass, None, &stream, first)?;
            }
            inputs.passed(length)?;
        }
        inputs.finish()
    }
}

/// What is gathered of a block beside its linear layers' inputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Besides {
    /// Sites of which there are products of channels, too.
    pub(crate) products: Vec<String>,
    /// in_proj's outputs, as site `mixer.zxbcdt`.
    pub(crate) projected: bool,
}

/// What is gathered, and what of it is still on the device.
struct Inputs {
    sites: Sites,
    device: Device,
    look: RefCell<Besides>,
    probes: RefCell<BTreeMap<String, Probe>>,
    /// Since sums moved to the host.
    tokens: Cell<usize>,
    stats: RefCell<Stats>,
}

impl Watch for Inputs {
    fn look(&self, plan: &mut Plan, name: &str, x: &DeviceTensor) -> Result<()> {
        let mut probes = self.probes.borrow_mut();
        let look = self.look.borrow();
        let projected = self.sites.projected(name, x).filter(|_| look.projected);
        for site in self.sites.of(name, x).into_iter().filter(|site| site.linear).chain(projected) {
            let products = look.products.contains(&site.name);
            probe(&mut probes, &self.device, &site, products)?.add(plan, x, &site)?;
        }
        Ok(())
    }

    fn passed(&self, tokens: usize) -> Result<()> {
        self.tokens.set(self.tokens.get() + tokens);
        if self.tokens.get() >= FLUSH { self.collect() } else { Ok(()) }
    }
}

impl Inputs {
    /// Moves the sums to the host.
    fn collect(&self) -> Result<()> {
        self.tokens.set(0);
        block_on(take_all(&self.probes.borrow(), &self.device, &mut self.stats.borrow_mut()))
    }

    /// All of the sites, which are forgotten.
    fn finish(&self) -> Result<Stats> {
        self.collect()?;
        self.probes.borrow_mut().clear();
        Ok(self.stats.replace(Stats::of_one_text(false)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::calibrate::Calibrator;
    use crate::model::{ModelFile, ModelSource, Names};
    use crate::runtime::{Engine, EngineOptions};

    /// As a calibrator that runs the whole model finds them; sums are rounded at other places.
    #[test]
    fn are_those_of_the_whole_model() {
        let file = ModelFile::open(std::path::Path::new("assets/nano")).unwrap();
        let sequences: Vec<Vec<u32>> = [70, 33].map(|n| (0..n).map(|i| 3 + i * 37 % 1900).collect()).to_vec();
        let (config, rotation, embedding) = (file.config(), file.rotation(), file.embedding().unwrap());
        let mut walk = InputStats::new(&Device::Cpu, config, rotation, &embedding, &sequences).unwrap();
        // Products of what each block reads; of what attention writes; not of what others write.
        let products = |index: usize| {
            let site = |part: &str| Names::default().mixer(index, part);
            ["in_proj", "q_proj", "up_proj", "o_proj"].map(site).to_vec()
        };
        let mut got = BTreeMap::new();
        for index in 0..config.blocks.len() {
            let look = Besides { products: products(index), projected: true };
            let of_block = walk.block(index, &file.layer(index).unwrap(), look).unwrap().sites;
            let name = Names::default().layer(index, "");
            assert!(
                !of_block.is_empty() && of_block.keys().all(|site| site.starts_with(&name)),
                "{index}: {:?}",
                of_block.keys()
            );
            got.extend(of_block);
        }
        let look = Besides { products: vec![Names::default().head().to_owned()], projected: true };
        got.extend(walk.head(&file.norm_f().unwrap(), look).unwrap().sites);
        let options = EngineOptions { context: 70, pass_tokens: 512, ..EngineOptions::default() };
        let engine = Engine::new(&Device::Cpu, &file, options).unwrap();
        let mut calibrator = Calibrator::new(engine, file.rotation(), Stats::of_one_text(true)).unwrap();
        sequences.iter().for_each(|ids| block_on(calibrator.sequence(ids)).unwrap());
        assert!(got.contains_key("lm_head") && got.len() > 8, "{:?}", got.keys());
        assert!(got.values().filter(|site| site.products.is_some()).count() == config.blocks.len() + 2);
        for (name, site) in &got {
            if name.ends_with("zxbcdt") {
                // Its first columns are a site that a calibrator has, too.
                let want = calibrator.stats().sites[&name.replace("zxbcdt", "z")].absmax();
                assert_eq!(site.absmax()[..want.len()], want, "{name}");
                continue;
            }
            let want = &calibrator.stats().sites[name];
            assert_eq!((site.samples, site.absmax()), (want.samples, want.absmax()), "{name}");
            let close = |a: &[f64], b: &[f64]| {
                let scale = b.iter().fold(0f64, |m, v| m.max(v.abs()));
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * scale)
            };
            assert!(close(&site.moment(2), &want.moment(2)), "{name}");
            if let Some(products) = &site.products {
                assert!(close(products, want.products.as_ref().unwrap()), "{name}");
            }
        }
    }
}
