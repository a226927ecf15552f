//! `totals += aᵀ b` over the tokens of a launch, with what f32 totals lose beside them: second moments for GPTQ.

use rayon::prelude::*;

use crate::shaders::gram::Params;

/// Side of a workgroup's tile.
pub const TILE: usize = 128;

/// `a`: `[tokens, n]`; `b`: `[tokens, m]`; `totals` and what they `lost`: `[n, m]`.
pub fn gram(p: &Params, a: &[f32], b: &[f32], totals: &mut [f32], lost: &mut [f32]) {
    let (n, m) = (p.n as usize, p.m as usize);
    totals.par_chunks_mut(m).zip(lost.par_chunks_mut(m)).enumerate().for_each(|(i, (totals, lost))| {
        let first = if p.upper == 1 { i / TILE * TILE } else { 0 };
        let (totals, lost) = (&mut totals[first..], &mut lost[first..]);
        let mut row: Vec<f64> = totals.iter().map(|t| f64::from(*t)).collect();
        for t in 0..p.tokens as usize {
            let x = f64::from(a[t * n + i]);
            row.iter_mut().zip(&b[t * m + first..]).for_each(|(sum, y)| *sum += x * f64::from(*y));
        }
        for ((total, lost), sum) in totals.iter_mut().zip(lost).zip(row) {
            *total = sum as f32;
            *lost = (f64::from(*lost) + sum - f64::from(*total)) as f32;
        }
    });
}
