//! Integer codes with their scales, as the products take them.

use rayon::prelude::*;

use super::matmul::{Epilogue, Sizes};
use super::split_k_reduce::{SplitK, split_k_reduce};
use super::tiling::{MORE_THAN_SMALL, Tiling};
use super::weight_scales::{ScaledWeight, scales_of};
use super::{Columns, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::shaders::Kernel;
use crate::tensor::DType;

/// Scales that a core looks at at a time, at least.
const TASK: usize = 1 << 16;

/// Largest group whose int32 sum cannot overflow: 128 * 128 * 131,071 < 2^31.
const MAX_SPAN: usize = (1 << 17) - 1;

/// Tokens from which on the formats `rows` and `groups` are taken, where small tiles do not pay ([`Tiling`]): half their tile. On matrix units fewer may do.
const MANY: usize = 128;

/// Tokens up to which the formats `few` and, where none of the others will do, `batch` are taken: by packed dot products, 8
/// and 16 rows at a time.
const FEW: usize = 8;
const BATCH: usize = 48;

/// Columns from which on a product of one token takes the format `long`: 128 threads for four rows instead of 64.
pub(super) const LONG: usize = 8192;

/// Rows of a weight that a workgroup of these formats makes outputs of (`shaders/shared/few.wgsl`).
const COLUMNS: usize = 16;

/// Of the estimate for one launch what two may have to be worth it. On an H200 prompts of 1024, 1536 and 2048 tokens of 18 blocks of 8B, preset w4a8, were 1.8, -.7
/// and -.1 % faster with .93, 3.1, -.5 and .8 % with this; of all its blocks (docs/performance-log.md) .3 to 4.4 %.
const PAYS: f64 = 0.98;

/// Tokens from which on there may be two: fewer were not timed so.
const LONG_PROMPT: usize = 512;

/// Rows of a weight below which small tiles and slices are not asked for: such a product takes little either way. Small tiles in one slice are, which is how what
/// whole rounds leave is asked for.
const NARROW: usize = 1024;

/// What kernels of several tokens count on; the names are those of `shaders/variants.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Nothing.
    Any,
    /// Whole words and spans in blocks: [`IntProduct::in_blocks`].
    Blocks,
    /// That, outputs in whole vec4s, one factor a row of either operand, and many tokens.
    Rows,
    /// That, of several short scales a row.
    Groups,
    /// Whole vec4s of words, and few tokens.
    Few,
    /// Whole vec4s of words, and more tokens than few.
    Batch,
    /// Whole vec4s of words and outputs, blocks, one factor a row or short scales of groups of 32 columns, and tokens between few and many, or
    /// many where small tiles pay ([`Tiling`]): on matrix units tiles of as many rows of codes and of the weight (`shaders/shared/coop_wide.wgsl`).
    Tile16x64,
    /// Likewise.
    Tile32x128,
    /// Likewise.
    Tile64x128,
}

/// The least short scale of a weight ([`ScaleBits::Short`]), 2^-23: 64 times it, of 8 significant bits, has steps of f16's smallest
/// (`shaders/shared/row_factors.wgsl`).
const LEAST: f32 = 1.0 / 8_388_608.0;
/// What the largest times the largest code and one more stays below: 64 times that is just beyond f16's end.
const MOST: f32 = 1024.0;

/// Significant bits of the scales of both operands, where rows have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleBits {
    /// Any f32.
    Any,
    /// So few that a code times a scale has the 11 of an f16: 4 beside codes of 8 bits, which have 7 and a sign, 8 beside
    /// int4; and a weight's lie from 2^-23 to below 8 (of int4 128), so that an f16 holds 64 times such products. Tokens' are taken over a power
    /// of two near the row's largest; what lies below f16's smallest step of 2^-24 then, of scales that are less than 2^-20 of the
    /// largest, is lost.
    Short,
}

