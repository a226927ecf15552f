//! Dense f64 matrices: what weights are while they are rewritten. Sums run in a fixed order without fused
//! multiply-adds, so that results depend neither on the number of threads nor on the machine.

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Rows of the left factor that share one pass over the right one.
const STRIP: usize = 8;
/// Side of the tiles a transposition goes through.
const TILE: usize = 32;

/// `[rows, cols]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    cols: usize,
    values: Vec<f64>,
}

impl Matrix {
    /// A matrix of row-major `values`.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are not `rows * cols` of them.
    pub fn new(rows: usize, cols: usize, values: Vec<f64>) -> Result<Self> {
        if rows.checked_mul(cols) != Some(values.len()) || cols == 0 {
            return Err(Error::argument("matrix", format!("[{rows}, {cols}] of {} values", values.len())));
        }
        Ok(Self { cols, values })
    }

    /// Ones on the diagonal.
    ///
    /// # Panics
    /// When `n` is 0, or no memory holds it.
    #[must_use]
    pub fn identity(n: usize) -> Self {
        assert!(n > 0 && n.checked_mul(n).is_some(), "an identity of order {n}");
        Self { cols: n, values: (0..n * n).map(|i| if i % (n + 1) == 0 { 1.0 } else { 0.0 }).collect() }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len() / self.cols
    }

