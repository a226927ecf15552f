//! Products in slices of their columns, so that there are tiles for all processors, and what adds them up.

use super::bindings::split_k_reduce::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::matmul::Epilogue;
use super::{Columns, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::split_k_reduce::Params;

/// How a product of several tokens may be cut along its columns `k` (split-K; Osama et al. 2023, arXiv:2301.03598): where it has fewer tiles of
/// outputs than the device has processors, the sums of slices of `k` go to `room`, and another launch adds them up.
#[derive(Clone, Copy, Debug)]
pub struct SplitK<'a> {
    /// f32 scratch for `slices · m · n` sums; as many slices as have room are considered.
    pub room: &'a DeviceTensor,
    /// Slices, where the kernel for these shapes takes any; `None`: as many as pay on the device.
    pub slices: Option<usize>,
}

impl SplitK<'_> {
    /// The most slices whose sums of `m` by `n` outputs the room holds.
    #[must_use]
    pub fn holds(&self, m: usize, n: usize) -> usize {
        self.room.shape.elements() / (m * n).max(1)
    }
}

/// `out (epilogue)= Σ_s sums[s]`, of the sums of slices of a product's columns.
///
/// `sums`: `[slices · m, n]` f32; `out`: `[m, n]` f32 columns. `n` and the columns of `out` are whole vec4s.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`Error::Argument`] for sums that are not of whole slices, or rows that
/// are not whole vec4s.
pub fn split_k_reduce(plan: &mut Plan, sums: &DeviceTensor, out: &Columns<'_>, epilogue: Epilogue) -> Result<()> {
    f32_tensor("split_k_reduce", "sums", sums)?;
    let (m, n) = (out.tensor.shape.rows(), sums.shape.cols());
    out.expect("split_k_reduce", "out", [m, n])?;
    let fail = |reason: String| Err(Error::argument("split_k_reduce: sums", reason));
    if m == 0 || !sums.shape.rows().is_multiple_of(m) || sums.shape.rows() == 0 {
        return fail(format!("{} rows are not whole slices of {m}", sums.shape.rows()));
    }
    if !n.is_multiple_of(4) || !out.in_quads() {
        return fail(format!("{n} columns from {} of {} are not whole vec4s", out.offset, out.stride()));
    }
    let params = params_of(sums, out, epilogue);
    launch(plan, params, Bindings { sums, out: out.tensor }, Grid::cover(m * n / 4, 256))
}

/// The sums `[slices · m, n]`, and of how many slices, up to `most`, that the plan's last launch would make `x` `[m, n]` of, all of it, with `epilogue`. That launch is taken
/// back: for a kernel that adds them up along. Else none, of 0.
pub(super) fn sums_for(
    plan: &mut Plan,
    x: &DeviceTensor,
    epilogue: Epilogue,
    most: usize,
) -> (Option<DeviceTensor>, usize) {
    let slices = |sums: &DeviceTensor| sums.shape.rows() / x.shape.rows().max(1);
    let into_x = |params: &[u8], bindings: &[DeviceTensor]| {
        let [sums, out] = bindings else { return false };
        params == bytemuck::bytes_of(&params_of(sums, &Columns::from(x), epilogue))
            && out.storage.same(&x.storage)
            && out.offset == x.offset
            && sums.shape.cols() == x.shape.cols()
            && slices(sums) <= most
    };
    let sums = plan.take_back("split_k_reduce", into_x).and_then(|bindings| bindings.into_iter().next());
    let count = sums.as_ref().map_or(0, slices);
    (sums, count)
}

fn params_of(sums: &DeviceTensor, out: &Columns<'_>, epilogue: Epilogue) -> Params {
    let m = out.tensor.shape.rows();
    Params {
        m: m as u32,
        n: sums.shape.cols() as u32,
        slices: (sums.shape.rows() / m.max(1)) as u32,
        epilogue: epilogue as u32,
        out_stride: out.stride() as u32,
        out_first: out.offset as u32,
    }
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "split_k_reduce", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_slice", args: &[("m", 1.0), ("n", 4.0), ("slices", 1.0)] },
    Case { name: "three_slices_added", args: &[("m", 33.0), ("n", 36.0), ("slices", 3.0), ("epilogue", 2.0)] },
    Case { name: "two_slices_relu2", args: &[("m", 70.0), ("n", 68.0), ("slices", 2.0), ("epilogue", 1.0)] },
    Case {
        name: "columns_of_wider_rows",
        args: &[("m", 9.0), ("n", 68.0), ("slices", 4.0), ("stride", 100.0), ("first", 20.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let [m, n, slices] = ["m", "n", "slices"].map(|name| a.usize(name));
    let epilogue = Epilogue::of(a);
    let stride = a.get("stride").map_or(n, |v| v as usize);
    let sums = s.input([slices * m, n], Fill::Normal(1.0))?;
    // What lies beside the columns is to be left alone.
    let out = s.state("out", [m, stride], Fill::Normal(1.0))?;
    let first = a.get("first").map_or(0, |v| v as usize);
    split_k_reduce(s.plan(), &sums, &Columns::new("split_k_reduce", &out, first, n)?, epilogue)
}

fn work(a: &Args) -> Work {
    let [m, n, slices] = ["m", "n", "slices"].map(|name| a.usize(name));
    Work { bytes: 4 * m * n * (slices + 2), ops: m * n * slices }
}
