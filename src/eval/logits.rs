//! Rows of logits to log-probabilities, in f64.

/// What a row of logits says of its target.
pub(crate) struct Scored {
    /// Negative log-likelihood of the target, nats.
    pub(crate) nll: f64,
    /// `log sum exp` of the row.
    pub(crate) log_sum: f64,
    /// Index of the largest logit, the lowest of equal ones.
    pub(crate) top: usize,
}

pub(crate) fn score(row: &[f32], target: u32) -> Scored {
    let mut top = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[top] {
            top = i;
        }
    }
    let max = f64::from(row[top]);
    let log_sum = max + row.iter().map(|v| (f64::from(*v) - max).exp()).sum::<f64>().ln();
    Scored { nll: log_sum - f64::from(row[target as usize]), log_sum, top }
}

/// KL(p || q) in nats over the whole vocabulary; `p` and `q` are rows of logits.
pub(super) fn kl(p: &[f32], p_log_sum: f64, q: &[f32], q_log_sum: f64) -> f64 {
    p.iter()
        .zip(q)
        .map(|(p, q)| {
            let log_p = f64::from(*p) - p_log_sum;
            log_p.exp() * (log_p - (f64::from(*q) - q_log_sum))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let p = [0.0, 2f32.ln(), 5f32.ln()];
        let s = score(&p, 1);
        assert!((s.nll - (8.0f64 / 2.0).ln()).abs() < 1e-6);
        assert_eq!(s.top, 2);
        let q = [0.0; 3];
        let want =
            (1.0 / 8.0) * (3.0f64 / 8.0).ln() + (2.0 / 8.0) * (6.0f64 / 8.0).ln() + (5.0 / 8.0) * (15.0f64 / 8.0).ln();
        assert!((kl(&p, s.log_sum, &q, score(&q, 0).log_sum) - want).abs() < 1e-6);
        assert_eq!(kl(&p, s.log_sum, &p, s.log_sum), 0.0);
    }
}
