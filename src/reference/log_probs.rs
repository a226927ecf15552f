//! What rows of logits say of a target, and the likeliest in its place.

use crate::shaders::log_probs::Params;

/// `logits`: `[rows, vocab]`; `targets`: `[rows]`; `values`: `[rows, 1 + most]`, ln p of the target and of the likeliest; `ids`:
/// `[rows, most]`, the likeliest first, the lowest of equals.
pub fn log_probs(p: &Params, logits: &[f32], targets: &[u32], values: &mut [f32], ids: &mut [u32]) {
    let most = p.most as usize;
    let rows = logits.chunks_exact(p.vocab as usize).zip(targets);
    for ((logits, target), (values, ids)) in rows.zip(values.chunks_exact_mut(1 + most).zip(ids.chunks_exact_mut(most)))
    {
        let best = likeliest(logits, most);
        let largest = f64::from(logits[best[0] as usize]);
        let log_sum = logits.iter().map(|v| (f64::from(*v) - largest).exp()).sum::<f64>().ln();
        let of = |id: u32| (f64::from(logits[id as usize]) - largest - log_sum) as f32;
        values[0] = of(*target);
        values[1..].iter_mut().zip(&best).for_each(|(value, id)| *value = of(*id));
        ids.copy_from_slice(&best);
    }
}

/// Indices of the `most` largest, the largest first, the lowest of equals.
fn likeliest(logits: &[f32], most: usize) -> Vec<u32> {
    // A NaN is larger than all numbers, so that it shows.
    let key = |id: u32| if logits[id as usize].is_nan() { f32::INFINITY } else { logits[id as usize] + 0.0 };
    let order = |a: &u32, b: &u32| key(*b).total_cmp(&key(*a)).then(a.cmp(b));
    let mut ids: Vec<u32> = Vec::with_capacity(most + 1);
    for id in 0..logits.len() as u32 {
        // Few are wanted of many, so hardly any goes in.
        if ids.len() < most || ids.last().is_some_and(|last| order(&id, last).is_lt()) {
            ids.insert(ids.partition_point(|other| order(other, &id).is_lt()), id);
            ids.truncate(most);
        }
    }
    ids
}
