//! Second moments of activations.

use super::bindings::gram::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::gram::Params;

/// Side of a workgroup's tile.
const TILE: usize = 64;

/// `sums += aᵀ b`: second moments, over the tokens of this launch added to those of launches before.
///
/// `a`: `[tokens, n]`; `b`: `[tokens, m]`, may be `a`; `sums`: `[2 n, m]`, zeros before the first launch: totals, and
/// below them what their rounding lost, to be added up by the reader. f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn gram(plan: &mut Plan, a: &DeviceTensor, b: &DeviceTensor, sums: &DeviceTensor) -> Result<()> {
    for (name, tensor) in [("a", a), ("b", b), ("sums", sums)] {
        f32_tensor("gram", name, tensor)?;
    }
    let (tokens, n, m) = (a.shape.rows(), a.shape.cols(), b.shape.cols());
    expect("gram", "b", b, [tokens, m])?;
    expect("gram", "sums", sums, [2 * n, m])?;
    let params = Params { tokens: tokens as u32, n: n as u32, m: m as u32, zero: 0 };
    launch(plan, params, Bindings { a, b, sums }, Grid::linear(n.div_ceil(TILE) * m.div_ceil(TILE)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "gram", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("tokens", 1.0), ("n", 1.0), ("m", 1.0)] },
    Case { name: "past_a_tile", args: &[("tokens", 9.0), ("n", 65.0), ("m", 67.0)] },
    Case { name: "edges_of_half_tiles", args: &[("tokens", 33.0), ("n", 41.0), ("m", 25.0)] },
    Case { name: "nano_hidden", args: &[("tokens", 64.0), ("n", 128.0), ("m", 128.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, n, m) = (a.usize("tokens"), a.usize("n"), a.usize("m"));
    let x = s.input([tokens, n], Fill::Outliers)?;
    let y = s.input([tokens, m], Fill::Normal(1.0))?;
    let sums = s.state("sums", [2 * n, m], Fill::Normal(1.0))?;
    gram(s.plan(), &x, &y, &sums)
}

fn work(a: &Args) -> Work {
    let (tokens, n, m) = (a.usize("tokens"), a.usize("n"), a.usize("m"));
    Work { bytes: 4 * (tokens * (n + m) + 4 * n * m), ops: 2 * tokens * n * m }
}
