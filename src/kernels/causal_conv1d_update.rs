//! One token of [`super::causal_conv1d`] in each of several sequences, advancing their states.

use super::Columns;
use super::bindings::causal_conv1d_update::{Bindings, launch};
use super::causal_conv1d::taps;
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{expect_columns, expect_f32, row, sequences, sequences_of};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::causal_conv1d_update::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "causal_conv1d_update";

/// Shifts `state` by one, appends the input, and `out[c] = silu(bias[c] + Σ_j weight[c, j] · state[c, j])`.
///
/// `input`: `[sequences, channels]` columns; `weight`: `[channels, taps]`; `bias`: `[channels]`; `state`:
/// `[sequences · channels, taps]`; `out`: `[sequences, channels]`; f32. The same result as `causal_conv1d` and `causal_conv1d_state` on one token.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn causal_conv1d_update(
    plan: &mut Plan,
    input: &Columns<'_>,
    weight: &DeviceTensor,
    bias: &DeviceTensor,
    state: &DeviceTensor,
    out: &DeviceTensor,
) -> Result<()> {
    let channels = input.width;
    let (taps, sequences) = (taps(NAME, weight)?, sequences_of(state, channels));
    expect_columns(NAME, "input", input, sequences, channels)?;
    expect_f32(
        NAME,
        &[
            ("weight", weight, [channels, taps]),
            ("bias", bias, row(channels)),
            ("state", state, [sequences * channels, taps]),
            ("out", out, [sequences, channels]),
        ],
    )?;
    let params = Params {
        channels: channels as u32,
        taps: taps as u32,
        offset: input.offset as u32,
        stride: input.stride() as u32,
        sequences: sequences as u32,
    };
    let bindings = Bindings { input: input.tensor, weight, bias, state, out };
    let format = if taps == 4 { Format::Four } else { Format::Any };
    launch(plan, format, params, bindings, Grid::cover(sequences * channels, 64))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_token", args: &[("channels", 384.0), ("taps", 4.0), ("offset", 256.0), ("stride", 648.0)] },
    Case { name: "odd_channels", args: &[("channels", 67.0), ("taps", 5.0), ("offset", 3.0), ("stride", 71.0)] },
    Case { name: "one_tap", args: &[("channels", 5.0), ("taps", 1.0), ("offset", 0.0), ("stride", 5.0)] },
    Case {
        name: "three_sequences_of_three_taps",
        args: &[("channels", 67.0), ("taps", 3.0), ("offset", 3.0), ("stride", 75.0), ("sequences", 3.0)],
    },
    Case {
        name: "three_sequences",
        args: &[("channels", 67.0), ("taps", 4.0), ("offset", 3.0), ("stride", 75.0), ("sequences", 3.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (channels, taps, sequences) = (a.usize("channels"), a.usize("taps"), sequences(a));
    let input = s.input([sequences, a.usize("stride")], Fill::Outliers)?;
    let weight = s.input([channels, taps], Fill::Normal(0.5))?;
    let bias = s.input([channels], Fill::Normal(0.2))?;
    let state = s.state("state", [sequences * channels, taps], Fill::Normal(1.0))?;
    let out = s.output("out", DType::F32, [sequences, channels])?;
    let input = Columns::new(NAME, &input, a.usize("offset"), channels)?;
    causal_conv1d_update(s.plan(), &input, &weight, &bias, &state, &out)
}

fn work(a: &Args) -> Work {
    let (channels, taps) = (a.usize("channels"), a.usize("taps"));
    let sequences = sequences(a);
    let bytes = 4 * channels * (sequences * (2 * taps + 2) + taps + 1);
    Work { bytes, ops: sequences * channels * (2 * taps + 4) }
}