impl ScaleBits {
    /// Of these scales of a weight's codes of `bits`. Scales that [`crate::kernels::quantize_tokens`] makes of tokens are short.
    #[must_use]
    pub fn of(scales: &[f32], bits: usize) -> Self {
        // Trailing zeros of a significand of 24 bits; one bit is none, since it only shifts the code.
        let significant = |s: &f32| f32::MANTISSA_DIGITS - s.to_bits().trailing_zeros().min(f32::MANTISSA_DIGITS - 1);
        let room = 12usize.saturating_sub(bits) as u32;
        let end = MOST / f32::from(1u16 << (bits.clamp(1, 16) - 1));
        // Of codes of fewer bits than 4 scales have more, which f16's steps must hold.
        let least = LEAST * f32::from(1u16 << room.saturating_sub(8));
        let short = |s: &f32| significant(s) <= room.max(1) && (least..end).contains(s);
        if scales.par_iter().with_min_len(TASK).all(short) { Self::Short } else { Self::Any }
    }
}

/// Integer codes of tokens, `[rows, cols]`, with one scale for each group of a row.
#[derive(Clone, Copy, Debug)]
pub struct Scaled<'a> {
    /// `[rows, cols]` int8.
    pub codes: &'a DeviceTensor,
    /// `[rows, ceil(cols / group)]` f32; `[rows]` will do for one group.
    pub scales: &'a DeviceTensor,
    /// Columns that share a scale; `cols` or more for one group a row.
    pub group: usize,
}

/// How a product is launched.
pub(super) struct Shaped {
    pub(super) form: Form,
    pub(super) grid: Grid,
    /// Columns whose sums are outputs by themselves; `k` for all.
    pub(super) slice: usize,
    /// Rows of the weight that large tiles make in whole rounds of the processors, where small tiles make the others sooner than a round that is not full.
    pub(super) whole_rounds: Option<usize>,
}

/// Sizes of a product of codes, and the columns that share a scale of the weight and of the tokens.
pub(super) struct IntProduct {
    kernel: &'static str,
    pub(super) sizes: Sizes,
    pub(super) group: usize,
    /// Bits of a scale of the weight.
    pub(super) weight_scale_bits: u32,
    pub(super) x_group: usize,
    /// Are rows of outputs whole vec4s, in whole ones of the tensor? Kernels on matrix units store four at a time.
    quads_out: bool,
}

impl IntProduct {
    /// Checks int8 tokens `x`, a weight of `bits` (4 or 8) and `out` against each other. Groups must be whole words
    /// of weight codes, and one of the two must divide the other: sums are exact over the smaller.
    pub(super) fn of(
        kernel: &'static str,
        x: Scaled<'_>,
        weight: ScaledWeight<'_>,
        bits: usize,
        out: &Columns<'_>,
    ) -> Result<Self> {
        let (dtype, name) = if bits == 4 { (DType::I4, "i4") } else { (DType::I8, "i8") };
        expect_dtype(kernel, "codes", x.codes, DType::I8, "i8")?;
        expect_dtype(kernel, "weight", weight.codes, dtype, name)?;
        let sizes = Sizes::of(kernel, "codes", x.codes, weight.codes, out)?;
        let (group, weight_scale_bits) = weight.check(kernel, [sizes.n, sizes.k], 32 / bits)?;
        let x_group = group_of(kernel, ["x_group", "scales"], x.scales, [sizes.m, sizes.k], x.group, 32 / bits)?;
        let (small, large) = (group.min(x_group), group.max(x_group));
        let fail = |reason: String| Err(Error::argument(format!("{kernel}: x_group"), reason));
        if large < sizes.k && !large.is_multiple_of(small) {
            return fail(format!("groups of {x_group} codes and of {group} weights; one must divide the other"));
        }
        if small > MAX_SPAN {
            return fail(format!("{small} columns could overflow an int32 sum, at most {MAX_SPAN} are allowed"));
        }
        Ok(Self {
            kernel,
            sizes,
            group,
            weight_scale_bits,
            x_group,
            quads_out: sizes.n.is_multiple_of(4) && out.in_quads(),
        })
    }

