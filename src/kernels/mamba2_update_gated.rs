//! One token of each sequence in a Mamba-2 mixer, from its first projection to the codes of its last, but for the norm's factor.

use super::bindings::mamba2_update_gated::{Bindings, launch};
use super::causal_conv1d::taps;
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::grouped_rows::{GroupedTokens, TOKEN_GROUP, out_scales, turn};
use super::mamba2_update::{fuses, group_rows, work as token};
use super::ssd::{SsdDims, dims, dt_limit, dt_range, expect_columns, expect_f32, row, sequences, sequences_of};
use super::{Columns, expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::mamba2_update_gated::Params;
use crate::tensor::DType;

const NAME: &str = "mamba2_update_gated";
/// Rows of one workgroup (`shaders/shared/token_update.wgsl`), which share a scale.
pub(super) const ROWS: usize = TOKEN_GROUP;

/// Does [`mamba2_update_gated`] take mixers of these sizes? Runs of 32 rows, which share a scale, must not reach over groups of heads.
#[must_use]
pub fn gates(dims: SsdDims, taps: usize) -> bool {
    fuses(dims, taps) && dims.groups > 0 && group_rows(dims).is_multiple_of(ROWS)
}

/// The vectors of a mixer as [`mamba2_update_gated`] takes them: the convolution's weight `[conv_dim, taps]` and bias, then dt_bias, a_log and
/// d, then the norm's weight `[d_inner]`.
#[must_use]
pub fn gated_vectors(conv_weight: &[f32], conv_bias: &[f32], per_head: [&[f32]; 3], norm: &[f32]) -> Vec<f32> {
    [conv_weight, conv_bias, &per_head.concat(), norm].concat()
}

/// What a mixer's tokens between its projections read and write, all f32 but codes and tickets.
#[derive(Clone, Copy, Debug)]
pub struct GatedMixer<'a> {
    /// `[rows, d_inner + conv_dim + heads]` columns, z | x | B | C | dt.
    pub projected: &'a Columns<'a>,
    /// Of [`gated_vectors`].
    pub vectors: &'a DeviceTensor,
    /// `[sequences · conv_dim, taps]`, updated.
    pub conv_state: &'a DeviceTensor,
    /// `[sequences · heads, head_dim · state]`, updated.
    pub ssm_state: &'a DeviceTensor,
    /// `[sequences · groups]` u32, zeros, and zeros again afterwards.
    pub tickets: &'a DeviceTensor,
    /// As many tokens of `d_inner` columns as there are rows, written.
    pub out: GroupedTokens<'a>,
}

/// Checked sizes.
pub(super) struct Sizes {
    pub(super) taps: u32,
    pub(super) dt: (f32, f32),
    pub(super) log_run: u32,
    pub(super) unit: f32,
}

impl GatedMixer<'_> {
    /// Checks all for `sequences` of so many `rows` in all.
    pub(super) fn sizes(
        &self,
        kernel: &'static str,
        [sequences, rows]: [usize; 2],
        dims: SsdDims,
        dt_limit: (f32, f32),
        block: usize,
    ) -> Result<Sizes> {
        dims.check(kernel)?;
        let (taps, channels, d_inner) = (taps(kernel, self.conv_state)?, dims.conv_dim(), dims.d_inner());
        if !gates(dims, taps) {
            let (rows, SsdDims { state, .. }) = (group_rows(dims), dims);
            let reason = format!("groups of {rows} channels in runs of {ROWS}, {state} state elements, {taps} taps");
            return Err(Error::argument(format!("{kernel}: `dims`"), reason));
        }
        let (log_run, unit) = turn(kernel, block)?;
        let dt = dt_range(kernel, dt_limit)?;
        expect_columns(kernel, "projected", self.projected, rows, d_inner + channels + dims.heads)?;
        expect_dtype(kernel, "tickets", self.tickets, DType::U32, "u32")?;
        expect(kernel, "tickets", self.tickets, row(sequences * dims.groups))?;
        self.out.expect(kernel, [rows, d_inner])?;
        expect_f32(
            kernel,
            &[
                ("vectors", self.vectors, row(channels * (taps + 1) + 3 * dims.heads + d_inner)),
                ("conv_state", self.conv_state, [sequences * channels, taps]),
                ("ssm_state", self.ssm_state, [sequences * dims.heads, dims.head_dim * dims.state]),
            ],
        )?;
        Ok(Sizes { taps: taps as u32, dt, log_run, unit })
    }
}

