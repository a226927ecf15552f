//! Draws a token from `softmax(logits / temperature)` after top-k, then top-p (Holtzman et al. 2019,
//! arXiv:1904.09751), in the order of transformers. Ties at either cut all stay.

use super::hash::hash;
use crate::shaders::sample::Params;

/// `logits`: `[rows, vocab]`; `rng`: `[rows, 2]`, seed and counter, which goes up by one; `out`: `[rows]`, the tokens.
pub fn sample(p: &Params, logits: &[f32], rng: &mut [u32], out: &mut [u32]) {
    for ((logits, rng), out) in logits.chunks(p.vocab as usize).zip(rng.chunks_mut(2)).zip(out) {
        *out = draw(p, logits, rng).0;
        rng[1] = rng[1].wrapping_add(1);
    }
}

/// How far, as a part of the mass, [`sample`] is from another choice: from the top-p cut to the masses with and
/// without the last value kept, and from the random number to the ends of the token's interval. A device whose
/// sums are nearer than that to the true ones draws the same token. Of several rows the least.
#[must_use]
pub fn margin(p: &Params, logits: &[f32], rng: &[u32]) -> f64 {
    let rows = logits.chunks(p.vocab as usize).zip(rng.chunks(2));
    rows.map(|(logits, rng)| draw(p, logits, rng).1).fold(f64::INFINITY, f64::min)
}

fn draw(p: &Params, logits: &[f32], rng: &[u32]) -> (u32, f64) {
    let mut sorted = logits.to_vec();
    sorted.sort_unstable_by(|a, b| b.total_cmp(a));
    let top = sorted[0];
    let mass = |logit: f32| (f64::from(logit - top) * f64::from(p.inv_temperature)).exp();
    if p.top_k > 0 {
        let last = sorted[p.top_k as usize - 1];
        sorted.retain(|v| *v >= last);
    }
    let mut margin = f64::INFINITY;
    if p.top_p < 1.0 {
        let all: f64 = sorted.iter().map(|v| mass(*v)).sum();
        let mut sum = 0.0;
        for ties in sorted.clone().chunk_by(|a, b| a == b) {
            let before = sum;
            sum += mass(ties[0]) * ties.len() as f64;
            let (without, with) = (before / all - f64::from(p.top_p), sum / all - f64::from(p.top_p));
            if with >= 0.0 {
                sorted.retain(|v| *v >= ties[0]);
                margin = with.min(-without);
                break;
            }
        }
    }
    let cut = sorted[sorted.len() - 1];
    let kept = || logits.iter().enumerate().filter(|(_, v)| **v >= cut).map(|(i, v)| (i, mass(*v)));
    let all: f64 = kept().map(|(_, m)| m).sum();
    let uniform = f64::from(hash(rng[1].wrapping_add(hash(rng[0]))) >> 8) / f64::from(1 << 24);
    let (mut token, mut sum) = (0, 0.0);
    for (i, m) in kept() {
        let before = sum;
        (token, sum) = (i as u32, sum + m / all);
        if sum > uniform {
            margin = margin.min(uniform - before).min(sum - uniform);
            break;
        }
    }
    (token, margin)
}
