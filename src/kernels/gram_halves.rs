//! Second moments of activations on matrix units.

use super::bindings::gram_halves::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{GramSums, Halves, expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::reference::gram::TILE;
use crate::reference::split_columns::split_columns;
use crate::shaders::gram_halves::Params;
use crate::shaders::split_columns as split;
use crate::tensor::DType;

const NAME: &str = "gram_halves";

/// As [`super::gram`], of numbers that [`super::split_columns`] has cut.
///
/// # Errors
/// [`crate::Error::Shape`] naming the argument at fault.
pub fn gram_halves(plan: &mut Plan, x: &Halves, sums: &GramSums) -> Result<()> {
    into(plan, x, x, &sums.totals, &sums.lost, sums.symmetric)
}

/// As [`super::cross_gram`], likewise.
///
/// # Errors
/// As [`gram_halves`]; [`crate::Error::Argument`] for sums of one matrix.
pub fn cross_gram_halves(plan: &mut Plan, a: &Halves, b: &Halves, sums: &GramSums) -> Result<()> {
    sums.two(NAME)?;
    into(plan, a, b, &sums.totals, &sums.lost, false)
}

fn into(
    plan: &mut Plan,
    a: &Halves,
    b: &Halves,
    totals: &DeviceTensor,
    lost: &DeviceTensor,
    upper: bool,
) -> Result<()> {
    let (tokens, n, m) = (a.tokens(), a.columns(), b.columns());
    for (name, tensor) in [("totals", totals), ("lost", lost)] {
        f32_tensor(NAME, name, tensor)?;
        expect(NAME, name, tensor, [n, m])?;
    }
    expect(NAME, "b", &b.numbers, [2 * tokens, m])?;
    let params = Params { tokens: tokens as u32, n: n as u32, m: m as u32, upper: upper.into(), zero: 0 };
    let bindings = Bindings { a: &a.numbers, a_scales: &a.scales, b: &b.numbers, b_scales: &b.scales, totals, lost };
    // The form on matrices takes tiles twice as high, and leaves half of the workgroups idle.
    launch(plan, params, bindings, Grid::linear(n.div_ceil(TILE) * m.div_ceil(TILE)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_token", args: &[("tokens", 1.0), ("n", 8.0), ("m", 8.0)] },
    Case { name: "past_a_tile", args: &[("tokens", 33.0), ("n", 264.0), ("m", 136.0)] },
    Case { name: "several_tiles", args: &[("tokens", 80.0), ("n", 520.0), ("m", 392.0)] },
    Case { name: "strips_of_tiles", args: &[("tokens", 3.0), ("n", 2312.0), ("m", 264.0)] },
    Case { name: "above_the_diagonal", args: &[("tokens", 47.0), ("n", 776.0), ("m", 776.0), ("upper", 1.0)] },
    Case { name: "beyond_f16", args: &[("tokens", 64.0), ("n", 128.0), ("m", 128.0), ("size", 1e7)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, n, m) = (a.usize("tokens"), a.usize("n"), a.usize("m"));
    let upper = a.get("upper") == Some(1.0);
    // Sums keep their size, so that what they lose does.
    let size = a.get("size").unwrap_or(1.0) as f32;
    let x = halves(s, [tokens, n], size)?;
    let y = if upper { x.clone() } else { halves(s, [tokens, m], size.recip())? };
    let totals = s.state("totals", [n, m], Fill::Normal(1.0))?;
    let lost = s.state("lost", [n, m], Fill::Normal(1.0))?;
    into(s.plan(), &x, &y, &totals, &lost, upper)
}

/// Numbers with outliers, times `size`.
fn halves(s: &mut Setup, [tokens, n]: [usize; 2], size: f32) -> Result<Halves> {
    let values: Vec<f32> = s.values(tokens * n, Fill::Outliers).iter().map(|v| v * size).collect();
    let (mut words, mut scales) = (vec![0; tokens * n], vec![0.0; n]);
    split_columns(&split::Params { tokens: tokens as u32, n: n as u32 }, &values, &mut words, &mut scales);
    Ok(Halves {
        numbers: s.device().upload_words(DType::F16, [2 * tokens, n], &words)?,
        scales: s.device().upload_f32([1, n], &scales)?,
    })
}

fn work(a: &Args) -> Work {
    let (tokens, n, m) = (a.usize("tokens"), a.usize("n"), a.usize("m"));
    let part = if a.get("upper") == Some(1.0) { 2 } else { 1 };
    Work { bytes: 4 * (tokens * (n + m) + 4 * n * m / part), ops: 2 * tokens * n * m / part }
}
