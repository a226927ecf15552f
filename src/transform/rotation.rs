//! Rotations of activations, `x' = R x`, and their undoing in weights: `W' = W Rᵀ` rotates each row of `W` as if it
//! were an activation; a layer that must put out `R y` has its columns rotated.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::klt::klt;
use super::{Layer, Matrix};
use crate::error::{Error, Result};
use crate::hadamard;

/// Largest deviation of `R Rᵀ` from the identity that is taken for rounding.
const ORTHOGONAL: f64 = 1e-10;

/// Which rotation. In a recipe: a number (the seed of [`Rotation::RandomHadamard`]) or one of the words `hadamard`,
/// `klt`, `klt-hadamard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Form", into = "Form")]
pub enum Rotation {
    /// `H / sqrt(n)`.
    Hadamard,
    /// `H D / sqrt(n)` with random signs `D` of this seed (QuaRot, arXiv:2404.00456).
    RandomHadamard(u64),
    /// The eigenvectors of the site's covariance.
    Klt,
    /// The KLT, then `H / sqrt(n)`: variances become equal (MambaQuant, arXiv:2501.13484, equation 11).
    KltHadamard,
    /// The caller's own matrix, see [`super::Inputs::given`]; spelled `given`, but a recipe cannot bring one and is refused with it.
    Given,
}

/// How a recipe spells a [`Rotation`].
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a seed, or one of `hadamard`, `klt`, `klt-hadamard`")]
enum Form {
    Seed(u64),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Hadamard,
    Klt,
    KltHadamard,
    Given,
}

impl From<Form> for Rotation {
    fn from(form: Form) -> Self {
        match form {
            Form::Seed(seed) => Self::RandomHadamard(seed),
            Form::Word(Word::Hadamard) => Self::Hadamard,
            Form::Word(Word::Klt) => Self::Klt,
            Form::Word(Word::KltHadamard) => Self::KltHadamard,
            Form::Word(Word::Given) => Self::Given,
        }
    }
}

impl From<Rotation> for Form {
    fn from(rotation: Rotation) -> Self {
        match rotation {
            Rotation::RandomHadamard(seed) => Self::Seed(seed),
            Rotation::Hadamard => Self::Word(Word::Hadamard),
            Rotation::Klt => Self::Word(Word::Klt),
            Rotation::KltHadamard => Self::Word(Word::KltHadamard),
            Rotation::Given => Self::Word(Word::Given),
        }
    }
}

impl Rotation {
    /// Does it need the site's covariance?
    #[must_use]
    pub fn needs_covariance(self) -> bool {
        matches!(self, Self::Klt | Self::KltHadamard)
    }

    /// Does it need a Hadamard matrix of the site's width?
    pub(super) fn needs_hadamard(self) -> bool {
        matches!(self, Self::Hadamard | Self::RandomHadamard(_) | Self::KltHadamard)
    }
}

/// An orthogonal matrix, ready to use: a dense one, then signs, then a Hadamard transform, each where there is one.
pub(super) struct Rotor {
    dense: Option<Matrix>,
    signs: Vec<f64>,
    hadamard: Option<hadamard::Transform>,
}

impl Rotor {
    /// The rotation of `n` channels; `covariance` and `given` are asked for where they are needed.
    pub(super) fn new(
        kind: Rotation,
        n: usize,
        covariance: impl FnOnce() -> Result<Vec<f64>>,
        given: impl FnOnce() -> Result<Matrix>,
    ) -> Result<Self> {
        let dense = match kind {
            Rotation::Hadamard | Rotation::RandomHadamard(_) => None,
            // Rows are eigenvectors: the Kᵀ of the paper, whose K H for row vectors is H Kᵀ here, H or Hᵀ alike.
            Rotation::Klt | Rotation::KltHadamard => Some(klt(&covariance()?, n)?),
            Rotation::Given => Some(orthogonal(given()?, n)?),
        };
        let signs = match kind {
            Rotation::RandomHadamard(seed) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                (0..n).map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 }).collect()
            }
            _ => Vec::new(),
        };
        let hadamard = match kind {
            Rotation::Klt | Rotation::Given => None,
            _ => Some(hadamard::Transform::new(n)?),
        };
        Ok(Self { dense, signs, hadamard })
    }

    /// `row = R row` for each row.
    pub(super) fn rows(&self, m: &mut Matrix) {
        if let Some(dense) = &self.dense {
            *m = m.times_transposed(dense);
        }
        if self.hadamard.is_some() || !self.signs.is_empty() {
            m.each_row(|row| {
                row.iter_mut().zip(&self.signs).for_each(|(v, s)| *v *= s);
                if let Some(hadamard) = &self.hadamard {
                    hadamard.apply(row);
                }
            });
        }
    }

    /// `column = R column` for each column.
    pub(super) fn columns(&self, m: &mut Matrix) {
        let mut turned = m.transposed();
        self.rows(&mut turned);
        *m = turned.transposed();
    }

    /// `R` itself, for small ones.
    pub(super) fn matrix(&self, n: usize) -> Matrix {
        let mut r = Matrix::identity(n);
        self.columns(&mut r);
        r
    }

    /// Rotates what a block reads from and writes to the residual stream (QuaRot's R1).
    pub(super) fn residual(&self, layer: &mut Layer) {
        for reader in layer.readers() {
            self.rows(reader);
        }
        self.columns(layer.writer());
    }
}

/// `m`, if it is an orthogonal `[n, n]`.
fn orthogonal(m: Matrix, n: usize) -> Result<Matrix> {
    if (m.rows(), m.cols()) != (n, n) {
        return Err(Error::argument("given rotation", format!("[{}, {}] for [{n}, {n}]", m.rows(), m.cols())));
    }
    let off = m.orthogonality_error();
    if off.is_nan() || off > ORTHOGONAL {
        let reason =
            format!("R Rᵀ is {off:.2e} off the identity, {ORTHOGONAL:.0e} allowed; see Matrix::orthonormalized");
        return Err(Error::argument("given rotation", reason));
    }
    Ok(m)
}
