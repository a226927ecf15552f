//! GPTQ block by block: each block is calibrated on what the quantized blocks before it put out.

use std::time::Instant;

use pollster::block_on;

use super::{Forms, Module};
use crate::calibrate::{Means, Walk, parts};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Activations, Layer, Linear, ModelConfig, Names, OnlineRotation};
use crate::quantize::{GptqOptions, ModuleLoss, Prepared, gptq, searched};

/// Candidates for the scales of an embedding, whose rows no moments weigh.
pub(crate) const EMBEDDING_STEPS: usize = 64;

/// Quantizes a model's parts in the order they run.
pub(crate) struct Sequential {
    device: Device,
    blocks: usize,
    forms: Forms,
    options: GptqOptions,
    walk: Walk,
    embedding: Linear,
    next: usize,
    /// Rows of in_proj by what they make.
    segments: [(&'static str, usize); 5],
    losses: Vec<ModuleLoss>,
}

impl Sequential {
    /// Embeds `sequences` with the quantized embedding (and the original one).
    ///
    /// # Errors
    /// As [`searched`] and [`Walk::new`].
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
        let original = options.asymmetric.then_some(embedding);
        let walk = Walk::new(device, config, rotation, &quantized, original, sequences)?;
        let blocks = config.blocks.len();
        let (inner, states) = (config.d_inner(), config.n_groups * config.state_size);
        let segments = [("z", inner), ("x", inner), ("B", states), ("C", states), ("dt", config.mamba_heads)];
        let (device, losses) = (device.clone(), Vec::new());
        Ok(Self { device, blocks, forms, options, walk, embedding: quantized, next: 0, segments, losses })
    }

    /// What each module quantized so far lost.
    pub(crate) fn losses(&self) -> &[ModuleLoss] {
        &self.losses
    }

    /// The quantized embedding.
    pub(crate) fn embedding(&self) -> Linear {
        self.embedding.clone()
    }

    /// Quantizes block `index`, which must be the one after the last.
    ///
    /// # Errors
    /// As [`gptq`] and [`Prepared::on`]; [`Error::Argument`] when blocks come out of order.
    pub(crate) fn layer(&mut self, index: usize, original: Layer) -> Result<Layer> {
        if index != self.next {
            let what = format!("block {index} after {} blocks: calibration goes through them in order", self.next);
            return Err(Error::argument("calibration", what));
        }
        let mut layer = original.clone();
        let (readers, writer) = parts(&layer.mixer);
        if let Some(form) = self.quantized(index, readers[0])? {
            let means = self.walk.after_norm(&original.norm, form.activations)?;
            self.fill(index, &mut layer, readers, &means)?;
        }
        if let Some(form) = self.quantized(index, writer)? {
            let means = self.walk.before_writer(index, &layer, &original, form.cols, form.activations)?;
            self.fill(index, &mut layer, &[writer], &means)?;
        }
        self.walk.advance(index, &layer, &original)?;
        self.next += 1;
        Ok(layer)
    }

    /// Quantizes the head behind the final norm of this weight.
    ///
    /// # Errors
    /// As [`Sequential::layer`].
    pub(crate) fn head(&mut self, head: &Linear, norm: &[f32]) -> Result<Linear> {
        if self.next != self.blocks {
            let what = format!("the head after {} of {} blocks", self.next, self.blocks);
            return Err(Error::argument("calibration", what));
        }
        let name = Names::default().head();
        let module = self.forms.module(name)?.clone();
        if module.weights.is_none() {
            return block_on(self.forms.nearest(&self.device, name, head.clone()));
        }
        let means = self.walk.after_norm(norm, module.activations)?;
        let prepared = Prepared::on(&self.device, name, &means.own, means.cross.as_deref(), &self.options)?;
        self.one(&module, head, &prepared)
    }

    /// The module of a part, if it is to be quantized.
    fn quantized(&self, index: usize, part: &str) -> Result<Option<Module>> {
        Ok(Some(self.forms.part(index, part)?.clone()).filter(|m| m.weights.is_some()))
    }

    /// Quantizes the parts of a block that share an input.
    fn fill(&mut self, index: usize, layer: &mut Layer, parts: &[&str], means: &Means) -> Result<()> {
        let site = format!("input of {} in layer {index}", parts.join(", "));
        let prepared = Prepared::on(&self.device, &site, &means.own, means.cross.as_deref(), &self.options)?;
        for (part, linear) in layer.linears_mut() {
            if parts.contains(&part) {
                let module = self.forms.part(index, part)?.clone();
                *linear = self.one(&module, linear, &prepared)?;
            }
        }
        Ok(())
    }

    fn one(&mut self, module: &Module, linear: &Linear, prepared: &Prepared) -> Result<Linear> {
        let Some(format) = &module.weights else {
            return block_on(self.forms.nearest(&self.device, &module.name, linear.clone()));
        };
        let Linear::Float(weight) = linear else {
            return Err(Error::argument(format!("`{}`", module.name), "is quantized already"));
        };
        let start = Instant::now();
        let weight = weight.to_f32()?;
        let quantized = gptq(&weight, prepared, format, module.activations, &self.options)?;
        let losses = prepared.losses(&weight, &quantized.dequantize()?)?;
        let mut first = 0;
        let segments = self.segments.iter().filter(|_| module.name.ends_with("in_proj")).map(|(name, rows)| {
            first += rows;
            ((*name).to_owned(), losses.relative(first - rows..first))
        });
        let line = ModuleLoss {
            module: module.name.clone(),
            bits: format.bits,
            group: format.group.len(module.cols),
            loss: losses.relative(0..module.rows),
            damping: prepared.damping,
            segments: segments.collect(),
            seconds: start.elapsed().as_secs_f64(),
        };
        log::debug!("{line}");
        self.losses.push(line);
        Ok(Linear::Quantized(quantized))
    }
}
