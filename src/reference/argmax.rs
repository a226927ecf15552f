//! Index of the largest logit of each part of each row, the lowest of equals.

use crate::shaders::argmax::Params;

/// `logits`: `[rows, vocab]`; `out`: `[rows, parts]`. A part has `part` logits, the last of a row what is left.
pub fn argmax(p: &Params, logits: &[f32], out: &mut [u32]) {
    let (vocab, parts) = (p.vocab as usize, p.parts as usize);
    for (logits, out) in logits.chunks_exact(vocab).zip(out.chunks_exact_mut(parts)) {
        for (i, (logits, out)) in logits.chunks(p.part as usize).zip(out).enumerate() {
            *out = i as u32 * p.part + first_largest(logits.iter().copied()) as u32;
        }
    }
}

/// Place of the largest, the first of equals.
pub(super) fn first_largest(values: impl Iterator<Item = f32>) -> usize {
    let mut best = (0, f32::NAN);
    for (i, value) in values.enumerate() {
        if i == 0 || value > best.1 {
            best = (i, value);
        }
    }
    best.0
}
