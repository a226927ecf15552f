//! One token of each sequence in a Mamba-2 mixer, from its first projection to its norm.

use super::bindings::mamba2_update::{Bindings, launch};
use super::causal_conv1d::taps;
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, dt_limit, dt_range, expect_columns, expect_f32, row, sequences, sequences_of};
use super::{Columns, expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::mamba2_update::Params;
use crate::tensor::DType;

const NAME: &str = "mamba2_update";
/// Rows of the state of one workgroup, all of one group. (`shaders/shared/token_update.wgsl`)
const ROWS: usize = 32;
/// What fits into its workgroup memory.
const MAX_STATE: usize = 256;
const MAX_TAPS: usize = 4;

/// The weights of a mixer's convolution and recurrence, f32.
#[derive(Clone, Copy, Debug)]
pub struct MambaVectors<'a> {
    /// `[conv_dim, taps]`.
    pub conv_weight: &'a DeviceTensor,
    /// `[conv_dim]`.
    pub conv_bias: &'a DeviceTensor,
    /// `[3, heads]`: dt_bias, a_log and d.
    pub per_head: &'a DeviceTensor,
}

/// Does [`mamba2_update`] take mixers of these sizes? Else [`super::causal_conv1d_update`] and
/// [`super::selective_state_update`] do the same in two launches.
#[must_use]
pub fn fuses(dims: SsdDims, taps: usize) -> bool {
    dims.state <= MAX_STATE && taps <= MAX_TAPS
}

/// Rows of the state of a group's heads.
pub(super) fn group_rows(dims: SsdDims) -> usize {
    dims.d_inner() / dims.groups
}

/// What a mixer's tokens read and write between its projections, all f32 but tickets.
#[derive(Clone, Copy, Debug)]
pub struct Mixer<'a> {
    /// `[rows, conv_dim + heads]` columns, x | B | C | dt.
    pub raw: &'a Columns<'a>,
    /// Its weights.
    pub vectors: MambaVectors<'a>,
    /// `[sequences · conv_dim, taps]`, updated.
    pub conv_state: &'a DeviceTensor,
    /// `[sequences · heads, head_dim · state]`, updated.
    pub ssm_state: &'a DeviceTensor,
    /// `[sequences · groups]` u32, zeros, and zeros again afterwards.
    pub tickets: &'a DeviceTensor,
    /// `[rows, d_inner]`, written.
    pub y: &'a DeviceTensor,
}

impl Mixer<'_> {
    /// Checks all for `sequences` of so many `rows` in all; gives the taps and the range of dt.
    pub(super) fn sizes(
        &self,
        kernel: &'static str,
        [sequences, rows]: [usize; 2],
        dims: SsdDims,
        dt_limit: (f32, f32),
    ) -> Result<(u32, (f32, f32))> {
        dims.check(kernel)?;
        let MambaVectors { conv_weight, conv_bias, per_head } = self.vectors;
        let (taps, channels) = (taps(kernel, conv_weight)?, dims.conv_dim());
        if !fuses(dims, taps) {
            let reason =
                format!("at most {MAX_STATE} state elements and {MAX_TAPS} taps, got {} and {taps}", dims.state);
            return Err(Error::argument(format!("{kernel}: `dims`"), reason));
        }
        let dt = dt_range(kernel, dt_limit)?;
        expect_columns(kernel, "raw", self.raw, rows, channels + dims.heads)?;
        expect_dtype(kernel, "tickets", self.tickets, DType::U32, "u32")?;
        expect(kernel, "tickets", self.tickets, row(sequences * dims.groups))?;
        expect_f32(
            kernel,
            &[
                ("conv_weight", conv_weight, [channels, taps]),
                ("conv_bias", conv_bias, row(channels)),
                ("per_head", per_head, [3, dims.heads]),
                ("conv_state", self.conv_state, [sequences * channels, taps]),
                ("ssm_state", self.ssm_state, [sequences * dims.heads, dims.head_dim * dims.state]),
                ("y", self.y, [rows, dims.d_inner()]),
            ],
        )?;
        Ok((taps as u32, dt))
    }
}

/// Workgroups of a sequence.
pub(super) fn workgroups(dims: SsdDims) -> usize {
    dims.groups * group_rows(dims).div_ceil(ROWS)
}

