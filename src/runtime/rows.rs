//! Logits of all tokens of a pass, as they are, and what they say of tokens.

use super::engine::{Engine, Logits};
use super::scores::{LogProbs, RecordedScores, Scorer, told};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::tensor::DType;

impl Engine {
    /// As [`Engine::feed`], and gives the logits of every token: `sink(first, logits)` with `logits` `[n, vocab]` of
    /// the tokens from `first` on, pass by pass.
    ///
    /// # Errors
    /// As [`Engine::feed`], and whatever `sink` gives.
    pub async fn feed_all(&mut self, tokens: &[u32], mut sink: impl FnMut(usize, &[f32]) -> Result<()>) -> Result<()> {
        self.check(tokens)?;
        let mut first = 0;
        while first < tokens.len() {
            let piece = &tokens[first..tokens.len().min(first + self.scored_tokens())];
            self.device.write(&self.scratch.ids.view(DType::U32, [piece.len()])?, piece)?;
            self.pass(piece.len(), Logits::All)?;
            let all = self.all_logits()?.view(DType::F32, [piece.len(), self.config.vocab_size])?;
            sink(first, &self.device.read_f32(&all).await?)?;
            first += piece.len();
        }
        Ok(())
    }

    /// Tokens that one pass of [`Engine::score`] and [`Engine::feed_all`] takes at most.
    pub(crate) fn scored_tokens(&self) -> usize {
        self.quick_tokens.min(self.logits_rows())
    }

    /// Logits of the last pass of [`Engine::score`], which had so many tokens.
    pub(crate) fn scored_logits(&self, tokens: usize) -> Result<DeviceTensor> {
        self.all_logits()?.view(DType::F32, [tokens, self.config.vocab_size])
    }

    /// As [`Engine::feed`], and gives what the model says, after each token, of the one in `targets`, beside the `most` likeliest.
    ///
    /// # Errors
    /// As [`Engine::feed`]; [`Error::Argument`] for another number of targets, or one that is not in the vocabulary.
    pub async fn score(&mut self, tokens: &[u32], targets: &[u32], most: usize) -> Result<Vec<LogProbs>> {
        self.check(tokens)?;
        if targets.len() != tokens.len() {
            return Err(Error::argument("score", format!("{} targets of {} tokens", targets.len(), tokens.len())));
        }
        self.check_ids("score", targets)?;
        let held = told(most, self.config.vocab_size);
        if self.scorer.as_ref().is_none_or(|scorer| scorer.most != held) {
            // Recorded passes write to the tensors of the one before.
            self.passes.forget(|logits| matches!(logits, Logits::Scored));
            self.scorer = None;
            self.scorer = Some(Scorer::new(&self.device, self.logits_rows(), held)?);
        }
        let (mut said, mut rest) = (Vec::with_capacity(tokens.len()), (tokens, targets));
        while !rest.0.is_empty() {
            let count = rest.0.len().min(self.scored_tokens());
            let (piece, targets) = (&rest.0[..count], &rest.1[..count]);
            rest = (&rest.0[count..], &rest.1[count..]);
            self.device.write(&self.scratch.ids.view(DType::U32, [count])?, piece)?;
            self.device.write(&self.scorer()?.targets(count)?, targets)?;
            self.pass(count, Logits::Scored)?;
            let scoring = self.scorer()?.read(&self.device, count, most)?;
            said.extend(scoring.rows().await?);
        }
        Ok(said)
    }

    /// Adds the scores of a pass of `tokens` to its plan.
    pub(super) fn add_scores(&self, plan: &mut Plan, logits: &DeviceTensor, tokens: usize) -> Result<()> {
        let scorer = self.scorer()?;
        scorer.add(plan, logits, &scorer.targets(tokens)?).map(drop)
    }

    fn scorer(&self) -> Result<&Scorer> {
        self.scorer.as_ref().ok_or_else(|| Error::argument("engine", "scores were not asked for"))
    }

    /// What the model says of each of `ids` as the token that comes next.
    ///
    /// # Errors
    /// [`Error::Argument`] when the sequence has no token yet, or for an id that is not in the vocabulary; as running a plan.
    pub async fn score_next(&mut self, ids: &[u32]) -> Result<Vec<LogProbs>> {
        self.begun()?;
        self.check_ids("score_next", ids)?;
        let scores = match self.next_scores.take() {
            Some(made) => made,
            None => RecordedScores::new(&self.device, &self.last_logits()?, None, 1)?,
        };
        let (scores, mut said) = (self.next_scores.insert(scores), Vec::with_capacity(ids.len()));
        for id in ids {
            scores.ask(&self.device, *id)?;
            said.extend(scores.submit(self.device.submission(), 1)?.rows().await?);
        }
        Ok(said)
    }

    /// Tokens of a pass of which all logits are wanted, at most: those that a binding holds.
    fn logits_rows(&self) -> usize {
        let fit = self.device.max_binding_bytes() / (4 * self.config.vocab_size as u64);
        self.options.pass_tokens.min(usize::try_from(fit).unwrap_or(usize::MAX)).max(1)
    }

    pub(super) fn all_logits(&self) -> Result<&DeviceTensor> {
        self.all_logits.as_ref().ok_or_else(|| Error::argument("engine", "logits of all tokens were not asked for"))
    }

    /// Makes room for the logits of all tokens of a pass, where there is none yet.
    pub(super) fn hold_all_logits(&mut self) -> Result<()> {
        if self.all_logits.is_none() {
            let rows = self.logits_rows();
            let logits = self.device.alloc(DType::F32, [rows, self.config.vocab_size]);
            self.all_logits = Some(logits.map_err(|e| e.named(&format!("the logits of {rows} tokens")))?);
        }
        Ok(())
    }
}
