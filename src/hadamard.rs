//! Hadamard matrices: how a size is built, and the orthonormal transform on the host.
//!
//! A Hadamard matrix `H` has elements ±1 and `H Hᵀ = n I`. `H_n = H_d0 ⊗ H_d1 ⊗ … ⊗ Sylvester(pow2)`: the dense
//! orders `d` by Paley's constructions (R. E. A. C. Paley, J. Math. Phys. 12, 1933), the rest by Sylvester's,
//! whose product costs only `log2(pow2)` additions an element. Rotations built of them even out outliers
//! (QuaRot, arXiv:2404.00456). The GPU's side is [`crate::kernels::hadamard`].

mod paley;

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Elements one task of a transform takes, at least.
const TASK: usize = 4096;

/// `n = product(dense) * pow2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Factors {
    /// Orders of Paley matrices, outermost first.
    pub dense: Vec<usize>,
    /// Order of the Sylvester matrix, innermost.
    pub pow2: usize,
}

impl Factors {
    /// `(order, stride)` of each dense factor for vectors of the product's length: element `j` of a factor's
    /// vectors is `j * stride` behind the first.
    pub fn dense_strides(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.dense.len()).map(|i| (self.dense[i], self.dense[i + 1..].iter().product::<usize>() * self.pow2))
    }
}

/// Builds `n` with the smallest dense part, and that of the factors with the smallest sum (the cost).
/// `None` when neither Paley's constructions nor their products give it.
#[must_use]
pub fn factor(n: usize) -> Option<Factors> {
    if n == 0 {
        return None;
    }
    let twos = n.trailing_zeros();
    let odd = n >> twos;
    if odd == 1 {
        return Some(Factors { dense: Vec::new(), pow2: n });
    }
    // Every Hadamard order above 2 is a multiple of 4.
    (2..=twos).find_map(|j| Some(Factors { dense: split(odd << j)?, pow2: 1 << (twos - j) }))
}

/// `order` as a product of Paley orders with the smallest sum.
fn split(order: usize) -> Option<Vec<usize>> {
    let whole = paley::exists(order).then(|| vec![order]);
    let products =
        (12..=order / 12).step_by(4).filter(|a| order.is_multiple_of(*a) && paley::exists(*a)).filter_map(|a| {
            let mut parts = split(order / a)?;
            parts.push(a);
            parts.sort_unstable();
            Some(parts)
        });
    whole.into_iter().chain(products).min_by_key(|parts| parts.iter().sum::<usize>())
}

/// The ±1 matrix of an order, row-major, as [`factor`] builds it; `None` where that builds none, or one of more elements than can be
/// counted.
#[must_use]
pub fn order_matrix(order: usize) -> Option<Vec<i8>> {
    order.checked_mul(order)?;
    let factors = factor(order)?;
    let dense = factors.dense.iter().try_fold(vec![1], |all, d| Some(kronecker(&all, &paley::matrix(*d)?)))?;
    Some(kronecker(&dense, &sylvester(factors.pow2)))
}

/// Bit parity of `row & col` gives the sign.
fn sylvester(order: usize) -> Vec<i8> {
    let sign = |i: usize| if ((i / order) & (i % order)).count_ones().is_multiple_of(2) { 1 } else { -1 };
    (0..order * order).map(sign).collect()
}

/// `a ⊗ b` of square matrices.
fn kronecker(a: &[i8], b: &[i8]) -> Vec<i8> {
    let (n, m) = (a.len().isqrt(), b.len().isqrt());
    let size = n * m;
    (0..size * size)
        .map(|i| {
            let (row, col) = (i / size, i % size);
            a[row / m * n + col / m] * b[row % m * m + col % m]
        })
        .collect()
}

/// The orthonormal transform of runs of `block` values, ready to use.
#[derive(Clone, Debug)]
pub struct Transform {
    block: usize,
    /// `(stride, ±1 matrix)` of each dense factor.
    dense: Vec<(usize, Vec<f64>)>,
    pow2: usize,
}

