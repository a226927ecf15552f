//! Few tokens of one sequence in a Mamba-2 mixer, from its first projection to the codes of its last, but for the norm's factor.

use super::bindings::mamba2_tokens_gated::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::mamba2_tokens::{LAUNCHES, check_state, fuses_tokens, work as tokens_work};
use super::mamba2_update_gated::{GatedMixer, ROWS, Sizes, block, gates, setup_mixer};
use super::ssd::{SsdDims, dims, dt_limit};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Plan};
use crate::shaders::mamba2_tokens_gated::Params;

const NAME: &str = "mamba2_tokens_gated";

/// Does [`mamba2_tokens_gated`] take mixers of these sizes?
#[must_use]
pub fn gates_tokens(dims: SsdDims, taps: usize) -> bool {
    fuses_tokens(dims, taps) && gates(dims, taps)
}

/// [`super::mamba2_update_gated`] of the first `tokens` rows of `mixer`, one after the other, all of one sequence. Its rows may be more, of which
/// there are zeros in the outputs. Dao & Gu 2024, arXiv:2405.21060.
///
/// # Errors
/// As that, sizes that [`gates_tokens`] denies included; [`Error::Argument`] for no tokens, or more than there are rows.
pub fn mamba2_tokens_gated(
    plan: &mut Plan,
    mixer: GatedMixer<'_>,
    tokens: usize,
    dims: SsdDims,
    dt_limit: (f32, f32),
    block: usize,
) -> Result<()> {
    let GatedMixer { projected, vectors, conv_state, ssm_state, tickets, out } = mixer;
    let rows = projected.tensor.shape.rows();
    let Sizes { taps, dt: (dt_min, dt_max), log_run, unit } = mixer.sizes(NAME, [1, rows], dims, dt_limit, block)?;
    check_state(NAME, dims)?;
    if tokens == 0 || tokens > rows {
        return Err(Error::argument(format!("{NAME}: `tokens`"), format!("{tokens} of {rows} rows")));
    }
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        taps,
        offset: (projected.offset + dims.d_inner()) as u32,
        gate_offset: projected.offset as u32,
        dt_min,
        dt_max,
        log_run,
        unit,
        stride: projected.stride() as u32,
        tokens: tokens as u32,
        rows: rows as u32,
    };
    let bindings = Bindings {
        input: projected.tensor,
        vectors,
        conv_state,
        ssm_state,
        tickets,
        out_codes: out.codes,
        out_scales: out.scales,
    };
    launch(plan, params, bindings, Grid::linear(dims.d_inner() / ROWS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, [$tokens:expr, $rows:expr], [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $taps:expr, $bias:expr, $a_log:expr, $block:expr $(; $low:expr, $high:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("tokens", $tokens),
                ("rows", $rows),
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", $groups),
                ("state", $state),
                ("taps", $taps),
                ("bias", $bias),
                ("a_log", $a_log),
                ("chunk", 1.0),
                ("block", $block),
                $(("dt_min", $low), ("dt_max", $high),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano_two", [2.0, 2.0], [8.0, 32.0, 2.0, 32.0], 4.0, -4.0, 1.5, 32.0),
    case!("small_eight", [8.0, 8.0], [16.0, 64.0, 2.0, 128.0], 4.0, -4.0, 1.5, 32.0),
    case!("nemotron_nano_9b_heads_three_of_four", [3.0, 4.0], [8.0, 80.0, 2.0, 128.0], 4.0, -4.0, 1.5, 32.0),
    case!("heads_of_96_three_taps_five_of_eight", [5.0, 8.0], [6.0, 96.0, 3.0, 64.0], 3.0, -4.0, 1.5, 8.0),
    case!("one_group_one_tap_no_transform", [4.0, 4.0], [1.0, 32.0, 1.0, 12.0], 1.0, -4.0, 1.5, 1.0),
    case!("two_taps_pairs_one_token", [1.0, 2.0], [4.0, 64.0, 2.0, 100.0], 2.0, -4.0, 1.5, 2.0),
    case!("runs_of_16_seven", [7.0, 8.0], [4.0, 32.0, 4.0, 124.0], 3.0, -2.0, -9.2, 16.0),
    case!("strong_decay_large_dt", [6.0, 6.0], [4.0, 32.0, 2.0, 96.0], 4.0, 8.0, 2.77, 4.0),
    case!("three_spans", [11.0, 11.0], [4.0, 64.0, 2.0, 36.0], 4.0, -4.0, 1.5, 32.0),
    case!("dt_limited", [4.0, 4.0], [16.0, 4.0, 2.0, 16.0], 4.0, -1.0, 1.5, 32.0; 0.2, 0.5),
    // docs/driver-faults.md: mamba #923 (decay in 16 bits), exp under fast math.
    case!("mamba_923_decay_near_zero", [8.0, 8.0], [4.0, 32.0, 2.0, 16.0], 4.0, -2.0, -20.0, 32.0),
    case!("fast_math_exp_minus_1e5", [2.0, 2.0], [4.0, 32.0, 2.0, 16.0], 4.0, 1e4, 2.77, 32.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    setup_mixer(s, a, [1, a.usize("rows")], |plan, mixer| {
        let (tokens, dims, limit) = (a.usize("tokens"), dims(a), dt_limit(a));
        (0..LAUNCHES).try_for_each(|_| mamba2_tokens_gated(plan, mixer, tokens, dims, limit, block(a)))
    })
}

/// z and the weight come in, codes and scales go out in place of y.
fn work(a: &Args) -> Work {
    let (d_inner, Work { bytes, ops }) = (dims(a).d_inner(), tokens_work(a));
    let tokens = LAUNCHES * a.usize("tokens");
    let gate = (4 + 4 + 1) * d_inner + 8 * d_inner / ROWS;
    Work {
        bytes: bytes + tokens * gate - tokens * 4 * d_inner,
        ops: ops + tokens * d_inner * (10 + block(a).ilog2() as usize),
    }
}
