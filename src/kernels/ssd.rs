//! Sizes and checks the kernels of the Mamba-2 recurrence (state-space duality, arXiv:2405.21060) share.

use super::check::{Args, Case, Fill, Setup};
use super::{Columns, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::DeviceTensor;
use crate::tensor::DType;

/// Sizes of a Mamba-2 mixer. Head `h` reads B and C of group `h / (heads / groups)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SsdDims {
    /// Heads, a multiple of `groups`.
    pub heads: usize,
    /// Channels of a head, a multiple of 4.
    pub head_dim: usize,
    /// Groups of heads that share B and C.
    pub groups: usize,
    /// State elements of a channel, a multiple of 4.
    pub state: usize,
    /// Tokens of a chunk; the last chunk may be shorter.
    pub chunk: usize,
}

impl SsdDims {
    /// Channels of x and y.
    #[must_use]
    pub fn d_inner(self) -> usize {
        self.heads * self.head_dim
    }

    /// Channels of x, B and C together, in this order.
    #[must_use]
    pub fn conv_dim(self) -> usize {
        self.d_inner() + 2 * self.groups * self.state
    }

    /// Products `C[l]·B[s]` of a token with those of its chunk, for all groups, as f32 or f16: a chunk is rounded up to whole
    /// 16 bytes.
    #[must_use]
    pub fn products_len(self, dtype: DType) -> usize {
        self.groups * self.chunk.next_multiple_of(if dtype == DType::F16 { 8 } else { 4 })
    }

    /// Elements of the whole state.
    #[must_use]
    pub fn state_len(self) -> usize {
        self.d_inner() * self.state
    }

    /// Chunks of a sequence.
    #[must_use]
    pub fn chunks(self, tokens: usize) -> usize {
        tokens.div_ceil(self.chunk.max(1))
    }

    /// Refuses sizes that are zero or do not fit each other.
    pub(super) fn check(self, kernel: &'static str) -> Result<()> {
        let refuse = |what: &str| Err(Error::argument(format!("{kernel}: `dims`"), format!("{what}, got {self:?}")));
        let Self { heads, head_dim, groups, state, chunk } = self;
        if [heads, head_dim, groups, state, chunk].contains(&0) {
            return refuse("no size may be zero");
        }
        if !heads.is_multiple_of(groups) {
            return refuse("heads must be a multiple of groups");
        }
        if !head_dim.is_multiple_of(4) || !state.is_multiple_of(4) {
            return refuse("head_dim and state must be multiples of 4");
        }
        Ok(())
    }
}

/// Checks the shape and dtype of f32 arguments by name.
pub(super) fn expect_f32(kernel: &'static str, args: &[(&'static str, &DeviceTensor, [usize; 2])]) -> Result<()> {
    for (name, tensor, shape) in args {
        f32_tensor(kernel, name, tensor)?;
        expect(kernel, name, tensor, *shape)?;
    }
    Ok(())
}

/// Checks the shape of arguments by name, and that they are all f32, or all f16; gives which.
pub(super) fn expect_floats(kernel: &'static str, args: &[(&'static str, &DeviceTensor, [usize; 2])]) -> Result<DType> {
    let halves = args.first().is_some_and(|(_, t, _)| t.dtype == DType::F16);
    let (dtype, name_of) = if halves { (DType::F16, "f16") } else { (DType::F32, "f32") };
    for (name, tensor, shape) in args {
        expect_dtype(kernel, name, tensor, dtype, name_of)?;
        expect(kernel, name, tensor, *shape)?;
    }
    Ok(dtype)
}

/// Refuses columns that are not `[rows, width]` of a tensor of f32.
pub(super) fn expect_columns(
    kernel: &'static str,
    arg: &'static str,
    columns: &Columns<'_>,
    rows: usize,
    width: usize,
) -> Result<()> {
    f32_tensor(kernel, arg, columns.tensor)?;
    let got = [columns.tensor.shape.rows(), columns.width];
    if got != [rows, width] {
        return Err(Error::Shape { kernel, arg, expected: [rows, width].into(), got: got.into() });
    }
    Ok(())
}

/// A vector `[n]` has one row of `n` columns.
pub(super) fn row(n: usize) -> [usize; 2] {
    [1, n]
}

/// Refuses a range of dt that holds nothing or NaN.
pub(super) fn dt_range(kernel: &'static str, (low, high): (f32, f32)) -> Result<(f32, f32)> {
    if low.is_nan() || high.is_nan() || low > high {
        return Err(Error::argument(format!("{kernel}: `dt_limit`"), format!("({low}, {high}) holds no number")));
    }
    // WGSL may assume that there is no infinity.
    Ok((low.max(-3.4e38), high.min(3.4e38)))
}

/// Sequences of a state that has `rows` rows of each.
pub(super) fn sequences_of(state: &DeviceTensor, rows: usize) -> usize {
    state.shape.rows() / rows.max(1)
}

/// A case's sequences, 1 unless given.
pub(super) fn sequences(a: &Args) -> usize {
    a.get("sequences").map_or(1, |n| n as usize)
}

/// The range of a case's dt, from 0 on unless given.
pub(super) fn dt_limit(a: &Args) -> (f32, f32) {
    (a.get("dt_min").unwrap_or(0.0) as f32, a.get("dt_max").unwrap_or(f64::INFINITY) as f32)
}

/// A case's sizes.
pub(super) fn dims(a: &Args) -> SsdDims {
    let of = |name| a.usize(name);
    SsdDims {
        heads: of("heads"),
        head_dim: of("head_dim"),
        groups: of("groups"),
        state: of("state"),
        chunk: of("chunk"),
    }
}

