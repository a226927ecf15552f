//! Few tokens of one sequence in a Mamba-2 mixer, from its first projection to its norm, one after the other.

use super::bindings::mamba2_tokens::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::mamba2_update::{MambaVectors, Mixer, fuses, setup_mixer, work as token, workgroups};
use super::ssd::{SsdDims, dims, dt_limit};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Plan};
use crate::shaders::mamba2_tokens::Params;

const NAME: &str = "mamba2_tokens";
/// State elements of a row that its threads hold. (`shaders/shared/token_span.wgsl`)
const MAX_STATE: usize = 128;

/// Does [`mamba2_tokens`] take mixers of these sizes?
#[must_use]
pub fn fuses_tokens(dims: SsdDims, taps: usize) -> bool {
    dims.state <= MAX_STATE && fuses(dims, taps)
}

/// Refuses states that are too wide.
pub(super) fn check_state(kernel: &'static str, dims: SsdDims) -> Result<()> {
    if dims.state <= MAX_STATE {
        return Ok(());
    }
    let reason = format!("at most {MAX_STATE} state elements, got {}", dims.state);
    Err(Error::argument(format!("{kernel}: `dims`"), reason))
}

/// [`super::mamba2_update`] of the rows of `mixer`, one after the other, all of one sequence: what [`super::causal_conv1d`] and the scan in
/// chunks give, in one launch, which takes time by the number of tokens. Dao & Gu 2024, arXiv:2405.21060.
///
/// # Errors
/// As that, sizes that [`fuses_tokens`] denies included.
pub fn mamba2_tokens(plan: &mut Plan, mixer: Mixer<'_>, dims: SsdDims, dt_limit: (f32, f32)) -> Result<()> {
    let Mixer { raw, vectors: MambaVectors { conv_weight, conv_bias, per_head }, conv_state, ssm_state, tickets, y } =
        mixer;
    let tokens = raw.tensor.shape.rows();
    let (taps, (dt_min, dt_max)) = mixer.sizes(NAME, [1, tokens], dims, dt_limit)?;
    check_state(NAME, dims)?;
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        taps,
        offset: raw.offset as u32,
        dt_min,
        dt_max,
        stride: raw.stride() as u32,
        tokens: tokens as u32,
    };
    let bindings = Bindings {
        input: raw.tensor,
        weight: conv_weight,
        bias: conv_bias,
        per_head,
        conv_state,
        ssm_state,
        tickets,
        y,
    };
    launch(plan, params, bindings, Grid::linear(workgroups(dims)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $tokens:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $taps:expr, $bias:expr, $a_log:expr $(; $low:expr, $high:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("tokens", $tokens),
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", $groups),
                ("state", $state),
                ("taps", $taps),
                ("bias", $bias),
                ("a_log", $a_log),
                ("chunk", 1.0),
                $(("dt_min", $low), ("dt_max", $high),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano_nine", 9.0, [8.0, 32.0, 2.0, 32.0], 4.0, -4.0, 1.5),
    case!("small_twelve", 12.0, [16.0, 64.0, 2.0, 128.0], 4.0, -4.0, 1.5),
    case!("nemotron_nano_9b_heads_four", 4.0, [6.0, 80.0, 2.0, 128.0], 4.0, -4.0, 1.5),
    case!("narrow_state_one_tap_seventeen", 17.0, [3.0, 4.0, 1.0, 12.0], 1.0, -4.0, 1.5),
    case!("rows_not_whole_two_taps_one", 1.0, [4.0, 36.0, 2.0, 100.0], 2.0, -4.0, 1.5),
    case!("three_taps_two", 2.0, [4.0, 16.0, 4.0, 124.0], 3.0, -2.0, -9.2),
    case!("strong_decay_large_dt_five", 5.0, [4.0, 16.0, 2.0, 96.0], 4.0, 8.0, 2.77),
    case!("dt_limited", 4.0, [16.0, 4.0, 2.0, 16.0], 4.0, -1.0, 1.5; 0.2, 0.5),
    // docs/driver-faults.md: mamba #923 (decay in 16 bits), exp under fast math.
    case!("mamba_923_decay_near_zero", 8.0, [4.0, 16.0, 2.0, 16.0], 4.0, -2.0, -20.0),
    case!("fast_math_exp_minus_1e5", 2.0, [4.0, 16.0, 2.0, 16.0], 4.0, 1e4, 2.77),
];

/// Launches of a case: the second sees the windows and the tickets that the first left.
pub(super) const LAUNCHES: usize = 2;

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    setup_mixer(s, a, [1, a.usize("tokens")], |plan, mixer| {
        (0..LAUNCHES).try_for_each(|_| mamba2_tokens(plan, mixer, dims(a), dt_limit(a)))
    })
}

/// States come and go once a launch, the others once a token.
pub(super) fn work(a: &Args) -> Work {
    let (one, dims, tokens) = (token(a), dims(a), a.usize("tokens"));
    let states = LAUNCHES * 8 * (dims.conv_dim() * a.usize("taps") + dims.state_len());
    Work { bytes: states + tokens * one.bytes.saturating_sub(states), ops: tokens * one.ops }
}
