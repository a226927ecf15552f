//! The Mamba-2 state that enters each chunk of a sequence in f16.

use super::bindings::chunk_entering::{Bindings, launch};
use super::check::{Args, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, decays, dims, expect_f32};
use super::{expect, expect_dtype};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::chunk_entering::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "chunk_entering";
/// Side of a workgroup's tile of (p, n).
const TILE: usize = 64;
/// Side of a matrix.
const MATRIX: usize = 16;

/// [`super::chunk_state`] and [`super::state_passing`] in one: `entering[c] = S` before chunk `c` rounded to f16 (beyond its range
/// to its last number), then `S = exp(da[last of c]) S + Σ_{l in c} exp(da[last] - da[l]) dt[l] x[l, p] B[l, n]` in f32.
/// Dao & Gu 2024, arXiv:2405.21060, section 6.
///
/// `xbc`: `[tokens, conv_dim]` f16, columns x | B | C; `dt`, `da_cumsum`: `[heads, tokens]` f32; `ssm_state`:
/// `[heads, head_dim · state]` f32, before the first chunk on entry and after the last on return;
/// `entering`: `[chunks, heads · head_dim · state]` f16. Matrix units round x times its weight to f16.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn chunk_entering(
    plan: &mut Plan,
    xbc: &DeviceTensor,
    dt: &DeviceTensor,
    da_cumsum: &DeviceTensor,
    ssm_state: &DeviceTensor,
    entering: &DeviceTensor,
    dims: SsdDims,
) -> Result<()> {
    dims.check(NAME)?;
    let tokens = xbc.shape.rows();
    let per_chunk = [dims.chunks(tokens), dims.state_len()];
    for (arg, tensor, shape) in [("xbc", xbc, [tokens, dims.conv_dim()]), ("entering", entering, per_chunk)] {
        expect_dtype(NAME, arg, tensor, DType::F16, "f16")?;
        expect(NAME, arg, tensor, shape)?;
    }
    expect_f32(
        NAME,
        &[
            ("dt", dt, [dims.heads, tokens]),
            ("da_cumsum", da_cumsum, [dims.heads, tokens]),
            ("ssm_state", ssm_state, [dims.heads, dims.head_dim * dims.state]),
        ],
    )?;
    let params = Params {
        tokens: tokens as u32,
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        chunk: dims.chunk as u32,
    };
    let whole = dims.head_dim.is_multiple_of(MATRIX) && dims.state.is_multiple_of(MATRIX);
    let format = if whole { Format::Tiles } else { Format::Any };
    let grid = Grid::linear(dims.heads * dims.head_dim.div_ceil(TILE) * dims.state.div_ceil(TILE));
    launch(plan, format, params, Bindings { xbc, dt, da_cumsum, ssm_state, entering }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: super::ssd::F16_CASES, setup, work };

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let xbc = s.input_as(DType::F16, [tokens, dims.conv_dim()], Fill::Normal(1.0))?;
    let (dt, da_cumsum) = decays(s, a, dims)?;
    let ssm_state = s.state("ssm_state", [dims.heads, dims.head_dim * dims.state], Fill::Normal(1.0))?;
    let entering = s.output("entering", DType::F16, [dims.chunks(tokens), dims.state_len()])?;
    chunk_entering(s.plan(), &xbc, &dt, &da_cumsum, &ssm_state, &entering, dims)
}

fn work(a: &Args) -> Work {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let read = tokens * (2 * (dims.d_inner() + dims.groups * dims.state) + 8 * dims.heads);
    let states = dims.state_len();
    Work { bytes: read + (2 * dims.chunks(tokens) + 8) * states, ops: 2 * tokens * states }
}
