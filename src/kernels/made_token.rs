//! What products have in common that make the codes of their one token themselves.

use super::expect_dtype;
use super::matmul::{Epilogue, Sizes};
use super::weight_scales::ScaledWeight;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid};
use crate::tensor::DType;

/// Outputs of a workgroup (`shaders/shared/made_token.wgsl`).
const ROWS: usize = 16;

/// Do such products gain on `device`? Each workgroup makes all codes, in the time that a launch would take; drivers without subgroups
/// of 32 threads, those for CPUs among them, have no kernel for which that is so.
pub(super) fn pays(device: &Device) -> bool {
    device.gpu().is_none_or(|g| g.caps.has("warps") && g.caps.has("packed_dot"))
}

/// How codes of a token and of a weight share scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Bits of a code of the weight.
    pub bits: usize,
    /// Columns of the weight that share a scale.
    pub weight: usize,
    /// Columns of the token that do.
    pub token: usize,
}

impl Groups {
    /// Are up to `most` columns, and the weight's groups, whole vec4s of words, and the token's groups 32, 64 or 128 columns or all?
    pub(super) fn fit(self, most: usize, cols: usize) -> bool {
        let Self { bits, weight, token } = self;
        let whole = |columns: usize| columns.is_multiple_of(128 / bits);
        let of_token = token >= cols || (matches!(token, 32 | 64 | 128) && cols.is_multiple_of(token));
        matches!(bits, 4 | 8) && cols <= most && whole(cols) && (weight >= cols || whole(weight)) && of_token
    }
}

/// The weight's side of such a product.
pub(super) struct Made {
    pub(super) n: u32,
    pub(super) cols: u32,
    /// Columns a weight scale, bits of one, and columns a scale of the token.
    pub(super) group: u32,
    pub(super) scale_bits: u32,
    pub(super) x_group: u32,
    pub(super) epilogue: u32,
    /// Bits of a code.
    pub(super) bits: usize,
    pub(super) grid: Grid,
}

impl Made {
    /// Checks the token `x` (named `arg`) of at most `most` columns, a scale for each `x_group` of which is made, `weight` and `out`.
    pub(super) fn of(
        kernel: &'static str,
        (arg, x, x_group): (&'static str, &DeviceTensor, usize),
        most: usize,
        weight: ScaledWeight<'_>,
        out: &DeviceTensor,
        epilogue: Epilogue,
    ) -> Result<Self> {
        let bits = if weight.codes.dtype == DType::I4 { 4 } else { 8 };
        let dtype = if bits == 4 { DType::I4 } else { DType::I8 };
        expect_dtype(kernel, "weight", weight.codes, dtype, "i4 or i8")?;
        let Sizes { n, k, .. } = Sizes::of(kernel, arg, x, weight.codes, &out.into())?.one_row(kernel)?;
        let (group, scale_bits) = weight.check(kernel, [n, k], 32 / bits)?;
        if !(Groups { bits, weight: group, token: x_group }).fit(most, k) {
            let reason =
                format!("{k} columns in groups of {x_group}, of int{bits} in groups of {group}, up to {most} columns");
            return Err(Error::argument(format!("{kernel}: `{arg}`"), reason));
        }
        let grid = Grid::linear(n.div_ceil(ROWS));
        let x_group = x_group.min(k) as u32;
        Ok(Self {
            n: n as u32,
            cols: k as u32,
            group: group as u32,
            scale_bits,
            x_group,
            epilogue: epilogue as u32,
            bits,
            grid,
        })
    }
}
