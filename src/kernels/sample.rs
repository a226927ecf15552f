//! Random choice of the next token.

use super::bindings::sample::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::reference::sample::margin;
use crate::shaders::sample::Params;
use crate::tensor::DType;

/// Largest vocabulary: counts are exact in f32.
const MAX_VOCAB: usize = 1 << 24;
/// A case must be farther than this from another outcome, as a part of the mass. f32 sums and exps err by
/// less: 512 terms a thread at 6e-8 and exps of some 40 ulp, 3e-5 and 3e-6 at the very worst.
const MIN_MARGIN: f64 = 1e-4;

/// Which tokens are drawn from, filters in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; above 0 (for 0 use [`super::argmax`]).
    pub temperature: f32,
    /// Keep this many of the most likely, and all as likely as the last of them; 0 keeps all.
    pub top_k: u32,
    /// Of these keep the fewest that hold this part of the mass, likewise; 1 keeps all.
    pub top_p: f32,
}

/// Draws a token from `softmax(logits / temperature)` after top-k and top-p (Holtzman et al. 2019,
/// arXiv:1904.09751), by a random number that is a hash of seed and counter.
///
/// `logits`: `[rows, vocab]` f32, finite or -∞; `rng`: `[rows, 2]` u32 seed and counter, which goes up by one;
/// `out`: `[rows]` u32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for a parameter out of range.
pub fn sample(
    plan: &mut Plan,
    logits: &DeviceTensor,
    rng: &DeviceTensor,
    out: &DeviceTensor,
    sampling: Sampling,
) -> Result<()> {
    f32_tensor("sample", "logits", logits)?;
    expect_dtype("sample", "rng", rng, DType::U32, "u32")?;
    expect_dtype("sample", "out", out, DType::U32, "u32")?;
    let (rows, vocab) = (rng.shape.rows(), logits.shape.cols());
    expect("sample", "logits", logits, [rows, vocab])?;
    expect("sample", "rng", rng, [rows, 2])?;
    expect("sample", "out", out, [rows])?;
    let params = params(rows, vocab, sampling)?;
    launch(plan, params, Bindings { logits, rng, out }, Grid::linear(rows))
}

fn params(rows: usize, vocab: usize, sampling: Sampling) -> Result<Params> {
    let Sampling { temperature, top_k, top_p } = sampling;
    let refuse = |what: &str, reason: String| Err(Error::argument(format!("sample: `{what}`"), reason));
    if vocab == 0 || vocab > MAX_VOCAB {
        return refuse("logits", format!("a vocabulary of {vocab}, expected 1 to {MAX_VOCAB}"));
    }
    let inv_temperature = 1.0 / temperature;
    if temperature <= 0.0 || !inv_temperature.is_normal() {
        return refuse("temperature", format!("{temperature}, expected a positive number; use argmax for 0"));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return refuse("top_p", format!("{top_p}, expected a number above 0 and up to 1"));
    }
    let vocab = vocab as u32;
    Ok(Params { rows: rows as u32, vocab, inv_temperature, top_k: if top_k < vocab { top_k } else { 0 }, top_p })
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "sample", cases: CASES, setup, work };

/// `seed` and `counter` are of the random numbers; logits are normal, rounded to multiples of `step` (0: not at all).
const CASES: &[Case] = &[
    Case { name: "whole_softmax", args: &case(512.0, 1.0, 0.0, 1.0, 0.0, 17.0) },
    Case { name: "one_word_vocabulary", args: &case(1.0, 1.0, 5.0, 0.5, 0.0, 1.0) },
    Case { name: "fewer_words_than_threads", args: &case(50.0, 0.7, 20.0, 0.9, 0.0, 2.0) },
    Case { name: "hot_top_k", args: &case(1757.0, 1.5, 40.0, 1.0, 0.0, 3.0) },
    Case { name: "cold_top_p", args: &case(1757.0, 0.3, 0.0, 0.95, 0.0, 4.0) },
    Case { name: "top_p_keeps_one", args: &case(333.0, 0.2, 0.0, 0.01, 0.0, 5.0) },
    Case { name: "ties_at_both_cuts", args: &case(1000.0, 1.0, 30.0, 0.6, 0.5, 6.0) },
    Case { name: "three_rows", args: &rows_case(3.0, 700.0, 0.9, 30.0, 0.9, 11.0) },
    Case { name: "nemotron_8b", args: &case(131_072.0, 0.8, 50.0, 0.9, 0.0, 7.0) },
];

type CaseArgs = [(&'static str, f64); 6];

const fn rows_case(
    rows: f64,
    vocab: f64,
    temperature: f64,
    top_k: f64,
    top_p: f64,
    seed: f64,
) -> [(&'static str, f64); 7] {
    [
        ("rows", rows),
        ("vocab", vocab),
        ("temperature", temperature),
        ("top_k", top_k),
        ("top_p", top_p),
        ("step", 0.0),
        ("seed", seed),
    ]
}

const fn case(vocab: f64, temperature: f64, top_k: f64, top_p: f64, step: f64, seed: f64) -> CaseArgs {
    [("vocab", vocab), ("temperature", temperature), ("top_k", top_k), ("top_p", top_p), ("step", step), ("seed", seed)]
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, vocab) = (a.get("rows").map_or(1, |n| n as usize), a.usize("vocab"));
    let step = a.f64("step") as f32;
    let (temperature, top_k, top_p) = (a.f64("temperature") as f32, a.usize("top_k") as u32, a.f64("top_p") as f32);
    let sampling = Sampling { temperature, top_k, top_p };
    let mut values = s.values(rows * vocab, Fill::Normal(3.0));
    if step > 0.0 {
        values.iter_mut().for_each(|v| *v = (*v / step).round_ties_even() * step);
    }
    let words: Vec<u32> = (0..rows).flat_map(|r| [a.usize("seed") as u32 + r as u32, 1000 + r as u32]).collect();
    // The outcome is compared exactly, so it must not hang on rounding.
    let margin = margin(&params(rows, vocab, sampling)?, &values, &words);
    if margin < MIN_MARGIN {
        let reason = format!("margin {margin:.1e} below {MIN_MARGIN:.0e}: take another seed");
        return Err(Error::argument("sample: case", reason));
    }
    let logits = s.device().upload_f32([rows, vocab], &values)?;
    let rng = s.state_words("rng", [rows, 2], &words)?;
    let out = s.output("out", DType::U32, [rows])?;
    sample(s.plan(), &logits, &rng, &out, sampling)
}

fn work(a: &Args) -> Work {
    let n = a.usize("vocab") * a.get("rows").map_or(1, |n| n as usize);
    // Maximum, 32 passes for each cut that is asked for, masses.
    let passes = 2 + 32 * usize::from(a.usize("top_k") > 0) + 33 * usize::from(a.f64("top_p") < 1.0);
    Work { bytes: 4 * n, ops: 4 * n * passes }
}
