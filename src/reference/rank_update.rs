//! `c += sign · a · b` on parts of matrices. Sums are f32 and in the order of the depth, starting from c, so that codes
//! GPTQ chooses after them do not depend on where the depth is cut.

use rayon::prelude::*;

use crate::shaders::rank_update::{Format, Params};

/// Parts as `Params` says: `a` `[depth, rows]` or `[rows, depth]`, `b` `[depth, cols]`, `c` `[rows, cols]`.
pub fn rank_update(p: &Params, _: Format, a: &[f32], b: &[f32], c: &mut [f32]) {
    const TILE: usize = 64;
    let [depth, cols, first] = [p.depth, p.cols, p.c_first].map(|v| v as usize);
    let a_at = |k: usize, row: usize| {
        let stride = p.a_stride as usize;
        a[p.a_first as usize + if p.a_by_rows == 1 { row * stride + k } else { k * stride + row }]
    };
    let lines = c[first..].par_chunks_mut(p.c_stride as usize).take(p.rows as usize).enumerate();
    lines.for_each(|(row, line)| {
        let end = if p.lower == 1 { cols.min((row / TILE + 1) * TILE) } else { cols };
        let line = &mut line[..end];
        if p.fresh == 1 {
            line.fill(0.0);
        }
        for k in 0..depth {
            let factor = p.sign * a_at(k, row);
            let b = &b[p.b_first as usize + k * p.b_stride as usize..][..end];
            line.iter_mut().zip(b).for_each(|(c, b)| *c += factor * b);
        }
    });
}
