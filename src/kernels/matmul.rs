//! What the matrix products share: the epilogue and the argument checks.

use super::check::{Args, Fill, Setup, Work};
use super::split_k_reduce::SplitK;
use super::{Columns, ScaleBits, expect, upload_scales};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid};
use crate::tensor::DType;

/// Outputs along each side of a workgroup's tile (`shaders/shared/tile.wgsl`).
const TILE: usize = 64;
/// Outputs a workgroup of the one-token kernels makes (`shaders/shared/rows4.wgsl`).
const ROWS: usize = 4;

/// What a matrix product does with a finished sum `y`. The numbers are those of `shaders/shared/epilogue.wgsl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// `out = y`.
    Store = 0,
    /// `out = max(y, 0)²`.
    ReluSquared = 1,
    /// `out += y`: the residual addition.
    Add = 2,
}

impl Epilogue {
    /// Of a case: `epilogue`, store unless given.
    pub(super) fn of(a: &Args) -> Self {
        match a.get("epilogue").unwrap_or(0.0) as u32 {
            1 => Self::ReluSquared,
            2 => Self::Add,
            _ => Self::Store,
        }
    }
}

/// Sizes of a product: `out: [m, n]` = `x: [m, k]` · `weight: [n, k]`ᵀ.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

impl Sizes {
    /// Checks `x` (named `arg`), `weight` and `out` against each other; `out` must be f32.
    pub(super) fn of(
        kernel: &'static str,
        arg: &'static str,
        x: &DeviceTensor,
        weight: &DeviceTensor,
        out: &Columns<'_>,
    ) -> Result<Self> {
        let (m, k, n) = (x.shape.rows(), x.shape.cols(), weight.shape.rows());
        if k == 0 {
            return Err(Error::argument(format!("{kernel}: `{arg}`"), "it has no columns"));
        }
        expect(kernel, "weight", weight, [n, k])?;
        out.expect(kernel, "out", [m, n])?;
        Ok(Self { m, n, k })
    }

    /// Refuses more than one row.
    pub(super) fn one_row(self, kernel: &'static str) -> Result<Self> {
        if self.m != 1 {
            return Err(Error::argument(format!("{kernel}: m"), format!("{} rows, the kernel takes one", self.m)));
        }
        Ok(self)
    }

    /// Workgroups of a tiled kernel.
    pub(super) fn tiles(self) -> Grid {
        Grid::new([self.n.div_ceil(TILE), self.m.div_ceil(TILE), 1])
    }

    /// Workgroups of a one-token kernel.
    pub(super) fn rows(self) -> Grid {
        Grid::cover(self.n, ROWS)
    }
}

/// Sizes, group and epilogue of a case, and what the `setup` of every product makes of them.
pub(super) struct CaseOf {
    pub(super) sizes: Sizes,
    pub(super) group: usize,
    pub(super) x_group: usize,
    pub(super) epilogue: Epilogue,
    pub(super) scale_bits: ScaleBits,
    /// Are the weight's scales numbers of bf16, as which they are then on the device?
    bf16_scales: bool,
    /// Columns of a row of the output, and the first of the product's.
    stride: usize,
    first: usize,
    corners: Corners,
    /// Slices that the columns are cut in.
    slices: usize,
}

/// Codes at the ends of their range, where an instruction for packed dot products could saturate or wrap. -128 and -8
/// are no codes of this crate, but other tools' checkpoints have them.
#[derive(Clone, Copy)]
enum Corners {
    None,
    /// Each code one of the lowest, the highest, -1, 0 and 1.
    Mixed,
    /// Every code the lowest, so that sums come to the top of their range.
    Lowest,
}

impl Corners {
    fn codes(self, s: &mut Setup, bits: usize, shape: [usize; 2]) -> Result<DeviceTensor> {
        let low = -(1i32 << (bits - 1));
        let ends = [low, -low - 1, -1, 0, 1].map(|c| c as i8);
        let which = s.values(shape[0] * shape[1], Fill::Uniform(0.0, 5.0));
        let codes: Vec<i8> = match self {
            Self::Lowest => vec![ends[0]; which.len()],
            _ => which.iter().map(|w| ends[(*w as usize).min(4)]).collect(),
        };
        s.device().upload_codes(bits, shape, &codes)
    }
}

impl CaseOf {
    /// Reads `m` (1 unless given), `n`, `k`, `group` and `x_group` (`k` unless given), `epilogue` (store unless given),
    /// `stride` (`n` unless given), `first`, `corners` (1 mixed, 2 lowest), `short_scales` (1: both operands' are),
    /// `bf16_scales` (1: the weight's are) and `slices` (1 unless given).
    pub(super) fn new(a: &Args) -> Self {
        let (n, k) = (a.usize("n"), a.usize("k"));
        let or = |name: &str, default: usize| a.get(name).map_or(default, |v| v as usize);
        let corners = [Corners::None, Corners::Mixed, Corners::Lowest][or("corners", 0)];
        Self {
            sizes: Sizes { m: or("m", 1), n, k },
            group: or("group", k),
            x_group: or("x_group", k),
            epilogue: Epilogue::of(a),
            scale_bits: [ScaleBits::Any, ScaleBits::Short][or("short_scales", 0)],
            bf16_scales: or("bf16_scales", 0) == 1,
            stride: or("stride", n),
            first: or("first", 0),
            corners,
            slices: or("slices", 1),
        }
    }

