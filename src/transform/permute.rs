//! Exact reorderings. A permutation `from` makes channel `i` what channel `from[i]` was.
//!
//! They cost nothing at run time and commute with everything that treats channels alike. Online Hadamard transforms of
//! `out_proj`'s and `down_proj`'s inputs are the reason for most: nothing but a permutation or a scaling of these inputs
//! can be done in the weights before (the gated norm, the SiLU and relu² lie between), so a KLT cannot be put in front
//! of a Hadamard transform there; but which channels share a block is free, and [`super::order::balance`] chooses it.

use super::wide::{Attention, Mamba2, Mlp};
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// Channels of x, y and z; `from`: `[d_inner]`. Whole heads move within their group of B and C, channels within their
/// head: the step, the decay and D are of a head, and the gated norm's mean is over a group.
///
/// # Errors
/// [`Error::Argument`] for what is no such permutation, and for parts of other sizes than the configuration's.
pub fn channels(m: &mut Mamba2, config: &ModelConfig, from: &[usize]) -> Result<()> {
    mamba2_of(m, config)?;
    let (inner, dim) = (config.d_inner(), config.mamba_head_dim);
    let heads = parents("channels of x", from, inner, dim)?;
    let of_a_group = config.mamba_heads.checked_div(config.n_groups).unwrap_or(0);
    parents("heads of a group", &heads, config.mamba_heads, of_a_group)?
        .iter()
        .enumerate()
        .try_for_each(|(g, old)| stays("heads", g, *old))?;
    let states = 2 * config.n_groups * config.state_size;
    let rows: Vec<usize> = from
        .iter()
        .copied()
        .chain(from.iter().map(|c| inner + c))
        .chain(2 * inner..2 * inner + states)
        .chain(heads.iter().map(|h| 2 * inner + states + h))
        .collect();
    m.in_proj.take_rows(&rows);
    conv_channels(m, &from.iter().copied().chain(inner..inner + states).collect::<Vec<_>>());
    m.norm = taken(&m.norm, from);
    m.out_proj.take_columns(from);
    for of_head in [&mut m.dt_bias, &mut m.a_log, &mut m.d] {
        *of_head = taken(of_head, &heads);
    }
    Ok(())
}

/// Elements of the state axis, the same for B and C: `y = S C` sums over it. `from`: `[groups * state]`, each within
/// its group. Of all transforms of this axis only these can be done in the weights, see [`super::StateAxis`].
///
/// # Errors
/// As [`channels`].
pub fn states(m: &mut Mamba2, config: &ModelConfig, from: &[usize]) -> Result<()> {
    mamba2_of(m, config)?;
    let (inner, n) = (config.d_inner(), config.n_groups * config.state_size);
    parents("state elements", from, n, config.state_size)?
        .iter()
        .enumerate()
        .try_for_each(|(g, old)| stays("state elements", g, *old))?;
    let both: Vec<usize> = from.iter().map(|s| inner + s).chain(from.iter().map(|s| inner + n + s)).collect();
    let rows: Vec<usize> =
        (0..2 * inner).chain(both.iter().map(|c| inner + c)).chain(2 * inner + 2 * n..m.in_proj.rows()).collect();
    m.in_proj.take_rows(&rows);
    conv_channels(m, &(0..inner).chain(both).collect::<Vec<_>>());
    Ok(())
}

/// Units of an MLP; `from`: `[intermediate]`.
///
/// # Errors
/// As [`channels`].
pub fn units(m: &mut Mlp, from: &[usize]) -> Result<()> {
    sized(&[("columns of down_proj", m.down_proj.cols(), m.up_proj.rows())])?;
    parents("units", from, m.up_proj.rows(), 1)?;
    m.up_proj.take_rows(from);
    m.down_proj.take_columns(from);
    Ok(())
}

