//! Block by block: each block is calibrated on what the quantized blocks before it put out, for GPTQ, for the fixed
//! scales of static activations, or for both.

use std::thread::JoinHandle;
use std::time::Instant;

use pollster::block_on;

use super::unfinished::Unfinished;
use super::{Forms, Module};
use crate::calibrate::{Means, Rounding, Walk, parts};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Activations, Group, Layer, Linear, ModelSource, Names, Role};
use crate::quantize::{Format, GptqOptions, ModuleLoss, Prepared, aimed_gptq, searched, timed, whole_on_device};

/// Candidates for the scales of an embedding, whose rows no moments weigh.
pub(crate) const EMBEDDING_STEPS: usize = 64;

/// Quantizes a model's parts in the order they run.
pub(crate) struct Sequential {
    device: Device,
    blocks: usize,
    forms: Forms,
    /// `None`: rounded to nearest.
    options: Option<GptqOptions>,
    walk: Walk,
    embedding: Linear,
    next: usize,
    /// Rows of in_proj by what they make.
    segments: [(&'static str, usize); 5],
    losses: Vec<ModuleLoss>,
    /// What the module quantized last lost, which is only told, and so found while the next one's moments are gathered.
    pending: Option<JoinHandle<Result<ModuleLoss>>>,
    /// Where blocks that are done are kept, and may be already.
    unfinished: Option<Unfinished>,
}

/// Tokens for each of a weight's inputs from which on GPTQ was better than rounding to nearest wherever it was measured (docs/quality.md).
const ENOUGH: usize = 3;

/// Of `modules` the linear one to be quantized that has the most inputs.
fn widest(modules: &[Module]) -> Option<&Module> {
    modules.iter().filter(|m| m.role == Role::Linear && m.weights.is_some()).max_by_key(|m| m.cols)
}

/// Says so where `sequences` are too little text for the widest of `modules`: what GPTQ makes up for is then noise.
pub(crate) fn warn_of_little_text(modules: &[Module], sequences: &[Vec<u32>]) {
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    if let Some(Module { cols, .. }) = widest(modules).filter(|m| tokens < ENOUGH * m.cols) {
        log::warn!(
            "calibration: {tokens} tokens for weights of up to {cols} inputs; GPTQ may do worse than --method rtn; pass more text"
        );
    }
}

/// Refuses what GPTQ would come to late: a device that cannot bind the second moments `[n, n]` of the `n` inputs of one of `modules`.
///
/// # Errors
/// [`Error::LimitExceeded`] naming the module with the most.
pub(crate) fn moments_fit(device: &Device, modules: &[Module]) -> Result<()> {
    let Some(Module { name, cols, .. }) = widest(modules) else { return Ok(()) };
    let (need, have) = (4 * (*cols as u64).pow(2), device.max_binding_bytes());
    if need <= have {
        return Ok(());
    }
    let what = format!("the largest binding, for the second moments of `{name}`'s {cols} inputs,");
    Err(Error::LimitExceeded { adapter: device.name(), what, need, have })
}

impl Sequential {
    /// Embeds `sequences` with the quantized embedding of `source` (and the original one).
    ///
    /// # Errors
    /// As [`searched`] and [`Walk::new`].
    pub(crate) fn new(
        device: &Device,
        source: &dyn ModelSource,
        forms: Forms,
        options: Option<GptqOptions>,
        sequences: &[Vec<u32>],
        unfinished: Option<Unfinished>,
    ) -> Result<Self> {
        let config = source.config();
        let embedding = timed(|| "embedding transformed".to_owned(), || source.embedding())?;
        let module = forms.module(&Names::default().embedding())?;
        let quantized = timed(
            || "embedding quantized".to_owned(),
            || match module.weights.as_ref().filter(|_| options.is_some()) {
                Some(format) => {
                    searched(&embedding, format, module.activations, EMBEDDING_STEPS).map(Linear::Quantized)
                }
                None => block_on(forms.nearest(device, &module.name, embedding.clone())),
            },
        )?;
        let original = options.filter(|o| o.asymmetric).map(|_| &embedding);
        let walk = || Walk::new(device, config, source.rotation(), &quantized, original, sequences);
        let walk = timed(|| "sequences embedded".to_owned(), walk)?;
        let blocks = config.blocks.len();
        let (inner, states) = (config.d_inner(), config.n_groups * config.state_size);
        let segments = [("z", inner), ("x", inner), ("B", states), ("C", states), ("dt", config.mamba_heads)];
        let (device, losses) = (device.clone(), Vec::new());
        Ok(Self {
            device,
            blocks,
            forms,
            options,
            walk,
            embedding: quantized,
            next: 0,
            segments,
            losses,
            pending: None,
            unfinished,
        })
    }

    /// Forgets the blocks that were kept: the output is there.
    pub(crate) fn finished(&mut self) {
        self.unfinished.iter_mut().for_each(Unfinished::remove);
    }

    /// What each module quantized so far lost.
    pub(crate) fn losses(&self) -> &[ModuleLoss] {
        &self.losses
    }

    /// The quantized embedding.
    pub(crate) fn embedding(&self) -> Linear {
        self.embedding.clone()
    }

    /// Quantizes block `index`, which must be the one after the last, or takes what was kept of it.
    ///
    /// # Errors
    /// As [`aimed_gptq`] and [`Prepared::of`]; [`Error::Argument`] when blocks come out of order; as [`Unfinished::restore`].
    pub(crate) fn layer(&mut self, index: usize, original: Layer) -> Result<Layer> {
        if index != self.next {
            let what = format!("block {index} after {} blocks: calibration goes through them in order", self.next);
            return Err(Error::argument("calibration", what));
        }
        let (mut layer, before) = (original.clone(), self.losses.len());
        let kept = self.unfinished.as_ref().map(|u| u.restore(index, &mut layer)).transpose()?.flatten();
        let is_new = kept.is_none();
        match kept {
            Some(losses) => self.losses.extend(losses),
            None => self.quantize(index, &mut layer, &original)?,
        }
        timed(|| format!("layer {index}: all sequences through it"), || self.walk.advance(index, &layer, &original))?;
        self.settle()?;
        if let Some(unfinished) = self.unfinished.as_mut().filter(|_| is_new) {
            unfinished.keep(index, &layer, &self.losses[before..])?;
        }
        self.next += 1;
        Ok(layer)
    }

    /// Chooses the codes of block `index`, which `layer` is a copy of.
    fn quantize(&mut self, index: usize, layer: &mut Layer, original: &Layer) -> Result<()> {
        let (readers, writer) = parts(&layer.mixer);
        if let Some(form) = self.quantized(index, readers)? {
            let site = format!("norm in layer {index}");
            let rounding =
                self.rounding(&form, |walk, group, p| walk.scales_after_norm(&site, &original.norm, group, p))?;
            let means = || self.options.map(|_| self.walk.after_norm(&original.norm, rounding.clone())).transpose();
            let means = timed(|| format!("layer {index}: moments behind the norm"), means)?;
            self.fill(index, layer, readers, means, &rounding)?;
        } else {
            self.fill(index, layer, readers, None, &Activations::Float.into())?;
        }
        if let Some(form) = self.quantized(index, &[writer])? {
            let cols = form.cols;
            let rounding =
                self.rounding(&form, |walk, group, p| walk.scales_before_writer(index, layer, cols, group, p))?;
            let whole = whole_on_device(&self.device, form.rows, cols);
            let mut before = || self.walk.before_writer(index, layer, original, cols, rounding.clone(), whole);
            let means = || self.options.map(|_| before()).transpose();
            let means = timed(|| format!("layer {index}: moments before {writer}"), means)?;
            self.fill(index, layer, &[writer], means, &rounding)?;
        } else {
            self.fill(index, layer, &[writer], None, &Activations::Float.into())?;
        }
        Ok(())
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
        let rounding =
            self.rounding(&module, |walk, group, p| walk.scales_after_norm("the last norm", norm, group, p))?;
        let means = self.options.map(|_| self.walk.after_norm(norm, rounding.clone())).transpose()?;
        let prepared = self.prepared(name, means)?;
        let head = self.one(&module, head, prepared.as_ref(), &rounding)?;
        self.settle()?;
        Ok(head)
    }

    /// Of parts that share an input, the module that says how it is rounded: the first to be quantized with int8
    /// activations, with which all such agree, else the first to be quantized.
    fn quantized(&self, index: usize, parts: &[&str]) -> Result<Option<Module>> {
        let modules = parts.iter().map(|part| self.forms.part(index, part)).collect::<Result<Vec<_>>>()?;
        let any = || modules.iter().filter(|m| m.weights.is_some());
        Ok(any().find(|m| m.activations.int8()).or_else(|| any().next()).map(|m| (**m).clone()))
    }

    /// How the input of `form` is rounded; `scales` finds fixed scales of a group and a percentile.
    fn rounding(
        &mut self,
        form: &Module,
        scales: impl FnOnce(&mut Walk, Group, f64) -> Result<Vec<f32>>,
    ) -> Result<Rounding> {
        match (form.activations, form.activation_percentile) {
            (activations @ Activations::Static(group), Some(percentile)) => {
                Ok(Rounding { activations, scales: scales(&mut self.walk, group, percentile)? })
            }
            (activations, _) => Ok(activations.into()),
        }
    }

    /// What GPTQ needs to know of a site's inputs; nothing without GPTQ.
    fn prepared(&self, site: &str, means: Option<Means>) -> Result<Option<Prepared>> {
        let (Some(means), Some(options)) = (means, &self.options) else { return Ok(None) };
        let make = || Prepared::of(&self.device, site, means, options);
        timed(|| format!("{site}: moments factored"), make).map(Some)
    }

    /// Quantizes the parts of a block that share an input.
    fn fill(
        &mut self,
        index: usize,
        layer: &mut Layer,
        parts: &[&str],
        means: Option<Means>,
        rounding: &Rounding,
    ) -> Result<()> {
        let site = format!("input of {} in layer {index}", parts.join(", "));
        let prepared = self.prepared(&site, means)?;
        for (part, linear) in layer.linears_mut() {
            if parts.contains(&part) {
                let module = self.forms.part(index, part)?.clone();
                *linear = self.one(&module, linear, prepared.as_ref(), rounding)?;
            }
        }
        Ok(())
    }

    /// A weight in its form with the fixed scales of its input, where it has such.
    fn one(
        &mut self,
        module: &Module,
        linear: &Linear,
        prepared: Option<&Prepared>,
        rounding: &Rounding,
    ) -> Result<Linear> {
        let mut linear = match (prepared, self.options, &module.weights) {
            (Some(prepared), Some(options), Some(format)) => {
                self.by_gptq(module, format, linear, prepared, &options)?
            }
            _ => block_on(self.forms.nearest(&self.device, &module.name, linear.clone()))?,
        };
        if let Linear::Quantized(q) = &mut linear
            && matches!(q.activations, Activations::Static(_))
        {
            q.input_scales.clone_from(&rounding.scales);
        }
        Ok(linear)
    }

    fn by_gptq(
        &mut self,
        module: &Module,
        format: &Format,
        linear: &Linear,
        prepared: &Prepared,
        options: &GptqOptions,
    ) -> Result<Linear> {
        let Linear::Float(weight) = linear else {
            return Err(Error::argument(format!("`{}`", module.name), "is quantized already"));
        };
        let start = Instant::now();
        let weight = weight.to_f32()?;
        let (quantized, aimed) = aimed_gptq(&weight, prepared, format, module.activations, options)?;
        let mut line = ModuleLoss {
            module: module.name.clone(),
            bits: format.bits,
            group: format.group.len(module.cols),
            loss: 0.0,
            damping: prepared.damping,
            segments: Vec::new(),
            seconds: start.elapsed().as_secs_f64(),
        };
        // One at a time, in their order.
        self.settle()?;
        let (weigher, rows, coded, segments) = (prepared.weigher(), module.rows, quantized.clone(), self.segments);
        self.pending = Some(std::thread::spawn(move || {
            let lost = || weigher.losses(&aimed, &coded.dequantize()?);
            let losses = timed(|| format!("{}: losses", line.module), lost)?;
            line.loss = losses.relative(0..rows);
            let mut first = 0;
            for (name, rows) in segments.into_iter().filter(|_| line.module.ends_with("in_proj")) {
                line.segments.push((name.to_owned(), losses.relative(first..first + rows)));
                first += rows;
            }
            Ok(line)
        }));
        Ok(Linear::Quantized(quantized))
    }

    /// Waits for what the last module lost.
    fn settle(&mut self) -> Result<()> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let line = pending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        log::debug!("{line}");
        self.losses.push(line);
        Ok(())
    }
}
