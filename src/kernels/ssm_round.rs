//! Rounds a stored state with its recent tokens.

use super::bindings::ssm_round::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::ssd::{SsdDims, dims};
use super::ssm_load::{self, StoredState, expect_clock, heads_each, stored_case};
use super::ssm_store::StateRounding;
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::ssm_round::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "ssm_round";

/// What [`super::ssm_load`] and then [`super::ssm_store`] make of `stored`, of all its sequences, without the f32 state. The
/// recent tokens stay where they are: the caller's clock says how many there are.
///
/// `clock`: `[2]` u32, tokens so far, which stochastic rounding hashes, and recent tokens.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault; feedback
/// needs [`StoredState::errors`].
pub fn ssm_round(
    plan: &mut Plan,
    stored: &StoredState,
    clock: &DeviceTensor,
    dims: SsdDims,
    rounding: StateRounding,
) -> Result<()> {
    stored.check(NAME, dims)?;
    expect_clock(NAME, clock)?;
    let format = match (dims.state.is_multiple_of(16) && dims.state <= 128, rounding.seed()) {
        (true, None) => Format::Quads,
        (true, Some(_)) => Format::QuadsStochastic,
        (false, None) => Format::Nearest,
        (false, Some(_)) => Format::Stochastic,
    };
    let (each, grid) = heads_each(dims, stored.sequences);
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        block: stored.block as u32,
        window: stored.window() as u32,
        sequences: stored.sequences as u32,
        seed: rounding.seed().unwrap_or(0),
        feedback: u32::from(rounding.feedback(NAME, stored)?),
        each,
    };
    let StoredState { codes, scales, recent, .. } = stored;
    let none;
    let errors = match &stored.errors {
        Some(errors) => errors,
        // An output is no other argument's buffer; nothing is written there. Two words, as a form binds pairs.
        None => {
            none = plan.device().alloc(DType::U32, [2])?;
            &none
        }
    };
    launch(plan, format, params, Bindings { clock, recent, codes, scales, errors }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// `errors` 1: kept; 2: stochastic rounding instead.
const CASES: &[Case] = &[
    stored_case!("nano", [8.0, 32.0, 2.0, 32.0], 1.0, 8.0, 8.0),
    stored_case!("small_errors_kept", [16.0, 64.0, 2.0, 128.0], 1.0, 8.0, 8.0, 1.0),
    stored_case!("small_stochastic", [4.0, 64.0, 2.0, 128.0], 1.0, 8.0, 3.0, 2.0),
    stored_case!("nemotron_nano_9b_heads", [6.0, 80.0, 2.0, 128.0], 1.0, 16.0, 15.0, 1.0),
    stored_case!("one_since_of_16_elements", [16.0, 16.0, 2.0, 16.0], 1.0, 4.0, 1.0, 1.0),
    stored_case!("nothing_since", [4.0, 16.0, 2.0, 64.0], 1.0, 4.0, 0.0, 1.0),
    stored_case!("not_turned", [4.0, 20.0, 4.0, 40.0], 0.0, 8.0, 2.0),
    stored_case!("turned_in_runs_of_4_an_odd_word", [4.0, 20.0, 4.0, 36.0], 1.0, 8.0, 2.0, 1.0),
    stored_case!("an_odd_word_stochastic", [4.0, 20.0, 4.0, 36.0], 1.0, 8.0, 2.0, 2.0),
    stored_case!("widest", [2.0, 4.0, 1.0, 256.0], 1.0, 64.0, 64.0, 1.0),
    stored_case!("three_sequences", [4.0, 20.0, 2.0, 64.0], 1.0, 4.0, 4.0, 1.0, 3.0),
    stored_case!("five_sequences_of_many_heads", [256.0, 4.0, 2.0, 16.0], 1.0, 8.0, 5.0, 1.0, 5.0),
    stored_case!("five_sequences_of_many_recent", [256.0, 4.0, 2.0, 16.0], 1.0, 16.0, 13.0, 0.0, 5.0),
    stored_case!("three_sequences_stochastic", [4.0, 20.0, 2.0, 64.0], 1.0, 4.0, 4.0, 2.0, 3.0),
    // More rows of a workgroup than it takes at a time.
    stored_case!("several_rounds_of_rows", [256.0, 36.0, 2.0, 16.0], 1.0, 4.0, 3.0, 1.0, 4.0),
    stored_case!("several_rounds_of_rows_an_odd_word", [256.0, 36.0, 2.0, 12.0], 1.0, 4.0, 3.0, 1.0, 4.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let (stored, drawn, clock) = ssm_load::stored(s, a, dims)?;
    let rounding = match a.usize("errors") {
        0 => StateRounding::Nearest,
        1 => StateRounding::Feedback,
        _ => StateRounding::Stochastic(5),
    };
    let kept = rounding == StateRounding::Feedback;
    let shape = stored.codes.shape;
    let stored = StoredState {
        errors: kept.then(|| s.rounded_state("errors", 4, shape, &drawn.errors)).transpose()?,
        codes: s.rounded_state("codes", 8, shape, &drawn.codes)?,
        scales: s.state_of("scales", stored.scales.shape, &drawn.scales)?,
        ..stored
    };
    ssm_round(s.plan(), &stored, &clock, dims, rounding)
}

fn work(a: &Args) -> Work {
    let (dims, sequences) = (dims(a), a.get("sequences").map_or(1, |n| n as usize));
    let tokens = a.usize("recent") * (dims.heads + dims.d_inner() + dims.groups * dims.state);
    Work {
        bytes: sequences * (3 * dims.state_len() + 8 * dims.d_inner() + 4 * tokens),
        ops: sequences * 2 * (a.usize("recent") + 1) * dims.state_len(),
    }
}
