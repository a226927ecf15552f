//! What a pass costs: its launches one by one, bytes it must read, memory it holds.

use super::Memory;
use super::batch::Batch;
use super::engine::{Engine, Logits, Next};
use super::state::{BlockState, MambaState, SsmState};
use crate::error::{Error, Result};
use crate::gpu::{Launched, Recording};
use crate::tensor::DType;

/// A pass and the choice of the token after it, recorded to be timed launch by launch.
pub struct ProfiledPass {
    tokens: usize,
    pass: Recording,
    choice: Recording,
}

impl ProfiledPass {
    /// Its launches in order.
    pub fn launches(&self) -> impl Iterator<Item = Launched<'_>> {
        self.pass.launches().chain(self.choice.launches())
    }
}

impl Engine {
    /// Bytes on the device.
    #[must_use]
    pub fn memory(&self) -> Memory {
        let [states, others] = self.batch.as_ref().map_or([0; 2], Batch::bytes);
        let kv = self.state.kv_bytes() as u64 * (1 + self.sequences() as u64);
        Memory {
            weights: self.weight_bytes(),
            kv,
            state: (self.state.bytes() + states) as u64 - kv,
            kept: self.kept.iter().map(|kept| kept.bytes() as u64).sum(),
            scratch: (self.scratch.bytes() + others) as u64,
        }
    }

    /// Bytes of the weights on the device.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes() as u64
    }

    /// Bytes of states and activations on the device, logits of all tokens of a pass aside.
    #[must_use]
    pub fn working_bytes(&self) -> u64 {
        self.memory().total() - self.weight_bytes()
    }

    /// Bytes that a token after `seen` others must move: weights but for the embedding's other rows, keys and values of
    /// the tokens seen, states read and written. A token of each of several `sequences` shares the weights.
    #[must_use]
    pub fn token_bytes(&self, seen: usize, sequences: usize) -> u64 {
        let table = &self.weights.embedding;
        let weights = (self.weights.bytes() - table.bytes()) / sequences.max(1) + table.row_bytes();
        let state = self.state.blocks.iter().map(|block| match block {
            BlockState::Mamba2(MambaState { conv, ssm }) => {
                2 * conv.bytes()
                    + match ssm {
                        SsmState::F32(ssm) => 2 * ssm.bytes(),
                        // Written once a window.
                        SsmState::Int8 { stored, .. } => stored.codes.bytes() + stored.scales.bytes(),
                    }
            }
            _ => 0,
        });
        let kv = self.state.kv_bytes() as u64 * seen.min(self.options.context) as u64 / self.options.context as u64;
        weights as u64 + state.sum::<usize>() as u64 + kv
    }

    /// Operations of the linear layers for a token of a prompt, a multiply-add being two; the head aside, which is for
    /// the last token only.
    #[must_use]
    pub fn linear_ops(&self) -> u64 {
        let linears = self.weights.layers.iter().flat_map(|l| l.mixer.linears());
        linears.map(|l| 2 * l.elements() as u64).sum()
    }

    /// Records a pass of `tokens` and the choice of the next one.
    ///
    /// # Errors
    /// [`Error::Argument`] for no tokens or more than a pass takes; as building a plan.
    pub fn record_profile(&self, tokens: usize, next: Next) -> Result<ProfiledPass> {
        if tokens == 0 || tokens > self.options.pass_tokens {
            let what = format!("{tokens} tokens in passes of up to {}", self.options.pass_tokens);
            return Err(Error::argument("profile", what));
        }
        let (pass, choice) = (self.plan(tokens, Logits::Last)?.record()?, self.chooser.plan(next)?.record()?);
        Ok(ProfiledPass { tokens, pass, choice })
    }

    /// Records the pass of a token of each sequence that decodes together, and the choice of the next ones.
    ///
    /// # Errors
    /// As [`Engine::step_each`].
    pub fn record_profile_each(&self, next: Next) -> Result<ProfiledPass> {
        let batch = self.batch()?;
        let (pass, choice) = (self.plan_each(self.sequences())?.record()?, batch.chooser.plan(next)?.record()?);
        Ok(ProfiledPass { tokens: self.sequences(), pass, choice })
    }

    /// Runs that pass on the ids that were fed or chosen last, and gives the seconds of each launch.
    ///
    /// # Errors
    /// As [`Engine::step_each`].
    pub async fn profile_each(&mut self, pass: &ProfiledPass) -> Result<Vec<f64>> {
        self.room_for_each()?;
        let mut seconds = pass.pass.run_each().await?;
        seconds.extend(pass.choice.run_each().await?);
        self.advance_each()?;
        Ok(seconds)
    }

    /// Runs a recorded pass on the next tokens of the sequence, and gives the seconds of each launch.
    ///
    /// # Errors
    /// As [`Engine::feed`]; [`Error::Argument`] when the pass is for another number of tokens.
    pub async fn profile(&mut self, pass: &ProfiledPass, tokens: &[u32]) -> Result<Vec<f64>> {
        self.check(tokens)?;
        if tokens.len() != pass.tokens {
            let what = format!("{} tokens for a pass of {}", tokens.len(), pass.tokens);
            return Err(Error::argument("profile", what));
        }
        self.device.write(&self.scratch.ids.view(DType::U32, [tokens.len()])?, tokens)?;
        let mut seconds = pass.pass.run_each().await?;
        seconds.extend(pass.choice.run_each().await?);
        self.advance(tokens.len())?;
        Ok(seconds)
    }
}
