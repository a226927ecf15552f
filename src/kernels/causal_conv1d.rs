//! Depthwise causal convolution over time with SiLU.

use super::bindings::causal_conv1d::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{dtype, expect_f32, expect_floats, row};
use super::{Columns, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::causal_conv1d::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "causal_conv1d";

/// `out[t, c] = silu(bias[c] + Σ_j weight[c, j] · in[t + j - (taps - 1), c])`. Gu & Dao 2023, arXiv:2312.00752.
///
/// `input`: `[tokens, channels]` columns; `state`: `[channels, taps]`, the last inputs before the first token,
/// oldest first (only the last `taps - 1` matter); `weight`: `[channels, taps]`; `bias`: `[channels]`;
/// `out`: `[tokens, channels]`; all f32, or `out` f16 of whole pairs of channels, rounded to nearest, numbers beyond its range to its
/// last. Does not advance `state`: `causal_conv1d_state` does.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault.
pub fn causal_conv1d(
    plan: &mut Plan,
    input: &Columns<'_>,
    state: &DeviceTensor,
    weight: &DeviceTensor,
    bias: &DeviceTensor,
    out: &DeviceTensor,
) -> Result<()> {
    let (tokens, channels) = (input.tensor.shape.rows(), input.width);
    f32_tensor(NAME, "input", input.tensor)?;
    let taps = taps(NAME, weight)?;
    expect_f32(
        NAME,
        &[("state", state, [channels, taps]), ("weight", weight, [channels, taps]), ("bias", bias, row(channels))],
    )?;
    let format = match expect_floats(NAME, &[("out", out, [tokens, channels])])? {
        DType::F16 if channels.is_multiple_of(2) => Format::Half,
        DType::F16 => {
            return Err(Error::argument("causal_conv1d: `out`", format!("f16 of {channels} channels, an odd number")));
        }
        _ => Format::F32,
    };
    let params = Params {
        tokens: tokens as u32,
        channels: channels as u32,
        taps: taps as u32,
        offset: input.offset as u32,
        stride: input.stride() as u32,
    };
    let bindings = Bindings { input: input.tensor, state, weight, bias, out };
    let columns = if format == Format::Half { channels / 2 } else { channels };
    launch(plan, format, params, bindings, Grid::cover(tokens.div_ceil(4) * columns, 256))
}

/// Taps of a convolution from its `[channels, taps]` weight; at least one.
pub(super) fn taps(kernel: &'static str, weight: &DeviceTensor) -> Result<usize> {
    f32_tensor(kernel, "weight", weight)?;
    match weight.shape.cols() {
        0 => Err(Error::argument(format!("{kernel}: `weight`"), format!("{} has no taps", weight.shape))),
        taps => Ok(taps),
    }
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case {
        name: "nano_prompt",
        args: &[("tokens", 37.0), ("channels", 384.0), ("taps", 4.0), ("offset", 256.0), ("stride", 648.0)],
    },
    Case {
        name: "one_token",
        args: &[("tokens", 1.0), ("channels", 96.0), ("taps", 4.0), ("offset", 0.0), ("stride", 96.0)],
    },
    Case {
        name: "fewer_tokens_than_taps",
        args: &[("tokens", 2.0), ("channels", 65.0), ("taps", 4.0), ("offset", 3.0), ("stride", 71.0)],
    },
    Case {
        name: "five_taps",
        args: &[("tokens", 9.0), ("channels", 33.0), ("taps", 5.0), ("offset", 1.0), ("stride", 35.0)],
    },
    Case {
        name: "one_tap",
        args: &[("tokens", 3.0), ("channels", 7.0), ("taps", 1.0), ("offset", 0.0), ("stride", 8.0)],
    },
    Case {
        name: "f16_prompt",
        args: &[
            ("tokens", 37.0),
            ("channels", 384.0),
            ("taps", 4.0),
            ("offset", 256.0),
            ("stride", 649.0),
            ("bits", 16.0),
        ],
    },
    Case {
        name: "f16_fewer_tokens_than_taps",
        args: &[("tokens", 2.0), ("channels", 66.0), ("taps", 5.0), ("offset", 3.0), ("stride", 71.0), ("bits", 16.0)],
    },
    Case {
        name: "f16_beyond_its_range",
        args: &[
            ("tokens", 9.0),
            ("channels", 34.0),
            ("taps", 4.0),
            ("offset", 1.0),
            ("stride", 35.0),
            ("size", 1e6),
            ("bits", 16.0),
        ],
    },
    // docs/driver-faults.md: exp under fast math (llama.cpp's unary.wgsl).
    Case {
        name: "fast_math_silu_1e4",
        args: &[("tokens", 9.0), ("channels", 33.0), ("taps", 4.0), ("offset", 1.0), ("stride", 35.0), ("size", 1e4)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, channels, taps) = (a.usize("tokens"), a.usize("channels"), a.usize("taps"));
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values = s.values(tokens * a.usize("stride"), Fill::Outliers);
    let values: Vec<f32> = values.iter().map(|v| v * size).collect();
    let input = s.device().upload_f32([tokens, a.usize("stride")], &values)?;
    let state = s.input([channels, taps], Fill::Normal(1.0))?;
    let weight = s.input([channels, taps], Fill::Normal(0.5))?;
    let bias = s.input([channels], Fill::Normal(0.2))?;
    let out = s.output("out", dtype(a), [tokens, channels])?;
    let input = Columns::new(NAME, &input, a.usize("offset"), channels)?;
    causal_conv1d(s.plan(), &input, &state, &weight, &bias, &out)
}

fn work(a: &Args) -> Work {
    let (n, taps) = (a.usize("tokens") * a.usize("channels"), a.usize("taps"));
    Work { bytes: (4 + dtype(a).bits() / 8) * n + 4 * a.usize("channels") * (2 * taps + 1), ops: n * (2 * taps + 4) }
}
