//! One block of a model on given streams: what calibration runs, block by block.

use super::forward::Forward;
use super::scratch::{ScanFormat, Scratch};
use super::state::{State, StateFormat, StateSizes};
use super::taps::{Look, Taps};
use super::weights::DeviceLayer;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan, Recording};
use crate::kernels::KvFormat;
use crate::model::{Layer, ModelConfig, OnlineRotation};
use crate::tensor::DType;

/// Runs single blocks, one sequence at a time, in passes of up to `pass_tokens`.
pub struct Stage {
    device: Device,
    config: ModelConfig,
    scratch: Scratch,
    pass_tokens: usize,
    context: usize,
}

/// A block on the device with its state for one sequence.
pub struct LoadedBlock {
    index: usize,
    layer: DeviceLayer,
    state: State,
}

/// The residual stream of a sequence between two blocks, `[tokens, hidden]` f32.
pub enum Stream {
    /// In host memory.
    Host(Vec<f32>),
    /// On the device, where no pass waits for it.
    Device(DeviceTensor),
}

/// A pass recorded for a number of tokens.
pub struct StagePass {
    tokens: usize,
    recording: Recording,
}

impl Stage {
    /// Allocates activations. `context`: tokens of the longest sequence; `pass_tokens`: of a pass.
    ///
    /// # Errors
    /// [`Error::Argument`] when either is 0, or for sizes of no model; [`Error::LimitExceeded`] when a buffer does not fit the adapter.
    pub fn new(
        device: &Device,
        config: &ModelConfig,
        rotation: OnlineRotation,
        context: usize,
        pass_tokens: usize,
    ) -> Result<Self> {
        if context == 0 || pass_tokens == 0 {
            return Err(Error::argument("stage", "context and pass_tokens must be at least 1"));
        }
        config.countable()?;
        let pass_tokens = pass_tokens.min(context);
        // Blocks come later, with groups of a word at the smallest.
        let widest = config.d_inner().max(config.intermediate_size).max(config.hidden_size);
        let groups = widest.max(config.attention_heads * config.head_dim).div_ceil(4);
        let scratch = Scratch::new(device, config, rotation, pass_tokens, groups, ScanFormat::F32)?;
        Ok(Self { device: device.clone(), config: config.clone(), scratch, pass_tokens, context })
    }

    /// Most tokens of a pass.
    #[must_use]
    pub fn pass_tokens(&self) -> usize {
        self.pass_tokens
    }

    /// Puts block `index` on the device, at the beginning of a sequence.
    ///
    /// # Errors
    /// As [`Device::upload`].
    pub fn load(&self, index: usize, layer: &Layer) -> Result<LoadedBlock> {
        let kind = self.config.blocks.get(index).copied();
        let kind = kind.ok_or_else(|| Error::argument("stage", format!("no block {index}")))?;
        let one = ModelConfig { blocks: vec![kind], ..self.config.clone() };
        let mut layer = DeviceLayer::upload(&self.device, index, layer)?;
        layer.mixer.cut(&self.device, self.pass_tokens)?;
        Ok(LoadedBlock {
            index,
            layer,
            state: State::new(&self.device, &one, StateSizes::one(self.context), StateFormat::F32, KvFormat::F32)?,
        })
    }

    /// Records a pass of `tokens` through `block`. `look` sees every op's result as `layer.{index}.{op}`, and may add
    /// launches that read it.
    ///
    /// # Errors
    /// As building a plan.
    pub fn record(&self, block: &LoadedBlock, tokens: usize, look: &mut Look<'_>) -> Result<StagePass> {
        self.record_with(block, tokens, Taps::new(look))
    }

    /// As [`Stage::record`] up to the inputs of the layer that writes to the stream, which stays as it is.
    ///
    /// # Errors
    /// As building a plan.
    pub fn record_inputs(&self, block: &LoadedBlock, tokens: usize, look: &mut Look<'_>) -> Result<StagePass> {
        self.record_with(block, tokens, Taps::of_inputs(look))
    }

