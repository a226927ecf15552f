//! What products of few tokens have in common whose codes have a scale for each 32 columns, and which the kernel before has made
//! (`shaders/shared/grouped_rows.wgsl`).

use super::check::{Args, Fill, Setup, Work};
use super::made_token::{Groups, pays};
use super::matmul::{CaseOf, Sizes};
use super::weight_scales::ScaledWeight;
use super::{Columns, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid};
use crate::tensor::{DType, Shape};

/// Columns of such a token that share a scale, and outputs of a workgroup: so it can make the next token's codes.
pub const TOKEN_GROUP: usize = 32;
/// Most tokens of such a product. (`shaders/shared/grouped_rows.wgsl`)
pub const GROUPED_TOKENS: usize = 8;
/// Most norms of a token, whose factors are in workgroup memory.
const MOST_NORMS: usize = 64;

/// Up to [`GROUPED_TOKENS`] tokens, int8 codes with a scale for each [`TOKEN_GROUP`] columns.
#[derive(Clone, Copy, Debug)]
pub struct GroupedTokens<'a> {
    /// `[tokens, k]` int8.
    pub codes: &'a DeviceTensor,
    /// `[2, tokens · k / 32]` f32: the scales, and for each the sum of squares of what the codes stand for, before a norm's weight and a
    /// transform. Where no norm follows only the scales are read.
    pub scales: &'a DeviceTensor,
}

impl GroupedTokens<'_> {
    /// Checks tokens of `cols` columns that the kernel writes.
    pub(super) fn expect(self, kernel: &'static str, [tokens, cols]: [usize; 2]) -> Result<()> {
        expect_dtype(kernel, "out_codes", self.codes, DType::I8, "i8")?;
        f32_tensor(kernel, "out_scales", self.scales)?;
        expect(kernel, "out_codes", self.codes, [tokens, cols])?;
        expect(kernel, "out_scales", self.scales, [2, tokens * cols / TOKEN_GROUP])
    }
}

/// The factors of RMS norms, which a token's codes are without.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormFactors {
    /// Columns of a norm.
    pub group: usize,
    /// Added to the mean of squares.
    pub eps: f32,
}

impl NormFactors {
    /// Can products apply these to a token of `cols` columns? Norms must be of whole groups, and not too many.
    #[must_use]
    pub fn fit(self, cols: usize) -> bool {
        let whole = self.group > 0 && self.group.is_multiple_of(TOKEN_GROUP) && cols.is_multiple_of(self.group);
        whole && cols / self.group <= MOST_NORMS
    }
}

/// Can kernels that make the codes of groups transform blocks of `block` columns (1: none) as they do? A block is a power of two within a group.
#[must_use]
pub fn turns_in_groups(block: usize) -> bool {
    block.is_power_of_two() && block <= TOKEN_GROUP
}

/// The logarithm of such a block and what its transform multiplies by.
pub(super) fn turn(kernel: &'static str, block: usize) -> Result<(u32, f32)> {
    if !turns_in_groups(block) {
        let reason = format!("a transform of {block} columns, which is no power of two up to {TOKEN_GROUP}");
        return Err(Error::argument(format!("{kernel}: `block`"), reason));
    }
    Ok((block.ilog2(), 1.0 / (block as f32).sqrt()))
}

/// Do the products of grouped tokens take weights of `cols` columns in such groups, and are they fast on `device`?
#[must_use]
pub fn grouped_pays(device: &Device, cols: usize, groups: Groups) -> bool {
    pays(device) && fits(cols, groups)
}

fn fits(cols: usize, groups: Groups) -> bool {
    groups.token == TOKEN_GROUP && cols.is_multiple_of(TOKEN_GROUP) && groups.fit(cols, cols)
}

/// A checked product.
pub(super) struct GroupedRows {
    pub(super) tokens: u32,
    pub(super) n: u32,
    pub(super) k: u32,
    /// Columns a weight scale.
    pub(super) group: u32,
    /// Bits of one.
    pub(super) scale_bits: u32,
    /// Columns of a norm, or 0.
    pub(super) norm_group: u32,
    pub(super) eps: f32,
    /// Bits of a code of the weight.
    pub(super) bits: usize,
    pub(super) grid: Grid,
}

