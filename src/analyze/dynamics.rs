//! How Mamba-2 blocks forget: step sizes, decay and memory of each head, and how large states become.

use serde::Serialize;

use crate::calibrate::{SiteStats, Stats};
use crate::error::Result;
use crate::model::{Mixer, ModelFile, ModelSource, Names};

/// One Mamba-2 block. Ranges are over heads.
#[derive(Clone, Debug, Serialize)]
pub struct Dynamics {
    /// Block.
    pub layer: usize,
    /// `softplus(dt_bias)`: the step where the input says nothing.
    pub dt: [f64; 2],
    /// `A = -exp(A_log)`, as a magnitude.
    pub a: [f64; 2],
    /// What is left of the state after a step of `dt`: `exp(-dt A)`, of each head.
    pub decay: Vec<f64>,
    /// Tokens until the state has fallen to 1/e: `1 / (dt A)`, of each head.
    pub memory: Vec<f64>,
    /// Smallest and largest step seen, from statistics.
    pub dt_seen: Option<[f64; 2]>,
    /// Mean step of each head, from statistics.
    pub dt_mean: Option<Vec<f64>>,
    /// Tokens until the state has fallen to 1/e at the mean step, from statistics.
    pub memory_seen: Option<Vec<f64>>,
    /// Largest magnitude in the state of each head, from statistics.
    pub state: Option<Vec<f32>>,
    /// Kurtosis of all states, from statistics.
    pub state_kurtosis: Option<f64>,
}

/// Of every Mamba-2 block.
///
/// # Errors
/// As reading a layer.
pub(super) fn dynamics(file: &ModelFile, stats: Option<&Stats>) -> Result<Vec<Dynamics>> {
    let mut all = Vec::new();
    for layer in 0..file.config().blocks.len() {
        if let Mixer::Mamba2(m) = file.layer(layer)?.mixer {
            let site = |part: &str| stats.and_then(|s| s.sites.get(&Names::default().layer(layer, part)));
            all.push(block(layer, &m.dt_bias, &m.a_log, file.config().dt_limit, site("mixer.dt"), site("mixer.state")));
        }
    }
    Ok(all)
}

fn block(
    layer: usize,
    dt_bias: &[f32],
    a_log: &[f32],
    (low, high): (f32, f32),
    steps: Option<&SiteStats>,
    states: Option<&SiteStats>,
) -> Dynamics {
    let softplus = |x: f32| f64::from(x).exp().ln_1p().clamp(f64::from(low), f64::from(high));
    let dt: Vec<f64> = dt_bias.iter().map(|b| softplus(*b)).collect();
    let a: Vec<f64> = a_log.iter().map(|a| f64::from(*a).exp()).collect();
    let memory = |dt: &[f64]| dt.iter().zip(&a).map(|(dt, a)| 1.0 / (dt * a).max(1e-30)).collect::<Vec<f64>>();
    let mean = steps.map(|s| s.moment(1));
    Dynamics {
        layer,
        dt: range(&dt),
        a: range(&a),
        decay: dt.iter().zip(&a).map(|(dt, a)| (-dt * a).exp()).collect(),
        memory: memory(&dt),
        dt_seen: steps.map(|s| [f64::from(s.range().0), f64::from(s.range().1)]),
        memory_seen: mean.as_ref().map(|m| memory(m)),
        dt_mean: mean,
        state: states.map(SiteStats::absmax),
        state_kurtosis: states.map(SiteStats::kurtosis_of_all),
    }
}

/// Smallest and largest.
pub(crate) fn range(values: &[f64]) -> [f64; 2] {
    let fold = |start, f: fn(f64, f64) -> f64| values.iter().copied().fold(start, f);
    [fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max)]
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn by_hand() {
        // softplus(ln(e - 1)) = 1; A = 2, 0.5.
        let bias = (1f32.exp() - 1.0).ln();
        let d = block(3, &[bias, bias], &[2f32.ln(), 0.5f32.ln()], (0.0, 1e30), None, None);
        assert!((d.dt[0] - 1.0).abs() < 1e-6 && (d.a[1] - 2.0).abs() < 1e-6);
        assert!((d.decay[0] - (-2f64).exp()).abs() < 1e-6 && (d.memory[1] - 2.0).abs() < 1e-5);
        let limited = block(0, &[5.0], &[0.0], (0.0, 0.1), None, None);
        assert!((limited.dt[1] - 0.1).abs() < 1e-6);
    }
}
