//! Rotations of weights. A rotation of an activation `x' = R x` is undone by `W' = W Rᵀ`, that is by
//! rotating each row of `W` as if it were an activation; a layer that must put out `R y` has its columns rotated.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::fold;
use crate::error::{Error, Result};
use crate::hadamard;
use crate::model::{Layer, Linear, Mixer, OnlineRotation};
use crate::tensor::Tensor;

/// `R = H D`: random signs, then an orthonormal Hadamard matrix.
pub(super) struct Residual {
    signs: Vec<f64>,
    hadamard: hadamard::Transform,
}

impl Residual {
    pub(super) fn new(hidden: usize, seed: u64) -> Result<Self> {
        let hadamard = hadamard::Transform::new(hidden)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let signs = (0..hidden).map(|_| if rng.random::<bool>() { 1.0 } else { -1.0 }).collect();
        Ok(Self { signs, hadamard })
    }

    /// `x = R x`.
    pub(super) fn apply(&self, x: &mut [f64]) {
        x.iter_mut().zip(&self.signs).for_each(|(v, s)| *v *= s);
        self.hadamard.apply(x);
    }
}

/// Applies `f` to each row, in f64; the result is stored in f32.
pub(super) fn rows(linear: &mut Linear, f: impl Fn(&mut [f64]) + Sync) -> Result<()> {
    let Linear::Float(tensor) = linear else {
        return Err(Error::argument("transform", "the model is quantized already; start from the original checkpoint"));
    };
    let shape = tensor.shape;
    let mut values = tensor.to_f32()?;
    values.par_chunks_mut(shape.cols().max(1)).for_each(|row| {
        let mut wide: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        f(&mut wide);
        row.iter_mut().zip(wide).for_each(|(out, v)| *out = v as f32);
    });
    *tensor = Tensor::from_f32(shape, &values);
    Ok(())
}

/// Applies `f` to each column.
fn columns(linear: &mut Linear, f: impl Fn(&mut [f64]) + Sync) -> Result<()> {
    transpose(linear)?;
    rows(linear, f)?;
    transpose(linear)
}

fn transpose(linear: &mut Linear) -> Result<()> {
    if let Linear::Float(tensor) = linear {
        let (r, c) = (tensor.shape.rows(), tensor.shape.cols());
        let values = tensor.to_f32()?;
        let turned: Vec<f32> =
            (0..c).flat_map(|j| (0..r).map(move |i| (i, j))).map(|(i, j)| values[i * c + j]).collect();
        *tensor = Tensor::from_f32([c, r], &turned);
    }
    Ok(())
}

/// Rotates what a block reads from and writes to the residual stream.
pub(super) fn residual(layer: &mut Layer, r: &Residual) -> Result<()> {
    for reader in fold::readers(&mut layer.mixer) {
        rows(reader, |row| r.apply(row))?;
    }
    columns(fold::writer(&mut layer.mixer), |column| r.apply(column))
}

/// Undoes, in the weights, the rotations done at run time.
pub(super) fn online(layer: &mut Layer, rotation: OnlineRotation) -> Result<()> {
    let block = match &layer.mixer {
        Mixer::Mamba2(_) => rotation.out_proj,
        Mixer::Mlp(_) => rotation.down_proj,
        Mixer::Attention(_) => None,
    };
    let Some(block) = block else { return Ok(()) };
    let hadamard = hadamard::Transform::new(block)?;
    rows(fold::writer(&mut layer.mixer), |row| hadamard.apply(row))
}
