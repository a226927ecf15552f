//! What logits say of tokens.

use super::bindings::log_probs::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::log_probs::Params;
use crate::tensor::DType;

/// What [`log_probs`] gives.
#[derive(Clone, Copy, Debug)]
pub struct LogProbOutputs<'a> {
    /// `[rows, 1 + most]` f32, nats: of the target, then of the likeliest.
    pub values: &'a DeviceTensor,
    /// `[rows, most]` u32: the likeliest first, the lowest of equals; at least one, at most all of the vocabulary.
    pub ids: &'a DeviceTensor,
}

/// Log-probabilities, `ln softmax(logits[r])`, of a target and of the likeliest in its place. With NaN or +∞ among a row's logits its
/// values are NaN.
///
/// `logits`: `[rows, vocab]` f32; `targets`: `[rows]` u32 below `vocab`.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for none of the likeliest, or more than
/// there are.
pub fn log_probs(
    plan: &mut Plan,
    logits: &DeviceTensor,
    targets: &DeviceTensor,
    out: &LogProbOutputs<'_>,
) -> Result<()> {
    let LogProbOutputs { values, ids } = *out;
    f32_tensor("log_probs", "logits", logits)?;
    f32_tensor("log_probs", "values", values)?;
    expect_dtype("log_probs", "targets", targets, DType::U32, "u32")?;
    expect_dtype("log_probs", "ids", ids, DType::U32, "u32")?;
    let (rows, vocab, most) = (logits.shape.rows(), logits.shape.cols(), ids.shape.cols());
    expect("log_probs", "targets", targets, [rows])?;
    expect("log_probs", "ids", ids, [rows, most])?;
    expect("log_probs", "values", values, [rows, 1 + most])?;
    if most == 0 || most > vocab {
        return Err(Error::argument(
            "log_probs: `ids`",
            format!("{most} of a vocabulary of {vocab}, expected 1 or more"),
        ));
    }
    let params = Params { rows: rows as u32, vocab: vocab as u32, most: most as u32 };
    launch(plan, params, Bindings { logits, targets, values, ids }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "log_probs", cases: CASES, setup, work };

/// Logits are rounded to multiples of `step` (0: not at all).
const CASES: &[Case] = &[
    Case { name: "nano_tokens", args: &case(7.0, 512.0, 1.0, 0.0) },
    Case { name: "one_word_vocabulary", args: &case(3.0, 1.0, 1.0, 0.0) },
    Case { name: "all_of_few_words", args: &case(30.0, 3.0, 3.0, 1.0) },
    Case { name: "many_ties", args: &case(5.0, 1757.0, 20.0, 4.0) },
    Case { name: "past_a_step", args: &case(3.0, 1025.0, 5.0, 0.0) },
    Case { name: "nemotron_8b", args: &case(2.0, 131_072.0, 2.0, 0.0) },
];

const fn case(rows: f64, vocab: f64, most: f64, step: f64) -> [(&'static str, f64); 4] {
    [("rows", rows), ("vocab", vocab), ("most", most), ("step", step)]
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, vocab, most, step) = (a.usize("rows"), a.usize("vocab"), a.usize("most"), a.f64("step") as f32);
    let mut values = s.values(rows * vocab, Fill::Normal(3.0));
    if step > 0.0 {
        // Rounding makes both zeros, which are equal, besides ties.
        values.iter_mut().for_each(|v| *v = (*v / step).round_ties_even() * step);
    }
    let words: Vec<u32> = (0..rows).map(|r| ((r * 7919 + 5) % vocab) as u32).collect();
    let logits = s.device().upload_f32([rows, vocab], &values)?;
    let targets = s.device().upload_words(DType::U32, [rows], &words)?;
    let values = s.output("values", DType::F32, [rows, 1 + most])?;
    let ids = s.output("ids", DType::U32, [rows, most])?;
    log_probs(s.plan(), &logits, &targets, &LogProbOutputs { values: &values, ids: &ids })
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("vocab");
    Work { bytes: 4 * n, ops: n * (3 + a.usize("most")) }
}