/// [`super::mamba2_update`], then of `v = y · silu(z)` the sums of squares of each 32 columns, and of `v` times the norm's weight
/// [`super::hadamard`] in blocks of `block` columns (1: none) and int8 codes, a scale for each 32 columns, as of [`super::quantize_tokens`].
/// Whoever reads them multiplies by `1 / sqrt(mean of v² + eps)` of the norm's groups, which is what is missing to
/// [`super::rms_norm_gated_quantize`]. Dao & Gu 2024, arXiv:2405.21060; QuaRot, arXiv:2404.00456.
///
/// `mixer`: a row for each sequence. `dims.chunk` plays no part.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault, sizes that [`gates`] denies and blocks that are
/// no power of two up to 32 included.
pub fn mamba2_update_gated(
    plan: &mut Plan,
    mixer: GatedMixer<'_>,
    dims: SsdDims,
    dt_limit: (f32, f32),
    block: usize,
) -> Result<()> {
    let sequences = sequences_of(mixer.ssm_state, dims.heads);
    let Sizes { taps, dt: (dt_min, dt_max), log_run, unit } =
        mixer.sizes(NAME, [sequences, sequences], dims, dt_limit, block)?;
    let GatedMixer { projected, vectors, conv_state, ssm_state, tickets, out } = mixer;
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
        sequences: sequences as u32,
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
    launch(plan, params, bindings, Grid::linear(sequences * dims.d_inner() / ROWS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $taps:expr, $bias:expr, $a_log:expr, $block:expr $(, $n:expr)? $(; $low:expr, $high:expr)?) => {
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
                ("block", $block),
                $(("sequences", $n),)?
                $(("dt_min", $low), ("dt_max", $high),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano", [8.0, 32.0, 2.0, 32.0], 4.0, -4.0, 1.5, 32.0),
    case!("small", [16.0, 64.0, 2.0, 128.0], 4.0, -4.0, 1.5, 32.0),
    case!("nemotron_nano_9b_heads", [8.0, 80.0, 2.0, 128.0], 4.0, -4.0, 1.5, 32.0),
    case!("heads_of_96_three_taps", [6.0, 96.0, 3.0, 64.0], 3.0, -4.0, 1.5, 8.0),
    case!("one_group_one_tap_no_transform", [1.0, 32.0, 1.0, 12.0], 1.0, -4.0, 1.5, 1.0),
    case!("wide_state_two_taps_pairs", [4.0, 64.0, 2.0, 256.0], 2.0, -4.0, 1.5, 2.0),
    case!("odd_state_runs_of_16", [4.0, 32.0, 4.0, 140.0], 3.0, -2.0, -9.2, 16.0),
    case!("strong_decay_large_dt", [4.0, 32.0, 2.0, 96.0], 4.0, 8.0, 2.77, 4.0),
    case!("three_sequences", [4.0, 64.0, 2.0, 36.0], 4.0, -4.0, 1.5, 32.0, 3.0),
    case!("eight_sequences_no_transform", [2.0, 32.0, 1.0, 256.0], 3.0, -4.0, 1.5, 1.0, 8.0),
    case!("dt_limited", [16.0, 4.0, 2.0, 16.0], 4.0, -1.0, 1.5, 32.0; 0.2, 0.5),
    // docs/driver-faults.md: mamba #923 (decay in 16 bits), exp under fast math.
    case!("mamba_923_decay_near_zero", [4.0, 32.0, 2.0, 16.0], 4.0, -2.0, -20.0, 32.0),
    case!("fast_math_exp_minus_1e5", [4.0, 32.0, 2.0, 16.0], 4.0, 1e4, 2.77, 32.0),
];

/// Launches of a case: the second sees the windows and the tickets that the first left.
const TOKENS: usize = 2;

/// Columns of a case's transform, 32 unless given.
pub(super) fn block(a: &Args) -> usize {
    a.get("block").map_or(ROWS, |block| block as usize)
}

/// Builds a case of `sequences` of so many `rows` in all; `launch` adds what is tested.
pub(super) fn setup_mixer(
    s: &mut Setup,
    a: &Args,
    [sequences, rows]: [usize; 2],
    launch: impl FnOnce(&mut Plan, GatedMixer<'_>) -> Result<()>,
) -> Result<()> {
    let (dims, taps) = (dims(a), a.usize("taps"));
    let (heads, channels, d_inner) = (dims.heads, dims.conv_dim(), dims.d_inner());
    let input = s.input([rows, 5 + d_inner + channels + heads], Fill::Normal(1.0))?;
    let conv_weight = s.values(channels * taps, Fill::Normal(0.5));
    let conv_bias = s.values(channels, Fill::Normal(0.2));
    let shift = |v: Vec<f32>, by: &str| v.into_iter().map(|v| v + a.f64(by) as f32).collect::<Vec<_>>();
    let dt_bias = shift(s.values(heads, Fill::Normal(1.0)), "bias");
    let a_log = shift(s.values(heads, Fill::Normal(0.3)), "a_log");
    let d = s.values(heads, Fill::Normal(1.0));
    let norm = s.values(d_inner, Fill::Normal(1.0));
    let vectors = gated_vectors(&conv_weight, &conv_bias, [&dt_bias, &a_log, &d], &norm);
    let vectors = s.device().upload_f32([vectors.len()], &vectors)?;
    let conv_state = s.state("conv_state", [sequences * channels, taps], Fill::Normal(1.0))?;
    let ssm_state = s.state("ssm_state", [sequences * heads, dims.head_dim * dims.state], Fill::Normal(1.0))?;
    let tickets = s.state_words("tickets", [sequences * dims.groups], &vec![0; sequences * dims.groups])?;
    let codes = s.rounded_output("out_codes", DType::I8, [rows, d_inner])?;
    let scales = out_scales(s, rows * d_inner / ROWS)?;
    let projected = Columns::new(NAME, &input, 5, d_inner + channels + heads)?;
    let out = GroupedTokens { codes: &codes, scales: &scales };
    launch(
        s.plan(),
        GatedMixer {
            projected: &projected,
            vectors: &vectors,
            conv_state: &conv_state,
            ssm_state: &ssm_state,
            tickets: &tickets,
            out,
        },
    )
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let n = sequences(a);
    setup_mixer(s, a, [n, n], |plan, mixer| {
        (0..TOKENS).try_for_each(|_| mamba2_update_gated(plan, mixer, dims(a), dt_limit(a), block(a)))
    })
}

/// z and the weight come in, codes and scales go out in place of y.
fn work(a: &Args) -> Work {
    let (d_inner, Work { bytes, ops }) = (dims(a).d_inner(), token(a));
    let (gate, tokens) = ((4 + 4 + 1) * d_inner + 8 * d_inner / ROWS, TOKENS * sequences(a));
    Work {
        bytes: bytes + tokens * gate - tokens * 4 * d_inner,
        ops: ops + tokens * d_inner * (10 + block(a).ilog2() as usize),
    }
}
