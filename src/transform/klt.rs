//! The Karhunen-Loève transform: a rotation into a covariance's own axes, where channels do not correlate.
//!
//! MambaQuant (arXiv:2501.13484, equations 9 to 13): after a Hadamard transform alone, a channel's variance still
//! depends on the data; after the KLT and then a Hadamard transform, every channel has the mean of the eigenvalues.

use super::{Matrix, eigen};
use crate::error::{Error, Result};

/// Relative asymmetry of a covariance that is taken for rounding.
const ASYMMETRY: f64 = 1e-5;

/// The orthogonal `[n, n]` whose rows are the eigenvectors of `covariance` `[n, n]`, largest variance first, each with
/// its largest component positive: `y = K x` has uncorrelated components. The same bits on every machine.
///
/// # Errors
/// [`Error::Argument`] when `covariance` is not `[n, n]`, finite and symmetric.
pub fn klt(covariance: &[f64], n: usize) -> Result<Matrix> {
    if n.checked_mul(n) != Some(covariance.len()) || n == 0 {
        return Err(Error::argument("covariance", format!("{} values for [{n}, {n}]", covariance.len())));
    }
    let largest = covariance.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let mut a = covariance.to_vec();
    for i in 0..n {
        for j in 0..i {
            let (low, high) = (a[i * n + j], a[j * n + i]);
            if (low - high).abs() > ASYMMETRY * largest {
                return Err(Error::argument("covariance", format!("[{i}, {j}] is {low:e}, [{j}, {i}] {high:e}")));
            }
            a[i * n + j] = 0.5 * (low + high);
            a[j * n + i] = a[i * n + j];
        }
    }
    Matrix::new(n, n, eigen::symmetric(a, n)?.1)
}

/// The KLT of each diagonal block of `covariance` `[n, n]`: for sites that are rotated block by block.
///
/// # Errors
/// As [`klt`]; [`Error::Argument`] when `block` does not divide `n`.
pub fn klt_blocks(covariance: &[f64], n: usize, block: usize) -> Result<Vec<Matrix>> {
    if block == 0 || !n.is_multiple_of(block) {
        return Err(Error::argument("KLT", format!("blocks of {block} in {n} channels")));
    }
    if n.checked_mul(n) != Some(covariance.len()) {
        return Err(Error::argument("covariance", format!("{} values for [{n}, {n}]", covariance.len())));
    }
    (0..n).step_by(block).map(|first| klt(&diagonal_block(covariance, n, first, block), block)).collect()
}

/// `[block, block]` of `covariance` from `first` on.
pub(super) fn diagonal_block(covariance: &[f64], n: usize, first: usize, block: usize) -> Vec<f64> {
    (first..first + block).flat_map(|i| &covariance[i * n + first..][..block]).copied().collect()
}

/// The weighted mean of covariances `[n, n]`, each scaled to trace 1 before: what a layer's scale is does not decide,
/// its weight does. A layer's sensitivity is a good weight.
///
/// # Errors
/// [`Error::Argument`] for a weight or trace that is negative or not finite, a size other than the first's, or when
/// nothing has any weight.
pub fn mean_covariance<'a>(weighted: impl IntoIterator<Item = (f64, &'a [f64])>, n: usize) -> Result<Vec<f64>> {
    let mut mean = MeanCovariance::new(n);
    weighted.into_iter().try_for_each(|(weight, covariance)| mean.add(weight, covariance))?;
    mean.finish()
}

/// [`mean_covariance`] of one after the other, none of which is kept.
#[derive(Clone, Debug)]
pub struct MeanCovariance {
    n: usize,
    sum: Vec<f64>,
    weights: f64,
}

impl MeanCovariance {
    /// Of none yet, `[n, n]`.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self { n, sum: Vec::new(), weights: 0.0 }
    }

    /// One more.
    ///
    /// # Errors
    /// As [`mean_covariance`].
    pub fn add(&mut self, weight: f64, covariance: &[f64]) -> Result<()> {
        let n = self.n;
        if n.checked_mul(n) != Some(covariance.len()) {
            return Err(Error::argument("covariance", format!("{} values for [{n}, {n}]", covariance.len())));
        }
        let trace: f64 = (0..n).map(|i| covariance[i * n + i]).sum();
        // Written so that NaN is refused.
        if !(weight >= 0.0 && trace >= 0.0 && (weight + trace).is_finite()) {
            return Err(Error::argument("mean covariance", format!("weight {weight}, trace {trace}")));
        }
        if trace > 0.0 {
            self.sum.resize(n * n, 0.0);
            self.sum.iter_mut().zip(covariance).for_each(|(m, c)| *m += weight / trace * c);
            self.weights += weight;
        }
        Ok(())
    }

    /// The mean of all.
    ///
    /// # Errors
    /// [`Error::Argument`] when nothing has any weight.
    pub fn finish(mut self) -> Result<Vec<f64>> {
        if self.weights == 0.0 {
            return Err(Error::argument("mean covariance", "no covariance of any weight"));
        }
        self.sum.iter_mut().for_each(|m| *m /= self.weights);
        Ok(self.sum)
    }
}
