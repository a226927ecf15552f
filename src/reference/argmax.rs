//! Index of the largest logit of each row, the lowest of equals.

use crate::shaders::argmax::Params;

/// `logits`: `[rows, vocab]`; `out`: `[rows]`.
pub fn argmax(p: &Params, logits: &[f32], out: &mut [u32]) {
    for (logits, out) in logits.chunks_exact(p.vocab as usize).zip(out) {
        let mut best = 0;
        for (i, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = i;
            }
        }
        *out = best as u32;
    }
}
