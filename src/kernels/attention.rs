//! Causal grouped-query attention over a cache, without positions.

use super::bindings::attention::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::expect_f32;
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::attention::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "attention";
/// Rows (token and query head), and columns of a head, of one workgroup.
const TILE: usize = 64;

/// Sizes of an attention layer. Query head `j` reads kv head `j / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionDims {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head, at most 256; fastest for multiples of 4.
    pub head_dim: usize,
}

impl AttentionDims {
    fn check(self) -> Result<()> {
        let refuse = |what: &str| Err(Error::argument(format!("{NAME}: `dims`"), format!("{what}, got {self:?}")));
        if self.heads == 0 || self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return refuse("heads must be a multiple of kv_heads");
        }
        if !(1..=256).contains(&self.head_dim) {
            return refuse("head_dim must be 1 to 256");
        }
        Ok(())
    }
}

/// `out = softmax(q·kᵀ / sqrt(head_dim)) v`, query `t` over cache rows `0..=cursor + t`.
/// Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245.
///
/// `q`, `out`: `[tokens, heads · head_dim]` f32; `k_cache`, `v_cache`: `[max, kv_heads · head_dim]` f32, to which
/// these tokens' keys and values are appended already; `cursor`: `[1]` u32, the tokens before these.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault.
pub fn attention(
    plan: &mut Plan,
    q: &DeviceTensor,
    k_cache: &DeviceTensor,
    v_cache: &DeviceTensor,
    cursor: &DeviceTensor,
    out: &DeviceTensor,
    dims: AttentionDims,
) -> Result<()> {
    dims.check()?;
    let (tokens, max) = (q.shape.rows(), k_cache.shape.rows());
    let (width, kv_width) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    expect_dtype(NAME, "cursor", cursor, DType::U32, "u32")?;
    expect(NAME, "cursor", cursor, [1])?;
    expect_f32(
        NAME,
        &[
            ("q", q, [tokens, width]),
            ("k_cache", k_cache, [max, kv_width]),
            ("v_cache", v_cache, [max, kv_width]),
            ("out", out, [tokens, width]),
        ],
    )?;
    let params = Params {
        tokens: tokens as u32,
        heads: dims.heads as u32,
        kv_heads: dims.kv_heads as u32,
        head_dim: dims.head_dim as u32,
        max: max as u32,
        scale: (dims.head_dim as f32).sqrt().recip(),
    };
    let format = if dims.head_dim.is_multiple_of(4) { Format::Quads } else { Format::Scalars };
    let rows = tokens * (dims.heads / dims.kv_heads);
    let grid = Grid::linear(rows.div_ceil(TILE) * dims.kv_heads * dims.head_dim.div_ceil(TILE));
    launch(plan, format, params, Bindings { q, k_cache, v_cache, cursor, out }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $tokens:expr, $cursor:expr, $max:expr, [$heads:expr, $kv_heads:expr, $head_dim:expr], $sd:expr) => {
        Case {
            name: $name,
            args: &[
                ("tokens", $tokens),
                ("cursor", $cursor),
                ("max", $max),
                ("heads", $heads),
                ("kv_heads", $kv_heads),
                ("head_dim", $head_dim),
                ("sd", $sd),
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano_prompt", 75.0, 0.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("nano_prompt_continued", 40.0, 30.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("nano_token", 1.0, 70.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("first_token", 1.0, 0.0, 4.0, [2.0, 1.0, 16.0], 1.0),
    case!("nemotron_head_dim", 9.0, 33.0, 42.0, [4.0, 1.0, 128.0], 1.0),
    case!("widest_head", 3.0, 5.0, 8.0, [1.0, 1.0, 256.0], 1.0),
    case!("odd_head_dim", 20.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("one_element_heads", 5.0, 0.0, 5.0, [2.0, 2.0, 1.0], 1.0),
    case!("five_queries_a_key", 33.0, 1.0, 40.0, [5.0, 1.0, 20.0], 1.0),
    case!("peaked_softmax", 40.0, 0.0, 40.0, [2.0, 1.0, 64.0], 6.0),
    // docs/driver-faults.md: exp under fast math (llama.cpp's unary.wgsl).
    case!("fast_math_softmax_1e4", 40.0, 0.0, 40.0, [2.0, 1.0, 16.0], 1e3),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, max) = (a.usize("tokens"), a.usize("max"));
    let dims = AttentionDims { heads: a.usize("heads"), kv_heads: a.usize("kv_heads"), head_dim: a.usize("head_dim") };
    let (width, kv_width) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    let sd = a.f64("sd") as f32;
    let mut queries = s.values(tokens * width, Fill::Normal(sd));
    let mut keys = s.values(max * kv_width, Fill::Normal(1.0));
    if sd >= 1e3 {
        // Whole numbers: scores of thousands are exact, and so are their differences.
        queries.iter_mut().for_each(|v| *v = v.round_ties_even());
        keys.iter_mut().for_each(|v| *v = (*v * 4.0).round_ties_even());
    }
    let q = s.device().upload_f32([tokens, width], &queries)?;
    let k_cache = s.device().upload_f32([max, kv_width], &keys)?;
    let v_cache = s.input([max, kv_width], Fill::Normal(1.0))?;
    let cursor = s.device().upload_words(DType::U32, [1], &[a.usize("cursor") as u32])?;
    let out = s.output("out", DType::F32, [tokens, width])?;
    attention(s.plan(), &q, &k_cache, &v_cache, &cursor, &out, dims)
}

fn work(a: &Args) -> Work {
    let (tokens, head_dim) = (a.usize("tokens"), a.usize("head_dim"));
    let (keys, seen) = (a.usize("cursor") + tokens, a.usize("cursor") + tokens.div_ceil(2));
    let values = 2 * tokens * a.usize("heads") + 2 * keys * a.usize("kv_heads");
    Work { bytes: 4 * values * head_dim, ops: 4 * tokens * seen * a.usize("heads") * head_dim }
}
