//! What each chunk of a sequence adds to the Mamba-2 state.

use super::bindings::chunk_state::{Bindings, launch};
use super::check::{Args, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, decays, dims, expect_f32};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::chunk_state::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "chunk_state";
/// A workgroup's tile of (p, n). The form on matrices takes twice as many n, and leaves half of the workgroups idle.
const TILE: usize = 64;
/// Side of a matrix.
const MATRIX: usize = 16;

/// `states[c, h, p, n] = Σ_{l in chunk c} exp(da[last] - da[l]) dt[l] x[l, p] B[l, n]`.
/// Dao & Gu 2024, arXiv:2405.21060, section 6.
///
/// `xbc`: `[tokens, conv_dim]`, columns x | B | C; `dt`, `da_cumsum`: `[heads, tokens]`;
/// `states`: `[chunks, heads · head_dim · state]`; f32.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn chunk_state(
    plan: &mut Plan,
    xbc: &DeviceTensor,
    dt: &DeviceTensor,
    da_cumsum: &DeviceTensor,
    states: &DeviceTensor,
    dims: SsdDims,
) -> Result<()> {
    dims.check(NAME)?;
    let tokens = xbc.shape.rows();
    expect_f32(
        NAME,
        &[
            ("xbc", xbc, [tokens, dims.conv_dim()]),
            ("dt", dt, [dims.heads, tokens]),
            ("da_cumsum", da_cumsum, [dims.heads, tokens]),
            ("states", states, [dims.chunks(tokens), dims.state_len()]),
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
    let tiles = dims.head_dim.div_ceil(TILE) * dims.state.div_ceil(TILE);
    let grid = Grid::linear(dims.chunks(tokens) * dims.heads * tiles);
    let whole = dims.head_dim.is_multiple_of(MATRIX) && dims.state.is_multiple_of(MATRIX);
    let format = if whole { Format::Tiles } else { Format::Any };
    launch(plan, format, params, Bindings { xbc, dt, da_cumsum, states }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: super::ssd::F32_CASES, setup, work };

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let xbc = s.input([tokens, dims.conv_dim()], Fill::Normal(1.0))?;
    let (dt, da_cumsum) = decays(s, a, dims)?;
    let states = s.output("states", DType::F32, [dims.chunks(tokens), dims.state_len()])?;
    chunk_state(s.plan(), &xbc, &dt, &da_cumsum, &states, dims)
}

fn work(a: &Args) -> Work {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let read = tokens * (dims.d_inner() + dims.groups * dims.state + 2 * dims.heads);
    Work { bytes: 4 * (read + dims.chunks(tokens) * dims.state_len()), ops: 2 * tokens * dims.state_len() }
}
