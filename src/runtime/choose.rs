//! Choosing the next token of a sequence, or of each of several, on the device.

use super::engine::Next;
use super::scores::{RecordedScores, Scorer, Scoring};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan, Recording, Submission};
use crate::kernels;

/// Ways to choose that stay recorded: a server's clients may each have their own.
const KEPT: usize = 8;

/// Chooses an id from each row of logits; recorded once for each way to choose.
pub(super) struct Chooser {
    device: Device,
    /// `[rows, vocab]`.
    logits: DeviceTensor,
    /// Seed and counter of each row's sampler.
    rng: DeviceTensor,
    /// `[rows]`: the ids chosen.
    ids: DeviceTensor,
    recorded: Vec<(Next, Recording)>,
    /// What the logits say of the ids.
    scores: Option<RecordedScores>,
}

impl Chooser {
    pub(super) fn new(device: &Device, logits: DeviceTensor, rng: DeviceTensor, ids: DeviceTensor) -> Self {
        Self { device: device.clone(), logits, rng, ids, recorded: Vec::new(), scores: None }
    }

    pub(super) fn plan(&self, next: Next) -> Result<Plan> {
        let mut plan = Plan::new(&self.device);
        match next {
            Next::Greedy => kernels::argmax(&mut plan, &self.logits, &self.ids)?,
            Next::Sample(sampling) => kernels::sample(&mut plan, &self.logits, &self.rng, &self.ids, sampling)?,
        }
        Ok(plan)
    }

    /// Adds the choice to `submission`.
    pub(super) fn run(&mut self, next: Next, submission: &mut Submission) -> Result<()> {
        if let Some((_, recording)) = self.recorded.iter().find(|(n, _)| *n == next) {
            return submission.run(recording);
        }
        let recording = self.plan(next)?.record()?;
        submission.run(&recording)?;
        if self.recorded.len() == KEPT {
            self.recorded.remove(0);
        }
        self.recorded.push((next, recording));
        Ok(())
    }

    /// What [`Chooser::submit_scored`] runs beside the choice.
    pub(super) fn score_plan(&self) -> Result<Plan> {
        let mut plan = Plan::new(&self.device);
        Scorer::new(&self.device, self.ids.shape.elements(), 1)?.add(&mut plan, &self.logits, &self.ids)?;
        Ok(plan)
    }

    /// Sends `submission` off, which chose ids last, and begins to read them and what the logits say of them, beside the `most` likeliest.
    pub(super) fn submit_scored(&mut self, most: usize, submission: Submission) -> Result<Scoring> {
        let scores = match self.scores.take().filter(|scores| scores.tells(most, self.logits.shape.cols())) {
            Some(scores) => scores,
            None => RecordedScores::new(&self.device, &self.logits, Some(&self.ids), most)?,
        };
        self.scores.insert(scores).submit(submission, most)
    }
}
