//! A model on a device: prefill of any length, decode, and the logits of either.

use std::fmt;

use super::Memory;
use super::batch::Batch;
use super::choose::Chooser;
use super::forward::{FEW_TOKENS, Forward};
use super::kept::Kept;
use super::passes::{Passes, shorter};
use super::scores::{RecordedScores, Scorer};
use super::scratch::{ScanFormat, Scratch};
use super::state::{State, StateFormat, StateSizes};
use super::taps::Taps;
use super::weights::{Slot, Weights};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Need, Plan, Recording};
use crate::kernels::{GROUPED_TOKENS, KvFormat, Sampling};
use crate::model::{Linear, ModelConfig, ModelSource};
use crate::tensor::DType;

/// Sizes and switches of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Most tokens a sequence may have: the length of the key/value caches.
    pub context: usize,
    /// Most tokens of one pass; longer prompts are cut, the state is carried.
    pub pass_tokens: usize,
    /// Sequences that decode together, beside the one that is prefilled ([`Engine::put`]); with 1 there is only that one.
    pub sequences: usize,
    /// Sequences that are kept as they were at some token, beside those that go on ([`Engine::keep`]); each takes memory as one that goes on.
    pub kept: usize,
    /// Clamp dt of tokens that are fed as transformers does in prefill ([`ModelConfig::transformers_dt_limit`]; a known fault, kept for
    /// comparisons), however many a call has. Not of tokens that the engine chose ([`Engine::follow`]), nor of several sequences' ([`Engine::feed_each`]).
    pub transformers_dt_clamp: bool,
    /// How states of Mamba-2 blocks are kept between calls.
    pub state: StateFormat,
    /// What key/value caches hold. Keys and values are rounded as they are appended, also those of the same call.
    pub kv: KvFormat,
    /// In what the scan of calls of several tokens reads x, B, C and states.
    pub scan: ScanFormat,
    /// Slices of their columns that integer products of several tokens are cut in ([`crate::kernels::SplitK`]), those into the stream and, where scratch holds so many, those out of it;
    /// `None`: as many as pay on the device. For tests and measurements.
    pub split_k: Option<usize>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            context: 4096,
            pass_tokens: 512,
            sequences: 1,
            kept: 0,
            transformers_dt_clamp: false,
            state: StateFormat::F32,
            kv: KvFormat::F32,
            scan: ScanFormat::F32,
            split_k: None,
        }
    }
}

/// Kernels count tokens and rows in 32 bits.
const COUNTED: usize = u32::MAX as usize - 1;
/// Tokens of a context whose bytes can be counted, 2^48 of them where an address has 64 bits.
const COUNTABLE: usize = if usize::BITS > 32 { (usize::MAX >> 16) + 1 } else { COUNTED };

fn within(what: &str, n: usize, most: usize) -> Result<()> {
    if n <= most { Ok(()) } else { Err(Error::argument("engine", format!("{what} of {n}, at most {most}"))) }
}

impl EngineOptions {
    /// With passes no longer than the context.
    pub(super) fn checked(self) -> Result<Self> {
        if self.context == 0 || self.pass_tokens == 0 {
            return Err(Error::argument("engine", "context and pass_tokens must be at least 1"));
        }
        within("context", self.context, COUNTABLE)?;
        within("sequences", self.sequences, COUNTED)?;
        within("kept sequences", self.kept, COUNTED)?;
        Ok(Self { pass_tokens: self.pass_tokens.min(self.context), ..self })
    }

    /// Most tokens of a pass, of one sequence or one of each.
    pub(super) fn rows(self) -> usize {
        self.pass_tokens.max(self.sequences)
    }
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logits {
    None,
    Last,
    All,
    /// All, and what they say of tokens.
    Scored,
}

/// A model with its state for one sequence, and for those that decode together.
pub struct Engine {
    pub(super) device: Device,
    pub(super) config: ModelConfig,
    pub(super) options: EngineOptions,
    pub(super) weights: Weights,
    pub(super) state: State,
    pub(super) scratch: Scratch,
    /// Logits of all tokens of a pass; made when first asked for.
    pub(super) all_logits: Option<DeviceTensor>,
    pub(super) passes: Passes,
    /// Tokens a pass at most, of those that take no longer than a submit may.
    pub(super) quick_tokens: usize,
    pub(super) chooser: Chooser,
    /// What logits say of the tokens of a pass, and of one that comes next; made when first asked for.
    pub(super) scorer: Option<Scorer>,
    pub(super) next_scores: Option<RecordedScores>,
    /// A pass over the token that was chosen.
    pub(super) following: Option<Recording>,
    /// Rounds int8 states; made when first needed.
    rounding: Option<Recording>,
    /// Of the sampler.
    pub(super) seed: u32,
    /// Sequences that decode together.
    pub(super) batch: Option<Batch>,
    /// Sequences as they were.
    pub(super) kept: Vec<Kept>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (blocks, tokens) = (self.config.blocks.len(), self.state.tokens);
        write!(f, "Engine({blocks} blocks on {:?}, {tokens} of {} tokens)", self.device, self.state.context)
    }
}