    /// How a product with a weight of `bits` goes into `plan`, whose scales and the tokens' are of `scale_bits`, where it may be cut as `split` says and ends in
    /// `epilogue`. `format`: the kernel's of a form.
    pub(super) fn shaped(
        &self,
        plan: &Plan,
        (kernel, format): (&'static Kernel, impl Fn(Form) -> &'static str),
        (bits, scale_bits): (usize, ScaleBits),
        split: Option<SplitK<'_>>,
        epilogue: Epilogue,
    ) -> Result<Shaped> {
        let form = |in_two| self.form(plan.device(), (bits, scale_bits), split, epilogue, in_two);
        let shaped = form(true);
        // Tiles without matrices are of other sizes, so the first of two launches would make outputs of the second.
        let whole = shaped.whole_rounds.is_none() || plan.on_matrices(kernel, format(shaped.form), shaped.grid)?;
        Ok(if whole { shaped } else { form(false) })
    }

    /// That, in one launch or perhaps `in_two`.
    fn form(
        &self,
        device: &Device,
        (bits, scale_bits): (usize, ScaleBits),
        split: Option<SplitK<'_>>,
        epilogue: Epilogue,
        in_two: bool,
    ) -> Shaped {
        let Sizes { m, n, k } = self.sizes;
        let short = scale_bits == ScaleBits::Short;
        // Kernels of whole rows take an int4 weight's groups, too, at no cost.
        let whole = self.group == k || (bits == 4 && short);
        let by_rows = self.x_group == k && whole;
        // Smaller ones take groups of tokens and of int8 weights, too.
        let by_few_rows = by_rows || (short && self.x_group.is_multiple_of(32));
        let (large, small) = (Tiling::large(bits == 8 && by_rows, self.slice_unit()), Tiling::small(m));
        let [large_slice, small_slice] = [large, small].map(|tiling| self.slice(device, tiling, split, epilogue));
        let fills_tiles =
            device.has_matrix_units() && (n >= NARROW || split.is_some_and(|split| split.slices == Some(1)));
        let takes_small = by_few_rows && self.in_quads(bits);
        let [by_large, by_small] = [(large, large_slice), (small, small_slice)]
            .map(|(tiling, slice)| tiling.takes(self.sizes, slice, epilogue));
        let may_be_small = fills_tiles && takes_small;
        // Tiles of either size must do, and nobody have asked for slices.
        let free = in_two
            && may_be_small
            && self.quads_out
            && self.in_blocks(128 / bits)
            && split.is_some_and(|split| split.slices.is_none());
        let whole_rounds = self.whole_rounds([large, small], epilogue, by_large.min(by_small)).filter(|_| free);
        let small_tiles = may_be_small && whole_rounds.is_none() && by_small <= by_large;
        let many = (m >= MANY || (fills_tiles && m >= MORE_THAN_SMALL)) && !small_tiles;
        let form = match self.in_blocks(128 / bits) {
            _ if m <= FEW && self.in_quads(bits) => Form::Few,
            true if by_rows && many && self.quads_out => Form::Rows,
            true if short && many && self.quads_out => Form::Groups,
            true if by_few_rows && self.in_quads(bits) && self.quads_out => tile(small),
            _ if m <= BATCH && self.in_quads(bits) => Form::Batch,
            true => Form::Blocks,
            false => Form::Any,
        };
        // On matrix units, and of those in slices.
        let (tiling, slice) = match form {
            Form::Rows | Form::Groups if whole_rounds.is_some() => (Some(large), k),
            Form::Rows | Form::Groups => (Some(large), large_slice),
            Form::Tile16x64 | Form::Tile32x128 | Form::Tile64x128 => (Some(small), small_slice),
            _ => (None, k),
        };
        // Tiles of all tokens are next to each other, so whole rounds are the first ones.
        let n = whole_rounds.unwrap_or(n);
        let by_tiles = |rows: usize| Grid::linear(n.div_ceil(COLUMNS) * m.div_ceil(rows));
        let grid = match form {
            Form::Few => by_tiles(8),
            Form::Batch | Form::Tile16x64 | Form::Tile32x128 | Form::Tile64x128 => by_tiles(16),
            Form::Rows | Form::Groups | Form::Blocks | Form::Any => Sizes { n, ..self.sizes }.tiles(),
        };
        // The reading order of shaders/shared/slices.wgsl; that of any shape has tiles along x and y.
        let in_slices = |tiles: Grid| {
            let [across, down, _] = tiles.workgroups();
            [k.div_ceil(slice), across, down]
        };
        let grid = if form == Form::Any { grid } else { Grid::new(in_slices(grid)) };
        let grid = tiling.map_or(grid, |tiling| grid.on_matrices(in_slices(Grid::linear(tiling.tiles(m, n)))));
        Shaped { form, grid, slice, whole_rounds }
    }

