//! Advances the state of [`super::causal_conv1d`] over a run of tokens.

use super::bindings::causal_conv1d_state::{Bindings, launch};
use super::causal_conv1d::taps;
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::expect_f32;
use super::{Columns, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::causal_conv1d_state::Params;

const NAME: &str = "causal_conv1d_state";

/// `state` = the last `taps` of `[state, inputs]`, oldest first.
///
/// `input`: `[tokens, channels]` columns, any number of tokens from one; `state`: `[channels, taps]`; f32.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault.
pub fn causal_conv1d_state(plan: &mut Plan, input: &Columns<'_>, state: &DeviceTensor) -> Result<()> {
    let (tokens, channels) = (input.tensor.shape.rows(), input.width);
    f32_tensor(NAME, "input", input.tensor)?;
    let taps = taps(NAME, state).map_err(|_| Error::argument(format!("{NAME}: `state`"), "has no taps"))?;
    expect_f32(NAME, &[("state", state, [channels, taps])])?;
    let params = Params {
        tokens: tokens as u32,
        channels: channels as u32,
        taps: taps as u32,
        offset: input.offset as u32,
        stride: input.stride() as u32,
    };
    launch(plan, params, Bindings { input: input.tensor, state }, Grid::cover(channels, 64))
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
        args: &[("tokens", 1.0), ("channels", 65.0), ("taps", 4.0), ("offset", 0.0), ("stride", 65.0)],
    },
    Case {
        name: "fewer_tokens_than_taps",
        args: &[("tokens", 3.0), ("channels", 64.0), ("taps", 4.0), ("offset", 3.0), ("stride", 71.0)],
    },
    Case {
        name: "as_many_tokens_as_taps",
        args: &[("tokens", 4.0), ("channels", 9.0), ("taps", 4.0), ("offset", 1.0), ("stride", 10.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let channels = a.usize("channels");
    let input = s.input([a.usize("tokens"), a.usize("stride")], Fill::Outliers)?;
    let state = s.state("state", [channels, a.usize("taps")], Fill::Normal(1.0))?;
    let input = Columns::new(NAME, &input, a.usize("offset"), channels)?;
    causal_conv1d_state(s.plan(), &input, &state)
}

fn work(a: &Args) -> Work {
    Work { bytes: 8 * a.usize("channels") * a.usize("taps"), ops: 0 }
}
