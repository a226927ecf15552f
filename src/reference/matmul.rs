//! What the matrix products share: going over the outputs, dot products, weights as numbers, and the epilogue.

use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use crate::pack::{unpack_row, words_per_row};
use crate::tensor::DType;

/// Most rows of `x` that go together over the weight: its rows are unpacked once for each such block.
const ROWS: usize = 32;
/// Outputs a task computes when there is one row.
const OUTPUTS: usize = 32;

/// Sizes and epilogue of a product of `n` rows of weight, whose outputs are columns from `first` on of rows of `stride`.
pub(super) struct Product {
    pub(super) n: u32,
    pub(super) k: u32,
    pub(super) epilogue: u32,
    pub(super) stride: u32,
    pub(super) first: u32,
}

impl Product {
    /// `out[i, first + j] = epilogue(sum(i, j, row i of x, row j of the weight))`, in parallel. `weight_row(j, row)` fills in
    /// a row of the weight, unpacked as `T`.
    pub(super) fn run<T: Copy + Default + Send + Sync>(
        &self,
        x: &[T],
        weight_row: impl Fn(usize, &mut [T]) + Sync,
        sum: impl Fn(usize, usize, &[T], &[T]) -> f64 + Sync,
        out: &mut [f32],
    ) {
        let (n, k) = (self.n as usize, self.k as usize);
        let (stride, first) = (self.stride as usize, self.first as usize);
        let m = x.len() / k;
        if m == 1 {
            out[first..first + n].par_chunks_mut(OUTPUTS).enumerate().for_each(|(block, out)| {
                let mut weight = vec![T::default(); k];
                for (j, out) in (block * OUTPUTS..).zip(out) {
                    weight_row(j, &mut weight);
                    self.finish(sum(0, j, x, &weight), out);
                }
            });
            return;
        }
        let rows = m.div_ceil(rayon::current_num_threads()).clamp(1, ROWS);
        let blocks = out.par_chunks_mut(rows * stride).zip(x.par_chunks(rows * k));
        blocks.enumerate().for_each(|(block, (out, x))| {
            let mut weight = vec![T::default(); k];
            for j in 0..n {
                weight_row(j, &mut weight);
                for (i, x) in x.chunks_exact(k).enumerate() {
                    self.finish(sum(block * rows + i, j, x, &weight), &mut out[i * stride + first + j]);
                }
            }
        });
    }

    /// Of codes: with `slice` columns at a time, each of which gives rows of `out` of its own (`shaders/shared/slices.wgsl`).
    pub(super) fn run_in_slices(
        &self,
        slice: u32,
        x: &[i16],
        weight_row: impl Fn(usize, &mut [i16]) + Sync,
        sum: impl Fn(usize, usize, &[i16], &[i16]) -> f64 + Sync,
        out: &mut [f32],
    ) {
        let (k, slice) = (self.k as usize, slice as usize);
        if slice >= k {
            return self.run(x, weight_row, sum, out);
        }
        let outputs = x.len() / k * self.stride as usize;
        for (first, out) in (0..k).step_by(slice).zip(out.chunks_exact_mut(outputs)) {
            // Codes of other columns are zeros.
            let mut own = vec![0; x.len()];
            for (own, x) in own.chunks_exact_mut(k).zip(x.chunks_exact(k)) {
                let columns = first..(first + slice).min(k);
                own[columns.clone()].copy_from_slice(&x[columns]);
            }
            self.run(&own, &weight_row, &sum, out);
        }
    }

    fn finish(&self, y: f64, out: &mut f32) {
        *out = finished(self.epilogue, y, *out);
    }
}

/// `relu(y)^2`, of NaN NaN: a maximum would make 0 of it.
pub(super) fn relu_squared(y: f64) -> f64 {
    if y < 0.0 { 0.0 } else { y * y }
}

/// What is stored of a sum `y` over `out`: the twin of `shaders/shared/epilogue.wgsl`.
pub(super) fn finished(epilogue: u32, y: f64, out: f32) -> f32 {
    (match epilogue {
        1 => relu_squared(y),
        2 => f64::from(out) + y,
        _ => y,
    }) as f32
}

