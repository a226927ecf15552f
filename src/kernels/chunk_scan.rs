//! Outputs of the Mamba-2 recurrence, all tokens of a chunk at once.

use super::bindings::chunk_scan::{Bindings, launch};
use super::check::{Args, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, decays, dims, dtype, expect_f32, expect_floats, row};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::chunk_scan::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "chunk_scan";
/// Tokens, and columns of a head, of one workgroup.
const TILE: usize = 64;
/// Longest state that matrix units take.
const BLOCK_STATE: usize = 128;

/// `y[l] = exp(da[l]) C[l]·S + Σ_{s ≤ l} (C[l]·B[s]) exp(da[l] - da[s]) dt[s] x[s] + D x[l]` within each chunk, `S`
/// the state that enters it. Dao & Gu 2024, arXiv:2405.21060, section 6.
///
/// `xbc`: `[tokens, conv_dim]`, columns x | B | C; `products`: `C[l]·B[s]` of [`super::chunk_products`],
/// `[tokens, products_len]`; `dt`, `da_cumsum`: `[heads, tokens]`;
/// `entering`: `[chunks, heads · head_dim · state]`; `d`: `[heads]`; `y`: `[tokens, d_inner]`; f32, or `xbc`, `products` (a 64th of
/// each), `entering` and `y` all f16.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
#[expect(clippy::too_many_arguments, reason = "one argument a tensor of the formula")]
pub fn chunk_scan(
    plan: &mut Plan,
    xbc: &DeviceTensor,
    products: &DeviceTensor,
    dt: &DeviceTensor,
    da_cumsum: &DeviceTensor,
    entering: &DeviceTensor,
    d: &DeviceTensor,
    y: &DeviceTensor,
    dims: SsdDims,
) -> Result<()> {
    dims.check(NAME)?;
    let tokens = xbc.shape.rows();
    let dtype = expect_floats(
        NAME,
        &[
            ("xbc", xbc, [tokens, dims.conv_dim()]),
            ("products", products, [tokens, dims.products_len(xbc.dtype)]),
            ("entering", entering, [dims.chunks(tokens), dims.state_len()]),
            ("y", y, [tokens, dims.d_inner()]),
        ],
    )?;
    expect_f32(
        NAME,
        &[("dt", dt, [dims.heads, tokens]), ("da_cumsum", da_cumsum, [dims.heads, tokens]), ("d", d, row(dims.heads))],
    )?;
    let params = Params {
        tokens: tokens as u32,
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        chunk: dims.chunk as u32,
    };
    let tiles = dims.chunk.div_ceil(TILE) * dims.head_dim.div_ceil(TILE);
    let grid = Grid::linear(dims.chunks(tokens) * dims.heads * tiles);
    let blocks = dims.state <= BLOCK_STATE;
    let format = match dtype {
        DType::F16 if blocks && dims.state.is_multiple_of(8) && dims.head_dim.is_multiple_of(8) => Format::HalfBlocks,
        DType::F16 => Format::Half,
        _ if blocks => Format::Blocks,
        _ => Format::Any,
    };
    launch(plan, format, params, Bindings { xbc, products, dt, da_cumsum, entering, d, y }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: super::ssd::CASES, setup, work };

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let xbc = s.input_as(dtype(a), [tokens, dims.conv_dim()], Fill::Normal(1.0))?;
    let products = s.input_as(dtype(a), [tokens, dims.products_len(dtype(a))], Fill::Normal(1.0))?;
    let (dt, da_cumsum) = decays(s, a, dims)?;
    let entering = s.input_as(dtype(a), [dims.chunks(tokens), dims.state_len()], Fill::Normal(1.0))?;
    let d = s.input([dims.heads], Fill::Normal(1.0))?;
    let y = s.output("y", dtype(a), [tokens, dims.d_inner()])?;
    chunk_scan(s.plan(), &xbc, &products, &dt, &da_cumsum, &entering, &d, &y, dims)
}

fn work(a: &Args) -> Work {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let before = dims.chunk.min(tokens).div_ceil(2); // tokens s a token reads, on average
    let of_token = 2 * dims.d_inner() + dims.groups * dims.state + dims.products_len(dtype(a));
    let values = tokens * of_token + dims.chunks(tokens) * dims.state_len();
    let bytes = dtype(a).bits() / 8 * values + 8 * tokens * dims.heads;
    Work { bytes, ops: 2 * tokens * (dims.state_len() + dims.d_inner() * before) }
}