/// Query heads; `from`: `[heads]`. Those that share a KV head stay together, and the KV heads move with them.
///
/// # Errors
/// As [`channels`].
pub fn query_heads(a: &mut Attention, config: &ModelConfig, from: &[usize]) -> Result<()> {
    config.countable()?;
    let [heads, kv_heads] = [config.attention_heads, config.kv_heads].map(|heads| heads * config.head_dim);
    sized(&[
        ("rows of q_proj", a.q_proj.rows(), heads),
        ("rows of k_proj", a.k_proj.rows(), kv_heads),
        ("rows of v_proj", a.v_proj.rows(), kv_heads),
        ("columns of o_proj", a.o_proj.cols(), heads),
    ])?;
    let of_a_kv_head = config.attention_heads.checked_div(config.kv_heads).unwrap_or(0);
    let kv = parents("query heads", from, config.attention_heads, of_a_kv_head)?;
    let wide = |heads: &[usize]| -> Vec<usize> {
        heads.iter().flat_map(|h| h * config.head_dim..(h + 1) * config.head_dim).collect()
    };
    a.q_proj.take_rows(&wide(from));
    a.k_proj.take_rows(&wide(&kv));
    a.v_proj.take_rows(&wide(&kv));
    a.o_proj.take_columns(&wide(from));
    Ok(())
}

/// Checks that `from` is a permutation of `0..n` that moves runs of `run` as wholes (reordered within or not); gives the
/// permutation of the runs.
fn parents(what: &str, from: &[usize], n: usize, run: usize) -> Result<Vec<usize>> {
    if run == 0 || !n.is_multiple_of(run) {
        return Err(Error::argument(format!("permutation of {what}"), format!("runs of {run} in {n}")));
    }
    let mut seen = vec![false; n];
    let all = from.iter().all(|i| seen.get_mut(*i).is_some_and(|s| !std::mem::replace(s, true)));
    if !all || from.len() != n {
        return Err(Error::argument(format!("permutation of {what}"), format!("is none of 0..{n}")));
    }
    let parent = |(i, members): (usize, &[usize])| match members.iter().find(|m| **m / run != members[0] / run) {
        Some(m) => {
            let reason = format!("puts {} and {m} into run {i} of {run}, which come from different ones", members[0]);
            Err(Error::argument(format!("permutation of {what}"), reason))
        }
        None => Ok(members[0] / run),
    };
    from.chunks_exact(run).enumerate().map(parent).collect()
}

/// Refuses a block that is none of this configuration.
fn mamba2_of(m: &Mamba2, config: &ModelConfig) -> Result<()> {
    config.countable()?;
    let (inner, conv, heads) = (config.d_inner(), config.conv_dim(), config.mamba_heads);
    sized(&[
        ("rows of in_proj", m.in_proj.rows(), config.in_proj_rows()),
        ("rows of conv1d.weight", m.conv_weight.rows(), conv),
        ("values of conv1d.bias", m.conv_bias.len(), conv),
        ("values of dt_bias", m.dt_bias.len(), heads),
        ("values of A_log", m.a_log.len(), heads),
        ("values of D", m.d.len(), heads),
        ("values of norm", m.norm.len(), inner),
        ("columns of out_proj", m.out_proj.cols(), inner),
    ])
}

/// Refuses what is not as many as it should be.
fn sized(parts: &[(&str, usize, usize)]) -> Result<()> {
    match parts.iter().find(|(_, have, want)| have != want) {
        Some((what, have, want)) => Err(Error::argument("permutation", format!("{have} {what}, expected {want}"))),
        None => Ok(()),
    }
}

fn stays(what: &str, group: usize, old: usize) -> Result<()> {
    if group != old {
        let reason = format!("moves them from group {old} of B and C to group {group}");
        return Err(Error::argument(format!("permutation of {what}"), reason));
    }
    Ok(())
}

fn conv_channels(m: &mut Mamba2, from: &[usize]) {
    m.conv_weight.take_rows(from);
    m.conv_bias = taken(&m.conv_bias, from);
}

fn taken(values: &[f64], from: &[usize]) -> Vec<f64> {
    from.iter().map(|i| values[*i]).collect()
}
