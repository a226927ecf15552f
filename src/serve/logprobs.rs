//! What a model says of a token: its log-probability, and the likeliest ones in its place.

use crate::eval::score;

/// A token and its log-probability, nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogProb {
    /// The token.
    pub id: u32,
    /// `ln p`, 0 or less.
    pub value: f64,
}

/// A token, and the likeliest ones in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct LogProbs {
    /// The token itself.
    pub token: LogProb,
    /// The likeliest first, of equal ones the lowest id.
    pub top: Vec<LogProb>,
}

impl LogProbs {
    /// Of token `id` after a row of `logits`, beside the `most` likeliest.
    ///
    /// # Panics
    /// For an id that has no logit.
    #[must_use]
    pub fn of(logits: &[f32], id: u32, most: usize) -> Self {
        let scored = score(logits, id);
        let of = |id: u32| LogProb { id, value: f64::from(logits[id as usize]) - scored.log_sum };
        let order = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        let mut ids: Vec<u32> = Vec::with_capacity(most.min(logits.len()) + 1);
        for id in 0..logits.len() as u32 {
            // Few are wanted of many, so hardly any goes in.
            if ids.len() < most || ids.last().is_some_and(|last| order(&id, last).is_lt()) {
                ids.insert(ids.partition_point(|other| order(other, &id).is_lt()), id);
                ids.truncate(most);
            }
        }
        Self { token: LogProb { id, value: -scored.nll }, top: ids.into_iter().map(of).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let logits = [0.0, 5f32.ln(), 2f32.ln(), 5f32.ln(), 0.0];
        let said = LogProbs::of(&logits, 2, 3);
        assert_eq!(said.token.id, 2);
        assert!((said.token.value - (2.0f64 / 14.0).ln()).abs() < 1e-6);
        assert_eq!(said.top.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 3, 2]);
        assert!((said.top[0].value - (5.0f64 / 14.0).ln()).abs() < 1e-6);
        let all = LogProbs::of(&logits, 0, 99);
        assert_eq!(all.top.iter().map(|t| t.id).collect::<Vec<_>>(), [1, 3, 2, 0, 4]);
        assert!(LogProbs::of(&logits, 0, 0).top.is_empty());
    }
}
