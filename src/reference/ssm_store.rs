//! int8 codes of a state's rows, turned by Hadamard's matrix: `scale = max|v| / 127`, `code = round(v / scale)` or
//! `floor(v / scale + u)` with `u` uniform in [0, 1) (stochastic rounding, Gupta et al. 2015, arXiv:1502.02551).

use rayon::prelude::*;

use super::hash::hash;
use crate::hadamard::walsh_hadamard;
use crate::pack::pack_codes;
use crate::shaders::ssm_store::{Format, Params};

/// `x`: `[rows, state]`; `clock`: `[2]`; `codes`: `[rows, state]` int8; `scales`: `[rows]`. A row whose largest turned
/// value is below 1e-35 has scale 1 and codes 0.
pub fn ssm_store(p: &Params, format: Format, x: &[f32], clock: &[u32], codes: &mut [u32], scales: &mut [f32]) {
    let state = p.state as usize;
    let key = hash(clock[0].wrapping_add(hash(p.seed)));
    let rows = x.par_chunks_exact(state).zip(codes.par_chunks_exact_mut(state / 4)).zip(scales).enumerate();
    rows.for_each(|(row, ((x, codes), scale))| {
        let mut values: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        values.chunks_exact_mut(p.block as usize).for_each(walsh_hadamard);
        let top = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if top < 1e-35 {
            *scale = 1.0;
            codes.fill(0);
            return;
        }
        *scale = (top / 127.0 / f64::from(p.block).sqrt()) as f32;
        let code = |(n, v): (usize, &f64)| {
            let steps = v / top * 127.0;
            let rounded = match format {
                Format::Nearest => steps.round_ties_even(),
                Format::Stochastic => {
                    let bits = hash(key.wrapping_add((row * state + n) as u32)) >> 8;
                    (steps + f64::from(bits) / f64::from(1 << 24)).floor()
                }
            };
            rounded.clamp(-127.0, 127.0) as i8
        };
        let row_codes: Vec<i8> = values.iter().enumerate().map(code).collect();
        codes.copy_from_slice(&pack_codes(8, &row_codes, state));
    });
}