impl Engine {
    /// Uploads a model and allocates its state.
    ///
    /// # Errors
    /// [`Error::Argument`] for a weight of another shape than the configuration's, or whose numbers are no floats or no sound codes;
    /// [`Error::TooLarge`] before anything is allocated when all of it does not fit the memory that is free;
    /// [`Error::LimitExceeded`] when a tensor does not fit the adapter, [`Error::OutOfMemory`] when the driver gives no
    /// more, and whatever reading the source gives.
    pub fn new(device: &Device, source: &dyn ModelSource, options: EngineOptions) -> Result<Self> {
        let config = source.config().clone();
        let options = options.checked()?;
        if let Some(plan) = Memory::of(source, options)? {
            plan.check(device)?;
        }
        within("context", options.context, COUNTED)?;
        // Caches first: one beyond the adapter's limits is known before gigabytes were read.
        let state = State::new(device, &config, StateSizes::one(options.context), options.state, options.kv)?;
        let weights = Weights::upload(device, source)?;
        device.uploaded()?;
        let groups = weights.activation_groups();
        let scratch = Scratch::new(device, &config, source.rotation(), options.rows(), groups, options.scan)
            .map_err(|e| e.named(&format!("activations of passes of {} tokens", options.rows())))?;
        let last = scratch.logits.view(DType::F32, [1, config.vocab_size])?;
        let chooser = Chooser::new(device, last, scratch.rng.clone(), scratch.next.clone());
        let mut engine = Self {
            weights,
            state,
            scratch,
            device: device.clone(),
            config,
            options,
            all_logits: None,
            passes: Passes::default(),
            quick_tokens: options.pass_tokens,
            chooser,
            scorer: None,
            next_scores: None,
            following: None,
            rounding: None,
            seed: 0,
            batch: None,
            kept: Vec::new(),
        };
        if options.sequences > 1 {
            engine.set_sequences(options.sequences)?;
        }
        engine.kept = (0..options.kept).map(|_| Kept::new(&engine)).collect::<Result<_>>()?;
        Ok(engine)
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

    /// Most tokens a sequence may have.
    #[must_use]
    pub fn context(&self) -> usize {
        self.options.context
    }

    /// Puts another linear layer (or embedding) in the place of one; shapes must be the same.
    ///
    /// # Errors
    /// [`Error::Argument`] for a place that the model does not have, and for a weight of another shape, or whose numbers are
    /// no floats or no sound codes ([`crate::model::QuantizedLinear::check`]); as uploading. The old weight stays then.
    pub fn replace(&mut self, slot: Slot<'_>, linear: &Linear) -> Result<()> {
        // Recorded passes hold on to the old weight.
        self.passes.clear();
        self.following = None;
        self.batch.iter_mut().for_each(Batch::forget_recordings);
        // Its input may have more scales than any other's.
        let groups = match linear {
            Linear::Quantized(q) => q.activations.group().map_or(0, |group| group.count(linear.dims().1)),
            Linear::Float(_) => 0,
        };
        let scales = self.scratch.tokens() * groups;
        let room = if scales > self.scratch.scales.shape.elements() {
            Some(self.device.alloc(DType::F32, [scales])?)
        } else {
            None
        };
        self.weights.replace(&self.device, slot, linear)?;
        if let Some(room) = room {
            self.scratch.scales = room;
        }
        Ok(())
    }

    /// Starts a new sequence.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn reset(&mut self) -> Result<()> {
        self.may_take_long();
        self.state.reset(&self.device)
    }

    /// Of a new sequence passes are tried in full length again.
    pub(super) fn may_take_long(&mut self) {
        self.quick_tokens = self.options.pass_tokens;
    }

