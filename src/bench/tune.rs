//! Choosing variants by measurement.

use std::collections::BTreeMap;

use pollster::block_on;

use super::{Warmer, median};
use crate::error::{Error, Result};
use crate::gpu::{Contest, Plan, Recording};
use crate::kernels::tuned::{Choice, shader_hash};
use crate::shaders::Variant;

/// Times `contests` on a warm device, `repeat` times each, and says what is fastest. What plans take anyway stays unless
/// another is faster by more than `margin`, so that noise changes nothing. Another that does not compile here is not timed.
///
/// Times of a launch without timestamp queries are by the clock, many at once. What tensors hold afterwards means nothing.
///
/// # Errors
/// As [`crate::gpu::Recording::run_each`].
pub fn tune(
    contests: Vec<Contest>,
    warmer: &Warmer,
    repeat: usize,
    margin: f64,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Choice>> {
    let mut choices = Vec::new();
    for (i, contest) in contests.into_iter().enumerate() {
        progress(i);
        let Contest { need, class, by } = contest;
        let by = recorded(by)?;
        let mut times = vec![Vec::new(); by.len()];
        warmer.run()?;
        // Round after round, so that a change of clocks strikes all alike; the first compiles and is not counted.
        for round in 0..=repeat {
            for ((_, recording), times) in by.iter().zip(&mut times) {
                let seconds: f64 = block_on(recording.run_each())?.iter().sum();
                if round > 0 {
                    times.push(seconds);
                }
            }
        }
        let us: Vec<f64> = times.iter().map(|t| median(t) * 1e6).collect();
        let best = best(&us, margin);
        choices.push(Choice {
            kernel: need.kernel.to_owned(),
            format: need.format.map(str::to_owned),
            class: class.0,
            variant: by[best].0.name.to_owned(),
            us: by.iter().zip(&us).map(|((v, _), us)| (v.name.to_owned(), *us)).collect(),
            shader: shader_hash(by[best].0),
        });
    }
    Ok(choices)
}

/// Those that compile. The first must: it is what plans take anyway.
fn recorded(by: Vec<(&'static Variant, Plan)>) -> Result<Vec<(&'static Variant, Recording)>> {
    let mut made = Vec::with_capacity(by.len());
    for (variant, plan) in by {
        let device = plan.device().clone();
        let lost = || device.gpu().is_some_and(|gpu| gpu.lost().is_some());
        match plan.record() {
            Ok(recording) => made.push((variant, recording)),
            Err(e) if made.is_empty() || matches!(e, Error::OutOfMemory { .. }) || lost() => return Err(e),
            Err(e) => log::warn!("{}: variant {} is not timed: {e}", device.name(), variant.name),
        }
    }
    Ok(made)
}

/// Index of the fastest, or 0 where none is faster than the first by more than `margin`.
fn best(us: &[f64], margin: f64) -> usize {
    let fastest = (0..us.len()).min_by(|a, b| us[*a].total_cmp(&us[*b])).unwrap_or(0);
    let first = us.first().copied().unwrap_or(0.0);
    if us.get(fastest).is_some_and(|t| *t < first * (1.0 - margin)) { fastest } else { 0 }
}

/// The contests of several plans, one of each kernel, format and size.
#[must_use]
pub fn contests(plans: &[Plan]) -> Vec<Contest> {
    let mut all = BTreeMap::new();
    for contest in plans.iter().flat_map(Plan::contests) {
        all.entry((contest.need, contest.class)).or_insert(contest);
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn the_first_stays_unless_another_is_clearly_faster() {
        assert_eq!(best(&[10.0, 9.9, 9.8], 0.03), 0);
        assert_eq!(best(&[10.0, 9.0, 5.0], 0.03), 2);
        assert_eq!(best(&[10.0], 0.03), 0);
    }
}
