//! A walk through a model block by block with all calibration sequences: what each linear layer's inputs are like, while
//! the blocks before are as the caller left them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pollster::block_on;

use super::extents::{Extents, Rounding};
use super::moments::{Means, Moments};
use super::spool::{PART, Spool};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::Halves;
use crate::model::{Group, Layer, Linear, Mixer, ModelConfig, OnlineRotation};
use crate::runtime::{LoadedBlock, Look, Stage, StagePass};

/// Tokens of a pass: the sums of this many are f32, the sums of passes are compensated.
const PASS: usize = 512;
/// The same on matrix units, which multiply so fast that reading and writing the sums of each pass would take as long.
const PASS_ON_MATRICES: usize = 2048;

/// The streams of all sequences, before the next block.
pub(crate) struct Walk {
    device: Device,
    config: ModelConfig,
    rotation: OnlineRotation,
    /// For passes of both models, one after the other.
    stage: Stage,
    /// Streams of the model as it is so far.
    streams: Spool,
    /// The original model's beside them, where both are wanted.
    originals: Option<Spool>,
    /// The block that the original model's streams have passed already.
    ahead: Option<usize>,
}

/// What a site's activations come from.
enum Source<'a> {
    /// The norm of this weight over the stream.
    Norm(&'a [f32]),
    /// The tap of this name within a block of the model as it is, and of the original.
    Block(&'a mut LoadedBlock, Option<&'a mut LoadedBlock>, &'static str),
}

/// What is gathered of a site's activations, pass by pass.
pub(super) trait Collect {
    /// Must the original model run beside?
    fn with_original(&self) -> bool {
        false
    }

    /// Keeps the original model's inputs of a pass, for the quantized model's that come next.
    fn keep(&self, _plan: &mut Plan, _x: &DeviceTensor) -> Result<()> {
        Ok(())
    }

    /// Adds the quantized model's inputs of a pass.
    fn add(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<()>;
}

/// Who looks at the passes of [`through`].
pub(super) trait Watch {
    /// May add launches that read `x`, which the tap `name` gives.
    fn look(&self, plan: &mut Plan, name: &str, x: &DeviceTensor) -> Result<()>;

    /// A sequence of so many tokens has passed.
    fn passed(&self, tokens: usize) -> Result<()>;
}

/// Nobody.
impl Watch for () {
    fn look(&self, _: &mut Plan, _: &str, _: &DeviceTensor) -> Result<()> {
        Ok(())
    }

    fn passed(&self, _: usize) -> Result<()> {
        Ok(())
    }
}

/// Tokens of a pass through a block of this model.
pub(super) fn pass_tokens(device: &Device, config: &ModelConfig) -> usize {
    if Halves::suit(device, config.hidden_size) { PASS_ON_MATRICES } else { PASS }
}

/// The linear layers of a block that read the normed stream, and the one that writes to it.
pub(crate) fn parts(mixer: &Mixer) -> (&'static [&'static str], &'static str) {
    match mixer {
        Mixer::Mamba2(_) => (&["in_proj"], "out_proj"),
        Mixer::Attention(_) => (&["q_proj", "k_proj", "v_proj"], "o_proj"),
        Mixer::Mlp(_) => (&["up_proj"], "down_proj"),
    }
}

impl Walk {
    /// Embeds `sequences` with `embedding`, and with `original` where the original model walks beside.
    ///
    /// # Errors
    /// As [`Stage::new`]; [`crate::Error::Argument`] for a token outside the vocabulary.
    pub(crate) fn new(
        device: &Device,
        config: &ModelConfig,
        rotation: OnlineRotation,
        embedding: &Linear,
        original: Option<&Linear>,
        sequences: &[Vec<u32>],
    ) -> Result<Self> {
        let streams = Spool::embed(device, sequences, embedding, PART)?;
        let stage = Stage::new(device, config, rotation, streams.longest(), pass_tokens(device, config))?;
        let originals = original.map(|e| Spool::embed(device, sequences, e, PART)).transpose()?;
        let (device, config) = (device.clone(), config.clone());
        Ok(Self { stage, device, config, rotation, streams, originals, ahead: None })
    }

    /// Means of the inputs of the layers behind a norm of this weight.
    ///
    /// # Errors
    /// As running a plan.
    pub(crate) fn after_norm(&mut self, norm: &[f32], rounding: impl Into<Rounding>) -> Result<Means> {
        self.means(&rounding.into(), self.config.hidden_size, None, Source::Norm(norm))
    }

    /// Fixed scales for those inputs: what `percentile` percent of each group do not exceed has code 127. `site` is for messages.
    ///
    /// # Errors
    /// As running a plan; [`crate::Error::Argument`] for inputs that are not finite.
    pub(crate) fn scales_after_norm(
        &mut self,
        site: &str,
        norm: &[f32],
        group: Group,
        percentile: f64,
    ) -> Result<Vec<f32>> {
        let extents = Extents::new(&self.device, self.config.hidden_size, group)?;
        self.gather(&extents, Source::Norm(norm))?;
        block_on(extents.scales(&self.device, site, percentile))
    }

    /// Means of the inputs, `width` wide, of the layer of block `index` that writes to the stream; `layer` is the
    /// block as it is, `original` as it was. The original model's streams pass the block on the way: once a block. `outputs`: sums
    /// of what that layer makes of inputs that are off will do ([`super::Shift`]).
    ///
    /// # Errors
    /// As running a plan; [`crate::Error::Argument`] when they have passed it.
    pub(crate) fn before_writer(
        &mut self,
        index: usize,
        layer: &Layer,
        original: &Layer,
        width: usize,
        rounding: impl Into<Rounding>,
        outputs: bool,
    ) -> Result<Means> {
        let tap = self.writers_tap(layer);
        let mut block = self.stage.load(index, layer)?;
        let mut before = self.originals.as_ref().map(|_| self.stage.load(index, original)).transpose()?;
        if let Some(passed) = self.ahead.filter(|_| before.is_some()) {
            return Err(Error::argument("calibration", format!("block {index} after the original passed {passed}")));
        }
        self.ahead = before.as_ref().map(|_| index);
        let (linears, (_, name)) = (original.linears(), parts(&original.mixer));
        let writer = linears.into_iter().find(|(part, _)| outputs && *part == name).map(|(_, linear)| linear);
        self.means(&rounding.into(), width, writer, Source::Block(&mut block, before.as_mut(), tap))
    }

    /// Fixed scales for those inputs, as [`Walk::scales_after_norm`]: behind the online rotation, where there is one.
    ///
    /// # Errors
    /// As [`Walk::scales_after_norm`].
    pub(crate) fn scales_before_writer(
        &mut self,
        index: usize,
        layer: &Layer,
        width: usize,
        group: Group,
        percentile: f64,
    ) -> Result<Vec<f32>> {
        let tap = self.writers_tap(layer);
        let extents = Extents::new(&self.device, width, group)?;
        let mut block = self.stage.load(index, layer)?;
        self.gather(&extents, Source::Block(&mut block, None, tap))?;
        block_on(extents.scales(&self.device, &format!("{tap} in layer {index}"), percentile))
    }

    /// The tap of the inputs of the layer that writes to the stream.
    fn writers_tap(&self, layer: &Layer) -> &'static str {
        match &layer.mixer {
            Mixer::Mamba2(_) if self.rotation.out_proj.is_some() => "rotated",
            Mixer::Mamba2(_) => "gated_norm",
            Mixer::Attention(_) => "attention",
            Mixer::Mlp(_) if self.rotation.down_proj.is_some() => "rotated",
            Mixer::Mlp(_) => "up_proj",
        }
    }

    /// Passes every stream through the block.
    ///
    /// # Errors
    /// As running a plan.
    pub(crate) fn advance(&mut self, index: usize, layer: &Layer, original: &Layer) -> Result<()> {
        through(&self.stage, &mut self.streams, index, layer, &())?;
        let passed = self.ahead.take() == Some(index);
        match &mut self.originals {
            Some(streams) if !passed => through(&self.stage, streams, index, original, &()),
            _ => Ok(()),
        }
    }

    /// The means of one site over all sequences.
    fn means(
        &mut self,
        rounding: &Rounding,
        width: usize,
        writer: Option<&Linear>,
        source: Source<'_>,
    ) -> Result<Means> {
        let tokens = self.stage.pass_tokens();
        let moments = Moments::new(&self.device, width, rounding, tokens, self.originals.is_some(), writer)?;
        self.gather(&moments, source)?;
        Ok(moments.means(self.streams.tokens()))
    }

    /// Shows one site's activations over all sequences to `collect`.
    fn gather(&mut self, collect: &dyn Collect, mut source: Source<'_>) -> Result<()> {
        let tokens = self.stage.pass_tokens();
        let with_original = collect.with_original();
        let mut passes: HashMap<usize, (StagePass, Option<StagePass>)> = HashMap::new();
        for sequence in 0..self.streams.sequences() {
            let stream = self.streams.read(sequence)?;
            let originals = self.originals.as_mut().filter(|_| with_original);
            let mut original = originals.map(|streams| streams.read(sequence)).transpose()?;
            if let Source::Block(block, before, _) = &mut source {
                self.stage.reset(block)?;
                before.as_mut().map_or(Ok(()), |b| self.stage.reset(b))?;
            }
            let length = self.streams.length(sequence);
            for first_token in (0..length).step_by(tokens) {
                let n = tokens.min(length - first_token);
                let (own, first) = match passes.entry(n) {
                    Entry::Occupied(pass) => pass.into_mut(),
                    Entry::Vacant(none) => none.insert(self.record(&source, n, collect)?),
                };
                let (block, before) = match &mut source {
                    Source::Norm(_) => (None, None),
                    Source::Block(block, before, _) => (Some(&mut **block), before.as_deref_mut()),
                };
                // The original's first: its activations are kept for the other's.
                if let (Some(first), Some(original)) = (first, &mut original) {
                    let passes = before.is_some();
                    self.stage.run(first, before, original, first_token)?;
                    if passes {
                        block_on(self.stage.take(first, original, first_token))?;
                    }
                }
                self.stage.run(own, block, &stream, first_token)?;
            }
            if let (Some(streams), Some(original)) = (&mut self.originals, &original) {
                streams.write(sequence, original)?;
            }
        }
        Ok(())
    }

    /// The passes of both models over `n` tokens.
    fn record(&self, source: &Source<'_>, n: usize, collect: &dyn Collect) -> Result<(StagePass, Option<StagePass>)> {
        let both = self.originals.is_some() && collect.with_original();
        let at = |name: &str, tap: &str| name.rsplit('.').next() == Some(tap);
        match source {
            Source::Norm(weight) => {
                let mut add = |plan: &mut Plan, _: String, x: &DeviceTensor| collect.add(plan, x);
                let mut keep = |plan: &mut Plan, _: String, x: &DeviceTensor| collect.keep(plan, x);
                let own = self.stage.record_norm(weight, n, &mut add)?;
                let first = both.then(|| self.stage.record_norm(weight, n, &mut keep)).transpose()?;
                Ok((own, first))
            }
            Source::Block(block, before, tap) => {
                let mut add = |plan: &mut Plan, name: String, x: &DeviceTensor| match at(&name, tap) {
                    true => collect.add(plan, x),
                    false => Ok(()),
                };
                let mut keep = |plan: &mut Plan, name: String, x: &DeviceTensor| match at(&name, tap) {
                    true => collect.keep(plan, x),
                    false => Ok(()),
                };
                let own = self.stage.record_inputs(block, n, &mut add)?;
                let before = before.as_ref().filter(|_| both);
                let first = before.map(|before| self.stage.record(before, n, &mut keep)).transpose()?;
                Ok((own, first))
            }
        }
    }
}

/// Passes every stream through a block.
///
/// # Errors
/// As running a plan.
pub(super) fn through(
    stage: &Stage,
    streams: &mut Spool,
    index: usize,
    layer: &Layer,
    watch: &dyn Watch,
) -> Result<()> {
    let mut block = stage.load(index, layer)?;
    let mut passes: HashMap<usize, StagePass> = HashMap::new();
    let look: &mut Look<'_> = &mut |plan, name, x| watch.look(plan, &name, x);
    for sequence in 0..streams.sequences() {
        let mut stream = streams.read(sequence)?;
        let length = streams.length(sequence);
        stage.reset(&mut block)?;
        for first in (0..length).step_by(stage.pass_tokens()) {
            let n = stage.pass_tokens().min(length - first);
            let pass = match passes.entry(n) {
                Entry::Occupied(pass) => pass.into_mut(),
                Entry::Vacant(none) => none.insert(stage.record(&block, n, look)?),
            };
            stage.run(pass, Some(&mut block), &stream, first)?;
            block_on(stage.take(pass, &mut stream, first))?;
        }
        streams.write(sequence, &stream)?;
        watch.passed(length)?;
    }
    Ok(())
}
