//! Norm folding: `W (norm * x) = (W diag(norm)) x`.

use super::rotate;
use crate::error::Result;
use crate::model::{Layer, Linear, Mixer};

/// Multiplies column `i` of `linear` by `factors[i]`.
pub(super) fn columns(linear: &mut Linear, factors: &[f32]) -> Result<()> {
    rotate::rows(linear, |row| row.iter_mut().zip(factors).for_each(|(v, f)| *v *= f64::from(*f)))
}

/// Moves a block's norm weight into the layers that read it.
pub(super) fn norm(layer: &mut Layer) -> Result<()> {
    let weight = std::mem::take(&mut layer.norm);
    layer.norm = vec![1.0; weight.len()];
    for reader in readers(&mut layer.mixer) {
        columns(reader, &weight)?;
    }
    Ok(())
}

/// The linear layers that read the (normed) residual stream.
pub(super) fn readers(mixer: &mut Mixer) -> Vec<&mut Linear> {
    match mixer {
        Mixer::Mamba2(m) => vec![&mut m.in_proj],
        Mixer::Attention(a) => vec![&mut a.q_proj, &mut a.k_proj, &mut a.v_proj],
        Mixer::Mlp(m) => vec![&mut m.up_proj],
    }
}

/// The linear layer that writes to the residual stream.
pub(super) fn writer(mixer: &mut Mixer) -> &mut Linear {
    match mixer {
        Mixer::Mamba2(m) => &mut m.out_proj,
        Mixer::Attention(a) => &mut a.o_proj,
        Mixer::Mlp(m) => &mut m.down_proj,
    }
}
