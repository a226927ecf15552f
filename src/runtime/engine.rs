//! A model on a device: prefill of any length, decode, and the logits of either.

use std::collections::HashMap;

use super::forward::Forward;
use super::scratch::Scratch;
use super::state::{State, StateFormat};
use super::taps::Taps;
use super::weights::{Slot, Weights};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Need, Plan, Recording};
use crate::kernels::{self, KvFormat, Sampling};
use crate::model::{Linear, ModelConfig, ModelSource, OnlineRotation};
use crate::tensor::DType;

/// Sizes and switches of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Most tokens a sequence may have: the length of the key/value caches.
    pub context: usize,
    /// Most tokens of one pass; longer prompts are cut, the state is carried.
    pub pass_tokens: usize,
    /// Clamp dt to `time_step_min` in prefill only, as transformers does (a known fault, kept for comparisons).
    pub transformers_dt_clamp: bool,
    /// How states of Mamba-2 blocks are kept between calls.
    pub state: StateFormat,
    /// What key/value caches hold. Keys and values are rounded as they are appended, also those of the same call.
    pub kv: KvFormat,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            context: 4096,
            pass_tokens: 512,
            transformers_dt_clamp: false,
            state: StateFormat::F32,
            kv: KvFormat::F32,
        }
    }
}

/// Bytes of state and activations that an engine allocates besides the weights; `groups`: most scales that a token's
/// int8 activations have anywhere.
///
/// # Errors
/// As [`Engine::new`].
pub fn working_bytes(
    config: &ModelConfig,
    rotation: OnlineRotation,
    options: EngineOptions,
    groups: usize,
) -> Result<u64> {
    // Host memory that nothing touches is only promised, so allocating is the cheapest way to count.
    let device = Device::Cpu;
    let state = State::new(&device, config, options.context, options.state, options.kv)?;
    let scratch = Scratch::new(&device, config, rotation, options.pass_tokens.min(options.context), groups)?;
    Ok((state.bytes() + scratch.bytes()) as u64)
}

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// The most likely one.
    Greedy,
    /// Drawn.
    Sample(Sampling),
}

/// Which logits a pass ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Logits {
    None,
    Last,
    All,
}

/// A model with its state for one sequence.
pub struct Engine {
    pub(super) device: Device,
    pub(super) config: ModelConfig,
    pub(super) options: EngineOptions,
    pub(super) weights: Weights,
    pub(super) state: State,
    pub(super) scratch: Scratch,
    /// Logits of all tokens of a pass; made when first asked for.
    all_logits: Option<DeviceTensor>,
    passes: HashMap<(usize, Logits), Recording>,
    pub(super) choosers: Vec<(Next, Recording)>,
    /// Tokens that the state holds beyond those that anybody was told of.
    pub(super) overrun: usize,
    /// Rounds int8 states; made when first needed.
    rounding: Option<Recording>,
}

impl Engine {
    /// Uploads a model and allocates its state.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when a tensor does not fit the adapter, and whatever reading the source gives.
    pub fn new(device: &Device, source: &dyn ModelSource, options: EngineOptions) -> Result<Self> {
        let config = source.config().clone();
        if options.context == 0 || options.pass_tokens == 0 {
            return Err(Error::argument("engine", "context and pass_tokens must be at least 1"));
        }
        let options = EngineOptions { pass_tokens: options.pass_tokens.min(options.context), ..options };
        let weights = Weights::upload(device, source)?;
        let groups = weights.activation_groups();
        Ok(Self {
            weights,
            state: State::new(device, &config, options.context, options.state, options.kv)?,
            scratch: Scratch::new(device, &config, source.rotation(), options.pass_tokens, groups)?,
            device: device.clone(),
            config,
            options,
            all_logits: None,
            passes: HashMap::new(),
            choosers: Vec::new(),
            overrun: 0,
            rounding: None,
        })
    }

