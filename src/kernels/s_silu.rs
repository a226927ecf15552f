//! SiLU of a gate that was smoothed: for Mamba-1, whose gate has no norm behind it to take the factors.

use super::bindings::s_silu::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::s_silu::Params;
use crate::tensor::DType;

/// `out[r, c] = x[r, c] σ(scale[c] x[r, c])`: MambaQuant's S-SiLU, arXiv:2501.13484.
///
/// With `x = z / s` it is `SiLU(z) / s`. So in a Mamba-1 block the gate's rows of `in_proj` may be divided by s and the
/// columns of `out_proj` multiplied by it, and what is quantized before `out_proj` is smoother by s. Mamba-2's gated
/// norm takes s without this ([`crate::transform::scale::gated_norm`]); behind Mamba-2's convolution it makes scales
/// and signs of B, C and x exact, which SiLU does not ([`crate::transform::StateAxis`]).
///
/// `x`, `out`: `[rows, cols]` f32; `scale`: `[cols]` f32, of any sign.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn s_silu(plan: &mut Plan, x: &DeviceTensor, scale: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    f32_tensor("s_silu", "x", x)?;
    f32_tensor("s_silu", "scale", scale)?;
    f32_tensor("s_silu", "out", out)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    expect("s_silu", "scale", scale, [cols])?;
    expect("s_silu", "out", out, [rows, cols])?;
    let params = Params { rows: rows as u32, cols: cols as u32 };
    launch(plan, params, Bindings { x, scale, out }, Grid::cover(rows * cols, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "s_silu", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_tokens", args: &[("rows", 5.0), ("cols", 128.0), ("most", 4.0)] },
    Case { name: "odd_cols", args: &[("rows", 7.0), ("cols", 333.0), ("most", 4.0)] },
    Case { name: "one_column", args: &[("rows", 300.0), ("cols", 1.0), ("most", 4.0)] },
    // exp would overflow.
    Case { name: "saturated", args: &[("rows", 5.0), ("cols", 64.0), ("most", 1000.0)] },
    Case { name: "mamba_2_8b_token", args: &[("rows", 1.0), ("cols", 5120.0), ("most", 4.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let x = s.input([rows, cols], Fill::Outliers)?;
    let scale = s.input([cols], Fill::Uniform(0.05, a.usize("most") as f32))?;
    let out = s.output("out", DType::F32, [rows, cols])?;
    s_silu(s.plan(), &x, &scale, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 8 * n + 4 * a.usize("cols"), ops: 5 * n }
}
