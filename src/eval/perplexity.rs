//! Perplexity over windows, and two models in lockstep over the same windows.

#[cfg(not(target_arch = "wasm32"))]
use std::time::Instant;

use serde::Serialize;
#[cfg(target_arch = "wasm32")]
use web_time::Instant;

use super::by_position::{ByPosition, PositionKl, RANGE};
use super::divergence::Divergence;
use super::stats::mean_and_error;
use crate::calibrate::Windows;
use crate::error::{Error, Result};
use crate::runtime::{Engine, LogProbs};

/// Called after each window with windows done and in all.
pub type Progress<'a> = &'a mut (dyn FnMut(usize, usize) + Send);

/// Perplexity of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Perplexity {
    /// exp of the mean negative log-likelihood of all targets.
    pub perplexity: f64,
    /// Standard error over windows (delta method); `None` for one window.
    pub perplexity_stderr: Option<f64>,
    /// Mean negative log-likelihood of each window, nats.
    pub nll_per_window: Vec<f64>,
    /// Targets scored.
    pub tokens: usize,
    /// Seconds of this model's passes and their scores, alone or beside another.
    pub seconds: f64,
}

/// One model against a base, window by window over the same tokens.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The model.
    #[serde(flatten)]
    pub model: Perplexity,
    /// The base.
    pub base: Perplexity,
    /// Perplexity of the model over the base's.
    pub perplexity_ratio: f64,
    /// Its standard error, from the paired differences of the windows.
    pub perplexity_ratio_stderr: Option<f64>,
    /// Mean KL(base || model) in nats per token, over the whole vocabulary.
    pub mean_kl: f64,
    /// Its standard error over windows.
    pub mean_kl_stderr: Option<f64>,
    /// Share of tokens whose most likely next token is the same, 0 to 1.
    pub top1_agreement: f64,
    /// Its standard error over windows.
    pub top1_agreement_stderr: Option<f64>,
    /// Mean KL of each window.
    pub kl_per_window: Vec<f64>,
    /// Mean KL by the position in the window, 1024 targets a range.
    pub kl_by_position: Vec<PositionKl>,
}

/// Sums of one window of one model.
fn totals(per_window: &[f64], windows: &Windows, seconds: f64) -> Perplexity {
    let tokens = windows.targets();
    let (nll, error) = mean_and_error(per_window, &weights(windows));
    let perplexity = nll.exp();
    Perplexity {
        perplexity,
        perplexity_stderr: error.map(|e| e * perplexity),
        nll_per_window: per_window.to_vec(),
        tokens,
        seconds,
    }
}

/// Windows count by their targets.
fn weights(windows: &Windows) -> Vec<f64> {
    windows.0.iter().map(|w| (w.len() - 1) as f64).collect()
}

/// A model and the seconds of all that it was asked for.
struct Timed<'a> {
    engine: &'a mut Engine,
    seconds: f64,
}

impl<'a> Timed<'a> {
    fn new(engine: &'a mut Engine) -> Self {
        Self { engine, seconds: 0.0 }
    }

