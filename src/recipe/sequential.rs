//! GPTQ block by block: each block is calibrated on what the quantized blocks before it put out.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use pollster::block_on;

use super::{Forms, Module};
use crate::calibrate::{Means, Moments, Spool};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::model::{Activations, Layer, Linear, Mixer, ModelConfig, Names, OnlineRotation};
use crate::quantize::{GptqOptions, Prepared, gptq, searched};
use crate::runtime::{LoadedBlock, Look, Stage, StagePass};

/// Tokens of a pass: the sums of this many are f32, the sums of passes are compensated.
const PASS: usize = 512;
/// Candidates for the scales of an embedding, whose rows no moments weigh.
const EMBEDDING_STEPS: usize = 64;

/// Quantizes a model's parts in the order they run.
pub(crate) struct Sequential {
    device: Device,
    config: ModelConfig,
    rotation: OnlineRotation,
    forms: Forms,
    options: GptqOptions,
    stage: Stage,
    /// Streams of the model as quantized so far.
    streams: Spool,
    /// The original model's, where targets are asymmetric.
    originals: Option<(Stage, Spool)>,
    embedding: Linear,
    next: usize,
}

/// What a site's activations come from.
enum Source<'a> {
    /// The norm of this weight over the stream.
    Norm(&'a [f32]),
    /// The tap of this name within a block of the model as quantized so far, and of the original.
    Block(&'a mut LoadedBlock, Option<&'a mut LoadedBlock>, &'static str),
}

impl Sequential {
    /// Embeds `sequences` with the quantized embedding (and the original one).
    ///
    /// # Errors
    /// As [`searched`] and [`Stage::new`]; [`Error::Argument`] for a token outside the vocabulary.
    pub(crate) fn new(
        device: &Device,
        config: &ModelConfig,
        rotation: OnlineRotation,
        embedding: &Linear,
        forms: Forms,
        options: GptqOptions,
        sequences: &[Vec<u32>],
    ) -> Result<Self> {
        let module = forms.module(&Names::default().embedding())?;
        let quantized = match &module.weights {
            Some(format) => Linear::Quantized(searched(embedding, format, Activations::Float, EMBEDDING_STEPS)?),
            None => block_on(forms.nearest(device, &module.name, embedding.clone()))?,
        };
        let streams = Spool::embed(sequences, &quantized)?;
        let stage = || Stage::new(device, config, rotation, streams.longest(), PASS);
        let originals = match options.asymmetric {
            true => Some((stage()?, Spool::embed(sequences, embedding)?)),
            false => None,
        };
        Ok(Self {
            device: device.clone(),
            config: config.clone(),
            rotation,
            forms,
            options,
            stage: stage()?,
            streams,
            originals,
            embedding: quantized,
            next: 0,
        })
    }

    /// The quantized embedding.
    pub(crate) fn embedding(&self) -> Linear {
        self.embedding.clone()
    }

    /// Quantizes block `index`, which must be the one after the last.
    ///
    /// # Errors
    /// As [`gptq`] and [`Prepared::new`]; [`Error::Argument`] when blocks come out of order.
    pub(crate) fn layer(&mut self, index: usize, original: Layer) -> Result<Layer> {
        if index != self.next {
            let what = format!("block {index} after {} blocks: calibration goes through them in order", self.next);
            return Err(Error::argument("calibration", what));
        }
        let mut layer = original.clone();
        let (first, last) = match &layer.mixer {
            Mixer::Mamba2(_) => (vec!["in_proj"], ("out_proj", "gated_norm", self.rotation.out_proj)),
            Mixer::Attention(_) => (vec!["q_proj", "k_proj", "v_proj"], ("o_proj", "attention", None)),
            Mixer::Mlp(_) => (vec!["up_proj"], ("down_proj", "up_proj", self.rotation.down_proj)),
        };
        if let Some(form) = self.quantized(index, first[0])? {
            let means = self.gather(form.activations, form.cols, Source::Norm(&original.norm))?;
            self.fill(index, &mut layer, &first, &means)?;
        }
        let (part, tap, rotated) = last;
        let tap = if rotated.is_some() { "rotated" } else { tap };
        if let Some(form) = self.quantized(index, part)? {
            let mut block = self.stage.load(index, &layer)?;
            let mut before = self.originals.as_ref().map(|(s, _)| s.load(index, &original)).transpose()?;
            let source = Source::Block(&mut block, before.as_mut(), tap);
            let means = self.gather(form.activations, form.cols, source)?;
            self.fill(index, &mut layer, &[part], &means)?;
        }
        self.advance(index, &layer, &original)?;
        self.next += 1;
        Ok(layer)
    }

    /// Quantizes the head behind the final norm of this weight.
    ///
    /// # Errors
    /// As [`Sequential::layer`].
    pub(crate) fn head(&mut self, head: &Linear, norm: &[f32]) -> Result<Linear> {
        if self.next != self.config.blocks.len() {
            let what = format!("the head after {} of {} blocks", self.next, self.config.blocks.len());
            return Err(Error::argument("calibration", what));
        }
        let name = Names::default().head();
        let module = self.forms.module(name)?.clone();
        if module.weights.is_none() {
            return block_on(self.forms.nearest(&self.device, name, head.clone()));
        }
        let means = self.gather(module.activations, module.cols, Source::Norm(norm))?;
        let prepared = Prepared::new(name, &means.own, means.cross.as_deref(), &self.options)?;
        self.one(&module, head, &prepared)
    }

    /// The module of a part, if it is to be quantized.
    fn quantized(&self, index: usize, part: &str) -> Result<Option<Module>> {
        Ok(Some(self.forms.part(index, part)?.clone()).filter(|m| m.weights.is_some()))
    }

    /// Quantizes the parts of a block that share an input.
    fn fill(&self, index: usize, layer: &mut Layer, parts: &[&str], means: &Means) -> Result<()> {
        let site = format!("input of {} in layer {index}", parts.join(", "));
        let prepared = Prepared::new(&site, &means.own, means.cross.as_deref(), &self.options)?;
        for (part, linear) in layer.linears_mut() {
            if parts.contains(&part) {
                *linear = self.one(self.forms.part(index, part)?, linear, &prepared)?;
            }
        }
        Ok(())
    }

    fn one(&self, module: &Module, linear: &Linear, prepared: &Prepared) -> Result<Linear> {
        let Some(format) = &module.weights else {
            return block_on(self.forms.nearest(&self.device, &module.name, linear.clone()));
        };
        let Linear::Float(weight) = linear else {
            return Err(Error::argument(format!("`{}`", module.name), "is quantized already"));
        };
        let weight = weight.to_f32()?;
        let quantized = gptq(&weight, prepared, format, module.activations, &self.options)?;
        let loss = prepared.relative_loss(&weight, &quantized.dequantize()?);
        log::debug!("{}: {} bits, {loss:.3e} of the output's energy lost", module.name, format.bits);
        Ok(Linear::Quantized(quantized))
    }

    /// The means of one site over all sequences.
    fn gather(&mut self, activations: Activations, width: usize, mut source: Source<'_>) -> Result<Means> {
        let tokens = self.stage.pass_tokens();
        let moments = Moments::new(&self.device, width, activations, tokens, self.originals.is_some())?;
        let mut passes: HashMap<usize, (StagePass, Option<StagePass>)> = HashMap::new();
        for sequence in 0..self.streams.sequences() {
            let stream = self.streams.read(sequence)?;
            let original = self.originals.as_mut().map(|(_, s)| s.read(sequence)).transpose()?;
            if let Source::Block(block, before, _) = &mut source {
                self.stage.reset(block)?;
                before.as_mut().map_or(Ok(()), |b| self.stage.reset(b))?;
            }
            let width = self.config.hidden_size;
            for (i, piece) in stream.chunks(tokens * width).enumerate() {
                let n = piece.len() / width;
                let (own, first) = match passes.entry(n) {
                    Entry::Occupied(pass) => pass.into_mut(),
                    Entry::Vacant(none) => none.insert(self.record(&source, n, &moments)?),
                };
                let (block, before) = match &mut source {
                    Source::Norm(_) => (None, None),
                    Source::Block(block, before, _) => (Some(&mut **block), before.as_deref_mut()),
                };
                // The original's first: its activations are kept for the other's.
                if let (Some((stage, _)), Some(first), Some(original)) = (&self.originals, first, &original) {
                    stage.run(first, before, &original[i * tokens * width..][..piece.len()])?;
                }
                self.stage.run(own, block, piece)?;
            }
        }
        block_on(moments.read(self.streams.tokens()))
    }

    /// The passes of both models over `n` tokens.
    fn record(&self, source: &Source<'_>, n: usize, moments: &Moments) -> Result<(StagePass, Option<StagePass>)> {
        let at = |name: &str, tap: &str| name.rsplit('.').next() == Some(tap);
        match source {
            Source::Norm(weight) => {
                let mut add = |plan: &mut Plan, _: String, x: &DeviceTensor| moments.add(plan, x);
                let mut keep = |plan: &mut Plan, _: String, x: &DeviceTensor| moments.keep(plan, x);
                let own = self.stage.record_norm(weight, n, &mut add)?;
                let first = self.originals.as_ref().map(|(s, _)| s.record_norm(weight, n, &mut keep)).transpose()?;
                Ok((own, first))
            }
            Source::Block(block, before, tap) => {
                let mut add = |plan: &mut Plan, name: String, x: &DeviceTensor| match at(&name, tap) {
                    true => moments.add(plan, x),
                    false => Ok(()),
                };
                let mut keep = |plan: &mut Plan, name: String, x: &DeviceTensor| match at(&name, tap) {
                    true => moments.keep(plan, x),
                    false => Ok(()),
                };
                let own = self.stage.record(block, n, &mut add)?;
                let first = match (&self.originals, before) {
                    (Some((stage, _)), Some(before)) => Some(stage.record(before, n, &mut keep)?),
                    _ => None,
                };
                Ok((own, first))
            }
        }
    }

    /// Passes every stream through the block.
    fn advance(&mut self, index: usize, layer: &Layer, original: &Layer) -> Result<()> {
        through(&self.stage, &mut self.streams, index, layer)?;
        match &mut self.originals {
            Some((stage, streams)) => through(stage, streams, index, original),
            None => Ok(()),
        }
    }
}

/// Passes every stream through a block.
fn through(stage: &Stage, streams: &mut Spool, index: usize, layer: &Layer) -> Result<()> {
    let mut block = stage.load(index, layer)?;
    let mut passes: HashMap<usize, StagePass> = HashMap::new();
    let look: &mut Look<'_> = &mut |_, _, _| Ok(());
    for sequence in 0..streams.sequences() {
        let mut stream = streams.read(sequence)?;
        let width = stage.width();
        stage.reset(&mut block)?;
        for piece in stream.chunks_mut(stage.pass_tokens() * width) {
            let n = piece.len() / width;
            let pass = match passes.entry(n) {
                Entry::Occupied(pass) => pass.into_mut(),
                Entry::Vacant(none) => none.insert(stage.record(&block, n, look)?),
            };
            stage.run(pass, Some(&mut block), piece)?;
            piece.copy_from_slice(&block_on(stage.read(pass))?);
        }
        streams.write(sequence, &stream)?;
    }
    Ok(())
}
