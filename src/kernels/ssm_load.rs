//! A stored state as f32.

use super::bindings::ssm_load::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, expect_f32};
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::shaders::ssm_load::Params;
use crate::tensor::DType;

const NAME: &str = "ssm_load";
/// Most elements of a row of the state, which workgroup memory holds.
const MOST_STATE: usize = 256;
/// Most recent tokens, whose weights workgroup memory holds.
const MOST_WINDOW: usize = 64;

/// Workgroups that fill a large GPU: with more than so many heads of sequences several of a group share a workgroup.
const ENOUGH: usize = 512;

/// A state between calls: int8 codes with one scale a row (head, channel) over the state axis, taken at the last
/// rounding, and the tokens since then, exactly. So a state is rounded once in `window` tokens, not at each. Of several
/// sequences one behind the other.
#[derive(Clone, Debug)]
pub struct StoredState {
    /// Sequences that the tensors hold.
    pub sequences: usize,
    /// `[sequences · heads · head_dim, state]` int8.
    pub codes: DeviceTensor,
    /// `[sequences · heads · head_dim]`.
    pub scales: DeviceTensor,
    /// `[sequences · window, heads + heads · head_dim + groups · state]`: of each token the sums of dt A, dt x, and B.
    pub recent: DeviceTensor,
    /// `[sequences · heads · head_dim, state]` int4: what the last rounding lost, in 14ths of a step, to be added before the next;
    /// `None`: it is forgotten.
    pub errors: Option<DeviceTensor>,
    /// Runs of the state axis that codes hold turned by Hadamard's matrix; 1: none.
    pub block: usize,
}

impl StoredState {
    /// Zeros, of one sequence. `window`: most recent tokens; `rotate`: turn the rows, by the largest power of two that
    /// divides them.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes beyond workgroup memory; as [`Device::alloc`].
    pub fn new(device: &Device, dims: SsdDims, window: usize, rotate: bool) -> Result<Self> {
        Self::of_sequences(device, dims, 1, window, rotate)
    }

    /// As [`StoredState::new`], of several.
    ///
    /// # Errors
    /// As [`StoredState::new`].
    pub fn of_sequences(device: &Device, dims: SsdDims, sequences: usize, window: usize, rotate: bool) -> Result<Self> {
        let rows = sequences * dims.d_inner();
        let recent = [sequences * window, width_of(dims)];
        let stored = Self {
            sequences,
            codes: device.alloc(DType::I8, [rows, dims.state])?,
            scales: device.alloc(DType::F32, [rows])?,
            recent: device.alloc(DType::F32, recent)?,
            errors: None,
            block: if rotate { 1 << dims.state.trailing_zeros() } else { 1 },
        };
        stored.check(NAME, dims)?;
        Ok(stored)
    }

    /// With room for what roundings lose.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn with_errors(self, device: &Device) -> Result<Self> {
        let errors = Some(device.alloc(DType::I4, self.codes.shape)?);
        Ok(Self { errors, ..self })
    }

    /// Bytes on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let errors = self.errors.as_ref().map_or(0, DeviceTensor::bytes);
        self.codes.bytes() + self.scales.bytes() + self.recent.bytes() + errors
    }

    /// Most recent tokens of a sequence.
    #[must_use]
    pub fn window(&self) -> usize {
        self.recent.shape.rows() / self.sequences.max(1)
    }

    /// Refuses what does not fit `dims`.
    pub(super) fn check(&self, kernel: &'static str, dims: SsdDims) -> Result<()> {
        dims.check(kernel)?;
        let window = self.window();
        let limit = |name: &str, value: usize, most: usize| {
            let what = format!("{value} is not within 1 to {most}");
            if (1..=most).contains(&value) { Ok(()) } else { Err(Error::argument(format!("{kernel}: `{name}`"), what)) }
        };
        limit("state", dims.state, MOST_STATE)?;
        limit("window", window, MOST_WINDOW)?;
        if !self.block.is_power_of_two() || !dims.state.is_multiple_of(self.block) {
            let what = format!("{} is no power of two that divides {}", self.block, dims.state);
            return Err(Error::argument(format!("{kernel}: `block`"), what));
        }
        let rows = self.sequences * dims.d_inner();
        expect_dtype(kernel, "codes", &self.codes, DType::I8, "i8")?;
        expect(kernel, "codes", &self.codes, [rows, dims.state])?;
        if let Some(errors) = &self.errors {
            expect_dtype(kernel, "errors", errors, DType::I4, "i4")?;
            expect(kernel, "errors", errors, [rows, dims.state])?;
        }
        let recent = [self.sequences * window, width_of(dims)];
        expect_f32(kernel, &[("scales", &self.scales, [1, rows]), ("recent", &self.recent, recent)])
    }
}

