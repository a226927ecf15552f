//! Eigenvectors of symmetric matrices: Householder's tridiagonal form, then implicit QL steps with Wilkinson's shift
//! (Golub and Van Loan, Matrix Computations, section 8.3; the steps are those of EISPACK's `imtql2`).
//!
//! Only sums, products, quotients and square roots in a fixed order, no fused multiply-adds and no choice by the
//! processor's features: the same matrix gives the same bits on any machine and any number of threads, and so the same
//! checkpoint. That is why no linear algebra crate does it: those choose their kernels by the processor.

use rayon::prelude::*;

use super::matrix::dot;
use crate::error::{Error, Result};

/// Components of all eigenvectors that one task rotates.
const BLOCK: usize = 32;
/// QL steps for one eigenvalue; a handful suffice, this many mean that there is no convergence.
const STEPS: usize = 60;

/// Eigenvalues and eigenvectors of the symmetric `a` `[n, n]`, largest first; eigenvector `i` is row `i`, with its
/// component of largest size positive.
///
/// # Errors
/// [`Error::Argument`] when a value is not finite or the steps do not converge.
pub(super) fn symmetric(mut a: Vec<f64>, n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let scale = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    if a.iter().any(|v| !v.is_finite()) {
        return Err(Error::argument("eigenvectors", "the matrix has a value that is not finite"));
    }
    if scale > 0.0 {
        a.iter_mut().for_each(|v| *v /= scale);
    }
    let (mut d, mut e, reflections) = tridiagonal(&mut a, n);
    let mut blocks = identity_blocks(n);
    implicit_ql(&mut d, &mut e, &mut blocks)?;
    let mut vectors = rows(&blocks, n);
    vectors.par_chunks_exact_mut(n).for_each(|z| {
        for (k, (v, beta)) in reflections.iter().enumerate().rev() {
            let part = &mut z[k + 1..];
            let f = beta * dot(v, part);
            part.iter_mut().zip(v).for_each(|(z, v)| *z -= f * v);
        }
        let largest = z.iter().fold(0.0, |m: f64, v| if v.abs() > m.abs() { *v } else { m });
        if largest < 0.0 {
            z.iter_mut().for_each(|v| *v = -*v);
        }
    });
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| d[*j].total_cmp(&d[*i]));
    let sorted = order.iter().flat_map(|i| &vectors[i * n..][..n]).copied().collect();
    Ok((order.iter().map(|i| d[*i] * scale).collect(), sorted))
}

/// `v` and `2 / vᵀv` of each reflection.
type Reflections = Vec<(Vec<f64>, f64)>;

/// `a = Q T Qᵀ` with `Q = H_0 H_1 …`, `H_k = I - beta v vᵀ` on the components behind `k`: T's diagonal, its
/// off-diagonal (the last element 0) and the reflections. `a` is overwritten.
fn tridiagonal(a: &mut [f64], n: usize) -> (Vec<f64>, Vec<f64>, Reflections) {
    let (mut e, mut reflections) = (vec![0.0; n], Vec::new());
    for k in 0..n.saturating_sub(1) {
        let mut v = a[k * n + k + 1..(k + 1) * n].to_vec();
        let norm = dot(&v, &v).sqrt();
        let rest = dot(&v[1..], &v[1..]);
        e[k] = v[0];
        // Of less the square has few bits or none, and 2 over it is infinite.
        if rest < f64::MIN_POSITIVE {
            reflections.push((v, 0.0));
            continue;
        }
        e[k] = if v[0] > 0.0 { -norm } else { norm };
        v[0] -= e[k];
        let beta = 2.0 / dot(&v, &v);
        let below = &mut a[(k + 1) * n..];
        let p: Vec<f64> = below.par_chunks_exact(n).map(|row| beta * dot(&row[k + 1..], &v)).collect();
        let half = 0.5 * beta * dot(&p, &v);
        let w: Vec<f64> = p.iter().zip(&v).map(|(p, v)| p - half * v).collect();
        below.par_chunks_exact_mut(n).enumerate().for_each(|(i, row)| {
            let (vi, wi) = (v[i], w[i]);
            row[k + 1..].iter_mut().zip(v.iter().zip(&w)).for_each(|(a, (v, w))| *a -= vi * w + wi * v);
        });
        reflections.push((v, beta));
    }
    ((0..n).map(|i| a[i * n + i]).collect(), e, reflections)
}

/// Eigenvectors lie in blocks of components: block `b` is `[n, width]`, row `i` the components of eigenvector `i`.
fn identity_blocks(n: usize) -> Vec<Vec<f64>> {
    let block = |first: usize| {
        let width = BLOCK.min(n - first);
        (0..n * width).map(|i| if i / width == first + i % width { 1.0 } else { 0.0 }).collect()
    };
    (0..n).step_by(BLOCK).map(block).collect()
}

