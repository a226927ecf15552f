//! GPTQ on a block of steps of every row, as Babai's nearest plane (Frantar et al. 2022, arXiv:2210.17323): exact f32
//! operations in a fixed order, as codes hang on them.

use rayon::prelude::*;

use super::lines::{LANES, Lanes, load, store, store_codes};
use crate::shaders::gptq_block::Params;

/// `wanted`, `adjusted`: `[n, rows]`; `factor`: `[n, n]`; `steps`: `[n, 2]`; `scales`: `[2 groups, rows]`; `codes`:
/// int8 words of `[n, rows]`; `errors`: `[width, rows]`.
#[allow(clippy::too_many_arguments, reason = "one for each binding")]
pub fn gptq_block(
    p: &Params,
    wanted: &[f32],
    adjusted: &[f32],
    factor: &[f32],
    steps: &[u32],
    scales: &[f32],
    codes: &mut [u32],
    errors: &mut [f32],
) {
    let [n, rows, first, width] = [p.n, p.rows, p.first, p.width].map(|v| v as usize);
    let groups = scales.len() / (2 * rows);
    let row = |row: usize| -> (Vec<Lanes>, Vec<Lanes>) {
        let mut x: Vec<Lanes> = (first..first + width).map(|step| load(adjusted, step, rows, row)).collect();
        let (mut chosen, mut left) = (Vec::with_capacity(width), Vec::with_capacity(width));
        for i in 0..width {
            let step = first + i;
            let (group, inverse) = (steps[2 * step] as usize, f32::from_bits(steps[2 * step + 1]));
            let (w, scale) = (load(wanted, step, rows, row), load(scales, group, rows, row));
            let reciprocal = load(scales, groups + group, rows, row);
            let code: Lanes = std::array::from_fn(|l| {
                let wish = (w[l] + x[i][l] * inverse) * reciprocal[l];
                wish.round_ties_even().clamp(-p.top - 1.0, p.top)
            });
            let error: Lanes = std::array::from_fn(|l| w[l] - code[l] * scale[l]);
            for (j, x) in x.iter_mut().enumerate().skip(i + 1) {
                let part = factor[(first + j) * n + step];
                x.iter_mut().zip(error).for_each(|(x, e)| *x += part * e);
            }
            chosen.push(code);
            left.push(error);
        }
        (chosen, left)
    };
    let done: Vec<_> = (0..rows).into_par_iter().step_by(LANES).map(|r| (r, row(r))).collect();
    for (row, (chosen, left)) in done {
        for i in 0..width {
            store_codes(codes, first + i, rows, row, &chosen[i]);
            store(errors, i, rows, row, &left[i]);
        }
    }
}
