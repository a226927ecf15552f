//! Means and standard errors.

/// Mean of `values` by their `weights` (a window's by its targets), and its standard error over them, as of a ratio of sums: the root of
/// `n / (n - 1) · Σ (w (v - mean))² / (Σ w)²`, which is sample deviation / sqrt(n) where weights are equal (Cochran 1977, Sampling Techniques,
/// 6.4). No error for fewer than two values.
pub(super) fn mean_and_error(values: &[f64], weights: &[f64]) -> (f64, Option<f64>) {
    let (n, all) = (values.len() as f64, weights.iter().sum::<f64>());
    let each = || values.iter().zip(weights);
    let mean = each().map(|(v, w)| w * v).sum::<f64>() / all;
    if values.len() < 2 {
        return (mean, None);
    }
    let squares = each().map(|(v, w)| (w * (v - mean)).powi(2)).sum::<f64>();
    (mean, Some((n / (n - 1.0) * squares).sqrt() / all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_of_the_mean() {
        let (mean, error) = mean_and_error(&[1.0, 2.0, 3.0, 4.0], &[5.0; 4]);
        assert_eq!(mean, 2.5);
        assert!((error.unwrap() - (5.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-15);
        assert_eq!(mean_and_error(&[7.0], &[2.0]), (7.0, None));
    }

    /// A last window of one target says little, however far off.
    #[test]
    fn a_short_window_counts_little() {
        let (values, weights) = ([1.0, 1.1, 0.9, 1.0, 9.0], [1000.0, 1000.0, 1000.0, 1000.0, 1.0]);
        let (mean, error) = mean_and_error(&values, &weights);
        assert!((mean - 1.002).abs() < 1e-3, "{mean}");
        let of_four = mean_and_error(&values[..4], &weights[..4]).1.unwrap();
        assert!((error.unwrap() / of_four - 1.0).abs() < 0.2, "{error:?}, {of_four}");
    }
}
