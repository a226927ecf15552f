//! The candidate of each row whose logit is the largest, the first of equals: candidates ascend.

use super::argmax::first_largest;
use crate::shaders::argmax_merge::Params;

/// `logits`: `[rows, vocab]`; `candidates`: `[rows, candidates]` indices into a row, ascending; `out`: `[rows]`.
pub fn argmax_merge(p: &Params, logits: &[f32], candidates: &[u32], out: &mut [u32]) {
    let rows = logits.chunks_exact(p.vocab as usize).zip(candidates.chunks_exact(p.candidates as usize));
    for ((logits, candidates), out) in rows.zip(out) {
        *out = candidates[first_largest(candidates.iter().map(|c| logits[*c as usize]))];
    }
}
