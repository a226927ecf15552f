//! Scales by least squares and codes by coordinate descent (QuantEase, arXiv:2309.01885) on a block of columns of
//! every row: exact f32 operations in a fixed order, as codes hang on them.

use rayon::prelude::*;

use super::lines::{LANES, Lanes, load, store, store_codes, words};
use crate::pack::unpack_row;
use crate::shaders::gptq_refine::Params;
use crate::tensor::{DType, round_to};

/// `gradient`: `[n, rows]`; `moments`: `[n, n]`; `units`: `[rows]`; `scales`: `[groups, rows]`; `codes`: int8 words of
/// `[n, rows]`; `changes`: `[width, rows]`.
pub fn gptq_refine(
    p: &Params,
    gradient: &[f32],
    moments: &[f32],
    units: &[f32],
    scales: &mut [f32],
    codes: &mut [u32],
    changes: &mut [f32],
) {
    let [rows, first, width, group] = [p.rows, p.first, p.width, p.group].map(|v| v as usize);
    let load_block = |row: usize| {
        let lines = || first..first + width;
        Block {
            units: load(units, 0, rows, row),
            gradient: lines().map(|c| load(gradient, c, rows, row)).collect(),
            scales: lines().map(|c| load(scales, c / group, rows, row)).collect(),
            codes: lines()
                .map(|c| {
                    let mut lanes = [0.0; LANES];
                    let words = &codes[words(c, rows, row)];
                    let mut bytes = [0i8; LANES];
                    unpack_row(8, words, &mut bytes[..4 * words.len()]);
                    lanes.iter_mut().zip(bytes).for_each(|(l, b)| *l = f32::from(b));
                    lanes
                })
                .collect(),
        }
    };
    let work = |row: usize| {
        let mut block = load_block(row);
        let before: Vec<Lanes> = (0..width).map(|i| block.value(i)).collect();
        let span = if p.form == 0 { width } else { group.min(width) };
        for start in (0..width).step_by(span) {
            let end = (start + span).min(width);
            if p.form != 0 {
                block.move_scale(p, moments, start, end);
            }
            block.move_codes(p, moments, start, end);
        }
        (row, block, before)
    };
    let done: Vec<_> = (0..rows).into_par_iter().step_by(LANES).map(work).collect();
    for (row, block, before) in done {
        for (i, before) in before.iter().enumerate() {
            let after = block.value(i);
            store(changes, i, rows, row, &std::array::from_fn(|l| after[l] - before[l]));
            store(scales, (first + i) / group, rows, row, &block.scales[i]);
            store_codes(codes, first + i, rows, row, &block.codes[i]);
        }
    }
}

/// A few rows' columns of a block.
struct Block {
    units: Lanes,
    gradient: Vec<Lanes>,
    scales: Vec<Lanes>,
    codes: Vec<Lanes>,
}

impl Block {
    fn value(&self, i: usize) -> Lanes {
        std::array::from_fn(|l| self.codes[i][l] * self.scales[i][l])
    }

    /// The scale of columns `start..end` where the error is least.
    fn move_scale(&mut self, p: &Params, moments: &[f32], start: usize, end: usize) {
        let first = p.first as usize;
        let at = |i: usize| &moments[(first + i) * p.n as usize + first..][..p.width as usize];
        let mut bent = vec![[0f32; LANES]; p.width as usize];
        for i in start..end {
            for (bent, m) in bent.iter_mut().zip(at(i)) {
                bent.iter_mut().zip(self.codes[i]).for_each(|(b, c)| *b += m * c);
            }
        }
        let (mut along, mut bend) = ([0f32; LANES], [0f32; LANES]);
        for (i, bent) in bent.iter().enumerate().take(end).skip(start) {
            for l in 0..LANES {
                along[l] += self.codes[i][l] * self.gradient[i][l];
                bend[l] += self.codes[i][l] * bent[l];
            }
        }
        let before = self.scales[start];
        let after: Lanes = std::array::from_fn(|l| {
            let wish = before[l] + along[l] / bend[l];
            // Above 0, and no larger than an f16 may be: not so after a division by 0.
            let value =
                if bend[l] > 0.0 && wish > 0.0 && wish < 65504.0 { stored(p, wish, self.units[l]) } else { 0.0 };
            if value > 0.0 { value } else { before[l] }
        });
        let step: Lanes = std::array::from_fn(|l| after[l] - before[l]);
        for (gradient, bent) in self.gradient.iter_mut().zip(bent) {
            (0..LANES).for_each(|l| gradient[l] -= step[l] * bent[l]);
        }
        self.scales[start..end].fill(after);
    }

    /// Each code of columns `start..end` where the error is least, the others as they are by then.
    fn move_codes(&mut self, p: &Params, moments: &[f32], start: usize, end: usize) {
        let first = p.first as usize;
        for i in start..end {
            let line = &moments[(first + i) * p.n as usize + first..][..p.width as usize];
            let (old, scale, gradient) = (self.codes[i], self.scales[i], self.gradient[i]);
            let new: Lanes = std::array::from_fn(|l| {
                let wish = old[l] + gradient[l] / (line[i] * scale[l]);
                wish.round_ties_even().clamp(-p.top - 1.0, p.top)
            });
            let change: Lanes = std::array::from_fn(|l| (new[l] - old[l]) * scale[l]);
            self.codes[i] = new;
            if change == [0.0; LANES] {
                continue;
            }
            for (gradient, m) in self.gradient.iter_mut().zip(line).skip(i + 1) {
                gradient.iter_mut().zip(change).for_each(|(g, c)| *g -= m * c);
            }
        }
    }
}

/// The storable value nearest to `wish`.
fn stored(p: &Params, wish: f32, unit: f32) -> f32 {
    match p.form {
        1 => (wish / unit).round_ties_even().clamp(1.0, p.top_scale) * unit,
        2 => round_to(DType::F16, wish),
        3 => round_to(DType::BF16, wish),
        _ => wish,
    }
}