    fn record_with(&self, block: &LoadedBlock, tokens: usize, mut taps: Taps<'_>) -> Result<StagePass> {
        let forward = Forward {
            config: &self.config,
            state: &block.state,
            scratch: &self.scratch,
            dt_limit: self.config.dt_limit,
            tokens,
            decode: tokens == 1,
            few: false,
            split_k: None,
        };
        let mut plan = Plan::new(&self.device);
        taps.stream(&mut plan, block.index, &forward.stream()?)?;
        forward.block(&mut plan, &block.layer, &block.state.blocks[0], &mut taps)?;
        Ok(StagePass { tokens, recording: plan.record()? })
    }

    /// Records the norm of `weight` `[hidden]` alone over `tokens`; `look` sees it as `norm_f`.
    ///
    /// # Errors
    /// As building a plan.
    pub fn record_norm(&self, weight: &[f32], tokens: usize, look: &mut Look<'_>) -> Result<StagePass> {
        let weight = self.device.upload_f32([weight.len()], weight)?;
        let stream = self.scratch.hidden.view(DType::F32, [tokens, self.config.hidden_size])?;
        let out = self.scratch.normed.view(DType::F32, stream.shape)?;
        let mut plan = Plan::new(&self.device);
        crate::kernels::rms_norm(&mut plan, &stream, &weight, &out, self.config.norm_eps)?;
        Taps::new(look).end(&mut plan, "norm_f", &out)?;
        Ok(StagePass { tokens, recording: plan.record()? })
    }

    /// Starts a new sequence.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn reset(&self, block: &mut LoadedBlock) -> Result<()> {
        block.state.reset(&self.device)
    }

    /// Runs a recorded pass on the tokens of `stream` from `first` on, which are the next ones.
    ///
    /// # Errors
    /// [`Error::Argument`] when the stream ends before, or the block has no room for more tokens; as [`Device::write`].
    pub fn run(&self, pass: &StagePass, block: Option<&mut LoadedBlock>, stream: &Stream, first: usize) -> Result<()> {
        if let Some(LoadedBlock { state, .. }) = &block
            && pass.tokens > state.context.saturating_sub(state.tokens)
        {
            let reason = format!("{} tokens behind {} in a context of {}", pass.tokens, state.tokens, state.context);
            return Err(Error::argument("stage", reason));
        }
        let own = self.stream(pass.tokens)?;
        match stream {
            Stream::Host(values) => {
                let part = self.part(pass, first);
                let values = values.get(part.clone()).ok_or_else(|| ends(values.len(), &part))?;
                self.device.write(&own, bytemuck::cast_slice(values))?;
            }
            Stream::Device(all) => self.copy(&all.rows(first, pass.tokens)?, &own)?,
        }
        pass.recording.run_paced()?;
        if let Some(block) = block {
            block.state.advance(&self.device, pass.tokens)?;
        }
        Ok(())
    }

    /// Puts what the last pass left in the place of the tokens of `stream` from `first` on.
    ///
    /// # Errors
    /// As [`Stage::run`].
    pub async fn take(&self, pass: &StagePass, stream: &mut Stream, first: usize) -> Result<()> {
        let own = self.stream(pass.tokens)?;
        match stream {
            Stream::Host(values) => {
                let (part, length) = (self.part(pass, first), values.len());
                let values = values.get_mut(part.clone()).ok_or_else(|| ends(length, &part))?;
                values.copy_from_slice(&self.device.read_f32(&own).await?);
                Ok(())
            }
            Stream::Device(all) => self.copy(&own, &all.rows(first, pass.tokens)?),
        }
    }

    /// The values of a pass's tokens.
    fn part(&self, pass: &StagePass, first: usize) -> std::ops::Range<usize> {
        let width = self.config.hidden_size;
        first.saturating_mul(width)..first.saturating_add(pass.tokens).saturating_mul(width)
    }

    fn copy(&self, from: &DeviceTensor, to: &DeviceTensor) -> Result<()> {
        let mut plan = Plan::new(&self.device);
        plan.copy(from, to)?;
        plan.record()?.run()
    }

    fn stream(&self, tokens: usize) -> Result<DeviceTensor> {
        self.scratch.hidden.view(DType::F32, [tokens, self.config.hidden_size])
    }
}

fn ends(length: usize, part: &std::ops::Range<usize>) -> Error {
    Error::argument("stage", format!("values {part:?} of a stream of {length}"))
}
