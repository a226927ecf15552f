//! Statistics of activations, channel by channel.

use super::bindings::channel_stats::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::shaders::channel_stats::Params;
use crate::tensor::DType;

/// Channels of a workgroup, which share a row of counts.
const CHANNELS: usize = 32;
/// Bins of magnitudes, eight an octave: bin b > 0 holds `2^(b/8 - 40) <= |x| < 2^((b + 1)/8 - 40)` with the eighths
/// linear within an octave; the first also holds all below, the last all above.
pub const MAGNITUDE_BINS: usize = 512;

/// Where the samples of each channel are: `x[offset + o * stride + c * inner + i]` for all `o` below `outer` and `i`
/// below `inner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Elements from one `o` to the next.
    pub stride: usize,
    /// First element.
    pub offset: usize,
    /// Tokens, chunks, ..
    pub outer: usize,
    /// Channels.
    pub channels: usize,
    /// Consecutive elements of a channel.
    pub inner: usize,
}

impl Samples {
    /// Samples of a channel.
    #[must_use]
    pub fn each(&self) -> usize {
        self.outer * self.inner
    }
}

/// What [`channel_stats`] adds to.
#[derive(Clone, Debug)]
pub struct ChannelSums {
    /// `[2, channels]` f32: smallest and largest value.
    pub range: DeviceTensor,
    /// `[8, channels]` f32: totals of x, x², x³, x⁴, and below them what their rounding lost.
    pub sums: DeviceTensor,
    /// `[ceil(channels / 32), 512]` u32: magnitudes by bin, for each 32 channels.
    pub counts: DeviceTensor,
}

impl ChannelSums {
    /// Of no samples.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn new(device: &Device, channels: usize) -> Result<Self> {
        let new = Self {
            range: device.alloc(DType::F32, [2, channels])?,
            sums: device.alloc(DType::F32, [8, channels])?,
            counts: device.alloc(DType::U32, [channels.div_ceil(CHANNELS), MAGNITUDE_BINS])?,
        };
        new.reset(device)?;
        Ok(new)
    }

    /// Forgets all samples.
    ///
    /// # Errors
    /// As [`Device::write`].
    pub fn reset(&self, device: &Device) -> Result<()> {
        let channels = self.range.shape.cols();
        let empty: Vec<u32> = [f32::MAX, f32::MIN].iter().flat_map(|v| vec![v.to_bits(); channels]).collect();
        device.write(&self.range, &empty)?;
        let mut submission = device.submission();
        [&self.sums, &self.counts].into_iter().try_for_each(|t| submission.clear(t))?;
        submission.submit()
    }
}

/// Adds the samples of `x` (f32) to `to`: range, sums of powers, and a histogram of magnitudes.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for samples that are none or
/// lie outside `x`.
pub fn channel_stats(plan: &mut Plan, x: &DeviceTensor, at: Samples, to: &ChannelSums) -> Result<()> {
    f32_tensor("channel_stats", "x", x)?;
    let Samples { stride, offset, outer, channels, inner } = at;
    f32_tensor("channel_stats", "range", &to.range)?;
    f32_tensor("channel_stats", "sums", &to.sums)?;
    expect_dtype("channel_stats", "counts", &to.counts, DType::U32, "u32")?;
    expect("channel_stats", "range", &to.range, [2, channels])?;
    expect("channel_stats", "sums", &to.sums, [8, channels])?;
    expect("channel_stats", "counts", &to.counts, [channels.div_ceil(CHANNELS), MAGNITUDE_BINS])?;
    let end = offset + outer.saturating_sub(1) * stride + channels * inner;
    if at.each() * channels == 0 || end > x.shape.elements() {
        return Err(Error::argument("channel_stats: `at`", format!("{at:?} of a tensor {}", x.shape)));
    }
    let params = Params {
        outer: outer as u32,
        channels: channels as u32,
        inner: inner as u32,
        stride: stride as u32,
        offset: offset as u32,
        zero: 0,
    };
    let bindings = Bindings { x, range: &to.range, sums: &to.sums, counts: &to.counts };
    launch(plan, params, bindings, Grid::cover(channels, CHANNELS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "channel_stats", cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, [$outer:expr, $channels:expr, $inner:expr], $offset:expr, $sd:expr) => {
        Case {
            name: $name,
            args: &[("outer", $outer), ("channels", $channels), ("inner", $inner), ("offset", $offset), ("sd", $sd)],
        }
    };
}

/// Rows of `x` are 5 elements longer than what is looked at.
const CASES: &[Case] = &[
    case!("one_element", [1.0, 1.0, 1.0], 0.0, 1.0),
    case!("columns_of_a_wider_tensor", [37.0, 45.0, 1.0], 3.0, 1.0),
    case!("channels_in_rows", [1.0, 8.0, 70.0], 0.0, 1.0),
    case!("states_of_heads", [3.0, 9.0, 48.0], 2.0, 1.0),
    case!("more_than_a_block", [523.0, 33.0, 1.0], 5.0, 1.0),
    case!("tiny_and_below_the_bins", [40.0, 40.0, 1.0], 0.0, 1e-11),
    case!("large_and_above_the_bins", [40.0, 40.0, 1.0], 0.0, 1e7),
    case!("nano_in_proj", [64.0, 128.0, 1.0], 0.0, 1.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (channels, inner, offset) = (a.usize("channels"), a.usize("inner"), a.usize("offset"));
    let at = Samples { stride: channels * inner + 5, offset, outer: a.usize("outer"), channels, inner };
    let x = s.input([at.outer, at.stride], Fill::Normal(a.f64("sd") as f32))?;
    let rows = channels.div_ceil(CHANNELS);
    let before: Vec<u32> = (0..(rows * MAGNITUDE_BINS) as u32).map(|i| i % 7).collect();
    let to = ChannelSums {
        range: s.state("range", [2, channels], Fill::Normal(1.0))?,
        sums: s.state("sums", [8, channels], Fill::Normal(1.0))?,
        counts: s.state_words("counts", [rows, MAGNITUDE_BINS], &before)?,
    };
    channel_stats(s.plan(), &x, at, &to)
}

fn work(a: &Args) -> Work {
    let n = a.usize("outer") * a.usize("channels") * a.usize("inner");
    Work { bytes: 4 * n, ops: 12 * n }
}