impl Transform {
    /// Builds the dense matrices.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no construction for `block`.
    pub fn new(block: usize) -> Result<Self> {
        let factors = checked_factors("hadamard block", block, 0)?;
        let matrix = |(order, stride)| {
            let signs = paley::matrix(order)?;
            Some((stride, signs.into_iter().map(f64::from).collect()))
        };
        let dense = factors.dense_strides().filter_map(matrix).collect();
        Ok(Self { block, dense, pow2: factors.pow2 })
    }

    /// Replaces every run `x` of `block` values by `H x / sqrt(block)`.
    ///
    /// # Panics
    /// When `block` does not divide the number of values.
    pub fn apply(&self, values: &mut [f64]) {
        self.run(values, false);
    }

    /// The inverse: `Hᵀ x / sqrt(block)`. Paley's first matrices are not symmetric.
    ///
    /// # Panics
    /// As [`Transform::apply`].
    pub fn apply_transposed(&self, values: &mut [f64]) {
        self.run(values, true);
    }

    fn run(&self, values: &mut [f64], transposed: bool) {
        assert!(values.len().is_multiple_of(self.block), "blocks of {} in {} values", self.block, values.len());
        let scale = 1.0 / (self.block as f64).sqrt();
        values.par_chunks_mut(self.block * TASK.div_ceil(self.block)).for_each_init(Vec::new, |scratch, task| {
            for x in task.chunks_exact_mut(self.block) {
                for (stride, matrix) in &self.dense {
                    let vectors = x.chunks_exact_mut(matrix.len().isqrt() * stride);
                    vectors.for_each(|x| mix(matrix, transposed, *stride, x, scratch));
                }
                x.chunks_exact_mut(self.pow2).for_each(walsh_hadamard);
                x.iter_mut().for_each(|x| *x *= scale);
            }
        });
    }
}

/// [`Transform::apply`] in one call; for many calls make the [`Transform`] once.
///
/// # Errors
/// [`Error::Argument`] when there is no construction for `block`, or it does not divide the values' count.
pub fn transform(block: usize, values: &mut [f64]) -> Result<()> {
    checked_factors("hadamard block", block, values.len())?;
    Transform::new(block).map(|t| t.apply(values))
}

/// [`Transform::apply_transposed`] in one call: the inverse of [`transform`].
///
/// # Errors
/// As [`transform`].
pub fn transform_transposed(block: usize, values: &mut [f64]) -> Result<()> {
    checked_factors("hadamard block", block, values.len())?;
    Transform::new(block).map(|t| t.apply_transposed(values))
}

/// The factors of a block, or an error that names it.
pub(crate) fn checked_factors(what: &str, block: usize, count: usize) -> Result<Factors> {
    let none = || {
        let reason = "there is no construction of a Hadamard matrix of this order; powers of two and 4k * 2^j such as 12, 20, 28, 84 have one";
        Error::argument(format!("{what} {block}"), reason)
    };
    let factors = factor(block).ok_or_else(none)?;
    if !count.is_multiple_of(block) {
        return Err(Error::argument(format!("{what} {block}"), format!("it does not divide {count}")));
    }
    Ok(factors)
}

/// Multiplies the matrix with the vectors that lie `stride` apart in `x`.
fn mix(matrix: &[f64], transposed: bool, stride: usize, x: &mut [f64], scratch: &mut Vec<f64>) {
    let order = matrix.len().isqrt();
    let (row_step, col_step) = if transposed { (1, order) } else { (order, 1) };
    scratch.clear();
    scratch.resize(x.len(), 0.0);
    for (row, out) in scratch.chunks_exact_mut(stride).enumerate() {
        for (col, x) in x.chunks_exact(stride).enumerate() {
            let sign = matrix[row * row_step + col * col_step];
            out.iter_mut().zip(x).for_each(|(out, x)| *out += sign * x);
        }
    }
    x.copy_from_slice(scratch);
}

/// The unscaled Sylvester transform in natural order, in place; `x.len()` is a power of two.
pub(crate) fn walsh_hadamard(x: &mut [f64]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests;
