//! Carries the Mamba-2 state from chunk to chunk.

use super::bindings::state_passing::{Bindings, launch};
use super::check::{Args, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, decays, dims, expect_f32};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::state_passing::Params;
use crate::tensor::DType;

const NAME: &str = "state_passing";

/// `entering[c] = S` before chunk `c`, then `S = exp(da[last of c]) S + states[c]`. Dao & Gu 2024, arXiv:2405.21060.
///
/// `states`, `entering`: `[chunks, heads · head_dim · state]`; `da_cumsum`: `[heads, tokens]`;
/// `ssm_state`: `[heads, head_dim · state]`, before the first chunk on entry and after the last on return; f32.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn state_passing(
    plan: &mut Plan,
    states: &DeviceTensor,
    da_cumsum: &DeviceTensor,
    ssm_state: &DeviceTensor,
    entering: &DeviceTensor,
    dims: SsdDims,
    tokens: usize,
) -> Result<()> {
    dims.check(NAME)?;
    let per_chunk = [dims.chunks(tokens), dims.state_len()];
    expect_f32(
        NAME,
        &[
            ("states", states, per_chunk),
            ("da_cumsum", da_cumsum, [dims.heads, tokens]),
            ("ssm_state", ssm_state, [dims.heads, dims.head_dim * dims.state]),
            ("entering", entering, per_chunk),
        ],
    )?;
    let params = Params {
        tokens: tokens as u32,
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        state: dims.state as u32,
        chunk: dims.chunk as u32,
    };
    let bindings = Bindings { states, da_cumsum, ssm_state, entering };
    launch(plan, params, bindings, Grid::cover(dims.state_len() / 4, 64))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: super::ssd::F32_CASES, setup, work };

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let per_chunk = [dims.chunks(tokens), dims.state_len()];
    let states = s.input(per_chunk, Fill::Normal(1.0))?;
    let (_, da_cumsum) = decays(s, a, dims)?;
    let ssm_state = s.state("ssm_state", [dims.heads, dims.head_dim * dims.state], Fill::Normal(1.0))?;
    let entering = s.output("entering", DType::F32, per_chunk)?;
    state_passing(s.plan(), &states, &da_cumsum, &ssm_state, &entering, dims, tokens)
}

fn work(a: &Args) -> Work {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let n = dims.state_len();
    Work { bytes: 8 * n * (dims.chunks(tokens) + 1), ops: 2 * n * dims.chunks(tokens) }
}
