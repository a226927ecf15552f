//! Appends keys and values to their caches.

use super::bindings::kv_append::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::expect_f32;
use super::{expect, expect_dtype};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::kv_append::Params;
use crate::tensor::DType;

const NAME: &str = "kv_append";

/// Rows `cursor..cursor + tokens` of the caches = rows of `k` and `v`.
///
/// `k`, `v`: `[tokens, kv_heads · head_dim]` f32; `cursor`: `[1]` u32; `k_cache`, `v_cache`:
/// `[max, kv_heads · head_dim]` f32, whose other rows stay. Rows that do not fit are dropped: the cursor lives on
/// the device, so the runtime checks room before it launches.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn kv_append(
    plan: &mut Plan,
    k: &DeviceTensor,
    v: &DeviceTensor,
    cursor: &DeviceTensor,
    k_cache: &DeviceTensor,
    v_cache: &DeviceTensor,
) -> Result<()> {
    let (tokens, width, max) = (k.shape.rows(), k.shape.cols(), k_cache.shape.rows());
    expect_dtype(NAME, "cursor", cursor, DType::U32, "u32")?;
    expect(NAME, "cursor", cursor, [1])?;
    expect_f32(
        NAME,
        &[
            ("k", k, [tokens, width]),
            ("v", v, [tokens, width]),
            ("k_cache", k_cache, [max, width]),
            ("v_cache", v_cache, [max, width]),
        ],
    )?;
    let params = Params { tokens: tokens as u32, width: width as u32, max: max as u32 };
    launch(plan, params, Bindings { k, v, cursor, k_cache, v_cache }, Grid::cover(tokens * width, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_prompt", args: &[("tokens", 37.0), ("width", 64.0), ("cursor", 0.0), ("max", 40.0)] },
    Case { name: "one_token", args: &[("tokens", 1.0), ("width", 64.0), ("cursor", 17.0), ("max", 40.0)] },
    Case { name: "fills_the_cache", args: &[("tokens", 5.0), ("width", 33.0), ("cursor", 6.0), ("max", 11.0)] },
    Case { name: "overfull_rows_dropped", args: &[("tokens", 5.0), ("width", 33.0), ("cursor", 8.0), ("max", 11.0)] },
    Case { name: "cursor_past_the_end", args: &[("tokens", 2.0), ("width", 8.0), ("cursor", 12.0), ("max", 11.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, width, max) = (a.usize("tokens"), a.usize("width"), a.usize("max"));
    let k = s.input([tokens, width], Fill::Normal(1.0))?;
    let v = s.input([tokens, width], Fill::Normal(1.0))?;
    let cursor = s.device().upload_words(DType::U32, [1], &[a.usize("cursor") as u32])?;
    let k_cache = s.state("k_cache", [max, width], Fill::Normal(1.0))?;
    let v_cache = s.state("v_cache", [max, width], Fill::Normal(1.0))?;
    kv_append(s.plan(), &k, &v, &cursor, &k_cache, &v_cache)
}

fn work(a: &Args) -> Work {
    Work { bytes: 16 * a.usize("tokens") * a.usize("width"), ops: 0 }
}
