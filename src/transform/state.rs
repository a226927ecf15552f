//! Transforms of the state axis: run-time operations on B, C and the SSM state, for states in few bits.
//!
//! A is a scalar per head, so the recurrence `S = a S + dt x Bᵀ`, `y = S C` keeps its y under
//!
//! ```text
//! B' = T B,   C' = T⁻ᵀ C,   S' = S Tᵀ          for any invertible T of a group:
//! S' = a S Tᵀ + dt x (T B)ᵀ,   S' C' = S Tᵀ T⁻ᵀ C = S C
//! ```
//!
//! for all time, which no transform of Mamba-1's state does (its A differs along the axis). A rotation or KLT here
//! spreads a state's outliers before it is rounded to int8.
//!
//! **What of this can be done in the weights?** B and C come out of `SiLU(conv(W u) + bias)`, taken element by element.
//! `T SiLU(v) = SiLU(M v)` for all v forces `M = T`, a matrix with one entry in each row, whose entries m obey
//! `m SiLU(v) = SiLU(m v)`. SiLU is neither homogeneous nor odd, so m = 1: **permutations, and nothing else**
//! ([`super::permute::states`]). Signs and scales m become exact with MambaQuant's S-SiLU in place of SiLU:
//! `m SiLU(v) = w σ(w / m)` with `w = m v`, that is `s_silu(w, 1 / m)` ([`crate::kernels::s_silu`]) after rows of
//! `in_proj` *and* the convolution's bias are multiplied by m. A dense T is an operation after the convolution, of
//! `groups * state²` multiplications a token (or a Hadamard transform's `groups * state * log2(state)` additions): this
//! type. The same holds for the channels of a head: `x' = Q x`, `y' = Q y` commutes with the scan and with D, but lies
//! between the SiLU and the gate.

use super::Matrix;
use super::matrix::dot;
use crate::error::{Error, Result};

/// One invertible matrix a group.
#[derive(Clone, Debug)]
pub struct StateAxis {
    groups: Vec<Group>,
    state: usize,
}

#[derive(Clone, Debug)]
struct Group {
    t: Matrix,
    inverse: Matrix,
    /// `T⁻ᵀ`.
    dual: Matrix,
}

impl StateAxis {
    /// `groups`: T of each group, `[state, state]`.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that differ or a singular matrix.
    pub fn new(groups: Vec<Matrix>) -> Result<Self> {
        let state = groups.first().map_or(0, Matrix::cols);
        if let Some(t) = groups.iter().find(|t| (t.rows(), t.cols()) != (state, state)) {
            let reason = format!("[{}, {}], expected [{state}, {state}]", t.rows(), t.cols());
            return Err(Error::argument("transform of the state axis", reason));
        }
        let group = |t: Matrix| {
            let inverse = t.inverse("transform of the state axis")?;
            Ok(Group { dual: inverse.transposed(), t, inverse })
        };
        Ok(Self { groups: groups.into_iter().map(group).collect::<Result<_>>()?, state })
    }

    /// `B = T B`; `b`: `[groups * state]` of a token.
    ///
    /// # Panics
    /// For another length; the same for the other functions.
    pub fn b(&self, b: &mut [f64]) {
        self.each(b, |g| &g.t);
    }

    /// `C = T⁻ᵀ C`; `c`: `[groups * state]`.
    ///
    /// # Panics
    /// As [`StateAxis::b`].
    pub fn c(&self, c: &mut [f64]) {
        self.each(c, |g| &g.dual);
    }

    /// `S = S Tᵀ`; `ssm_state`: `[heads * head_dim, state]`, heads of a group side by side.
    ///
    /// # Panics
    /// As [`StateAxis::b`].
    pub fn state(&self, ssm_state: &mut [f64]) {
        self.each(ssm_state, |g| &g.t);
    }

    /// The inverse of [`StateAxis::state`].
    ///
    /// # Panics
    /// As [`StateAxis::b`].
    pub fn undo_state(&self, ssm_state: &mut [f64]) {
        self.each(ssm_state, |g| &g.inverse);
    }

    /// Multiplies each run of `state` values by its group's matrix.
    fn each(&self, values: &mut [f64], matrix: impl Fn(&Group) -> &Matrix) {
        let whole = self.groups.len() * self.state;
        assert!(whole > 0 && values.len().is_multiple_of(whole), "{} values for states of {whole}", values.len());
        let part = values.len() / self.groups.len();
        for (group, part) in self.groups.iter().zip(values.chunks_exact_mut(part)) {
            part.chunks_exact_mut(self.state).for_each(|x| multiply(matrix(group), x));
        }
    }
}

/// `x = t x`.
fn multiply(t: &Matrix, x: &mut [f64]) {
    let product: Vec<f64> = (0..t.rows()).map(|i| dot(t.row(i), x)).collect();
    x.copy_from_slice(&product);
}