    /// Begins a window.
    fn reset(&mut self) -> Result<()> {
        let start = Instant::now();
        self.engine.reset()?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// What the model says of `targets` after `tokens`, beside the likeliest.
    async fn score(&mut self, tokens: &[u32], targets: &[u32]) -> Result<Vec<LogProbs>> {
        let start = Instant::now();
        let said = self.engine.score(tokens, targets, 1).await?;
        self.seconds += start.elapsed().as_secs_f64();
        Ok(said)
    }
}

fn nll(said: &[LogProbs]) -> f64 {
    -said.iter().map(|said| said.token.value).sum::<f64>()
}

/// Tokens that a window has at least: its last one is a target only, so feeding does not look at it.
const LEAST: usize = 2;

/// Perplexity of a model: every window from a fresh state, every token after the first a target.
///
/// # Errors
/// [`Error::Argument`] for no windows, one of fewer than two tokens, or an id that is not in the vocabulary; as
/// [`Engine::score`].
pub async fn perplexity(engine: &mut Engine, windows: &Windows, progress: Progress<'_>) -> Result<Perplexity> {
    windows.check(LEAST, engine.config().vocab_size)?;
    let mut model = Timed::new(engine);
    let mut per_window = Vec::new();
    for (i, window) in windows.0.iter().enumerate() {
        model.reset()?;
        let inputs = &window[..window.len() - 1];
        per_window.push(nll(&model.score(inputs, &window[1..]).await?) / inputs.len() as f64);
        progress(i + 1, windows.0.len());
    }
    Ok(totals(&per_window, windows, model.seconds))
}

/// What a window adds to a comparison, means over its targets; or a piece of it, sums.
#[derive(Clone, Copy, Default)]
struct Pair {
    base_nll: f64,
    nll: f64,
    kl: f64,
    same_top: f64,
}

/// Runs `base` and `model` in lockstep, pass by pass; logits stay where they are, unless the two are on different devices.
///
/// # Errors
/// As [`perplexity`]; [`Error::Argument`] when the vocabularies differ.
pub async fn compare(
    base: &mut Engine,
    model: &mut Engine,
    windows: &Windows,
    progress: Progress<'_>,
) -> Result<Comparison> {
    let vocab = base.config().vocab_size;
    if model.config().vocab_size != vocab {
        let reason = format!("the base has a vocabulary of {vocab}, the model of {}", model.config().vocab_size);
        return Err(Error::argument("--base", reason));
    }
    windows.check(LEAST, vocab)?;
    let (mut base, mut model) = (Timed::new(base), Timed::new(model));
    let mut divergence = Divergence::default();
    let (mut pairs, mut by_position) = (Vec::new(), ByPosition::default());
    for (i, window) in windows.0.iter().enumerate() {
        base.reset()?;
        model.reset()?;
        let mut sum = Pair::default();
        let (inputs, mut at) = (&window[..window.len() - 1], 0);
        while at < inputs.len() {
            // A pass of both, within one range of positions.
            let pass = base.engine.scored_tokens().min(model.engine.scored_tokens());
            let end = inputs.len().min(at + pass.min(RANGE - at % RANGE));
            let (piece, targets) = (&inputs[at..end], &window[at + 1..end + 1]);
            let (of_base, of_model) = (base.score(piece, targets).await?, model.score(piece, targets).await?);
            let kl = divergence.sum(base.engine, model.engine, piece.len()).await?;
            let same = |(a, b): &(&LogProbs, &LogProbs)| a.top[0].id == b.top[0].id;
            let same_top = of_base.iter().zip(&of_model).filter(same).count() as f64;
            by_position.add(i, at, kl, piece.len());
            sum.add(&Pair { base_nll: nll(&of_base), nll: nll(&of_model), kl, same_top });
            at = end;
        }
        let n = inputs.len() as f64;
        pairs.push(Pair { base_nll: sum.base_nll / n, nll: sum.nll / n, kl: sum.kl / n, same_top: sum.same_top / n });
        progress(i + 1, windows.0.len());
    }
    let kl_by_position = by_position.means();
    Ok(Comparison { kl_by_position, ..summary(&pairs, windows, base.seconds, model.seconds) })
}

impl Pair {
    fn add(&mut self, other: &Self) {
        self.base_nll += other.base_nll;
        self.nll += other.nll;
        self.kl += other.kl;
        self.same_top += other.same_top;
    }
}

fn summary(pairs: &[Pair], windows: &Windows, base_seconds: f64, seconds: f64) -> Comparison {
    let column = |f: fn(&Pair) -> f64| -> Vec<f64> { pairs.iter().map(f).collect() };
    let base = totals(&column(|p| p.base_nll), windows, base_seconds);
    let model = totals(&column(|p| p.nll), windows, seconds);
    let perplexity_ratio = model.perplexity / base.perplexity;
    let weights = weights(windows);
    let (_, ratio_error) = mean_and_error(&column(|p| p.nll - p.base_nll), &weights);
    let (mean_kl, mean_kl_stderr) = mean_and_error(&column(|p| p.kl), &weights);
    let (top1_agreement, top1_agreement_stderr) = mean_and_error(&column(|p| p.same_top), &weights);
    Comparison {
        perplexity_ratio,
        perplexity_ratio_stderr: ratio_error.map(|e| e * perplexity_ratio),
        mean_kl,
        mean_kl_stderr,
        top1_agreement,
        top1_agreement_stderr,
        kl_per_window: column(|p| p.kl),
        kl_by_position: Vec::new(),
        base,
        model,
    }
}
