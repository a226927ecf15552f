//! Which order of channels is good for quantizing.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// What a permutation of the inputs of `out_proj` and `down_proj` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permutation {
    /// Blocks of the online rotation get the same mass, see [`balance`].
    Balance,
    /// Channels that share a group's scale get alike: largest first (Quamba2, arXiv:2503.22879).
    Sort,
}

/// A permutation after which the blocks of `block` channels have nearly the same `mass` each: the next largest goes to
/// the lightest block with room. How far a block Hadamard transform can flatten depends on the mass in the block
/// (PeRQ, arXiv:2601.22347, which measures mass by the l1 norm).
///
/// # Errors
/// [`Error::Argument`] when `block` does not divide the channels.
pub fn balance(mass: &[f64], block: usize) -> Result<Vec<usize>> {
    if block == 0 || !mass.len().is_multiple_of(block) {
        return Err(Error::argument("balanced blocks", format!("of {block} in {} channels", mass.len())));
    }
    let mut blocks = vec![(0.0f64, Vec::with_capacity(block)); mass.len() / block];
    for channel in sort(mass) {
        let open = blocks.iter_mut().filter(|(_, members)| members.len() < block);
        // Of equals the first, so that the result does not hang on anything else.
        if let Some((sum, members)) = open.min_by(|a, b| a.0.total_cmp(&b.0)) {
            *sum += mass[channel];
            members.push(channel);
        }
    }
    Ok(blocks.into_iter().flat_map(|(_, members)| members).collect())
}

/// The permutation that puts the largest `mass` first.
#[must_use]
pub fn sort(mass: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..mass.len()).collect();
    order.sort_by(|i, j| mass[*j].total_cmp(&mass[*i]));
    order
}

/// The order of an MLP's units by the mass of each. `block`: of the online rotation; without one nothing is balanced.
///
/// # Errors
/// As [`balance`].
pub fn units(kind: Permutation, mass: &[f64], block: Option<usize>) -> Result<Vec<usize>> {
    match (kind, block) {
        (Permutation::Sort, _) => Ok(sort(mass)),
        (Permutation::Balance, Some(block)) => balance(mass, block),
        (Permutation::Balance, None) => Ok((0..mass.len()).collect()),
    }
}

/// The order of the channels of x by the mass of each, for [`super::permute::channels`]. To balance, whole heads move
/// within their group where a block holds several, channels within their head where a head holds several blocks; other
/// block sizes leave the order as it is.
///
/// # Errors
/// As [`balance`]; [`Error::Argument`] for another number of channels than the configuration's.
pub fn channels(kind: Permutation, config: &ModelConfig, mass: &[f64], block: Option<usize>) -> Result<Vec<usize>> {
    config.countable()?;
    let dim = config.mamba_head_dim;
    let heads = config.mamba_heads.checked_div(config.n_groups).unwrap_or(0);
    if heads * dim == 0 || mass.len() != config.d_inner() {
        let (all, groups) = (config.mamba_heads, config.n_groups);
        let what = format!("{} masses for {all} heads of {dim} channels in {groups} groups", mass.len());
        return Err(Error::argument("order of channels", what));
    }
    let (heads_of_a_block, channels_of_a_block) = match block {
        Some(b) if b < dim => (None, Some(b).filter(|b| dim.is_multiple_of(*b))),
        Some(b) => (Some(b / dim).filter(|n| b.is_multiple_of(dim) && heads.is_multiple_of(*n)), None),
        None => (None, None),
    };
    let mut from = Vec::with_capacity(mass.len());
    for (group, mass) in mass.chunks_exact(heads * dim).enumerate() {
        let of_heads: Vec<f64> = mass.chunks_exact(dim).map(|head| head.iter().sum()).collect();
        for head in units(kind, &of_heads, heads_of_a_block)? {
            let first = (group * heads + head) * dim;
            from.extend(units(kind, &mass[head * dim..][..dim], channels_of_a_block)?.into_iter().map(|c| first + c));
        }
    }
    Ok(from)
}