    /// Number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All values, row-major.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, row-major, to change.
    pub fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }

    /// Row `i`.
    ///
    /// # Panics
    /// Beyond the last row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.cols..][..self.cols]
    }

    /// Applies `f` to each row.
    pub(super) fn each_row(&mut self, f: impl Fn(&mut [f64]) + Sync + Send) {
        self.values.par_chunks_exact_mut(self.cols).for_each(f);
    }

    /// Multiplies row `first + i` by `factors[i]`.
    pub(super) fn scale_rows(&mut self, first: usize, factors: &[f64]) {
        for (row, f) in self.values[first * self.cols..].chunks_exact_mut(self.cols).zip(factors) {
            row.iter_mut().for_each(|v| *v *= f);
        }
    }

    /// Multiplies column `i` by `factors[i]`.
    pub(super) fn scale_columns(&mut self, factors: &[f64]) {
        self.each_row(|row| row.iter_mut().zip(factors).for_each(|(v, f)| *v *= f));
    }

    /// Row `i` becomes what row `from[i]` was.
    pub(super) fn take_rows(&mut self, from: &[usize]) {
        self.values = from.iter().flat_map(|r| self.row(*r)).copied().collect();
    }

    /// Column `i` becomes what column `from[i]` was.
    pub(super) fn take_columns(&mut self, from: &[usize]) {
        self.each_row(|row| {
            let taken: Vec<f64> = from.iter().map(|c| row[*c]).collect();
            row.copy_from_slice(&taken);
        });
    }

    /// The rows from `first` on, as many as `t` has columns, become `t` times them.
    pub(super) fn left(&mut self, first: usize, t: &Self) {
        let cols = self.cols;
        let block = &mut self.values[first * cols..][..t.cols * cols];
        let old = block.to_vec();
        block.par_chunks_exact_mut(cols).enumerate().for_each(|(i, row)| {
            row.fill(0.0);
            for (f, old) in t.row(i).iter().zip(old.chunks_exact(cols)) {
                row.iter_mut().zip(old).for_each(|(v, o)| *v += f * o);
            }
        });
    }

    /// The columns from `first` on, as many as `t` has rows, become them times `t`.
    pub(super) fn right(&mut self, first: usize, t: &Self) {
        self.each_row(|row| {
            let part = &mut row[first..][..t.rows()];
            let old = part.to_vec();
            part.fill(0.0);
            for (o, t) in old.iter().zip(t.values.chunks_exact(t.cols)) {
                part.iter_mut().zip(t).for_each(|(v, t)| *v += o * t);
            }
        });
    }

    /// `self · otherᵀ`: `[n, k]` with `[m, k]` gives `[n, m]`.
    ///
    /// # Panics
    /// When the columns' counts differ.
    #[must_use]
    pub fn times_transposed(&self, other: &Self) -> Self {
        assert_eq!(self.cols, other.cols, "columns of both factors");
        let m = other.rows();
        let mut values = vec![0.0; self.rows() * m];
        let strips = self.values.par_chunks(STRIP * self.cols).zip(values.par_chunks_mut(STRIP * m));
        strips.for_each(|(rows, out)| {
            for (j, other) in other.values.chunks_exact(other.cols).enumerate() {
                for (row, out) in rows.chunks_exact(self.cols).zip(out.chunks_exact_mut(m)) {
                    out[j] = dot(row, other);
                }
            }
        });
        Self { cols: m, values }
    }

    /// Rows become columns.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let (rows, cols) = (self.rows(), self.cols);
        let mut values = vec![0.0; self.values.len()];
        values.par_chunks_mut(TILE * rows).enumerate().for_each(|(strip, out)| {
            for first in (0..rows).step_by(TILE) {
                for (j, out) in out.chunks_exact_mut(rows).enumerate() {
                    for (i, out) in out.iter_mut().enumerate().skip(first).take(TILE) {
                        *out = self.values[i * cols + strip * TILE + j];
                    }
                }
            }
        });
        Self { cols: rows, values }
    }

    /// The inverse, by Gauss and Jordan with row pivots.
    ///
    /// # Errors
    /// [`Error::Argument`] when the matrix, called `what`, is not square or singular to f64 precision.
    pub fn inverse(&self, what: &str) -> Result<Self> {
        let n = self.cols;
        if self.rows() != n {
            return Err(Error::argument(what, format!("[{}, {n}] is not square", self.rows())));
        }
        let largest = self.values.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let (mut a, mut inverse) = (self.clone(), Self::identity(n));
        for k in 0..n {
            let size = |i: &usize| a.values[i * n + k].abs();
            let pivot = (k..n).max_by(|i, j| size(i).total_cmp(&size(j))).unwrap_or(k);
            let p = a.values[pivot * n + k];
            // Written so that NaN is refused.
            if !(p.abs() > 1e-13 * largest && p.is_finite()) {
                return Err(Error::argument(what, format!("is singular: pivot {k} is {p:e}")));
            }
            for m in [&mut a, &mut inverse] {
                for c in 0..n {
                    m.values.swap(k * n + c, pivot * n + c);
                    m.values[k * n + c] /= p;
                }
            }
            for i in (0..n).filter(|i| *i != k) {
                let f = a.values[i * n + k];
                for m in [&mut a, &mut inverse] {
                    for c in 0..n {
                        m.values[i * n + c] -= f * m.values[k * n + c];
                    }
                }
            }
        }
        Ok(inverse)
    }

    /// Rows made orthonormal, one after another (Gram and Schmidt, twice, which suffices to f64 precision).
    ///
    /// # Errors
    /// [`Error::Argument`] when a row depends on those before it.
    pub fn orthonormalized(mut self) -> Result<Self> {
        for i in 0..self.rows() {
            let (done, row) = self.values.split_at_mut(i * self.cols);
            let row = &mut row[..self.cols];
            let before = dot(row, row).sqrt();
            for other in done.chunks_exact(self.cols).chain(done.chunks_exact(self.cols)) {
                let f = dot(row, other);
                row.iter_mut().zip(other).for_each(|(v, o)| *v -= f * o);
            }
            let norm = dot(row, row).sqrt();
            if norm.is_nan() || norm <= 1e-12 * before {
                return Err(Error::argument("orthonormal rows", format!("row {i} depends on those before it")));
            }
            row.iter_mut().for_each(|v| *v /= norm);
        }
        Ok(self)
    }

    /// The largest deviation of `self · selfᵀ` from the identity: 0 for an orthogonal matrix.
    #[must_use]
    pub fn orthogonality_error(&self) -> f64 {
        let product = self.times_transposed(self);
        let n = product.cols;
        let off = |(i, v): (usize, &f64)| (v - if i % (n + 1) == 0 { 1.0 } else { 0.0 }).abs();
        // `max` would drop a NaN.
        product.values.iter().enumerate().map(off).fold(0.0, |m: f64, d| if d.is_nan() || d > m { d } else { m })
    }
}

/// `a · b`, eight sums side by side.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_values_as_rows_and_columns_say() {
        assert!(Matrix::new(2, 3, vec![0.0; 6]).is_ok());
        for (rows, cols, count) in [(2, 3, 5), (0, 0, 0), (usize::MAX, 3, 0), (1 << (usize::BITS - 1), 2, 0)] {
            assert!(Matrix::new(rows, cols, vec![0.0; count]).is_err(), "[{rows}, {cols}] of {count}");
        }
    }
}
