//! Tokens one after the other: a choice, and the pass over it, which starts before the host has seen the id.

use std::ops::ControlFlow;

use super::engine::{Engine, Logits, Next};
use super::scores::Scoring;
use crate::error::Result;
use crate::gpu::{Reading, Submission};

impl Engine {
    /// Chooses a token from the last logits, on the device, and begins to read its id, which may be awaited after
    /// [`Engine::follow`].
    ///
    /// # Errors
    /// [`crate::Error::Argument`] when the sequence has no token yet; as building a plan.
    pub fn pick(&mut self, next: Next) -> Result<Reading> {
        self.begun()?;
        let mut submission = self.device.submission();
        self.chooser.run(next, &mut submission)?;
        submission.read(&self.scratch.next)
    }

    /// Chooses a token from the last logits, on the device, and reads back its id.
    ///
    /// # Errors
    /// As [`Engine::pick`] and [`crate::gpu::Device::read`].
    pub async fn choose(&mut self, next: Next) -> Result<u32> {
        Ok(self.pick(next)?.words().await?[0])
    }

    /// As [`Engine::pick`], and what the model says of the token, beside the `most` likeliest.
    ///
    /// # Errors
    /// As that.
    pub fn pick_scored(&mut self, next: Next, most: usize) -> Result<Scoring> {
        self.begun()?;
        let mut submission = self.device.submission();
        self.chooser.run(next, &mut submission)?;
        self.chooser.submit_scored(most, submission)
    }

    /// Processes the token that was chosen last, chooses the one after it and begins to read its id, in one submit. The id may be awaited
    /// when the next one is under way, which needs to know it on the device only.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] when the context is full, or the sequence has no token yet; as running a plan.
    pub fn follow(&mut self, next: Next) -> Result<Reading> {
        self.begun()?;
        self.follow_any(next)
    }

    /// As [`Engine::follow`], and what the model says of the next token, beside the `most` likeliest.
    ///
    /// # Errors
    /// As that.
    pub fn follow_scored(&mut self, next: Next, most: usize) -> Result<Scoring> {
        self.begun()?;
        self.followed(next, |engine, submission| engine.chooser.submit_scored(most, submission))
    }

    /// As [`Engine::follow`], of whatever id was chosen last, also in another sequence: to be measured.
    ///
    /// # Errors
    /// As [`Engine::follow`].
    pub(crate) fn follow_any(&mut self, next: Next) -> Result<Reading> {
        self.followed(next, |engine, submission| submission.read(&engine.scratch.next))
    }

    /// Processes the token that was chosen last and chooses the next; `read` sends that off.
    fn followed<T>(&mut self, next: Next, read: impl FnOnce(&mut Self, Submission) -> Result<T>) -> Result<T> {
        self.room_for(1)?;
        if self.following.is_none() {
            let pass = self.plan_of(&self.scratch.next, 1, Logits::Last, self.config.dt_limit)?;
            self.following = Some(pass.record()?);
            self.rounding()?; // compiled now, not in the middle of what is told
        }
        let before = (self.state.tokens, self.state.recent);
        let read = self.follow_recorded(next).and_then(|submission| read(self, submission));
        if read.is_err() {
            // All of it is one submit: where that failed, the device stands where it did.
            (self.state.tokens, self.state.recent) = before;
        }
        read
    }

    fn follow_recorded(&mut self, next: Next) -> Result<Submission> {
        let mut submission = self.device.submission();
        if let Some(pass) = &self.following {
            submission.run(pass)?;
        }
        self.chooser.run(next, &mut submission)?;
        // Last, so that all copies are next to each other: one between launches makes the device pause.
        if self.state.step(&mut submission)? {
            submission.run(self.rounding()?)?;
            self.state.step_rounded(&mut submission)?;
        }
        Ok(submission)
    }

    /// Continues after `prompt` until `max_new` tokens, an end-of-sequence token or `on_token` breaks. The token that ends
    /// it otherwise than by their number has been processed, too, and another was chosen after it.
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
        let mut coming = if max_new > 0 { Some(self.pick(next)?) } else { None };
        while let Some(id) = coming.take() {
            // It may fail, by a context that is full, but only matters where this id does not end it.
            let after = (out.len() + 1 < max_new).then(|| self.follow(next));
            let id = id.words().await?[0];
            if self.config.eos.contains(&id) {
                break;
            }
            out.push(id);
            if on_token(id).is_break() {
                break;
            }
            coming = after.transpose()?;
        }
        Ok(out)
    }
}
