//! What products have in common that make the codes of their one token themselves.

use super::matmul::{Epilogue, Sizes};
use super::scaled::{Scaled, group_of};
use super::{expect, expect_dtype};
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

/// Are up to `most` columns, and groups of a weight of `bits`, whole vec4s of words?
pub(super) fn fits(most: usize, cols: usize, group: usize, bits: usize) -> bool {
    let whole = |columns: usize| columns.is_multiple_of(128 / bits);
    matches!(bits, 4 | 8) && cols <= most && whole(cols) && (group >= cols || whole(group))
}

/// The weight's side of such a product.
pub(super) struct Made {
    pub(super) n: u32,
    pub(super) cols: u32,
    /// Columns a weight scale.
    pub(super) group: u32,
    pub(super) epilogue: u32,
    /// Bits of a code.
    pub(super) bits: usize,
    pub(super) grid: Grid,
}

impl Made {
    /// Checks the token `x` (named `arg`) of at most `most` columns, `weight` and `out`.
    pub(super) fn of(
        kernel: &'static str,
        (arg, x): (&'static str, &DeviceTensor),
        most: usize,
        weight: Scaled<'_>,
        out: &DeviceTensor,
        epilogue: Epilogue,
    ) -> Result<Self> {
        let bits = if weight.codes.dtype == DType::I4 { 4 } else { 8 };
        let dtype = if bits == 4 { DType::I4 } else { DType::I8 };
        expect_dtype(kernel, "weight", weight.codes, dtype, "i4 or i8")?;
        let Sizes { n, k, .. } = Sizes::of(kernel, arg, x, weight.codes, &out.into())?.one_row(kernel)?;
        expect(kernel, arg, x, [1, k])?;
        let names = ["group", "weight_scales"];
        let group = group_of(kernel, names, weight.scales, [n, k], weight.group, 32 / bits)?;
        if !fits(most, k, group, bits) {
            let reason =
                format!("{k} columns in groups of {group}, not whole 16 bytes of int{bits} up to {most} columns");
            return Err(Error::argument(format!("{kernel}: `{arg}`"), reason));
        }
        let grid = Grid::linear(n.div_ceil(ROWS));
        Ok(Self { n: n as u32, cols: k as u32, group: group as u32, epilogue: epilogue as u32, bits, grid })
    }
}
