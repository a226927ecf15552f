//! Dense f64 linear algebra of symmetric positive matrices, rows in parallel. Sums run in a fixed order, so that
//! results do not depend on the number of threads.

use rayon::prelude::*;

/// Rows a panel: 64 rows of even a wide matrix stay in a core's cache.
const PANEL: usize = 64;

/// The lower Cholesky factor `l` of `a` `[n, n]`, `a = l lᵀ`, with zeros above the diagonal; `None` when `a` is not
/// positive definite. Golub and Van Loan, Matrix Computations, section 4.2.
pub(crate) fn cholesky(mut a: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for start in (0..n).step_by(PANEL) {
        let end = (start + PANEL).min(n);
        // The panel's own triangle, row by row: each needs the rows above it.
        for i in start..end {
            let (above, row) = a.split_at_mut(i * n);
            let row = &mut row[..n];
            solve_row(row, above, start, i, n);
            let left = row[i] - dot(&row[..i], &row[..i]);
            if left.is_nan() || left <= 0.0 || left.is_infinite() {
                return None;
            }
            row[i] = left.sqrt();
            row[i + 1..].fill(0.0);
        }
        let (panel, below) = a.split_at_mut(end * n);
        below.par_chunks_exact_mut(n).for_each(|row| solve_row(row, panel, start, end, n));
    }
    Some(a)
}

/// Entries `start..end` of a row of the factor, from those before `start` and the finished rows `l`.
fn solve_row(row: &mut [f64], l: &[f64], start: usize, end: usize, n: usize) {
    for j in start..end {
        let other = &l[j * n..][..n];
        row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
    }
}

/// The inverse of the lower triangular `l` `[n, n]`, also lower triangular.
pub(crate) fn invert_lower(l: &[f64], n: usize) -> Vec<f64> {
    // Columns are independent of each other; a strip of them at a time.
    let strips: Vec<(usize, Vec<f64>)> = (0..n.div_ceil(PANEL))
        .into_par_iter()
        .map(|s| {
            let (first, width) = (s * PANEL, PANEL.min(n - s * PANEL));
            let mut strip = vec![0.0; n * width];
            for i in first..n {
                let (done, row) = strip.split_at_mut(i * width);
                let row = &mut row[..width];
                if i < first + width {
                    row[i - first] = 1.0;
                }
                for (k, above) in done.chunks_exact(width).enumerate().skip(first) {
                    let factor = l[i * n + k];
                    row.iter_mut().zip(above).for_each(|(r, a)| *r -= factor * a);
                }
                row.iter_mut().for_each(|r| *r /= l[i * n + i]);
            }
            (first, strip)
        })
        .collect();
    let mut out = vec![0.0; n * n];
    for (first, strip) in strips {
        let width = PANEL.min(n - first);
        for (row, part) in out.chunks_exact_mut(n).zip(strip.chunks_exact(width)) {
            row[first..first + width].copy_from_slice(part);
        }
    }
    out
}

/// A sum of products in eight strands, which compilers turn into vector instructions.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a8.iter().zip(b8) {
        for (s, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
            *s += x * y;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn positive(n: usize, seed: u64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let x: Vec<f64> = (0..n * (n + 3)).map(|_| random.random_range(-1.0..1.0)).collect();
        let row = |i: usize| &x[i * (n + 3)..][..n + 3];
        (0..n * n).map(|e| dot(row(e / n), row(e % n))).collect()
    }

    #[test]
    fn factor_and_inverse_over_panels() {
        for n in [1, 7, 64, 65, 150] {
            let a = positive(n, n as u64);
            let l = cholesky(a.clone(), n).expect("positive definite");
            let inverse = invert_lower(&l, n);
            for i in 0..n {
                for j in 0..n {
                    let product = dot(&l[i * n..][..n], &l[j * n..][..n]);
                    assert!((product - a[i * n + j]).abs() < 1e-9 * n as f64, "n {n}: l lᵀ at {i}, {j}");
                    let one = if i == j { 1.0 } else { 0.0 };
                    let identity: f64 = (0..n).map(|k| l[i * n + k] * inverse[k * n + j]).sum();
                    assert!((identity - one).abs() < 1e-9, "n {n}: l l⁻¹ at {i}, {j}: {identity}");
                    assert!(j <= i || (l[i * n + j] == 0.0 && inverse[i * n + j] == 0.0), "n {n}: upper part");
                }
            }
        }
    }

    #[test]
    fn not_positive_definite() {
        assert!(cholesky(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(cholesky(vec![1.0, f64::NAN, f64::NAN, 1.0], 2).is_none());
    }
}
