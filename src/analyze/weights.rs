//! What weights are like: outliers by element, by row and by column.

use serde::Serialize;

use crate::calibrate::{kurtosis, max_over_median};
use crate::error::Result;
use crate::model::Linear;

/// A weight's values in numbers. Ratios are 1 where all are alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WeightStats {
    /// Largest magnitude.
    pub absmax: f64,
    /// Median magnitude.
    pub median: f64,
    /// Largest over median magnitude.
    pub outlier_ratio: f64,
    /// 3 for a normal distribution.
    pub kurtosis: f64,
    /// Of the rows' (outputs') largest magnitudes, the largest over the median.
    pub row_ratio: f64,
    /// The same of columns (inputs).
    pub column_ratio: f64,
}

impl WeightStats {
    /// Of `[rows, cols]` values.
    #[must_use]
    pub fn new(values: &[f32], cols: usize) -> Self {
        let cols = cols.max(1);
        let mut magnitudes: Vec<f32> = values.iter().map(|v| v.abs()).collect();
        let mut columns = vec![0f32; cols];
        let mut rows = Vec::with_capacity(values.len() / cols);
        for row in magnitudes.chunks(cols) {
            rows.push(f64::from(row.iter().copied().fold(0.0, f32::max)));
            columns.iter_mut().zip(row).for_each(|(m, v)| *m = m.max(*v));
        }
        let absmax = rows.iter().copied().fold(0.0, f64::max);
        let median = median(&mut magnitudes);
        let n = values.len().max(1) as f64;
        let mean = |power: i32| values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / n;
        Self {
            absmax,
            median,
            outlier_ratio: ratio(absmax, median),
            kurtosis: kurtosis([1, 2, 3, 4].map(mean)),
            row_ratio: finite(max_over_median(rows)),
            column_ratio: finite(max_over_median(columns.into_iter().map(f64::from).collect())),
        }
    }
}

/// JSON has no infinity: where the median is 0, the ratio is that to the smallest f32.
fn finite(ratio: f64) -> f64 {
    ratio.min(1e38)
}

fn ratio(max: f64, median: f64) -> f64 {
    if max == 0.0 { 0.0 } else { finite(max / median) }
}

/// The median; reorders.
fn median(values: &mut [f32]) -> f64 {
    let n = values.len();
    if n == 0 {
        return 0.0;
    }
    let (below, middle, _) = values.select_nth_unstable_by(n / 2, f32::total_cmp);
    let middle = f64::from(*middle);
    match n % 2 {
        1 => middle,
        _ => (middle + f64::from(below.iter().copied().fold(0.0, f32::max))) / 2.0,
    }
}

/// The values of a linear layer or embedding.
pub(super) fn values(linear: &Linear) -> Result<Vec<f32>> {
    match linear {
        Linear::Float(t) => t.to_f32(),
        Linear::Quantized(q) => q.dequantize(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Rows' largest: 8, 2; columns' largest: 1, 8, 2. Magnitudes 1 1 1 2 2 8.
        let w = WeightStats::new(&[1.0, -8.0, 2.0, 1.0, 1.0, -2.0], 3);
        assert_eq!((w.absmax, w.median), (8.0, 1.5));
        assert_eq!((w.row_ratio, w.column_ratio), (8.0 / 5.0, 4.0));
        assert!((w.outlier_ratio - 8.0 / 1.5).abs() < 1e-12);
        let x = [1.0, -8.0, 2.0, 1.0, 1.0, -2.0f64];
        let mean = x.iter().sum::<f64>() / 6.0;
        let central = |p: i32| x.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / 6.0;
        assert!((w.kurtosis - central(4) / central(2).powi(2)).abs() < 1e-9);
        assert_eq!(WeightStats::new(&[0.0; 4], 2).outlier_ratio, 0.0);
    }
}
