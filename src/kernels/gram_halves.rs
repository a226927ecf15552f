//! Second moments of activations on matrix units.

use super::bindings::gram_halves::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{GramSums, Halves, expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::reference::gram::TILE;
use crate::reference::split_columns::split_columns;
use crate::shaders::gram_halves::{Format, Params};
use crate::shaders::split_columns as split;
use crate::tensor::DType;

const NAME: &str = "gram_halves";

/// As [`super::gram`], of numbers that [`super::split_columns`] has rounded to one f16 each.
///
/// # Errors
/// [`crate::Error::Shape`] naming the argument at fault; [`crate::Error::Argument`] for sums of two matrices.
pub fn gram_halves(plan: &mut Plan, x: &Halves, sums: &GramSums) -> Result<()> {
    if !sums.symmetric {
        return Err(Error::argument(format!("{NAME}: sums"), "of two matrices"));
    }
    into(plan, x, &sums.totals, &sums.lost)
}

fn into(plan: &mut Plan, x: &Halves, totals: &DeviceTensor, lost: &DeviceTensor) -> Result<()> {
    let (tokens, n) = (x.tokens(), x.columns());
    for (name, tensor) in [("totals", totals), ("lost", lost)] {
        f32_tensor(NAME, name, tensor)?;
        expect(NAME, name, tensor, [n, n])?;
    }
    expect(NAME, "x", &x.numbers, [tokens, n])?;
    let params = Params { tokens: tokens as u32, n: n as u32, zero: 0 };
    let bindings = Bindings { a: &x.numbers, b: &x.numbers, scales: &x.scales, totals, lost };
    // The form on matrices takes tiles twice as high, and leaves half of the workgroups idle.
    launch(plan, Format::Single, params, bindings, Grid::linear(n.div_ceil(TILE).pow(2)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_token", args: &[("tokens", 1.0), ("n", 8.0)] },
    Case { name: "past_a_tile", args: &[("tokens", 33.0), ("n", 264.0)] },
    Case { name: "above_the_diagonal", args: &[("tokens", 47.0), ("n", 776.0)] },
    Case { name: "strips_of_tiles", args: &[("tokens", 3.0), ("n", 2312.0)] },
    Case { name: "beyond_f16", args: &[("tokens", 16.0), ("n", 128.0), ("size", 1e7)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, n) = (a.usize("tokens"), a.usize("n"));
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values: Vec<f32> = s.values(tokens * n, Fill::Outliers).iter().map(|v| v * size).collect();
    let (mut words, mut scales) = (vec![0; tokens * n / 2], vec![0.0; n]);
    split_columns(&split::Params { tokens: tokens as u32, n: n as u32, parts: 1 }, &values, &mut words, &mut scales);
    let numbers = s.device().upload_words(DType::F16, [tokens, n], &words)?;
    let x = Halves { numbers, parts: 1, scales: s.device().upload_f32([1, n], &scales)? };
    // Sums are as large as what is added, so that what they lose shows.
    let [totals, lost] = ["totals", "lost"].map(|name| s.state(name, [n, n], Fill::Normal(size * size)));
    into(s.plan(), &x, &totals?, &lost?)
}

fn work(a: &Args) -> Work {
    let (tokens, n) = (a.usize("tokens"), a.usize("n"));
    Work { bytes: 2 * tokens * n + 8 * n * n, ops: tokens * n * n }
}