    /// Processes tokens; the logits of the last are then ready for [`Engine::logits`] and [`Engine::choose`].
    /// One token is a decode step.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no token, an id is not in the vocabulary, or the context is full.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        let mut rest = tokens;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(self.quick_tokens));
            rest = after;
            self.device.write(&self.scratch.ids.view(DType::U32, [piece.len()])?, piece)?;
            let logits = if rest.is_empty() { Logits::Last } else { Logits::None };
            self.pass(piece.len(), logits)?;
        }
        Ok(())
    }

    /// Logits of the last token fed, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::Argument`] when the sequence has no token yet; as [`Device::read_f32`].
    pub async fn logits(&self) -> Result<Vec<f32>> {
        self.begun()?;
        self.device.read_f32(&self.scratch.logits).await
    }

    /// Seeds the sampler.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn seed(&mut self, seed: u32) -> Result<()> {
        self.seed = seed;
        self.device.write(&self.scratch.rng, &[seed, 0])
    }

    /// Dispatches of a pass of so many tokens, with 1 of a decode step.
    ///
    /// # Errors
    /// As building a plan.
    pub fn dispatches(&self, tokens: usize) -> Result<usize> {
        Ok(self.plan(tokens, Logits::Last)?.dispatches())
    }

    /// Refuses what takes the logits of the last token where there is none: those that are left are another sequence's.
    pub(super) fn begun(&self) -> Result<()> {
        if self.state.tokens > 0 {
            return Ok(());
        }
        Err(Error::argument("logits", "there are none: no token was fed since the sequence began"))
    }

    pub(super) fn check(&self, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::argument("feed", "no tokens"));
        }
        self.check_ids("feed", tokens)?;
        self.room_for(tokens.len())
    }

    /// Refuses ids that are not in the vocabulary; `what` has them.
    pub(crate) fn check_ids(&self, what: &str, ids: &[u32]) -> Result<()> {
        let vocab = self.config.vocab_size;
        let beyond = ids.iter().find(|id| **id as usize >= vocab);
        let refuse = |id| Err(Error::argument(what, format!("token id {id} in a vocabulary of {vocab}")));
        beyond.map_or(Ok(()), refuse)
    }

    pub(super) fn room_for(&self, tokens: usize) -> Result<()> {
        let total = self.state.tokens + tokens;
        if total > self.state.context {
            return Err(Error::argument(
                "feed",
                format!("{total} tokens in a context of {}; pass --context {total} or more", self.state.context),
            ));
        }
        Ok(())
    }

    pub(super) fn pass(&mut self, tokens: usize, logits: Logits) -> Result<()> {
        if matches!(logits, Logits::All | Logits::Scored) {
            self.hold_all_logits()?;
        }
        if !self.passes.recall((tokens, logits)) {
            let recording = self.plan(tokens, logits)?.record()?;
            self.passes.keep((tokens, logits), recording);
        }
        if let Some(recording) = self.passes.latest() {
            if tokens == 1 {
                recording.run()?;
            } else {
                recording.run_paced()?;
                self.quick_tokens = self.quick_tokens.min(shorter(tokens, self.config.chunk_size, recording.overrun()));
            }
        }
        self.advance(tokens)
    }

    pub(super) fn advance(&mut self, tokens: usize) -> Result<()> {
        if self.state.advance(&self.device, tokens)? { self.round_recent() } else { Ok(()) }
    }

    /// Rounds int8 states with their recent tokens, where there are any.
    pub(super) fn round_recent(&mut self) -> Result<()> {
        if self.state.recent == 0 {
            return Ok(());
        }
        self.rounding()?.run()?;
        self.state.rounded(&self.device)
    }

    pub(super) fn rounding(&mut self) -> Result<&Recording> {
        let made = match self.rounding.take() {
            Some(made) => made,
            None => self.state.round(&self.device)?.record()?,
        };
        Ok(self.rounding.insert(made))
    }

    /// Variants that prefill, decode and choosing dispatch, to be checked before they are trusted.
    ///
    /// # Errors
    /// As building a plan.
    pub fn needs(&self) -> Result<Vec<Need>> {
        let mut needs: Vec<Need> = self.plans()?.iter().flat_map(Plan::needs).collect();
        needs.sort_unstable();
        needs.dedup();
        Ok(needs)
    }

    /// Plans of prefill, decode and choosing: all that generating runs.
    ///
    /// # Errors
    /// As building a plan.
    pub fn plans(&self) -> Result<Vec<Plan>> {
        let long = self.options.pass_tokens;
        // Few tokens by the number of rows of their products, and more.
        let short = [1, 2, 4, GROUPED_TOKENS, GROUPED_TOKENS + 1, FEW_TOKENS + 1];
        let short = short.map(|tokens| (long.min(tokens), Logits::Last));
        let passes = short.into_iter().chain([(long, Logits::None)]);
        let mut plans = passes.map(|(tokens, logits)| self.plan(tokens, logits)).collect::<Result<Vec<_>>>()?;
        plans.extend(self.plans_each()?);
        plans.push(self.state.round(&self.device)?);
        plans.push(self.chooser.plan(Next::Greedy)?);
        plans.push(self.chooser.score_plan()?);
        plans.push(self.chooser.plan(Next::Sample(Sampling { temperature: 1.0, top_k: 1, top_p: 1.0 }))?);
        Ok(plans)
    }

    pub(super) fn plan(&self, tokens: usize, logits: Logits) -> Result<Plan> {
        self.plan_of(&self.scratch.ids, tokens, logits, self.fed_dt_limit())
    }

    /// The pass over the `tokens` that `ids` will begin with, dt clamped to `dt_limit`.
    pub(super) fn plan_of(
        &self,
        ids: &DeviceTensor,
        tokens: usize,
        logits: Logits,
        dt_limit: (f32, f32),
    ) -> Result<Plan> {
        let forward = Forward { dt_limit, ..self.forward(tokens) };
        let chained = forward.chains(&self.device, &self.weights);
        let plan = self.built(&forward, ids, logits, chained)?;
        if tokens == 1 {
            return Ok(plan.specialised());
        }
        // What is compiled must serve prompts of other lengths, too: of few tokens those whose products have as many rows.
        let rows = forward.rows();
        let other = if chained { rows + rows / 2 + 1 - tokens } else { tokens / 2 };
        let other = self.built(&Forward { tokens: other, ..forward }, ids, logits, chained)?;
        Ok(plan.specialised_with(&other))
    }

    fn built(&self, forward: &Forward<'_>, ids: &DeviceTensor, logits: Logits, chained: bool) -> Result<Plan> {
        let (mut plan, tokens) = (Plan::new(&self.device), forward.tokens);
        let vocab = self.config.vocab_size;
        let hidden = if chained {
            let ids = ids.view(DType::U32, [forward.rows()])?;
            if let (true, Logits::Last) = (forward.decode, logits) {
                forward.chain(&mut plan, &self.weights, &ids, Some(&self.last_logits()?))?;
                return Ok(plan);
            }
            forward.chain(&mut plan, &self.weights, &ids, None)?;
            forward.stream()?
        } else {
            let ids = ids.view(DType::U32, [tokens])?;
            forward.blocks(&mut plan, &self.weights, &ids, &mut Taps::none())?
        };
        match logits {
            Logits::None => {}
            Logits::Last => {
                let last = self.scratch.last.view(DType::F32, [1, self.config.hidden_size])?;
                plan.copy(&hidden.row(tokens - 1)?, &last)?;
                forward.head(&mut plan, &self.weights, &last, &self.last_logits()?, &mut Taps::none())?;
            }
            Logits::All | Logits::Scored => {
                let all = self.all_logits()?.view(DType::F32, [tokens, vocab])?;
                forward.head(&mut plan, &self.weights, &hidden, &all, &mut Taps::none())?;
                plan.copy(&all.row(tokens - 1)?, &self.last_logits()?)?;
                if logits == Logits::Scored {
                    self.add_scores(&mut plan, &all, tokens)?;
                }
            }
        }
        Ok(plan)
    }

    /// Those that the next token is chosen from, as a row.
    pub(super) fn last_logits(&self) -> Result<DeviceTensor> {
        self.scratch.logits.view(DType::F32, [1, self.config.vocab_size])
    }

    /// Of tokens that are fed. Also of one alone: a window or prompt, which transformers takes whole, may leave one for its last pass.
    pub(super) fn fed_dt_limit(&self) -> (f32, f32) {
        let config = &self.config;
        if self.options.transformers_dt_clamp { config.transformers_dt_limit() } else { config.dt_limit }
    }

    pub(super) fn forward(&self, tokens: usize) -> Forward<'_> {
        Forward {
            config: &self.config,
            state: &self.state,
            scratch: &self.scratch,
            dt_limit: self.fed_dt_limit(),
            tokens,
            decode: tokens == 1,
            few: tokens <= FEW_TOKENS,
            split_k: self.options.split_k,
        }
    }
}
