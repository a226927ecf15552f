//! The MLP's activation.

use super::bindings::relu_squared::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::relu_squared::Params;
use crate::tensor::DType;

/// `out = relu(x)²`. So et al. 2021 (Primer), arXiv:2109.08668.
///
/// `x`, `out`: `[rows, cols]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn relu_squared(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    f32_tensor("relu_squared", "x", x)?;
    f32_tensor("relu_squared", "out", out)?;
    expect("relu_squared", "out", out, x.shape)?;
    let count = x.shape.elements();
    launch(plan, Params { count: count as u32 }, Bindings { x, out }, Grid::cover(count, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "relu_squared", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_tokens", args: &[("rows", 5.0), ("cols", 512.0)] },
    Case { name: "odd_cols", args: &[("rows", 7.0), ("cols", 333.0)] },
    Case { name: "one_element", args: &[("rows", 1.0), ("cols", 1.0)] },
    Case { name: "nemotron_8b_token", args: &[("rows", 1.0), ("cols", 21504.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let shape = [a.usize("rows"), a.usize("cols")];
    let x = s.input(shape, Fill::Outliers)?;
    let out = s.output("out", DType::F32, shape)?;
    relu_squared(s.plan(), &x, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 8 * n, ops: 2 * n }
}