/// Inputs `dt` and `da_cumsum` of a case: dt uniform up to `dt`, A uniform in -`decay`..-`decay`/4.
pub(super) fn decays(s: &mut Setup, a: &Args, dims: SsdDims) -> Result<(DeviceTensor, DeviceTensor)> {
    let tokens = a.usize("tokens");
    let (top, decay) = (a.f64("dt") as f32, a.f64("decay") as f32);
    let dt = s.values(dims.heads * tokens, Fill::Uniform(top * 1e-3, top));
    let rates = s.values(dims.heads, Fill::Uniform(-decay, -decay / 4.0));
    let mut sums = Vec::with_capacity(dt.len());
    for (dt, rate) in dt.chunks(tokens).zip(&rates) {
        for chunk in dt.chunks(dims.chunk) {
            sums.extend(chunk.iter().scan(0.0f64, |sum, dt| {
                *sum += f64::from(dt * rate);
                Some(*sum as f32)
            }));
        }
    }
    let shape = [dims.heads, tokens];
    Ok((s.device().upload_f32(shape, &dt)?, s.device().upload_f32(shape, &sums)?))
}

/// Type of a case's x, B and C, f32 unless given.
pub(super) fn dtype(a: &Args) -> DType {
    if a.get("bits") == Some(16.0) { DType::F16 } else { DType::F32 }
}

macro_rules! case {
    ($name:expr, $tokens:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr, $chunk:expr], $dt:expr, $decay:expr $(, $bits:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("tokens", $tokens),
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", $groups),
                ("state", $state),
                ("chunk", $chunk),
                ("dt", $dt),
                ("decay", $decay),
                $(("bits", $bits),)?
            ],
        }
    };
}

/// Cases of the kernels that work on chunks, in f32 and in f16: `[heads, head_dim, groups, state, chunk]`, largest dt and decay rate.
pub(super) const CASES: &[Case] = &[
    case!("nano_partial_last_chunk", 150.0, [8.0, 32.0, 2.0, 32.0, 128.0], 0.1, 8.0),
    case!("small_head", 70.0, [2.0, 64.0, 1.0, 128.0, 128.0], 0.1, 8.0),
    case!("nemotron_nano_9b_head", 65.0, [2.0, 80.0, 1.0, 128.0, 64.0], 0.1, 8.0),
    case!("one_token", 1.0, [4.0, 64.0, 2.0, 16.0, 128.0], 0.1, 8.0),
    case!("chunk_of_one", 5.0, [2.0, 16.0, 2.0, 40.0, 1.0], 0.1, 8.0),
    case!("odd_chunk", 23.0, [6.0, 40.0, 3.0, 80.0, 7.0], 0.1, 8.0),
    case!("two_tiles_of_tokens", 310.0, [2.0, 32.0, 1.0, 32.0, 200.0], 0.1, 8.0),
    case!("two_tiles_of_columns", 40.0, [2.0, 96.0, 1.0, 96.0, 33.0], 0.1, 8.0),
    case!("narrowest", 9.0, [1.0, 4.0, 1.0, 4.0, 4.0], 0.1, 8.0),
    case!("state_of_256", 20.0, [2.0, 16.0, 1.0, 256.0, 16.0], 0.1, 8.0),
    case!("weak_decay", 100.0, [4.0, 16.0, 2.0, 16.0, 64.0], 0.1, 1e-4),
    case!("strong_decay_large_dt", 100.0, [4.0, 16.0, 2.0, 16.0, 64.0], 4.0, 16.0),
    case!("f16_nano_partial_last_chunk", 150.0, [8.0, 32.0, 2.0, 32.0, 128.0], 0.1, 8.0, 16.0),
    case!("f16_small_head", 270.0, [2.0, 64.0, 1.0, 128.0, 128.0], 0.1, 8.0, 16.0),
    case!("f16_nemotron_nano_9b_head", 65.0, [2.0, 80.0, 1.0, 128.0, 64.0], 0.1, 8.0, 16.0),
    case!("f16_one_token", 1.0, [4.0, 64.0, 2.0, 16.0, 128.0], 0.1, 8.0, 16.0),
    case!("f16_chunk_of_one", 5.0, [2.0, 16.0, 2.0, 40.0, 1.0], 0.1, 8.0, 16.0),
    case!("f16_odd_chunk", 23.0, [6.0, 48.0, 3.0, 80.0, 7.0], 0.1, 8.0, 16.0),
    case!("f16_two_tiles_of_tokens", 310.0, [2.0, 32.0, 1.0, 32.0, 200.0], 0.1, 8.0, 16.0),
    case!("f16_two_tiles_of_columns", 40.0, [2.0, 96.0, 1.0, 96.0, 33.0], 0.1, 8.0, 16.0),
    case!("f16_narrowest", 9.0, [1.0, 4.0, 1.0, 4.0, 4.0], 0.1, 8.0, 16.0),
    case!("f16_state_of_256", 20.0, [2.0, 16.0, 1.0, 256.0, 16.0], 0.1, 8.0, 16.0),
    case!("f16_small_dt_weak_decay", 100.0, [4.0, 16.0, 2.0, 16.0, 64.0], 1e-6, 1e-4, 16.0),
    case!("f16_strong_decay_large_dt", 100.0, [4.0, 16.0, 2.0, 16.0, 64.0], 4.0, 16.0, 16.0),
];

/// How many of those are in f32; they come first, and their arguments lack `bits`.
const F32: usize = {
    let mut n = 0;
    while CASES[n].args.len() == CASES[0].args.len() {
        n += 1;
    }
    n
};

/// The ones in f32.
pub(super) const F32_CASES: &[Case] = CASES.split_at(F32).0;

/// And in f16.
pub(super) const F16_CASES: &[Case] = CASES.split_at(F32).1;