    /// Scales a weight row.
    pub(super) fn groups(&self) -> usize {
        self.sizes.k.div_ceil(self.group)
    }

    /// Token codes and scales, weight codes of `bits` and their scales. Scales are of the size that makes
    /// outputs of order one.
    pub(super) fn quantized(&self, s: &mut Setup, bits: usize) -> Result<[DeviceTensor; 4]> {
        let Sizes { m, n, k } = self.sizes;
        let (codes, weight) = match self.corners {
            Corners::None => (s.codes(8, [m, k])?, s.codes(bits, [n, k])?),
            corners => (corners.codes(s, 8, [m, k])?, corners.codes(s, bits, [n, k])?),
        };
        let shape = [m, k.div_ceil(self.x_group)];
        let scales = self.scales(s, shape, 8, Fill::Uniform(0.005, 0.1));
        let scales = s.device().upload_f32(shape, &scales)?;
        let weight_scales = self.weight_scales(s, bits)?;
        Ok([codes, scales, weight, weight_scales])
    }

    /// Scales of a weight's codes of `bits`: bf16 has short ones.
    pub(super) fn weight_scales(&self, s: &mut Setup, bits: usize) -> Result<DeviceTensor> {
        let shape = [self.sizes.n, self.groups()];
        let mut scales = self.scales(s, shape, bits, Fill::Uniform(1e-4, 1e-2));
        if self.bf16_scales {
            scales.iter_mut().for_each(|s| *s = f32::from_bits(s.to_bits() & 0xffff_0000));
        }
        upload_scales(s.device(), shape, &scales)
    }

    /// Scales of codes of `bits`; where a row has one, it may be any.
    fn scales(&self, s: &mut Setup, shape: [usize; 2], bits: usize, fill: Fill) -> Vec<f32> {
        let scales = s.values(shape[0] * shape[1], fill);
        if self.scale_bits == ScaleBits::Any || shape[1] == 1 {
            return scales;
        }
        let dropped = f32::MANTISSA_DIGITS - (12 - bits) as u32;
        scales.into_iter().map(|s| f32::from_bits(s.to_bits() >> dropped << dropped)).collect()
    }

    /// Numbers about one, and whole steps of int8, the largest at the end, both `[k]`.
    pub(super) fn steps(&self, s: &mut Setup, step: f32) -> [Vec<f32>; 2] {
        let k = self.sizes.k;
        let near = s.values(k, Fill::Uniform(0.5, 2.0));
        let mut codes = s.values(k, Fill::Uniform(-100.0, 100.0));
        codes[k - 1] = 127.0;
        [near, codes.iter().map(|v| v.round() * step).collect()]
    }

    /// The output: one to add to, or one to overwrite.
    pub(super) fn out(&self, s: &mut Setup) -> Result<DeviceTensor> {
        let shape = [self.sizes.m, self.stride];
        // What lies beside the product's columns is to be left alone.
        if self.epilogue == Epilogue::Add || self.stride > self.sizes.n {
            s.state("out", shape, Fill::Normal(1.0))
        } else {
            s.output("out", DType::F32, shape)
        }
    }

    /// Room for the sums of slices, where there are several.
    pub(super) fn room(&self, s: &mut Setup) -> Result<Option<DeviceTensor>> {
        let shape = [self.slices * self.sizes.m, self.sizes.n];
        if self.slices > 1 { s.output("sums", DType::F32, shape).map(Some) } else { Ok(None) }
    }

    /// That, for the product.
    pub(super) fn split<'a>(&self, room: Option<&'a DeviceTensor>) -> Option<SplitK<'a>> {
        room.map(|room| SplitK { room, slices: Some(self.slices) })
    }

    /// The columns of `out` that are the product's.
    pub(super) fn columns<'a>(&self, out: &'a DeviceTensor) -> Result<Columns<'a>> {
        Columns::new("product", out, self.first, self.sizes.n)
    }

    /// Cost with `x_bits` and `weight_bits` an element.
    pub(super) fn work(&self, x_bits: usize, weight_bits: usize) -> Work {
        let Sizes { m, n, k } = self.sizes;
        let out = if self.epilogue == Epilogue::Add { 8 } else { 4 };
        let x_scales = if x_bits < 16 { 4 * m * k.div_ceil(self.x_group) } else { 0 };
        let scale = if self.scale_bits == ScaleBits::Short && self.groups() > 1 { 2 } else { 4 };
        let scales = if weight_bits < 16 { scale * n * self.groups() + x_scales } else { 0 };
        Work { bytes: (m * k * x_bits + n * k * weight_bits) / 8 + m * n * out + scales, ops: 2 * m * n * k }
    }
}

/// Storage type of the weight of a case: `dtype` is 0 (or missing) for f32, 1 for f16, 2 for bf16.
pub(super) fn weight_dtype(a: &Args) -> DType {
    [DType::F32, DType::F16, DType::BF16][a.get("dtype").unwrap_or(0.0) as usize]
}
