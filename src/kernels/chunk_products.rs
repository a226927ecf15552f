//! Products of C and B within chunks, which all heads of a group share.

use super::bindings::chunk_products::{Bindings, launch};
use super::check::{Args, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, dtype, expect_floats};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::chunk_products::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "chunk_products";
/// Side of a workgroup's tile of tokens.
const TILE: usize = 64;

/// `products[l, g, s] = C[l]·B[s]` for the tokens `s ≤ l` of `l`'s chunk, counted from its first, and 0 for later ones.
/// Dao & Gu 2024, arXiv:2405.21060, section 6.
///
/// `xbc`: `[tokens, conv_dim]`, columns x | B | C; `products`: `[tokens, products_len]`, written; f32, or both f16, and then a
/// 64th of each product, so that products up to 4e6 are in f16's range.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn chunk_products(plan: &mut Plan, xbc: &DeviceTensor, products: &DeviceTensor, dims: SsdDims) -> Result<()> {
    dims.check(NAME)?;
    let tokens = xbc.shape.rows();
    let width = dims.products_len(xbc.dtype);
    let shapes = [("xbc", xbc, [tokens, dims.conv_dim()]), ("products", products, [tokens, width])];
    let format = match expect_floats(NAME, &shapes)? {
        DType::F16 if dims.state.is_multiple_of(8) && dims.head_dim.is_multiple_of(8) => Format::HalfBlocks,
        DType::F16 => Format::Half,
        _ => Format::F32,
    };
    let params = Params {
        tokens: tokens as u32,
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        chunk: dims.chunk as u32,
    };
    let grid = Grid::linear(dims.chunks(tokens) * dims.groups * dims.chunk.div_ceil(TILE).pow(2));
    launch(plan, format, params, Bindings { xbc, products }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: super::ssd::CASES, setup, work };

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let xbc = s.input_as(dtype(a), [tokens, dims.conv_dim()], Fill::Normal(1.0))?;
    let products = s.output("products", dtype(a), [tokens, dims.products_len(dtype(a))])?;
    chunk_products(s.plan(), &xbc, &products, dims)
}

fn work(a: &Args) -> Work {
    let (dims, tokens) = (dims(a), a.usize("tokens"));
    let before = dims.chunk.min(tokens).div_ceil(2); // tokens s of a token, on average
    let values = tokens * (2 * dims.groups * dims.state + dims.products_len(dtype(a)));
    let bytes = dtype(a).bits() / 8 * values;
    Work { bytes, ops: 2 * tokens * dims.groups * dims.state * before }
}
