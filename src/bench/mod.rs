//! How fast a model runs on a device, and how near that is to what the device can do.
//!
//! An idle GPU has dropped its clocks, and what is timed then reads several times too slow: [`Warmer`] keeps it busy
//! right before everything timed here.

mod ops;
mod peaks;
mod speed;
mod tune;
mod warm;
mod work;

pub use ops::{OpRow, OpTable, Pass, profile};
pub use peaks::{Peaks, copy_peak, fma_peak, measure_peaks};
pub use speed::{Runs, Test, measure};
pub use tune::{contests, tune};
pub use warm::{WARM_UP, Warmer};
pub use work::{Cost, cost, multiplies_on_matrices};

/// The middle of `values`, or the mean of the two there; 0 of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// Mean and standard deviation of a sample (over n - 1).
#[must_use]
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, if values.len() < 2 { 0.0 } else { (squares / (n - 1.0)).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_by_hand() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(mean_and_deviation(&[7.0]), (7.0, 0.0));
        let (mean, deviation) = mean_and_deviation(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert!((mean - 5.0).abs() < 1e-12 && (deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
    }
}
