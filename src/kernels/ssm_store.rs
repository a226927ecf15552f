//! Rounds a state to its stored form.

use super::bindings::ssm_store::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, expect_f32};
use super::ssm_load::{StoredState, expect_clock, expect_one};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::ssm_store::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "ssm_store";

/// How a state's codes are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateRounding {
    /// To the nearest, ties to even.
    Nearest,
    /// To the nearest, and what that loses is kept, in 4 bits, and added before the next rounding (error feedback): errors
    /// do not add up, however slowly a state decays.
    Feedback,
    /// Up or down with the probability that makes the mean exact: a hash of this seed, the token and the element, so
    /// the same on every device. Gupta et al. 2015, arXiv:1502.02551.
    Stochastic(u32),
}

impl StateRounding {
    /// Of stochastic rounding.
    pub(super) fn seed(self) -> Option<u32> {
        match self {
            Self::Nearest | Self::Feedback => None,
            Self::Stochastic(seed) => Some(seed),
        }
    }

    /// Are errors kept? Refuses a state that has no room for them.
    pub(super) fn feedback(self, kernel: &'static str, stored: &StoredState) -> Result<bool> {
        if self == Self::Feedback && stored.errors.is_none() {
            let reason = "has no room for errors; see StoredState::with_errors";
            return Err(Error::argument(format!("{kernel}: `stored`"), reason));
        }
        Ok(self == Self::Feedback)
    }
}

/// `codes`, `scales` and kept `errors` of `stored` from `x`: `scale = max|v| / 127` of each row `v`, turned on the state axis.
///
/// `x`: `[heads, head_dim · state]` f32; `clock`: `[2]` u32, whose first word stochastic rounding hashes. The recent
/// tokens stay where they are: the caller's clock says how many there are. A row whose largest turned value is below
/// 1e-35 has scale 1 and codes 0.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault; feedback
/// needs [`StoredState::errors`].
pub fn ssm_store(
    plan: &mut Plan,
    x: &DeviceTensor,
    clock: &DeviceTensor,
    stored: &StoredState,
    dims: SsdDims,
    rounding: StateRounding,
) -> Result<()> {
    stored.check(NAME, dims)?;
    expect_one(NAME, stored)?;
    expect_clock(NAME, clock)?;
    expect_f32(NAME, &[("x", x, [dims.heads, dims.head_dim * dims.state])])?;
    let (format, seed) = match rounding.seed() {
        None => (Format::Nearest, 0),
        Some(seed) => (Format::Stochastic, seed),
    };
    let feedback = rounding.feedback(NAME, stored)?;
    let params = Params {
        rows: dims.d_inner() as u32,
        state: dims.state as u32,
        block: stored.block as u32,
        seed,
        feedback: u32::from(feedback),
    };
    let StoredState { codes, scales, recent, .. } = stored;
    // Where errors are forgotten nothing is written there.
    let errors = stored.errors.as_ref().unwrap_or(recent);
    launch(plan, format, params, Bindings { x, clock, codes, scales, errors }, Grid::linear(dims.d_inner()))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, [$heads:expr, $head_dim:expr, $state:expr], $rotate:expr, $rounding:expr, $size:expr) => {
        Case {
            name: $name,
            args: &[
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", 1.0),
                ("state", $state),
                ("rotate", $rotate),
                ("rounding", $rounding),
                ("size", $size),
                ("chunk", 1.0),
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano", [8.0, 32.0, 32.0], 1.0, 0.0, 1.0),
    case!("nano_stochastic", [8.0, 32.0, 32.0], 1.0, 1.0, 1.0),
    case!("small_head", [1.0, 64.0, 128.0], 1.0, 0.0, 1.0),
    case!("small_head_stochastic", [1.0, 64.0, 128.0], 1.0, 1.0, 1.0),
    case!("not_turned", [4.0, 20.0, 40.0], 0.0, 0.0, 1.0),
    case!("not_turned_stochastic", [4.0, 20.0, 40.0], 0.0, 1.0, 1.0),
    case!("turned_in_runs_of_8", [4.0, 20.0, 40.0], 1.0, 0.0, 1.0),
    case!("widest", [2.0, 4.0, 256.0], 1.0, 0.0, 1.0),
    case!("errors_kept", [1.0, 16.0, 128.0], 1.0, 2.0, 1.0),
    case!("errors_kept_of_an_odd_word", [2.0, 4.0, 36.0], 1.0, 2.0, 1.0),
    case!("tiny_values", [2.0, 4.0, 16.0], 1.0, 0.0, 1e-30),
    case!("below_the_smallest_scale", [2.0, 4.0, 16.0], 1.0, 1.0, 1e-38),
    case!("below_the_smallest_scale_errors_kept", [2.0, 4.0, 16.0], 1.0, 2.0, 1e-38),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let values = s.values(dims.state_len(), Fill::Outliers);
    let values: Vec<f32> = values.iter().map(|v| v * a.f64("size") as f32).collect();
    let x = s.device().upload_f32([dims.heads, dims.head_dim * dims.state], &values)?;
    let clock = s.device().upload_words(DType::U32, [2], &[77, 0])?;
    let rounding = [StateRounding::Nearest, StateRounding::Stochastic(5), StateRounding::Feedback][a.usize("rounding")];
    let kept = rounding == StateRounding::Feedback;
    let stored = StoredState {
        errors: kept.then(|| s.rounded_output("errors", DType::I4, [dims.d_inner(), dims.state])).transpose()?,
        codes: s.rounded_output("codes", DType::I8, [dims.d_inner(), dims.state])?,
        scales: s.output("scales", DType::F32, [dims.d_inner()])?,
        ..StoredState::new(&s.device().clone(), dims, 1, a.f64("rotate") > 0.0)?
    };
    ssm_store(s.plan(), &x, &clock, &stored, dims, rounding)
}

fn work(a: &Args) -> Work {
    let dims = dims(a);
    Work { bytes: 5 * dims.state_len() + 4 * dims.d_inner(), ops: (4 + dims.state.ilog2() as usize) * dims.state_len() }
}
