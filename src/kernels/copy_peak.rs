//! A copy and nothing else: the bandwidth that `bench` and `test-ops perf` compare kernels with.

use super::bindings::copy_peak::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::copy_peak::Params;
use crate::tensor::DType;

/// `out = x`, sixteen bytes a thread.
///
/// `x`, `out`: `[words]` u32, a multiple of 4.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault.
pub fn copy_peak(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    expect_dtype("copy_peak", "x", x, DType::U32, "u32")?;
    expect_dtype("copy_peak", "out", out, DType::U32, "u32")?;
    expect("copy_peak", "out", out, x.shape)?;
    let words = x.words();
    if !words.is_multiple_of(4) {
        return Err(Error::argument("copy_peak: `x`", format!("{words} words, not a multiple of 4")));
    }
    let count = words / 4;
    launch(plan, Params { count: count as u32 }, Bindings { x, out }, Grid::cover(count, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "copy_peak", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_vector", args: &[("words", 4.0)] },
    Case { name: "ragged_workgroup", args: &[("words", 4100.0)] },
    Case { name: "several_workgroups", args: &[("words", 65_536.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let shape = [a.usize("words")];
    let x = s.integers(shape, u32::MAX)?;
    let out = s.output("out", DType::U32, shape)?;
    copy_peak(s.plan(), &x, &out)
}

fn work(a: &Args) -> Work {
    Work { bytes: 8 * a.usize("words"), ops: 0 }
}
