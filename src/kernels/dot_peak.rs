//! Packed int8 products and nothing else: the peak that `bench` compares prompts with.

use super::bindings::dot_peak::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::{expect, expect_dtype};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::reference::dot_peak::{CHAINS, STEPS};
use crate::shaders::dot_peak::Params;
use crate::tensor::DType;

/// Multiply-adds of codes an element and round.
pub const DOTS_PER_ROUND: usize = (4 * CHAINS * STEPS) as usize;

/// `rounds` times [`DOTS_PER_ROUND`] multiply-adds an element, `acc = acc + dot(acc, x)` over the four int8 codes of a
/// word, in chains that start at `x + j`; `out` is their sum. Sums wrap.
///
/// `x`, `out`: `[count]` u32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn dot_peak(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor, rounds: usize) -> Result<()> {
    expect_dtype("dot_peak", "x", x, DType::U32, "u32")?;
    expect_dtype("dot_peak", "out", out, DType::U32, "u32")?;
    expect("dot_peak", "out", out, x.shape)?;
    let count = x.shape.elements();
    let params = Params { count: count as u32, rounds: rounds as u32 };
    launch(plan, params, Bindings { x, out }, Grid::cover(count, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "dot_peak", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_round", args: &[("count", 256.0), ("rounds", 1.0)] },
    Case { name: "odd_count_sums_wrap", args: &[("count", 1013.0), ("rounds", 9.0)] },
    Case { name: "no_rounds", args: &[("count", 5.0), ("rounds", 0.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let shape = [a.usize("count")];
    let x = s.integers(shape, u32::MAX)?;
    let out = s.output("out", DType::U32, shape)?;
    dot_peak(s.plan(), &x, &out, a.usize("rounds"))
}

fn work(a: &Args) -> Work {
    let count = a.usize("count");
    Work { bytes: 8 * count, ops: 2 * count * a.usize("rounds") * DOTS_PER_ROUND }
}