/// Heads that share a workgroup where stored states are updated or rounded, a divisor of those of a group, and the workgroups.
pub(super) fn heads_each(dims: SsdDims, sequences: usize) -> (u32, Grid) {
    let repeats = dims.heads / dims.groups;
    let most = (sequences * dims.heads / ENOUGH).max(1);
    let each = (1..=repeats.min(most)).rev().find(|n| repeats.is_multiple_of(*n)).unwrap_or(1);
    (each as u32, Grid::linear(sequences * dims.heads / each))
}

/// Numbers of a recent token.
fn width_of(dims: SsdDims) -> usize {
    dims.heads + dims.d_inner() + dims.groups * dims.state
}

/// Refuses another number of sequences than one.
pub(super) fn expect_one(kernel: &'static str, stored: &StoredState) -> Result<()> {
    match stored.sequences {
        1 => Ok(()),
        n => Err(Error::argument(format!("{kernel}: `stored`"), format!("{n} sequences, the kernel takes one"))),
    }
}

/// Refuses a clock that is not `[2]` u32.
pub(super) fn expect_clock(kernel: &'static str, clock: &DeviceTensor) -> Result<()> {
    expect_dtype(kernel, "clock", clock, DType::U32, "u32")?;
    expect(kernel, "clock", clock, [2])
}

/// `S[row] = exp(L) · turned back (scale · (codes + errors / 14)) + Σ_j exp(L - L_j) x_j B_j` over the recent tokens,
/// `L_j` the sum of dt A up to token `j` and `L` the last one's.
///
/// `clock`: `[2]` u32, tokens so far and recent tokens; `out`: `[heads, head_dim · state]` f32.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault.
pub fn ssm_load(
    plan: &mut Plan,
    stored: &StoredState,
    clock: &DeviceTensor,
    out: &DeviceTensor,
    dims: SsdDims,
) -> Result<()> {
    stored.check(NAME, dims)?;
    expect_one(NAME, stored)?;
    expect_clock(NAME, clock)?;
    expect_f32(NAME, &[("out", out, [dims.heads, dims.head_dim * dims.state])])?;
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        block: stored.block as u32,
        window: stored.window() as u32,
        feedback: u32::from(stored.errors.is_some()),
    };
    let StoredState { codes, scales, recent, .. } = stored;
    // Where there are none, none are read.
    let errors = stored.errors.as_ref().unwrap_or(codes);
    launch(plan, params, Bindings { codes, scales, recent, clock, errors, out }, Grid::linear(dims.d_inner()))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! stored_case {
    ($name:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $rotate:expr, $window:expr, $recent:expr) => {
        stored_case!($name, [$heads, $head_dim, $groups, $state], $rotate, $window, $recent, 0.0)
    };
    ($name:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $rotate:expr, $window:expr, $recent:expr, $errors:expr) => {
        stored_case!($name, [$heads, $head_dim, $groups, $state], $rotate, $window, $recent, $errors, 1.0)
    };
    ($name:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $rotate:expr, $window:expr, $recent:expr, $errors:expr, $sequences:expr $(; $low:expr, $high:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("sequences", $sequences),
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", $groups),
                ("state", $state),
                ("rotate", $rotate),
                ("window", $window),
                ("recent", $recent),
                ("errors", $errors),
                ("chunk", 1.0),
                $(("dt_min", $low), ("dt_max", $high),)?
            ],
        }
    };
}

pub(super) use stored_case;