/// [`super::causal_conv1d_update`] of x | B | C, then [`super::selective_state_update`] of the result.
/// Dao & Gu 2024, arXiv:2405.21060.
///
/// `mixer`: a row for each sequence. `dims.chunk` plays no part.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault, sizes that [`fuses`] denies included.
pub fn mamba2_update(plan: &mut Plan, mixer: Mixer<'_>, dims: SsdDims, dt_limit: (f32, f32)) -> Result<()> {
    let sequences = sequences_of(mixer.ssm_state, dims.heads);
    let (taps, (dt_min, dt_max)) = mixer.sizes(NAME, [sequences, sequences], dims, dt_limit)?;
    let Mixer { raw, vectors: MambaVectors { conv_weight, conv_bias, per_head }, conv_state, ssm_state, tickets, y } =
        mixer;
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
        sequences: sequences as u32,
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
    launch(plan, params, bindings, Grid::linear(sequences * workgroups(dims)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $dims:tt, $taps:expr, $bias:expr, $a_log:expr $(; $low:expr, $high:expr)?) => {
        case!($name, $dims, $taps, $bias, $a_log, 1.0 $(; $low, $high)?)
    };
    ($name:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $taps:expr, $bias:expr, $a_log:expr, $n:expr $(; $low:expr, $high:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", $groups),
                ("state", $state),
                ("taps", $taps),
                ("bias", $bias),
                ("a_log", $a_log),
                ("chunk", 1.0),
                ("sequences", $n),
                $(("dt_min", $low), ("dt_max", $high),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano", [8.0, 32.0, 2.0, 32.0], 4.0, -4.0, 1.5),
    case!("small", [16.0, 64.0, 2.0, 128.0], 4.0, -4.0, 1.5),
    case!("nemotron_nano_9b_heads", [6.0, 80.0, 2.0, 128.0], 4.0, -4.0, 1.5),
    case!("narrow_state_one_tap", [3.0, 4.0, 1.0, 12.0], 1.0, -4.0, 1.5),
    case!("wide_state_two_taps", [4.0, 36.0, 2.0, 256.0], 2.0, -4.0, 1.5),
    case!("odd_state_three_taps", [4.0, 16.0, 4.0, 140.0], 3.0, -2.0, -9.2),
    case!("strong_decay_large_dt", [4.0, 16.0, 2.0, 96.0], 4.0, 8.0, 2.77),
    case!("three_sequences", [4.0, 36.0, 2.0, 40.0], 4.0, -4.0, 1.5, 3.0),
    case!("five_sequences_wide_state", [2.0, 8.0, 1.0, 256.0], 3.0, -4.0, 1.5, 5.0),
    case!("dt_limited", [16.0, 4.0, 2.0, 16.0], 4.0, -1.0, 1.5; 0.2, 0.5),
    // docs/driver-faults.md: mamba #923 (decay in 16 bits), exp under fast math.
    case!("mamba_923_decay_near_zero", [4.0, 16.0, 2.0, 16.0], 4.0, -2.0, -20.0),
    case!("fast_math_exp_minus_1e5", [4.0, 16.0, 2.0, 16.0], 4.0, 1e4, 2.77),
];

/// Launches of a case: the second sees the windows and the tickets that the first left.
const TOKENS: usize = 2;

/// Builds a case of `sequences` of so many `rows` in all; `launch` adds what is tested.
pub(super) fn setup_mixer(
    s: &mut Setup,
    a: &Args,
    [sequences, rows]: [usize; 2],
    launch: impl FnOnce(&mut Plan, Mixer<'_>) -> Result<()>,
) -> Result<()> {
    let (dims, taps) = (dims(a), a.usize("taps"));
    let (heads, channels) = (dims.heads, dims.conv_dim());
    let input = s.input([rows, 5 + channels + heads], Fill::Normal(1.0))?;
    let conv_weight = s.input([channels, taps], Fill::Normal(0.5))?;
    let conv_bias = s.input([channels], Fill::Normal(0.2))?;
    let shift = |v: Vec<f32>, by: &str| v.into_iter().map(|v| v + a.f64(by) as f32).collect::<Vec<_>>();
    let dt_bias = shift(s.values(heads, Fill::Normal(1.0)), "bias");
    let a_log = shift(s.values(heads, Fill::Normal(0.3)), "a_log");
    let d = s.values(heads, Fill::Normal(1.0));
    let per_head = s.device().upload_f32([3, heads], &[dt_bias, a_log, d].concat())?;
    let conv_state = s.state("conv_state", [sequences * channels, taps], Fill::Normal(1.0))?;
    let ssm_state = s.state("ssm_state", [sequences * heads, dims.head_dim * dims.state], Fill::Normal(1.0))?;
    let tickets = s.state_words("tickets", [sequences * dims.groups], &vec![0; sequences * dims.groups])?;
    let y = s.output("y", DType::F32, [rows, dims.d_inner()])?;
    let raw = Columns::new(NAME, &input, 5, channels + heads)?;
    let vectors = MambaVectors { conv_weight: &conv_weight, conv_bias: &conv_bias, per_head: &per_head };
    let (conv_state, ssm_state, tickets) = (&conv_state, &ssm_state, &tickets);
    launch(s.plan(), Mixer { raw: &raw, vectors, conv_state, ssm_state, tickets, y: &y })
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let n = sequences(a);
    setup_mixer(s, a, [n, n], |plan, mixer| {
        (0..TOKENS).try_for_each(|_| mamba2_update(plan, mixer, dims(a), dt_limit(a)))
    })
}

pub(super) fn work(a: &Args) -> Work {
    let (dims, taps) = (dims(a), a.usize("taps"));
    let conv = dims.conv_dim() * (3 * taps + 2);
    let token = Work {
        bytes: 8 * dims.state_len() + 4 * (conv + dims.d_inner() + 4 * dims.heads),
        ops: 5 * dims.state_len() + dims.conv_dim() * (2 * taps + 4),
    };
    let tokens = TOKENS * sequences(a);
    Work { bytes: tokens * token.bytes, ops: tokens * token.ops }
}
