//! Comparing rounded codes.

/// Codes that fell to the other side of a tie, of all of `name`.
///
/// # Errors
/// What differs, where that is more than a step, or in more codes than lie near a tie.
pub(super) fn ties(name: &str, got: &[i8], want: &[i8]) -> Result<usize, String> {
    // What rounding lost, in 14ths of a step, is at the other end where the code fell to the other side, and has ties of its own,
    // 14 times as many.
    let lost = name == "errors";
    let steps = || got.iter().zip(want).map(|(a, b)| i32::from(*a) - i32::from(*b));
    if let Some(i) = steps().position(|d| d.abs() > 1 && !(lost && d.abs() == 14)) {
        return Err(format!("code {i} is {} for {}", got[i], want[i]));
    }
    let off = steps().filter(|d| *d != 0).count();
    let allowed = (got.len() * if lost { 14 } else { 1 }).div_ceil(5000);
    if off > allowed {
        return Err(format!("{off} of {} codes off by one, {allowed} allowed", got.len()));
    }
    Ok(off)
}

#[cfg(test)]
mod tests {
    use super::ties;

    #[test]
    fn a_step_is_allowed_in_two_of_ten_thousand() {
        let want = vec![3i8; 10_000];
        let off = |n: usize, by: i8| {
            let mut got = want.clone();
            got[..n].iter_mut().for_each(|c| *c += by);
            got
        };
        assert_eq!(ties("codes", &off(2, 1), &want), Ok(2));
        assert!(ties("codes", &off(3, -1), &want).is_err());
        assert!(ties("codes", &off(1, 2), &want).is_err());
        assert!(ties("codes", &off(1, 14), &want).is_err());
        assert_eq!(ties("errors", &off(28, 1), &want), Ok(28));
        assert!(ties("errors", &off(29, 1), &want).is_err());
        assert_eq!(ties("errors", &off(1, 14), &want), Ok(1));
        assert!(ties("errors", &off(1, 13), &want).is_err());
    }
}
