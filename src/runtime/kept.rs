//! Sequences as they were at some token: others that begin with the same tokens go on from there. A state of a Mamba-2 block has no way back
//! to an earlier token, so a sequence is kept whole, and goes on behind its last token only.

use super::engine::Engine;
use super::state::{State, StateSizes};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::model::ModelConfig;
use crate::tensor::DType;

/// A sequence as it was; of no tokens where there is none.
pub(super) struct Kept {
    state: State,
    /// Of its last token, `[1, vocab]`.
    logits: DeviceTensor,
}

/// Bytes of a sequence that is kept, of which `state` is such a one.
pub(super) fn kept_bytes(config: &ModelConfig, state: &State) -> usize {
    state.bytes() + 4 * config.vocab_size
}

impl Kept {
    /// With a state of its own, so that it fits wherever the engine's does: a tensor of all might be larger than a binding.
    pub(super) fn new(engine: &Engine) -> Result<Self> {
        let (device, config, options) = (&engine.device, &engine.config, engine.options);
        let state = State::new(device, config, StateSizes::one(options.context), options.state, options.kv)?;
        Ok(Self { state, logits: device.alloc(DType::F32, [1, config.vocab_size])? })
    }

    pub(super) fn bytes(&self) -> usize {
        self.state.bytes() + self.logits.bytes()
    }
}

impl Engine {
    /// Sequences that there is room to keep ([`super::EngineOptions::kept`]).
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Copies the sequence that was fed, with its last logits, to `place`; what was kept there is gone. int8 states are rounded before.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such place, or the sequence has no token yet; as running a plan.
    pub fn keep(&mut self, place: usize) -> Result<()> {
        self.begun()?;
        self.kept_at(place)?;
        self.round_recent()?;
        let tokens = self.state.tokens;
        self.copy_to(place, (&self.state, 0), &self.last_logits()?, tokens)?;
        self.kept[place].state.tokens = tokens;
        Ok(())
    }

    /// As [`Engine::keep`], of the sequence of `slot`. int8 states of all slots are rounded before.
    ///
    /// # Errors
    /// As that, and [`Error::Argument`] for a slot without a sequence that goes on.
    pub fn keep_of(&mut self, slot: usize, place: usize) -> Result<()> {
        let tokens = self.batch()?.going_on(slot)?;
        self.kept_at(place)?;
        self.round_each()?;
        let batch = self.batch()?;
        self.copy_to(place, (&batch.state, slot), &batch.logits.row(slot)?, tokens)?;
        self.kept[place].state.tokens = tokens;
        Ok(())
    }

    /// Copies a sequence of so many tokens, which is that of a number in `state`, and the `logits` of its last.
    fn copy_to(
        &self,
        place: usize,
        (state, number): (&State, usize),
        logits: &DeviceTensor,
        tokens: usize,
    ) -> Result<()> {
        let (kept, mut plan) = (self.kept_at(place)?, Plan::new(&self.device));
        state.copy(number, &kept.state, 0, tokens, &mut plan)?;
        plan.copy(logits, &kept.logits)?;
        plan.record()?.run()
    }

    /// The reverse of [`Engine::keep`]: the sequence of `place` is the one that is fed next, and [`Engine::logits`] are those of its last token.
    /// It also stays where it is. The sampler goes on as if this had not been.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such place, or nothing is kept there; as running a plan.
    pub fn recall(&mut self, place: usize) -> Result<()> {
        let kept = self.kept_at(place)?;
        let tokens = kept.state.tokens;
        if tokens == 0 {
            return Err(Error::argument("recall", format!("nothing is kept at place {place}")));
        }
        let mut plan = Plan::new(&self.device);
        kept.state.copy(0, &self.state, 0, tokens, &mut plan)?;
        plan.copy(&kept.logits, &self.last_logits()?)?;
        plan.record()?.run()?;
        self.may_take_long();
        self.state.set_tokens(&self.device, tokens)
    }

    fn kept_at(&self, place: usize) -> Result<&Kept> {
        let reason = || Error::argument("kept", format!("place {place} of {}", self.kept.len()));
        self.kept.get(place).ok_or_else(reason)
    }
}
