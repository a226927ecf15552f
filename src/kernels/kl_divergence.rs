//! How far one model's predictions are from another's.

use super::bindings::kl_divergence::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::kl_divergence::Params;
use crate::tensor::DType;

/// `out[r]` = KL(softmax(`p[r]`) || softmax(`q[r]`)), nats. With NaN or +∞ among a row's logits it is NaN.
///
/// `p`, `q`: `[rows, vocab]` f32 logits; `out`: `[rows]` f32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for an empty vocabulary.
pub fn kl_divergence(plan: &mut Plan, p: &DeviceTensor, q: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    f32_tensor("kl_divergence", "p", p)?;
    f32_tensor("kl_divergence", "q", q)?;
    f32_tensor("kl_divergence", "out", out)?;
    let (rows, vocab) = (p.shape.rows(), p.shape.cols());
    expect("kl_divergence", "q", q, [rows, vocab])?;
    expect("kl_divergence", "out", out, [rows])?;
    if vocab == 0 {
        return Err(Error::argument("kl_divergence: `p`", "the vocabulary is empty"));
    }
    let params = Params { rows: rows as u32, vocab: vocab as u32 };
    launch(plan, params, Bindings { p, q, out }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "kl_divergence", cases: CASES, setup, work };

/// Logits of q are those of p and `apart` times a normal number.
const CASES: &[Case] = &[
    Case { name: "nano_tokens", args: &case(7.0, 512.0, 0.3) },
    Case { name: "one_word_vocabulary", args: &case(3.0, 1.0, 1.0) },
    Case { name: "hardly_apart", args: &case(5.0, 1025.0, 0.01) },
    Case { name: "far_apart", args: &case(5.0, 300.0, 20.0) },
    Case { name: "nemotron_8b", args: &case(2.0, 131_072.0, 0.1) },
];

const fn case(rows: f64, vocab: f64, apart: f64) -> [(&'static str, f64); 3] {
    [("rows", rows), ("vocab", vocab), ("apart", apart)]
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, vocab) = (a.usize("rows"), a.usize("vocab"));
    let p = s.values(rows * vocab, Fill::Normal(3.0));
    let apart = s.values(rows * vocab, Fill::Normal(a.f64("apart") as f32));
    let q: Vec<f32> = p.iter().zip(&apart).map(|(p, d)| p + d).collect();
    let (p, q) = (s.device().upload_f32([rows, vocab], &p)?, s.device().upload_f32([rows, vocab], &q)?);
    let out = s.output("out", DType::F32, [rows])?;
    kl_divergence(s.plan(), &p, &q, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("vocab");
    Work { bytes: 8 * n, ops: 24 * n }
}