impl GroupedRows {
    /// Checks the tokens `x` with the norms that they still need, `weight` and, where they are stored as they are, `outputs`. Else codes are
    /// made of them, so they must be whole groups.
    pub(super) fn of(
        kernel: &'static str,
        x: GroupedTokens<'_>,
        norm: Option<NormFactors>,
        weight: ScaledWeight<'_>,
        outputs: Option<&Columns<'_>>,
    ) -> Result<Self> {
        let bits = if weight.codes.dtype == DType::I4 { 4 } else { 8 };
        let dtype = if bits == 4 { DType::I4 } else { DType::I8 };
        expect_dtype(kernel, "codes", x.codes, DType::I8, "i8")?;
        expect_dtype(kernel, "weight", weight.codes, dtype, "i4 or i8")?;
        f32_tensor(kernel, "scales", x.scales)?;
        let (tokens, n, k) = (x.codes.shape.rows(), weight.codes.shape.rows(), x.codes.shape.cols());
        if tokens == 0 || tokens > GROUPED_TOKENS {
            let reason = format!("{tokens} tokens, of at least 1 and at most {GROUPED_TOKENS}");
            return Err(Error::argument(format!("{kernel}: `codes`"), reason));
        }
        match outputs {
            Some(out) => drop(Sizes::of(kernel, "codes", x.codes, weight.codes, out)?),
            None => {
                expect(kernel, "codes", x.codes, [tokens, k])?;
                expect(kernel, "weight", weight.codes, [n, k])?;
                if !n.is_multiple_of(TOKEN_GROUP) {
                    let reason = format!("{n} rows, of which the outputs are not whole groups of {TOKEN_GROUP}");
                    return Err(Error::argument(format!("{kernel}: `weight`"), reason));
                }
            }
        }
        let (group, scale_bits) = weight.check(kernel, [n, k], 32 / bits)?;
        if !fits(k, Groups { bits, weight: group, token: TOKEN_GROUP }) {
            let reason = format!("{k} columns in groups of {TOKEN_GROUP}, of int{bits} in groups of {group}");
            return Err(Error::argument(format!("{kernel}: `codes`"), reason));
        }
        expect(kernel, "scales", x.scales, [2, tokens * k / TOKEN_GROUP])?;
        if let Some(NormFactors { group, .. }) = norm.filter(|norm| !norm.fit(k)) {
            let reason =
                format!("norms of {group} columns of {k}: whole groups of {TOKEN_GROUP}, at most {MOST_NORMS} norms");
            return Err(Error::argument(format!("{kernel}: `norm`"), reason));
        }
        let norm = norm.unwrap_or(NormFactors { group: 0, eps: 0.0 });
        Ok(Self {
            tokens: tokens as u32,
            n: n as u32,
            k: k as u32,
            group: group as u32,
            scale_bits,
            norm_group: norm.group as u32,
            eps: norm.eps,
            bits,
            grid: Grid::linear(n.div_ceil(TOKEN_GROUP)),
        })
    }
}

/// A case of such a product: bits of the weight, its rows, columns and columns a scale, columns of a norm (0: none), and of kernels that
/// transform their outputs those of a block; 1 where scales of the weight are short. Several tokens stand before the rows.
macro_rules! grouped_case {
    ($name:expr, $bits:expr, [$n:expr, $k:expr, $group:expr], $($rest:tt)*) => {
        grouped_case!($name, $bits, [1.0, $n, $k, $group], $($rest)*)
    };
    ($name:expr, $bits:expr, [$m:expr, $n:expr, $k:expr, $group:expr], $norm_group:expr $(, $block:expr)? $(; $short:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("bits", $bits),
                ("m", $m),
                ("n", $n),
                ("k", $k),
                ("group", $group),
                ("x_group", 32.0),
                ("norm_group", $norm_group),
                $(("block", $block),)?
                $(("short_scales", $short),)?
            ],
        }
    };
}
pub(super) use grouped_case;

/// The output `out_scales` of a case. Each row by itself: beside sums of squares an error of the scales would not count.
pub(super) fn out_scales(s: &mut Setup, groups: usize) -> Result<DeviceTensor> {
    let rows = [(DType::F32, Shape::from([1, groups])); 2];
    s.state_parts("out_scales", DType::F32, [2, groups], &rows, &vec![f32::NAN.to_bits(); 2 * groups])
}

/// The inputs of a case.
pub(super) struct GroupedCase {
    codes: DeviceTensor,
    scales: DeviceTensor,
    weight: DeviceTensor,
    weight_scales: DeviceTensor,
    group: usize,
    pub(super) norm: Option<NormFactors>,
}

impl GroupedCase {
    /// Reads `bits`, `n`, `k`, `group`, and `norm_group`, 0 for no norm.
    pub(super) fn new(s: &mut Setup, a: &Args) -> Result<(CaseOf, Self)> {
        let case = CaseOf::new(a);
        let [codes, token_scales, weight, weight_scales] = case.quantized(s, a.usize("bits"))?;
        let groups = case.sizes.m * case.sizes.k / TOKEN_GROUP;
        drop(token_scales);
        // One range for both rows: sums of squares of 32 columns that are about as large as the scales.
        let scales = s.input([2, groups], Fill::Uniform(0.005, 0.1))?;
        let norm = Some(NormFactors { group: a.usize("norm_group"), eps: 1e-5 }).filter(|n| n.group > 0);
        let group = case.group;
        Ok((case, Self { codes, scales, weight, weight_scales, group, norm }))
    }

    pub(super) fn tokens(&self) -> GroupedTokens<'_> {
        GroupedTokens { codes: &self.codes, scales: &self.scales }
    }

    pub(super) fn weight(&self) -> ScaledWeight<'_> {
        ScaledWeight { codes: &self.weight, scales: &self.weight_scales, group: self.group }
    }

    pub(super) fn work(a: &Args) -> Work {
        CaseOf::new(a).work(8, a.usize("bits"))
    }
}
