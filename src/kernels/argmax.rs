//! Greedy choice of the next token.

use super::bindings::argmax::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{argmax_merge, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::argmax::Params;
use crate::tensor::DType;

/// Logits that a workgroup takes in one step; those of a part are a multiple of it.
const STEP: usize = 1024;
/// Most parts of a row: a workgroup of [`argmax_merge`] has a thread for each.
const MAX_PARTS: usize = 256;

/// `out[r]` = index of the largest of `logits[r]`, the lowest of equals. With NaN among them, some index.
/// A row of more than 1024 is searched by several workgroups, whose candidates a second dispatch compares.
///
/// `logits`: `[rows, vocab]` f32; `out`: `[rows]` u32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for an empty vocabulary.
pub fn argmax(plan: &mut Plan, logits: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    f32_tensor("argmax", "logits", logits)?;
    expect_dtype("argmax", "out", out, DType::U32, "u32")?;
    let (rows, vocab) = (logits.shape.rows(), logits.shape.cols());
    expect("argmax", "out", out, [rows])?;
    if vocab == 0 {
        return Err(Error::argument("argmax: `logits`", "the vocabulary is empty"));
    }
    let part = vocab.div_ceil(MAX_PARTS).next_multiple_of(STEP);
    let parts = vocab.div_ceil(part);
    let params = Params { rows: rows as u32, vocab: vocab as u32, parts: parts as u32, part: part as u32 };
    let grid = Grid::linear(rows * parts);
    if parts == 1 {
        return launch(plan, params, Bindings { logits, out }, grid);
    }
    let candidates = plan.device().alloc(DType::U32, [rows, parts])?;
    launch(plan, params, Bindings { logits, out: &candidates }, grid)?;
    argmax_merge(plan, logits, &candidates, out)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "argmax", cases: CASES, setup, work };

/// Logits are rounded to multiples of `step` (0: not at all).
const CASES: &[Case] = &[
    Case { name: "nano_tokens", args: &[("rows", 7.0), ("vocab", 512.0), ("step", 0.0)] },
    Case { name: "one_word_vocabulary", args: &[("rows", 3.0), ("vocab", 1.0), ("step", 0.0)] },
    Case { name: "lowest_of_many_ties", args: &[("rows", 30.0), ("vocab", 1757.0), ("step", 4.0)] },
    Case { name: "few_words_with_zeros", args: &[("rows", 30.0), ("vocab", 3.0), ("step", 1.0)] },
    Case { name: "two_parts", args: &[("rows", 3.0), ("vocab", 1025.0), ("step", 0.0)] },
    Case { name: "parts_of_two_steps", args: &[("rows", 1.0), ("vocab", 262_145.0), ("step", 0.0)] },
    Case { name: "nemotron_8b", args: &[("rows", 1.0), ("vocab", 131_072.0), ("step", 0.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, vocab, step) = (a.usize("rows"), a.usize("vocab"), a.f64("step") as f32);
    let mut values = s.values(rows * vocab, Fill::Normal(2.0));
    if step > 0.0 {
        // Rounding makes both zeros, which are equal, besides ties.
        values.iter_mut().for_each(|v| *v = (*v / step).round_ties_even() * step);
    }
    let logits = s.device().upload_f32([rows, vocab], &values)?;
    let out = s.output("out", DType::U32, [rows])?;
    argmax(s.plan(), &logits, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("vocab");
    Work { bytes: 4 * n, ops: n }
}