fn rows(blocks: &[Vec<f64>], n: usize) -> Vec<f64> {
    let row = |i: usize| blocks.iter().flat_map(move |b| &b[i * (b.len() / n)..][..b.len() / n]);
    (0..n).flat_map(row).copied().collect()
}

/// Makes the off-diagonal `e` vanish; `d` becomes the eigenvalues. Of a matrix whose largest value is 1 (or of zeros): what is small
/// beside that is round-off. In the null space of a matrix the diagonal is round-off, too, and beside it alone nothing would be small.
fn implicit_ql(d: &mut [f64], e: &mut [f64], blocks: &mut [Vec<f64>]) -> Result<()> {
    let n = d.len();
    for l in 0..n {
        for step in 0.. {
            let small = |m: &usize| e[*m].abs() <= f64::EPSILON * (d[*m].abs() + d[*m + 1].abs()).max(1.0);
            let m = (l..n - 1).find(small).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == STEPS {
                return Err(Error::argument("eigenvectors", format!("no convergence after {STEPS} steps")));
            }
            let rotations = sweep(d, e, l, m);
            blocks.par_iter_mut().for_each(|block| rotate(block, n, m, &rotations));
        }
    }
    Ok(())
}

/// One QL step on rows `l..=m`; gives sine and cosine of the rotation of rows `i` and `i + 1`, for `i` from `m - 1`
/// down. Fewer than `m - l` where a rotation vanished.
fn sweep(d: &mut [f64], e: &mut [f64], l: usize, m: usize) -> Vec<(f64, f64)> {
    let g = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let r = (g * g + 1.0).sqrt();
    let mut g = d[m] - d[l] + e[l] / (g + if g < 0.0 { -r } else { r });
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    let mut rotations = Vec::with_capacity(m - l);
    for i in (l..m).rev() {
        let (f, b) = (s * e[i], c * e[i]);
        let r = (f * f + g * g).sqrt();
        e[i + 1] = r;
        if r == 0.0 {
            d[i + 1] -= p;
            e[m] = 0.0;
            return rotations;
        }
        (s, c) = (f / r, g / r);
        g = d[i + 1] - p;
        let t = (d[i] - g) * s + 2.0 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
        rotations.push((s, c));
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
    rotations
}

/// Applies the rotations of rows `m - 1` and `m`, `m - 2` and `m - 1`, and so on.
fn rotate(block: &mut [f64], n: usize, m: usize, rotations: &[(f64, f64)]) {
    let width = block.len() / n;
    for (j, (s, c)) in rotations.iter().enumerate() {
        let i = m - 1 - j;
        let (a, b) = block[i * width..(i + 2) * width].split_at_mut(width);
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::transform::Matrix;

    /// Of fewer tokens than channels, and of none.
    #[test]
    fn covariances_need_not_have_full_rank() {
        let n = 128;
        for (seed, rank) in (0..20).map(|seed| (seed, 32)).chain([(20, 1), (21, 4), (22, 124), (23, 0)]) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x: Vec<f64> = (0..rank * n).map(|_| rng.random_range(-1.0..1.0)).collect();
            let sum = |i: usize, j: usize| (0..rank).map(|r| x[r * n + i] * x[r * n + j]).sum::<f64>();
            let a: Vec<f64> = (0..n * n).map(|i| sum(i / n, i % n)).collect();
            let largest = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let (values, vectors) = symmetric(a.clone(), n).unwrap();
            let vectors = Matrix::new(n, n, vectors).unwrap();
            assert!(vectors.orthogonality_error() < 1e-12, "seed {seed}");
            // `Vᵀ diag(values) V`.
            let columns = vectors.transposed();
            let mut scaled = columns.clone();
            scaled.scale_columns(&values);
            let again = scaled.times_transposed(&columns);
            let off = again.values().iter().zip(&a).fold(0.0, |m: f64, (b, a)| m.max((b - a).abs()));
            assert!(off <= 1e-12 * largest, "seed {seed}: {off:e} off of {largest}");
            assert!(values[rank..].iter().all(|v| v.abs() <= 1e-12 * largest), "seed {seed}: {values:?}");
        }
    }

    /// Squares of such values are subnormal or 0.
    #[test]
    fn next_to_nothing_is_nothing() {
        let small = 2e-162;
        let mut a = vec![small; 16];
        a[0] = 1.0;
        let (values, vectors) = symmetric(a, 4).unwrap();
        assert_eq!(values[0], 1.0);
        assert!(values[1..].iter().all(|v| v.abs() < 1e-150), "{values:?}");
        assert!(Matrix::new(4, 4, vectors).unwrap().orthogonality_error() < 1e-12);
    }
}
