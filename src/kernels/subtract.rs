//! Differences of activations.

use super::bindings::subtract::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::subtract::Params;

/// `out -= x`.
///
/// `x`, `out`: `[rows, cols]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn subtract(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    f32_tensor("subtract", "x", x)?;
    f32_tensor("subtract", "out", out)?;
    expect("subtract", "out", out, x.shape)?;
    let count = x.shape.elements();
    launch(plan, Params { count: count as u32 }, Bindings { x, out }, Grid::cover(count, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "subtract", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("rows", 1.0), ("cols", 1.0)] },
    Case { name: "odd_cols", args: &[("rows", 7.0), ("cols", 333.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let shape = [a.usize("rows"), a.usize("cols")];
    let x = s.input(shape, Fill::Outliers)?;
    let out = s.state("out", shape, Fill::Normal(1.0))?;
    subtract(s.plan(), &x, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 12 * n, ops: n }
}
