//! The second half of [`super::argmax`]: the best of the parts' best.

use super::bindings::argmax_merge::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::argmax_merge::Params;
use crate::tensor::DType;

const NAME: &str = "argmax_merge";

/// `out[r]` = the one of `candidates[r]` whose logit is the largest, the lowest of equals.
///
/// `logits`: `[rows, vocab]` f32; `candidates`: `[rows, count]` u32, ascending indices below `vocab`; `out`: `[rows]` u32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] where there are no candidates.
pub fn argmax_merge(
    plan: &mut Plan,
    logits: &DeviceTensor,
    candidates: &DeviceTensor,
    out: &DeviceTensor,
) -> Result<()> {
    f32_tensor(NAME, "logits", logits)?;
    expect_dtype(NAME, "candidates", candidates, DType::U32, "u32")?;
    expect_dtype(NAME, "out", out, DType::U32, "u32")?;
    let (rows, vocab, count) = (logits.shape.rows(), logits.shape.cols(), candidates.shape.cols());
    expect(NAME, "candidates", candidates, [rows, count])?;
    expect(NAME, "out", out, [rows])?;
    if count == 0 || vocab == 0 {
        let reason = format!("{count} candidates of {vocab} logits");
        return Err(Error::argument(format!("{NAME}: `candidates`"), reason));
    }
    let params = Params { rows: rows as u32, vocab: vocab as u32, candidates: count as u32 };
    launch(plan, params, Bindings { logits, candidates, out }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// Logits are rounded to multiples of `step` (0: not at all).
const CASES: &[Case] = &[
    Case { name: "one", args: &[("rows", 3.0), ("vocab", 5.0), ("count", 1.0), ("step", 0.0)] },
    Case { name: "nemotron_8b", args: &[("rows", 2.0), ("vocab", 8192.0), ("count", 128.0), ("step", 0.0)] },
    Case { name: "lowest_of_many_ties", args: &[("rows", 30.0), ("vocab", 2000.0), ("count", 100.0), ("step", 4.0)] },
    Case { name: "more_than_threads", args: &[("rows", 9.0), ("vocab", 3000.0), ("count", 300.0), ("step", 0.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, vocab, count, step) = (a.usize("rows"), a.usize("vocab"), a.usize("count"), a.f64("step") as f32);
    let mut values = s.values(rows * vocab, Fill::Normal(2.0));
    if step > 0.0 {
        values.iter_mut().for_each(|v| *v = (*v / step).round_ties_even() * step);
    }
    let logits = s.device().upload_f32([rows, vocab], &values)?;
    // One of each of `count` parts of a row.
    let part = vocab / count;
    let within = s.values(rows * count, Fill::Uniform(0.0, part as f32));
    let candidates: Vec<u32> =
        within.iter().enumerate().map(|(i, v)| (i % count * part + (*v as usize).min(part - 1)) as u32).collect();
    let candidates = s.device().upload_words(DType::U32, [rows, count], &candidates)?;
    let out = s.output("out", DType::U32, [rows])?;
    argmax_merge(s.plan(), &logits, &candidates, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("count");
    Work { bytes: 8 * n, ops: n }
}
