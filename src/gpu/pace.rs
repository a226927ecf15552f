//! Submits that do not last: watchdogs end what holds a GPU for long (2 s on Windows), and a desktop stands still
//! meanwhile. A recording of many launches is cut into submits by how long its launches take, which is measured: on its
//! first run in parts that grow from one launch, later as it goes.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::device::{Device, Gpu};
use super::plan::Recording;
use crate::error::Result;

/// What a submit may take on a GPU; a software driver has no watchdog.
const BUDGET: Duration = Duration::from_millis(100);
/// Submits under way: the GPU finds the next when one ends.
const DEPTH: usize = 2;

/// Seconds that each launch of a recording takes, by the last measurement that it was a part of.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Vec<f64>>);

/// A submit under way.
struct Flight {
    pace: Arc<Pace>,
    part: Range<usize>,
    submission: wgpu::SubmissionIndex,
    submitted: Instant,
}

/// Submits of a device.
pub(super) struct Flights(Mutex<State>);

struct State {
    budget: Option<Duration>,
    longest: f64,
    under_way: VecDeque<Flight>,
    /// When the one before the first under way ended, where that was seen.
    ended: Option<Instant>,
}

impl Flights {
    pub(super) fn new(software: bool) -> Self {
        let budget = (!software).then_some(BUDGET);
        Self(Mutex::new(State { budget, longest: 0.0, under_way: VecDeque::new(), ended: None }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn lock(&self) -> MutexGuard<'_, Vec<f64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `part`, all of it known or nothing, took `seconds`.
    fn learn(&self, part: &Range<usize>, seconds: f64) {
        let mut known = self.lock();
        if known.len() == part.start {
            known.resize(part.end, seconds / part.len().max(1) as f64);
        } else if let Some(each) = known.get_mut(part.clone()) {
            let sum: f64 = each.iter().sum();
            let even = seconds / part.len().max(1) as f64;
            each.iter_mut().for_each(|s| *s = if sum > 0.0 { *s * seconds / sum } else { even });
        }
    }
}

/// Parts of at most `budget` seconds, or one launch, as long as can be.
fn cut(seconds: &[f64], budget: f64) -> Vec<Range<usize>> {
    let (mut parts, mut first, mut sum) = (Vec::new(), 0, 0.0);
    for (i, s) in seconds.iter().enumerate() {
        if i > first && sum + s > budget {
            parts.push(first..i);
            (first, sum) = (i, 0.0);
        }
        sum += s;
    }
    if first < seconds.len() {
        parts.push(first..seconds.len());
    }
    parts
}

/// Launches to try after `size` of them took `seconds`: twice as many, if they fit at that rate.
fn grown(size: usize, seconds: f64, budget: f64) -> usize {
    let fit = (budget / seconds.max(1e-9) * size as f64) as usize;
    fit.clamp(1, 2 * size)
}

impl Gpu {
    /// Lets a submit of a prompt take this long; `None`: as long as it takes.
    pub fn set_submit_budget(&self, budget: Option<Duration>) {
        self.flights.lock().budget = budget;
    }

    /// The longest submit of prompts measured since the last call, in seconds; 0 where none was.
    #[must_use]
    pub fn longest_submit(&self) -> f64 {
        std::mem::take(&mut self.flights.lock().longest)
    }

    /// Waits for the first submit under way, and learns how long it took if it begins when the one before was seen to end.
    fn land(&self, state: &mut State) -> Result<()> {
        let Some(Flight { pace, part, submission, submitted }) = state.under_way.pop_front() else { return Ok(()) };
        let over = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(Duration::ZERO) };
        if self.device.poll(over).is_ok() {
            // It ended unseen.
            state.ended = None;
            return Ok(());
        }
        self.wait_until(submission)?;
        let now = Instant::now();
        if let Some(before) = state.ended.replace(now) {
            let seconds = (now - before.max(submitted)).as_secs_f64();
            pace.learn(&part, seconds);
            state.longest = state.longest.max(seconds);
        }
        Ok(())
    }
}

impl Recording {
    /// As [`Recording::run`], for what may take long: in submits within the budget. May wait for earlier ones.
    ///
    /// # Errors
    /// As [`Recording::run`]; [`crate::Error::Gpu`] when the device is lost or hangs.
    pub fn run_paced(&self) -> Result<()> {
        let Device::Gpu(gpu) = &self.device else { return self.run() };
        let mut state = gpu.flights.lock();
        let Some(budget) = state.budget.map(|b| b.as_secs_f64()) else { return self.run() };
        let known = self.pace.lock().clone();
        if known.len() < self.commands.len() {
            return self.run_first(gpu, &mut state, budget);
        }
        for part in cut(&known, budget) {
            let submission = self.submit(gpu, part.clone())?;
            let (pace, submitted) = (self.pace.clone(), Instant::now());
            state.under_way.push_back(Flight { pace, part, submission, submitted });
            while state.under_way.len() > DEPTH {
                gpu.land(&mut state)?;
            }
        }
        Ok(())
    }

    /// A run of which nothing is known: waits for each part before it dares a longer one.
    fn run_first(&self, gpu: &Gpu, state: &mut State, budget: f64) -> Result<()> {
        gpu.wait()?;
        state.under_way.clear();
        let (mut first, mut size) = (0, 1);
        self.pace.lock().clear();
        while first < self.commands.len() {
            let part = first..(first + size).min(self.commands.len());
            let start = Instant::now();
            gpu.wait_until(self.submit(gpu, part.clone())?)?;
            let seconds = start.elapsed().as_secs_f64();
            self.pace.learn(&part, seconds);
            state.longest = state.longest.max(seconds);
            first = part.end;
            size = grown(size, seconds, budget);
        }
        state.ended = Some(Instant::now());
        Ok(())
    }

    /// Seconds of its slowest launch over the budget; 0 where nothing is known.
    #[must_use]
    pub fn overrun(&self) -> f64 {
        let Some(budget) = self.device.gpu().and_then(|g| g.flights.lock().budget) else { return 0.0 };
        let slowest = self.pace.lock().iter().copied().fold(0.0, f64::max);
        slowest / budget.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_long_as_fit() {
        assert_eq!(cut(&[], 1.0), Vec::<Range<usize>>::new());
        assert_eq!(cut(&[0.4, 0.4, 0.4, 0.1], 1.0), [0..2, 2..4]);
        assert_eq!(cut(&[5.0, 0.1, 5.0], 1.0), [0..1, 1..2, 2..3]);
        assert_eq!(cut(&[0.1; 7], 10.0), vec![0..7; 1]);
    }

    #[test]
    fn parts_grow_while_they_are_short() {
        assert_eq!(grown(1, 0.001, 0.1), 2);
        assert_eq!(grown(64, 0.05, 0.1), 128);
        assert_eq!(grown(64, 0.2, 0.1), 32);
        assert_eq!(grown(4, 9.0, 0.1), 1);
        assert_eq!(grown(3, 0.0, 0.1), 6);
    }

    #[test]
    fn measurements_scale_what_was_known() {
        let pace = Pace::default();
        pace.learn(&(0..1), 0.5);
        pace.learn(&(1..3), 0.2);
        assert_eq!(*pace.lock(), [0.5, 0.1, 0.1]);
        pace.learn(&(0..2), 1.2);
        assert_eq!(*pace.lock(), [1.0, 0.2, 0.1]);
        // Beyond what is known: not learned.
        pace.learn(&(2..9), 9.0);
        assert_eq!(pace.lock().len(), 3);
    }
}
