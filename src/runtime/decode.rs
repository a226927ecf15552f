//! Tokens one after the other: a choice, and the pass over it, which starts before the host has seen the id.

use std::ops::ControlFlow;

use super::engine::{Engine, Logits, Next};
use crate::error::Result;
use crate::gpu::Reading;

impl Engine {
    /// Chooses a token from the last logits, on the device, and begins to read its id, which may be awaited after
    /// [`Engine::step`]: the device then computes meanwhile.
    ///
    /// # Errors
    /// As building a plan.
    pub fn pick(&mut self, next: Next) -> Result<Reading> {
        self.chooser.run(next)?;
        self.device.begin_read(&self.scratch.next)
    }

    /// Chooses a token from the last logits, on the device, and reads back its id.
    ///
    /// # Errors
    /// As [`crate::gpu::Device::read`].
    pub async fn choose(&mut self, next: Next) -> Result<u32> {
        Ok(self.pick(next)?.words().await?[0])
    }

    /// Processes the token that was chosen last. The same as feeding it, but its id stays on the device.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] when the context is full; as running a plan.
    pub fn step(&mut self) -> Result<()> {
        self.room_for(1)?;
        if self.following.is_none() {
            self.following = Some(self.plan_of(&self.scratch.next, Logits::Last)?.record()?);
        }
        if let Some(recording) = &self.following {
            recording.run()?;
        }
        self.advance(1)
    }

    /// Continues after `prompt` until `max_new` tokens, an end-of-sequence token or `on_token` breaks. The token that ends
    /// it otherwise than by their number has been processed, too.
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
        let mut out = Vec::new();
        while out.len() < max_new {
            let id = self.pick(next)?;
            if out.len() + 1 < max_new {
                self.step()?;
            }
            let id = id.words().await?[0];
            if self.config.eos.contains(&id) {
                break;
            }
            out.push(id);
            if on_token(id).is_break() {
                break;
            }
        }
        Ok(out)
    }
}
