//! A weight's integer codes with the scales of its groups, as the kernels read them (`shaders/shared/weight_scales.wgsl`).

use rayon::prelude::*;

use super::expect;
use super::scaled::group_len;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor};
use crate::tensor::DType;

/// Rows whose scales lie next to each other.
const ROWS: usize = 4;

/// Integer codes of a weight, `[n, k]`, with one scale for each group of a row.
#[derive(Clone, Copy, Debug)]
pub struct ScaledWeight<'a> {
    /// `[n, k]` int8 or int4.
    pub codes: &'a DeviceTensor,
    /// Of `[n, ceil(k / group)]`, as [`upload_scales`] places them: `[ceil(n / 4), 4 ceil(k / group)]`, f32 or bf16.
    pub scales: &'a DeviceTensor,
    /// Columns that share a scale; `k` or more for one group a row.
    pub group: usize,
}

impl ScaledWeight<'_> {
    /// The columns that share a scale, a multiple of `multiple` or the whole row, and bits of a scale, of a checked `[rows, cols]`.
    pub(super) fn check(
        &self,
        kernel: &'static str,
        [rows, cols]: [usize; 2],
        multiple: usize,
    ) -> Result<(usize, u32)> {
        const NAME: &str = "weight_scales";
        let group = group_len(kernel, "group", cols, self.group, multiple)?;
        let dtype = self.scales.dtype;
        if !matches!(dtype, DType::F32 | DType::BF16) {
            return Err(Error::DType { kernel, arg: NAME, expected: "f32 or bf16", got: dtype });
        }
        expect(kernel, NAME, self.scales, placed([rows, cols.div_ceil(group)]))?;
        Ok((group, dtype.bits() as u32))
    }
}

/// The scales of `count` rows from `first` on, in the same memory; `None` where those of four rows that lie next to each other would not stay together.
pub(crate) fn scales_of(scales: &DeviceTensor, first: usize, count: usize) -> Option<DeviceTensor> {
    first.is_multiple_of(ROWS).then(|| scales.rows(first / ROWS, count.div_ceil(ROWS)).ok())?
}

/// The shape in which scales of `rows` are placed, `groups` a row.
pub(crate) fn placed([rows, groups]: [usize; 2]) -> [usize; 2] {
    [rows.div_ceil(ROWS), ROWS * groups]
}

/// Scales `[rows, groups]` of a weight on `device`, those of four rows next to each other: `[ceil(rows / 4), groups, 4]`, zeros
/// beyond the last row; in bf16, where every one has at most its 8 significant bits, else in f32.
///
/// # Errors
/// [`Error::Argument`] for another number of scales; as [`Device::alloc`].
pub fn upload_scales(device: &Device, [rows, groups]: [usize; 2], scales: &[f32]) -> Result<DeviceTensor> {
    if rows.checked_mul(groups) != Some(scales.len()) {
        let reason = format!("{rows} x {groups} of them, got {}", scales.len());
        return Err(Error::argument("scales of a weight", reason));
    }
    let shape = placed([rows, groups]);
    let mut fours = vec![[0f32; ROWS]; shape[0] * groups];
    let of_rows = fours.par_chunks_mut(groups.max(1)).zip(scales.par_chunks(ROWS * groups.max(1)));
    of_rows.for_each(|(fours, rows)| {
        for (r, row) in rows.chunks(groups).enumerate() {
            fours.iter_mut().zip(row).for_each(|(four, scale)| four[r] = *scale);
        }
    });
    if scales.par_iter().any(|s| s.to_bits() << 16 != 0) {
        return device.upload_words(DType::F32, shape, bytemuck::cast_slice(&fours));
    }
    let pair = |low: f32, high: f32| low.to_bits() >> 16 | high.to_bits();
    let words: Vec<[u32; 2]> = fours.par_iter().map(|[a, b, c, d]| [pair(*a, *b), pair(*c, *d)]).collect();
    device.upload_words(DType::BF16, shape, words.as_flattened())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn words(tensor: &DeviceTensor) -> Vec<u32> {
        pollster::block_on(Device::Cpu.begin_read(tensor).unwrap().words()).unwrap()
    }

    #[test]
    fn four_rows_lie_next_to_each_other() {
        // Of 6 rows, 2 a row, in f32: 0.1 has more bits than bf16.
        let scales: Vec<f32> = (1..=12).map(|i| i as f32 * 0.1).collect();
        let placed = upload_scales(&Device::Cpu, [6, 2], &scales).unwrap();
        assert_eq!((placed.dtype, placed.shape.dims()), (DType::F32, &[2, 8][..]));
        let want =
            [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 99, 99, 9, 11, 99, 99].map(|i| scales.get(i).map_or(0, |s| s.to_bits()));
        assert_eq!(words(&placed), want);
    }

    #[test]
    fn scales_of_eight_bits_take_half_the_room() {
        let placed = upload_scales(&Device::Cpu, [3, 1], &[1.0, 0.75, 255.0 / 1024.0]).unwrap();
        assert_eq!((placed.dtype, placed.shape.dims()), (DType::BF16, &[1, 4][..]));
        assert_eq!(words(&placed), [0x3f40_3f80, 0x3e7f]);
    }

    #[test]
    fn rows_from_a_fourth_on_have_theirs() {
        let scales: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let all = upload_scales(&Device::Cpu, [10, 2], &scales).unwrap();
        let of_rows = |rows: std::ops::Range<usize>| {
            upload_scales(&Device::Cpu, [rows.len(), 2], &scales[2 * rows.start..2 * rows.end]).unwrap()
        };
        assert_eq!(words(&scales_of(&all, 4, 4).unwrap()), words(&of_rows(4..8)));
        assert_eq!(words(&scales_of(&all, 8, 2).unwrap()), words(&of_rows(8..10)));
        assert!(scales_of(&all, 6, 4).is_none() && scales_of(&all, 8, 5).is_none());
    }

    #[test]
    fn too_few_are_refused() {
        let error = upload_scales(&Device::Cpu, [3, 2], &[1.0; 5]).unwrap_err();
        assert!(error.to_string().contains("3 x 2") && error.to_string().contains('5'), "{error}");
        assert!(upload_scales(&Device::Cpu, [1 << 63, 2], &[]).is_err(), "a product of 2^64");
    }
}
