//! Second moments of activations.

use rayon::prelude::*;

use super::bindings::gram::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::reference::gram::TILE;
use crate::shaders::gram::Params;
use crate::tensor::DType;

/// Sums of products `aᵀ b` on a device, f32 totals, and what their rounding lost where that is kept.
pub struct GramSums {
    pub(super) totals: DeviceTensor,
    lost: Option<DeviceTensor>,
    /// Of one matrix with itself: only what is on and above the diagonal is added up.
    pub(super) symmetric: bool,
}

impl GramSums {
    /// Zeros `[n, m]`, for products of two matrices.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn of_two(device: &Device, n: usize, m: usize) -> Result<Self> {
        let zeros = || device.alloc(DType::F32, [n, m]);
        Ok(Self { totals: zeros()?, lost: Some(zeros()?), symmetric: false })
    }

    /// Zeros `[n, n]`, for products of one matrix with itself.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn of_one(device: &Device, n: usize) -> Result<Self> {
        Ok(Self { symmetric: true, ..Self::of_two(device, n, n)? })
    }

    /// Zeros `[n, n]`, for [`super::gram_halves`]: totals alone.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn of_halves(device: &Device, n: usize) -> Result<Self> {
        Ok(Self { totals: device.alloc(DType::F32, [n, n])?, lost: None, symmetric: true })
    }

    /// The sums so far, `[n, m]`.
    ///
    /// # Errors
    /// As [`Device::read_f32`].
    pub async fn read(&self, device: &Device) -> Result<Vec<f64>> {
        let (m, symmetric) = (self.totals.shape.cols(), self.symmetric);
        let lost = match &self.lost {
            Some(lost) => device.read_f32(lost).await?,
            None => Vec::new(),
        };
        let totals = device.read_f32(&self.totals).await?;
        let upper = |i: usize, j: usize| if symmetric && j < i { j * m + i } else { i * m + j };
        let sum = |e: usize| f64::from(totals[e]) + lost.get(e).map_or(0.0, |lost| f64::from(*lost));
        Ok((0..totals.len()).into_par_iter().map(|e| sum(upper(e / m, e % m))).collect())
    }

    fn lost(&self) -> Result<&DeviceTensor> {
        self.lost.as_ref().ok_or_else(|| Error::argument("gram: sums", "totals alone"))
    }

    /// Columns of the second matrix.
    #[must_use]
    pub fn width(&self) -> usize {
        self.totals.shape.cols()
    }

    /// The rounded totals alone, `[n, m]` f32.
    #[must_use]
    pub fn totals(&self) -> &DeviceTensor {
        &self.totals
    }

    /// Zeros again.
    ///
    /// # Errors
    /// As [`crate::gpu::Submission::clear`].
    pub fn reset(&self, device: &Device) -> Result<()> {
        let mut submission = device.submission();
        [Some(&self.totals), self.lost.as_ref()].into_iter().flatten().try_for_each(|t| submission.clear(t))?;
        submission.submit()
    }
}

/// `sums += xᵀ x`: second moments, over the tokens of this launch added to those of launches before.
///
/// `x`: `[tokens, n]` f32; `sums` of one matrix, `[n, n]`.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn gram(plan: &mut Plan, x: &DeviceTensor, sums: &GramSums) -> Result<()> {
    into(plan, x, x, &sums.totals, sums.lost()?, sums.symmetric)
}

/// `sums += aᵀ b`, likewise.
///
/// `a`: `[tokens, n]`; `b`: `[tokens, m]`, f32; `sums` of two, `[n, m]`.
///
/// # Errors
/// As [`gram`]; [`crate::Error::Argument`] for sums of one matrix.
pub fn cross_gram(plan: &mut Plan, a: &DeviceTensor, b: &DeviceTensor, sums: &GramSums) -> Result<()> {
    if sums.symmetric {
        return Err(Error::argument("gram: sums", "of one matrix, for products of two"));
    }
    into(plan, a, b, &sums.totals, sums.lost()?, false)
}

fn into(
    plan: &mut Plan,
    a: &DeviceTensor,
    b: &DeviceTensor,
    totals: &DeviceTensor,
    lost: &DeviceTensor,
    upper: bool,
) -> Result<()> {
    for (name, tensor) in [("a", a), ("b", b), ("totals", totals), ("lost", lost)] {
        f32_tensor("gram", name, tensor)?;
    }
    let (tokens, n, m) = (a.shape.rows(), a.shape.cols(), b.shape.cols());
    expect("gram", "b", b, [tokens, m])?;
    expect("gram", "totals", totals, [n, m])?;
    expect("gram", "lost", lost, [n, m])?;
    let params = Params { tokens: tokens as u32, n: n as u32, m: m as u32, upper: upper.into(), zero: 0 };
    let grid = Grid::linear(n.div_ceil(TILE) * m.div_ceil(TILE));
    launch(plan, params, Bindings { a, b, totals, lost }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "gram", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("tokens", 1.0), ("n", 1.0), ("m", 1.0)] },
    Case { name: "past_a_tile", args: &[("tokens", 9.0), ("n", 129.0), ("m", 131.0)] },
    Case { name: "edges_of_half_tiles", args: &[("tokens", 33.0), ("n", 73.0), ("m", 61.0)] },
    Case { name: "nano_hidden", args: &[("tokens", 64.0), ("n", 128.0), ("m", 128.0)] },
    Case { name: "above_the_diagonal", args: &[("tokens", 17.0), ("n", 259.0), ("m", 259.0), ("upper", 1.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, n, m) = (a.usize("tokens"), a.usize("n"), a.usize("m"));
    let upper = a.get("upper") == Some(1.0);
    let x = s.input([tokens, n], Fill::Outliers)?;
    let y = if upper { x.clone() } else { s.input([tokens, m], Fill::Normal(1.0))? };
    let totals = s.state("totals", [n, m], Fill::Normal(1.0))?;
    let lost = s.state("lost", [n, m], Fill::Normal(1.0))?;
    into(s.plan(), &x, &y, &totals, &lost, upper)
}

fn work(a: &Args) -> Work {
    let (tokens, n, m) = (a.usize("tokens"), a.usize("n"), a.usize("m"));
    let part = if a.get("upper") == Some(1.0) { 2 } else { 1 };
    Work { bytes: 4 * (tokens * (n + m) + 4 * n * m / part), ops: 2 * tokens * n * m / part }
}
