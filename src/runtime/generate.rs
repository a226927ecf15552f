//! Tokens one after the other, each chosen on the device.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::engine::{Engine, Logits, Next};
use crate::error::{Error, Result};
use crate::gpu::Reading;

/// Steps under way before an id is known on the host: the host records one while the device computes another.
const IN_FLIGHT: usize = 2;

impl Engine {
    /// Chooses a token from the last logits, on the device, and reads back its id.
    ///
    /// # Errors
    /// As [`crate::gpu::Device::read`].
    pub async fn choose(&mut self, next: Next) -> Result<u32> {
        let reading = self.begin_choice(next)?;
        Ok(self.device.end_read(reading).await?[0])
    }

    /// Continues after `prompt` until `max_new` tokens, an end-of-sequence token or `on_token` breaks.
    ///
    /// # Errors
    /// As [`Engine::feed`].
    pub async fn generate(
        &mut self,
        prompt: &[u32],
        max_new: usize,
        next: Next,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Vec<u32>> {
        self.feed(prompt)?;
        let (eos, mut out) = (self.config.eos.clone(), Vec::new());
        self.run_on(max_new, next, |id| {
            if eos.contains(&id) {
                return ControlFlow::Break(());
            }
            out.push(id);
            on_token(id)
        })
        .await?;
        Ok(out)
    }

    /// Chooses `count` tokens after what was fed, feeding all but the last, until `on_token` breaks. Later steps are under
    /// way by then, so a sequence that was broken off must be [`Engine::reset`] before it is fed again.
    ///
    /// # Errors
    /// As [`Engine::feed`].
    pub async fn run_on(
        &mut self,
        count: usize,
        next: Next,
        mut on_token: impl FnMut(u32) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut under_way: VecDeque<Reading> = VecDeque::new();
        let mut begun = 0;
        for told in 0..count {
            while begun < count && under_way.len() < IN_FLIGHT {
                // Where the context ends, what was chosen before it is told first.
                if begun > 0 && self.state.tokens == self.state.context && !under_way.is_empty() {
                    break;
                }
                if begun > 0 {
                    self.check_room(1)?;
                    self.pass(1, Logits::Last)?;
                }
                under_way.push_back(self.begin_choice(next)?);
                begun += 1;
            }
            let Some(reading) = under_way.pop_front() else { break };
            if on_token(self.device.end_read(reading).await?[0]).is_break() {
                self.overrun = begun - told - 1;
                break;
            }
        }
        Ok(())
    }

    /// Starts choosing a token, which the next pass of one token may then read, and reading back its id.
    fn begin_choice(&mut self, next: Next) -> Result<Reading> {
        if !self.choosers.iter().any(|(n, _)| *n == next) {
            let recording = self.choice(next)?.record()?;
            self.choosers.push((next, recording));
        }
        if let Some((_, recording)) = self.choosers.iter().find(|(n, _)| *n == next) {
            recording.run()?;
        }
        self.device.begin_read(&self.scratch.next)
    }

    /// Refuses what does not fit into the context, and sequences that ran past where they were broken off.
    pub(super) fn check_room(&self, tokens: usize) -> Result<()> {
        let total = self.state.tokens + tokens;
        if total > self.state.context {
            return Err(Error::argument(
                "feed",
                format!("{total} tokens in a context of {}; pass --context {total} or more", self.state.context),
            ));
        }
        if self.overrun > 0 {
            let reason =
                format!("the sequence went on for {} tokens when it was broken off; reset it first", self.overrun);
            return Err(Error::argument("feed", reason));
        }
        Ok(())
    }
}
