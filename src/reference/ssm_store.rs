//! int8 codes of a state's rows, turned by Hadamard's matrix with signs: `scale = max|v| / 127`, `code = round(v / scale)` or
//! (with what that loses, in 14ths of a step) or `floor(v / scale + u)` with `u` uniform in [0, 1) (stochastic rounding, Gupta et al. 2015, arXiv:1502.02551).

use rayon::prelude::*;

use super::hash::{hash, sign_at};
use crate::hadamard::walsh_hadamard;
use crate::pack::{pack_codes, words_per_row};
use crate::shaders::ssm_store::{Format, Params};

/// `x`: `[rows, state]`; `clock`: `[2]`; `codes`: `[rows, state]` int8; `scales`: `[rows]`; `errors`: `[rows, state]` int4,
/// written where they are kept. A row whose largest turned
/// value is below 1e-35 has scale 1 and codes 0.
pub fn ssm_store(
    p: &Params,
    format: Format,
    x: &[f32],
    clock: &[u32],
    codes: &mut [u32],
    scales: &mut [f32],
    errors: &mut [u32],
) {
    let state = p.state as usize;
    let key = hash(clock[0].wrapping_add(hash(p.seed)));
    let kept = if p.feedback > 0 { words_per_row(4, state) } else { 0 };
    let mut lost = vec![Vec::new(); p.rows as usize];
    let rows =
        x.par_chunks_exact(state).zip(codes.par_chunks_exact_mut(state / 4)).zip(scales).zip(&mut lost).enumerate();
    rows.for_each(|(row, (((x, codes), scale), lost))| {
        let mut values: Vec<f64> = x.iter().enumerate().map(|(n, v)| sign_at(n, p.block) * f64::from(*v)).collect();
        values.chunks_exact_mut(p.block as usize).for_each(walsh_hadamard);
        let top = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if top < 1e-35 {
            *scale = 1.0;
            codes.fill(0);
            lost.resize(kept, 0);
            return;
        }
        *scale = (top / 127.0 / f64::from(p.block).sqrt()) as f32;
        let steps: Vec<f64> = values.iter().map(|v| v / top * 127.0).collect();
        let rounded = steps.iter().enumerate().map(|(n, steps)| match format {
            Format::Nearest => steps.round_ties_even(),
            Format::Stochastic => {
                let bits = hash(key.wrapping_add((row * state + n) as u32)) >> 8;
                (steps + f64::from(bits) / f64::from(1 << 24)).floor()
            }
        });
        let rounded: Vec<f64> = rounded.collect();
        let row_codes: Vec<i8> = rounded.iter().map(|r| r.clamp(-127.0, 127.0) as i8).collect();
        codes.copy_from_slice(&pack_codes(8, &row_codes, state));
        if kept > 0 {
            let errors = steps.iter().zip(&rounded).map(|(v, r)| ((v - r) * 14.0).round_ties_even() as i8);
            *lost = pack_codes(4, &errors.collect::<Vec<_>>(), state);
        }
    });
    errors.iter_mut().zip(lost.into_iter().flatten()).for_each(|(to, from)| *to = from);
}