    /// Rows of the weight whose outputs `large` tiles make in whole rounds, where that and `small` ones for the rest take less than `one` launch.
    fn whole_rounds(&self, [large, small]: [Tiling; 2], epilogue: Epilogue, one: f64) -> Option<usize> {
        let Sizes { m, n, k } = self.sizes;
        let takes = |tiling: Tiling, n: usize| tiling.takes(Sizes { n, ..self.sizes }, k, epilogue);
        let pays = |rows: &usize| takes(large, *rows) + takes(small, n - rows) < PAYS * one;
        large.whole_rounds(self.sizes).filter(|rows| m >= LONG_PROMPT && pays(rows))
    }

    /// Rows of a weight, `count` from `first` on.
    pub(super) fn rows(&self, weight: ScaledWeight<'_>, first: usize, count: usize) -> Result<[DeviceTensor; 2]> {
        let scales = scales_of(weight.scales, first, count);
        let scales = scales.ok_or_else(|| Error::argument(self.kernel, format!("a weight cut at row {first}")))?;
        Ok([weight.codes.rows(first, count)?, scales])
    }

    /// After a launch that makes the outputs of the weight's first rows alone, which are `whole_rounds`, the others' by `launch`, in small tiles and whole columns.
    pub(super) fn others(
        &self,
        plan: &mut Plan,
        whole_rounds: Option<usize>,
        weight: ScaledWeight<'_>,
        out: &Columns<'_>,
        split: Option<SplitK<'_>>,
        launch: impl FnOnce(&mut Plan, ScaledWeight<'_>, Columns<'_>, Option<SplitK<'_>>) -> Result<()>,
    ) -> Result<()> {
        let Some(rows) = whole_rounds else { return Ok(()) };
        let count = self.sizes.n - rows;
        let [codes, scales] = self.rows(weight, rows, count)?;
        let out = Columns::new(self.kernel, out.tensor, out.offset + rows, count)?;
        let split = split.map(|split| SplitK { slices: Some(1), ..split });
        plan.beside(|plan| launch(plan, ScaledWeight { codes: &codes, scales: &scales, ..weight }, out, split))
    }

    /// Columns of the slices that pay on `device`, or of as many as `split` says.
    fn slice(&self, device: &Device, tiling: Tiling, split: Option<SplitK<'_>>, epilogue: Epilogue) -> usize {
        let Sizes { n, k, .. } = self.sizes;
        match split {
            Some(SplitK { slices: Some(slices), .. }) => tiling.slice(k, slices),
            Some(split) if device.has_matrix_units() && n >= NARROW => tiling.best(self.sizes, split, epilogue),
            _ => k,
        }
    }

    /// What slices are multiples of: kernels take 64 columns at a time, and end spans of scales where slices end.
    fn slice_unit(&self) -> usize {
        let span = self.group.min(self.x_group);
        match span {
            _ if span == self.sizes.k => 64,
            // Of whole 32 columns, as of all shapes in blocks.
            _ if span.is_multiple_of(64) => span,
            _ => 2 * span,
        }
    }

    /// Launches a product by `launch`, with slices of so many columns in `split`'s room and what adds them up.
    pub(super) fn in_slices(
        &self,
        plan: &mut Plan,
        slice: usize,
        split: Option<SplitK<'_>>,
        out: &Columns<'_>,
        epilogue: Epilogue,
        launch: impl FnOnce(&mut Plan, &Columns<'_>, Epilogue) -> Result<()>,
    ) -> Result<()> {
        let Sizes { m, n, k } = self.sizes;
        let Some(split) = split.filter(|_| slice < k) else { return launch(plan, out, epilogue) };
        let (slices, room) = (k.div_ceil(slice), split.room.shape.elements());
        f32_tensor(self.kernel, "room", split.room)?;
        if split.holds(m, n) < slices {
            let reason = format!("{room} numbers for {slices} slices of {m} x {n} outputs");
            return Err(Error::argument(format!("{}: room", self.kernel), reason));
        }
        let sums = split.room.view(DType::F32, [slices * m, n])?;
        launch(plan, &Columns::from(&sums), Epilogue::Store)?;
        split_k_reduce(plan, &sums, out, epilogue)
    }

    /// Is the shape in blocks: `k` a multiple of `multiple`, and spans of whole 32 columns up to 1024, of whole 1024, or
    /// of a whole row? Kernels of the format `blocks` count on it.
    fn in_blocks(&self, multiple: usize) -> bool {
        let (k, span) = (self.sizes.k, self.group.min(self.x_group));
        let even = span.is_multiple_of(if span < 1024 { 32 } else { 1024 });
        k.is_multiple_of(multiple) && (even || span == k)
    }

    /// Are rows and groups of a weight of `bits` whole vec4s of words? Kernels of the format `quads` count on it.
    pub(super) fn in_quads(&self, bits: usize) -> bool {
        [self.sizes.k, self.group, self.x_group].iter().all(|columns| columns.is_multiple_of(128 / bits))
    }
}

/// The format of small tiles, for more tokens than few. Of 12 rows with 21504 x 4096, `batch` takes 73 us where tiles take 43.
fn tile(small: Tiling) -> Form {
    match small.rows {
        16 => Form::Tile16x64,
        32 => Form::Tile32x128,
        _ => Form::Tile64x128,
    }
}

/// The columns of `cols` that share a scale: `group`, a multiple of `multiple`, or the whole row. `name`: of the group, for messages.
pub(super) fn group_len(
    kernel: &'static str,
    name: &'static str,
    cols: usize,
    group: usize,
    multiple: usize,
) -> Result<usize> {
    let group = group.min(cols);
    if group == 0 || (group < cols && !group.is_multiple_of(multiple)) {
        let reason = format!("{group} is neither a multiple of {multiple} nor all {cols} columns");
        return Err(Error::argument(format!("{kernel}: {name}"), reason));
    }
    Ok(group)
}

/// Checks scales `[rows, groups]` of `cols` columns, and gives the columns that share one. A group is a multiple of
/// `multiple` or the whole row. `names`: of the group and of the scales, for messages.
pub(super) fn group_of(
    kernel: &'static str,
    names: [&'static str; 2],
    scales: &DeviceTensor,
    [rows, cols]: [usize; 2],
    group: usize,
    multiple: usize,
) -> Result<usize> {
    let group = group_len(kernel, names[0], cols, group, multiple)?;
    f32_tensor(kernel, names[1], scales)?;
    let groups = cols.div_ceil(group);
    let vector = groups == 1 && scales.shape.dims() == [rows];
    if !vector {
        expect(kernel, names[1], scales, [rows, groups])?;
    }
    Ok(group)
}
