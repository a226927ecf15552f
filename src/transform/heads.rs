//! Rotations within attention heads. There are no positions (NoPE) and no norms between projection and scores, so
//! both are done in the weights, and any invertible matrix is exact.

use super::Matrix;
use super::wide::Attention;
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// `v' = T v` in each KV head, undone in the columns of `o_proj` of every query head that shares it: attention only
/// averages values (QuaRot's R2, arXiv:2404.00456). `t`: one `[head_dim, head_dim]` a KV head.
///
/// # Errors
/// [`Error::Argument`] for another number or size of matrices, or a singular one.
pub fn values(a: &mut Attention, config: &ModelConfig, t: &[Matrix]) -> Result<()> {
    check("values", config, t)?;
    let (dim, repeats) = (config.head_dim, config.attention_heads / config.kv_heads);
    for (kv, t) in t.iter().enumerate() {
        let inverse = t.inverse("rotation of values")?;
        a.v_proj.left(kv * dim, t);
        for head in kv * repeats..(kv + 1) * repeats {
            a.o_proj.right(head * dim, &inverse);
        }
    }
    Ok(())
}

/// `q' = T q`, `k' = T⁻ᵀ k` in each KV head: scores `qᵀ k` stay (QuaRot's R3, here offline). `t` as for [`values`].
///
/// # Errors
/// As [`values`].
pub fn keys(a: &mut Attention, config: &ModelConfig, t: &[Matrix]) -> Result<()> {
    check("keys", config, t)?;
    let (dim, repeats) = (config.head_dim, config.attention_heads / config.kv_heads);
    for (kv, t) in t.iter().enumerate() {
        a.k_proj.left(kv * dim, &t.inverse("rotation of keys")?.transposed());
        for head in kv * repeats..(kv + 1) * repeats {
            a.q_proj.left(head * dim, t);
        }
    }
    Ok(())
}

fn check(what: &str, config: &ModelConfig, t: &[Matrix]) -> Result<()> {
    let (heads, dim) = (config.kv_heads, config.head_dim);
    if t.len() != heads {
        return Err(Error::argument(
            format!("rotation of {what}"),
            format!("{} matrices for {heads} KV heads", t.len()),
        ));
    }
    match t.iter().find(|t| (t.rows(), t.cols()) != (dim, dim)) {
        Some(t) => {
            let reason = format!("[{}, {}], expected [{dim}, {dim}]", t.rows(), t.cols());
            Err(Error::argument(format!("rotation of {what}"), reason))
        }
        None => Ok(()),
    }
}
