//! KL by the position in the window: whether errors grow with the tokens before.

use serde::Serialize;

use super::stats::mean_and_error;

/// Targets of a range.
pub(super) const RANGE: usize = 1024;

/// Mean KL(base || model) over the targets of one range of positions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PositionKl {
    /// First position; that of a window's first target is 0.
    pub from: usize,
    /// One past the last.
    pub to: usize,
    /// Targets there, of all windows.
    pub tokens: usize,
    /// Nats a token.
    pub mean_kl: f64,
    /// Its standard error over windows; `None` for one.
    pub mean_kl_stderr: Option<f64>,
}

/// Sums as windows go by.
#[derive(Default)]
pub(super) struct ByPosition {
    /// KL and targets of each window, by range.
    ranges: Vec<Vec<(f64, usize)>>,
}

impl ByPosition {
    /// Adds the sum over `tokens` targets from position `at` of window `window` on, all of one range.
    pub(super) fn add(&mut self, window: usize, at: usize, kl: f64, tokens: usize) {
        let range = at / RANGE;
        self.ranges.resize_with(self.ranges.len().max(range + 1), Vec::new);
        let windows = &mut self.ranges[range];
        windows.resize(windows.len().max(window + 1), (0.0, 0));
        windows[window].0 += kl;
        windows[window].1 += tokens;
    }

    /// What the ranges come to. Windows that end before a range are left out of it.
    pub(super) fn means(&self) -> Vec<PositionKl> {
        let mean = |(range, windows): (usize, &Vec<(f64, usize)>)| {
            let there = || windows.iter().filter(|(_, tokens)| *tokens > 0);
            let of_windows: Vec<f64> = there().map(|(kl, tokens)| kl / *tokens as f64).collect();
            let weights: Vec<f64> = there().map(|(_, tokens)| *tokens as f64).collect();
            let (mean_kl, mean_kl_stderr) = mean_and_error(&of_windows, &weights);
            PositionKl {
                from: range * RANGE,
                to: range * RANGE + there().map(|(_, tokens)| *tokens).max().unwrap_or(0),
                tokens: there().map(|(_, tokens)| tokens).sum(),
                mean_kl,
                mean_kl_stderr,
            }
        };
        self.ranges.iter().enumerate().map(mean).collect()
    }
}

/// Ranges put together, each as long as all before it: for people.
#[must_use]
pub fn doubling(ranges: &[PositionKl]) -> Vec<PositionKl> {
    let mut all: Vec<PositionKl> = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        match all.last_mut() {
            Some(last) if !i.is_power_of_two() => {
                let tokens = last.tokens + range.tokens;
                let sum = last.mean_kl * last.tokens as f64 + range.mean_kl * range.tokens as f64;
                *last =
                    PositionKl { to: range.to, tokens, mean_kl: sum / tokens as f64, mean_kl_stderr: None, ..*last };
            }
            _ => all.push(range.clone()),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_two_lengths() {
        let mut sums = ByPosition::default();
        for (window, tokens) in [(0, 5 * RANGE), (1, RANGE + 100)] {
            for at in (0..tokens).step_by(256) {
                let n = 256.min(tokens - at);
                // 1 a token in the first range, 2 in the second and so on; thrice that in the other window.
                let kl = (at / RANGE + 1) as f64 * if window == 0 { 1.0 } else { 3.0 };
                sums.add(window, at, kl * n as f64, n);
            }
        }
        let means = sums.means();
        assert_eq!(means.iter().map(|r| (r.from, r.to)).collect::<Vec<_>>()[3..], [(3072, 4096), (4096, 5120)]);
        assert_eq!((means[0].mean_kl, means[0].mean_kl_stderr), (2.0, Some(1.0)));
        let want = (2.0 * 1024.0 + 6.0 * 100.0) / 1124.0;
        assert!((means[1].mean_kl - want).abs() < 1e-12 && means[1].tokens == 1124 && means[1].to == 2048);
        assert_eq!((means[2].mean_kl, means[2].mean_kl_stderr), (3.0, None));
        let doubled = doubling(&means);
        let ranges: Vec<_> = doubled.iter().map(|r| (r.from, r.to, r.tokens)).collect();
        assert_eq!(ranges[2..], [(2048, 4096, 2048), (4096, 5120, 1024)]);
        assert!((doubled[2].mean_kl - 3.5).abs() < 1e-12);
    }
}
