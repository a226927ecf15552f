//! Comparing floats.

use super::Outcome;

/// Whether they are as near as `limit`, an NMSE, allows; else what differs.
pub(super) fn compare(
    got: &[f32],
    want: &[f32],
    (limit, reason): (f64, &str),
    outcome: &mut Outcome,
) -> Result<(), String> {
    let (nmse, worst) = error(got, want);
    outcome.nmse = outcome.nmse.max(nmse);
    // Written so that NaN fails.
    if nmse <= limit {
        return Ok(());
    }
    let (got, want) = (got[worst], want[worst]);
    Err(format!("NMSE {nmse:.3e} above {limit:.0e} ({reason}); worst at {worst}: {got} for {want}"))
}

/// Σ(a−b)² / Σa² with `a = want`, in f64, and the index of the largest difference. Infinities of the same sign agree;
/// any other, and a NaN anywhere (two as well: what nobody wrote is NaN on both sides), gives NaN.
#[must_use]
pub fn error(got: &[f32], want: &[f32]) -> (f64, usize) {
    let (mut difference, mut total, mut worst, mut worst_at) = (0.0f64, 0.0f64, -1.0f64, 0);
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        if g.to_bits() == w.to_bits() && is_infinite(*w) {
            continue;
        }
        let (g, w) = (f64::from(*g), f64::from(*w));
        let d = (g - w).abs();
        difference += d * d;
        total += w * w;
        if d > worst || d.is_nan() {
            (worst, worst_at) = (if d.is_nan() { f64::INFINITY } else { d }, i);
        }
    }
    // An infinity against a number would be ∞ / number, or where the reference has it ∞ / ∞.
    let nmse = match difference {
        0.0 => 0.0,
        d if d.is_finite() => d / total,
        _ => f64::NAN,
    };
    (nmse, worst_at)
}

/// By bit pattern, which no optimiser may assume away.
fn is_infinite(value: f32) -> bool {
    value.to_bits() & 0x7fff_ffff == 0x7f80_0000
}

#[cfg(test)]
mod tests {
    use super::error;

    #[test]
    fn infinities_agree_in_sign_and_place_and_nan_never_agrees() {
        let inf = f32::INFINITY;
        assert_eq!(error(&[1.0, inf, -inf], &[1.0, inf, -inf]).0, 0.0);
        assert!((error(&[1.5, inf], &[1.0, inf]).0 - 0.25).abs() < 1e-12);
        for (got, want) in [(inf, -inf), (inf, 1.0), (1.0, inf), (f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::NAN)]
        {
            let (nmse, worst) = error(&[2.0, got], &[2.0, want]);
            assert!(nmse.is_nan(), "{got} for {want}: {nmse}");
            assert_eq!(worst, 1);
        }
        assert_eq!(error(&[1.0], &[0.0]).0, f64::INFINITY);
    }
}
