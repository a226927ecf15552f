//! How far one distribution is from another.

use crate::shaders::kl_divergence::Params;

/// KL(p || q), nats. `p`, `q`: `[rows, vocab]` logits; `out`: `[rows]`.
pub fn kl_divergence(params: &Params, p: &[f32], q: &[f32], out: &mut [f32]) {
    let vocab = params.vocab as usize;
    for ((p, q), out) in p.chunks_exact(vocab).zip(q.chunks_exact(vocab)).zip(out) {
        let (log_p, log_q) = (log_softmax(p), log_softmax(q));
        let term = |(p, q): (f64, f64)| if p == f64::NEG_INFINITY { 0.0 } else { p.exp() * (p - q) };
        *out = log_p.zip(log_q).map(term).sum::<f64>() as f32;
    }
}

fn log_softmax(logits: &[f32]) -> impl Iterator<Item = f64> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, b| if a >= *b { a } else { *b });
    let log_sum = logits.iter().map(|v| f64::from(v - largest).exp()).sum::<f64>().ln();
    logits.iter().map(move |v| f64::from(*v) - f64::from(largest) - log_sum)
}