/// The scales of `rows` rows, `[rows, groups]`, of a weight as kernels have them, in `bits` each (`shaders/shared/weight_scales.wgsl`).
pub(super) fn scales_of_rows(words: &[u32], bits: u32, [rows, groups]: [usize; 2]) -> Vec<f32> {
    let halves: &[u16] = bytemuck::cast_slice(words);
    let scale = |at: usize| match bits {
        16 => f32::from_bits(u32::from(halves[at]) << 16),
        _ => f32::from_bits(words[at]),
    };
    (0..rows).flat_map(|row| (0..groups).map(move |g| scale(4 * (row / 4 * groups + g) + row % 4))).collect()
}

/// Scales of a product of codes: of the tokens `[m, x_groups]` and of the weight `[n, groups]`.
pub(super) struct IntScales<'a> {
    pub(super) k: usize,
    pub(super) group: usize,
    pub(super) x_group: usize,
    pub(super) scales: &'a [f32],
    pub(super) weight_scales: &'a [f32],
}

impl IntScales<'_> {
    /// Σ over spans of both scales · (int32 sum over the span), for row `i` of the tokens and `j` of the weight. A
    /// span is the smaller of the two groups.
    pub(super) fn dot(&self, i: usize, j: usize, x: &[i16], w: &[i16]) -> f64 {
        let scales = &self.scales[i * self.k.div_ceil(self.x_group)..];
        let weight_scales = &self.weight_scales[j * self.k.div_ceil(self.group)..];
        let span = self.group.min(self.x_group);
        let spans = x.chunks(span).zip(w.chunks(span)).zip((0..).step_by(span));
        let scaled = spans.map(|((x, w), first): (_, usize)| {
            let scale = f64::from(scales[first / self.x_group]) * f64::from(weight_scales[first / self.group]);
            f64::from(int_dot(x, w)) * scale
        });
        scaled.sum()
    }
}

/// Σ a b of codes. The host refuses groups whose sum could overflow; wrapping operations vectorise.
fn int_dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0, |sum, (a, b)| sum.wrapping_add(i32::from(*a).wrapping_mul(i32::from(*b))))
}

/// Row `row` of `[rows, codes.len()]` codes of `bits`.
pub(super) fn codes_of_row<T: From<i8>>(bits: usize, words: &[u32], row: usize, codes: &mut [T]) {
    let per_row = words_per_row(bits, codes.len());
    unpack_row(bits, &words[row * per_row..][..per_row], codes);
}

/// All rows of `[rows, cols]` int8 codes, wide enough for [`IntScales::dot`].
pub(super) fn token_codes(words: &[u32], cols: usize) -> Vec<i16> {
    let mut codes = vec![0; words.len() / words_per_row(8, cols) * cols];
    codes.par_chunks_mut(cols).enumerate().for_each(|(row, codes)| codes_of_row(8, words, row, codes));
    codes
}

/// As f64.
pub(super) fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Row `row` of an f32, f16 or bf16 matrix whose rows start at words.
pub(super) fn float_row(dtype: DType, words: &[u32], row: usize, values: &mut [f64]) {
    let per_row = (values.len() * dtype.bits()).div_ceil(32);
    let words = &words[row * per_row..][..per_row];
    let halves = |to_f32: fn(&[u16], &mut [f32]), values: &mut [f64]| {
        let mut row = vec![0.0; values.len()];
        to_f32(&bytemuck::cast_slice(words)[..values.len()], &mut row);
        values.iter_mut().zip(row).for_each(|(value, v)| *value = f64::from(v));
    };
    match dtype {
        DType::F16 => halves(|h, out| bytemuck::cast_slice::<u16, half::f16>(h).convert_to_f32_slice(out), values),
        DType::BF16 => halves(|h, out| bytemuck::cast_slice::<u16, half::bf16>(h).convert_to_f32_slice(out), values),
        _ => values.iter_mut().zip(words).for_each(|(value, w)| *value = f64::from(f32::from_bits(*w))),
    }
}

/// Row `row` of int4 codes times the scales of their groups.
pub(super) fn dequantized_row(words: &[u32], scales: &[f32], group: usize, row: usize, values: &mut [f64]) {
    let groups = values.len().div_ceil(group);
    codes_of_row(4, words, row, values);
    for (values, scale) in values.chunks_mut(group).zip(&scales[row * groups..]) {
        values.iter_mut().for_each(|v| *v *= f64::from(*scale));
    }
}
