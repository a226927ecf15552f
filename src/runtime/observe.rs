//! Passes that somebody looks at: what calibration over whole models runs.

use super::engine::Engine;
use super::forward::Forward;
use super::taps::{Look, Taps};
use crate::error::{Error, Result};
use crate::gpu::{Plan, Recording};
use crate::tensor::DType;

/// A pass recorded for a number of tokens, with the launches of whoever looked.
pub struct ObservedPass {
    tokens: usize,
    recording: Recording,
}

impl Engine {
    /// Records a pass of `tokens` over the embedding, all blocks and the final norm, but not the head. `look` sees
    /// every op's result, named as [`super::Tap::name`] says, and may add launches that read it. One token goes
    /// through the kernels of prefill, so that everything is there to see.
    ///
    /// # Errors
    /// [`Error::Argument`] for no tokens or more than a pass takes; as building a plan.
    pub fn record_observed(&self, tokens: usize, look: &mut Look<'_>) -> Result<ObservedPass> {
        if tokens == 0 || tokens > self.options.pass_tokens {
            let what = format!("{tokens} tokens in passes of up to {}", self.options.pass_tokens);
            return Err(Error::argument("observe", what));
        }
        let mut plan = Plan::new(&self.device);
        let mut taps = Taps::new(look);
        let forward = Forward { decode: false, ..self.forward(tokens) };
        let ids = self.scratch.ids.view(DType::U32, [tokens])?;
        let hidden = forward.blocks(&mut plan, &self.weights, &ids, &mut taps)?;
        let normed = forward.norm(&mut plan, &hidden, &self.weights.norm_f)?;
        taps.end(&mut plan, "norm_f", &normed)?;
        Ok(ObservedPass { tokens, recording: plan.record()? })
    }

    /// Runs a recorded pass on the next tokens of the sequence. It has no head: [`Engine::logits`] stay what they were.
    ///
    /// # Errors
    /// As [`Engine::feed`]; [`Error::Argument`] when the pass is for another number of tokens.
    pub fn observe(&mut self, pass: &ObservedPass, tokens: &[u32]) -> Result<()> {
        self.check(tokens)?;
        if tokens.len() != pass.tokens {
            let what = format!("{} tokens for a pass of {}", tokens.len(), pass.tokens);
            return Err(Error::argument("observe", what));
        }
        self.device.write(&self.scratch.ids.view(DType::U32, [tokens.len()])?, tokens)?;
        pass.recording.run_paced()?;
        self.state.advance_rounded(&self.device, tokens.len())
    }

    /// Most tokens of a pass.
    #[must_use]
    pub fn pass_tokens(&self) -> usize {
        self.options.pass_tokens
    }
}