/// Cases of the kernels that read a stored state, and `more`.
macro_rules! stored_cases {
    ($($more:expr),* $(,)?) => {
        &[
            stored_case!("nano", [8.0, 32.0, 2.0, 32.0], 1.0, 8.0, 3.0),
            stored_case!("small_one_recent", [16.0, 64.0, 2.0, 128.0], 1.0, 8.0, 1.0),
            stored_case!("nemotron_nano_9b_heads", [6.0, 80.0, 2.0, 128.0], 1.0, 16.0, 15.0),
            stored_case!("just_rounded", [4.0, 16.0, 2.0, 64.0], 1.0, 4.0, 0.0),
            stored_case!("rounded_at_each_token", [4.0, 16.0, 2.0, 64.0], 1.0, 1.0, 0.0),
            stored_case!("not_turned", [4.0, 20.0, 4.0, 40.0], 0.0, 8.0, 2.0),
            stored_case!("turned_in_runs_of_8", [4.0, 20.0, 4.0, 40.0], 1.0, 8.0, 2.0),
            stored_case!("widest", [2.0, 4.0, 1.0, 256.0], 1.0, 64.0, 63.0),
            $($more),*
        ]
    };
}
pub(super) use stored_cases;

const CASES: &[Case] = stored_cases![
    stored_case!("errors_kept", [16.0, 64.0, 2.0, 128.0], 1.0, 8.0, 1.0, 1.0),
    stored_case!("errors_kept_of_an_odd_word", [4.0, 20.0, 4.0, 36.0], 0.0, 8.0, 2.0, 1.0),
];

/// A stored state (one sequence unless `sequences` says another number), its codes, scales, recent tokens and errors as they
/// were drawn, and the clock of a case.
pub(super) fn stored(s: &mut Setup, a: &Args, dims: SsdDims) -> Result<(StoredState, Drawn, DeviceTensor)> {
    let (sequences, window) = (a.get("sequences").map_or(1, |n| n as usize), a.usize("window"));
    let rows = sequences * dims.d_inner();
    let drawn = Drawn {
        codes: whole(s.values(rows * dims.state, Fill::Uniform(-127.0, 127.0))),
        scales: s.values(rows, Fill::Uniform(0.001, 0.02)),
        recent: recent(s.values(sequences * window * width_of(dims), Fill::Normal(1.0)), window, dims),
        // Half a step more would lie at a tie of the next rounding.
        errors: whole(s.values(rows * dims.state, Fill::Uniform(-6.0, 6.0))),
    };
    let d = s.device().clone();
    let kept = a.f64("errors") > 0.0;
    let state = StoredState {
        errors: kept.then(|| d.upload_codes(4, [rows, dims.state], &drawn.errors)).transpose()?,
        codes: d.upload_codes(8, [rows, dims.state], &drawn.codes)?,
        scales: d.upload_f32([rows], &drawn.scales)?,
        recent: d.upload_f32([sequences * window, width_of(dims)], &drawn.recent)?,
        ..StoredState::of_sequences(&d, dims, sequences, window, a.f64("rotate") > 0.0)?
    };
    let clock = d.upload_words(DType::U32, [2], &[100, a.usize("recent") as u32])?;
    Ok((state, drawn, clock))
}

/// What a case's stored state holds.
pub(super) struct Drawn {
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    pub(super) recent: Vec<f32>,
    pub(super) errors: Vec<i8>,
}

fn whole(values: Vec<f32>) -> Vec<i8> {
    values.iter().map(|v| v.round_ties_even() as i8).collect()
}

/// Falling sums of dt A; x and B beside them.
fn recent(mut values: Vec<f32>, window: usize, dims: SsdDims) -> Vec<f32> {
    for (j, token) in values.chunks_mut(width_of(dims)).enumerate() {
        token[..dims.heads].iter_mut().for_each(|v| *v = -(v.abs() * 0.03 + 0.1) * (j % window + 1) as f32);
    }
    values
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let (state, _, clock) = stored(s, a, dims)?;
    let out = s.output("out", DType::F32, [dims.heads, dims.head_dim * dims.state])?;
    ssm_load(s.plan(), &state, &clock, &out, dims)
}

fn work(a: &Args) -> Work {
    let dims = dims(a);
    let recent = a.usize("recent");
    let width = dims.heads + dims.d_inner() + dims.groups * dims.state;
    Work {
        bytes: 5 * dims.state_len() + 4 * (dims.d_inner() + recent * width),
        ops: (2 * recent + 1 + dims.state.ilog2() as usize) * dims.state_len(),
    }
}