    /// The model's configuration.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The device it runs on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of the weights on the device.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes() as u64
    }

    /// Bytes of state and activations on the device, logits of all tokens of a pass aside.
    #[must_use]
    pub fn working_bytes(&self) -> u64 {
        (self.state.bytes() + self.scratch.bytes()) as u64
    }

    /// The sequence's state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Tokens processed since the last reset.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.state.tokens
    }

    /// Puts another linear layer (or embedding) in the place of one; shapes must be the same.
    ///
    /// # Errors
    /// [`Error::Argument`] for a place that the model does not have; as uploading.
    pub fn replace(&mut self, slot: Slot<'_>, linear: &Linear) -> Result<()> {
        // Recorded passes hold on to the old weight.
        self.passes.clear();
        self.weights.replace(&self.device, slot, linear)
    }

    /// Starts a new sequence.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn reset(&mut self) -> Result<()> {
        self.overrun = 0;
        self.state.reset(&self.device)
    }

    /// Processes tokens; the logits of the last are then ready for [`Engine::logits`] and [`Engine::choose`].
    /// One token is a decode step.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no token, an id is not in the vocabulary, or the context is full.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        let pieces: Vec<&[u32]> = tokens.chunks(self.options.pass_tokens).collect();
        for (i, piece) in pieces.iter().enumerate() {
            self.device.write(&self.scratch.ids.view(DType::U32, [piece.len()])?, piece)?;
            let logits = if i + 1 == pieces.len() { Logits::Last } else { Logits::None };
            self.pass(piece.len(), logits)?;
        }
        Ok(())
    }

    /// Processes tokens and gives the logits of every one: `sink(first, logits)` with `logits` `[n, vocab]` of
    /// the tokens from `first` on, pass by pass.
    ///
    /// # Errors
    /// As [`Engine::feed`], and whatever `sink` gives.
    pub async fn feed_all(&mut self, tokens: &[u32], mut sink: impl FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        self.check(tokens)?;
        let mut first = 0;
        for piece in tokens.chunks(self.options.pass_tokens) {
            self.device.write(&self.scratch.ids.view(DType::U32, [piece.len()])?, piece)?;
            self.pass(piece.len(), Logits::All)?;
            let all = self.all_logits()?.view(DType::F32, [piece.len(), self.config.vocab_size])?;
            sink(first, &self.device.read_f32(&all).await?)?;
            first += piece.len();
        }
        Ok(())
    }

    /// Logits of the last token fed, `[vocab]`.
    ///
    /// # Errors
    /// As [`Device::read_f32`].
    pub async fn logits(&self) -> Result<Vec<f32>> {
        self.device.read_f32(&self.scratch.logits).await
    }

    /// Seeds the sampler.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn seed(&mut self, seed: u32) -> Result<()> {
        self.device.write(&self.scratch.rng, &[seed, 0])
    }

    /// Dispatches of a decode step.
    ///
    /// # Errors
    /// As building a plan.
    pub fn decode_dispatches(&self) -> Result<usize> {
        Ok(self.plan(1, Logits::Last)?.dispatches())
    }

    pub(super) fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::argument("feed", "no tokens"));
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= self.config.vocab_size) {
            return Err(Error::argument(
                "feed",
                format!("token id {id} in a vocabulary of {}", self.config.vocab_size),
            ));
        }
        self.check_room(tokens.len())
    }

    pub(super) fn pass(&mut self, tokens: usize, logits: Logits) -> Result<()> {
        if logits == Logits::All && self.all_logits.is_none() {
            let rows = self.options.pass_tokens;
            self.all_logits = Some(self.device.alloc(DType::F32, [rows, self.config.vocab_size])?);
        }
        if !self.passes.contains_key(&(tokens, logits)) {
            let recording = self.plan(tokens, logits)?.record()?;
            self.passes.insert((tokens, logits), recording);
        }
        if let Some(recording) = self.passes.get(&(tokens, logits)) {
            recording.run()?;
        }
        self.advance(tokens)
    }

    pub(super) fn advance(&mut self, tokens: usize) -> Result<()> {
        if !self.state.advance(&self.device, tokens)? {
            return Ok(());
        }
        if self.rounding.is_none() {
            self.rounding = Some(self.round()?.record()?);
        }
        if let Some(recording) = &self.rounding {
            recording.run()?;
        }
        self.state.rounded(&self.device)
    }

    fn round(&self) -> Result<Plan> {
        let mut plan = Plan::new(&self.device);
        self.state.round(&mut plan)?;
        Ok(plan)
    }

    /// Variants that prefill, decode and choosing dispatch, to be checked before they are trusted.
    ///
    /// # Errors
    /// As building a plan.
    pub fn needs(&self) -> Result<Vec<Need>> {
        let long = self.options.pass_tokens;
        let mut needs = Vec::new();
        for (tokens, logits) in [(long, Logits::None), (long.min(2), Logits::Last), (1, Logits::Last)] {
            needs.extend(self.plan(tokens, logits)?.needs());
        }
        needs.extend(self.round()?.needs());
        needs.extend(self.choice(Next::Greedy)?.needs());
        needs.extend(self.choice(Next::Sample(Sampling { temperature: 1.0, top_k: 1, top_p: 1.0 }))?.needs());
        needs.sort_unstable();
        needs.dedup();
        Ok(needs)
    }

    pub(super) fn plan(&self, tokens: usize, logits: Logits) -> Result<Plan> {
        let mut plan = Plan::new(&self.device);
        let forward = self.forward(tokens);
        let ids = self.scratch.ids.view(DType::U32, [tokens])?;
        let hidden = forward.blocks(&mut plan, &self.weights, &ids, &mut Taps::none())?;
        let vocab = self.config.vocab_size;
        match logits {
            Logits::None => {}
            Logits::Last => {
                let last = self.scratch.last.view(DType::F32, [1, self.config.hidden_size])?;
                plan.copy(&hidden.row(tokens - 1)?, &last)?;
                let logits = self.scratch.logits.view(DType::F32, [1, vocab])?;
                forward.head(&mut plan, &self.weights, &last, &logits, &mut Taps::none())?;
            }
            Logits::All => {
                let logits = self.all_logits()?.view(DType::F32, [tokens, vocab])?;
                forward.head(&mut plan, &self.weights, &hidden, &logits, &mut Taps::none())?;
            }
        }
        Ok(plan)
    }

    fn all_logits(&self) -> Result<&DeviceTensor> {
        self.all_logits.as_ref().ok_or_else(|| Error::argument("engine", "logits of all tokens were not asked for"))
    }

    pub(super) fn choice(&self, next: Next) -> Result<Plan> {
        let mut plan = Plan::new(&self.device);
        let s = &self.scratch;
        let logits = s.logits.view(DType::F32, [1, self.config.vocab_size])?;
        match next {
            Next::Greedy => kernels::argmax(&mut plan, &logits, &s.next)?,
            Next::Sample(sampling) => kernels::sample(&mut plan, &logits, &s.rng, &s.next, sampling)?,
        }
        plan.copy(&s.next, &s.ids.view(DType::U32, [1])?)?;
        Ok(plan)
    }

    pub(super) fn forward(&self, tokens: usize) -> Forward<'_> {
        let (lo, hi) = self.config.dt_limit;
        let lo = if self.options.transformers_dt_clamp && tokens > 1 { lo.max(self.config.time_step_min) } else { lo };
        Forward {
            config: &self.config,
            state: &self.state,
            scratch: &self.scratch,
            dt_limit: (lo, hi),
            tokens,
            decode: tokens == 1,
        }
    }
}
