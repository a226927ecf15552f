//! Multiply-adds and nothing else: the peak that `test-ops perf` compares kernels with.

use super::bindings::fma_peak::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::reference::fma_peak::{CHAINS, STEPS};
use crate::shaders::fma_peak::Params;
use crate::tensor::DType;

/// Multiply-adds an element and round.
pub const FMAS_PER_ROUND: usize = (CHAINS * STEPS) as usize;

/// `rounds` times [`FMAS_PER_ROUND`] multiply-adds an element, `acc = acc / 2 + 1/4` in chains that start at `x + j`;
/// `out` is their sum.
///
/// `x`, `out`: `[count]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn fma_peak(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor, rounds: usize) -> Result<()> {
    f32_tensor("fma_peak", "x", x)?;
    f32_tensor("fma_peak", "out", out)?;
    let count = x.shape.elements();
    expect("fma_peak", "out", out, x.shape)?;
    let params = Params { count: count as u32, rounds: rounds as u32 };
    launch(plan, params, Bindings { x, out }, Grid::cover(count, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "fma_peak", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_round", args: &[("count", 256.0), ("rounds", 1.0)] },
    Case { name: "odd_count_converged", args: &[("count", 1013.0), ("rounds", 9.0)] },
    Case { name: "no_rounds", args: &[("count", 5.0), ("rounds", 0.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let count = a.usize("count");
    let x = s.input([count], Fill::Outliers)?;
    let out = s.output("out", DType::F32, [count])?;
    fma_peak(s.plan(), &x, &out, a.usize("rounds"))
}

fn work(a: &Args) -> Work {
    let count = a.usize("count");
    Work { bytes: 8 * count, ops: 2 * count * a.usize("rounds") * FMAS_PER_ROUND }
}
