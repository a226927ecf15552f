//! Where the time of a pass goes: launch by launch, like ones added up.

use std::time::Instant;

use pollster::block_on;
use serde::Serialize;

use super::speed::together;
use super::{Cost, Warmer, cost, median};
use crate::error::Result;
use crate::runtime::{Engine, Next};

/// Launches of one kernel and one size.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpRow {
    /// `kernel.variant`.
    pub op: String,
    /// Sizes, as [`Cost::sizes`].
    pub sizes: String,
    /// Launches a pass.
    pub calls: usize,
    /// Microseconds of all of them, each the median of several passes.
    pub us: f64,
    /// Share of the time of all launches.
    pub share: f64,
    /// 10^9 bytes a second that they must move.
    pub gb_per_s: f64,
    /// 10^12 operations a second that they must do.
    pub tflop_per_s: f64,
}

/// A pass and where its time goes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpTable {
    /// `decode` or `prompt`.
    pub pass: String,
    /// Tokens of the pass, of each sequence.
    pub tokens: usize,
    /// Sequences.
    pub sequences: usize,
    /// Tokens before it.
    pub depth: usize,
    /// Launches.
    pub launches: usize,
    /// Microseconds of all launches, each timed on its own.
    pub sum_us: f64,
    /// Microseconds of a pass as it runs, by the clock: choosing and reading back the id included. Less than the sum
    /// where launches overlap, more where the device waits for the host.
    pub pass_us: f64,
    /// `timestamps`, or `clock`: then a launch's time has that of submitting and waiting for it.
    pub timed_by: &'static str,
    /// The slowest first.
    pub rows: Vec<OpRow>,
}

/// What is profiled: a pass of `tokens` after `depth` others; of several `sequences` a token of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Tokens of the pass, of each sequence.
    pub tokens: usize,
    /// Tokens before it.
    pub depth: usize,
    /// Sequences; 1: no batch.
    pub sequences: usize,
}

/// Profiles a pass, `repeat` times.
///
/// # Errors
/// As [`Engine::record_profile`], [`Engine::feed`] and [`Engine::set_sequences`].
pub fn profile(engine: &mut Engine, warmer: &Warmer, what: Pass, repeat: usize) -> Result<OpTable> {
    let Pass { tokens, depth, sequences } = what;
    let together = together(engine, sequences)?;
    let ids = vec![1 % engine.config().vocab_size as u32; tokens.max(depth).max(sequences)];
    let pass = match together {
        true => engine.record_profile_each(Next::Greedy)?,
        false => engine.record_profile(tokens, Next::Greedy)?,
    };
    let start_over = |engine: &mut Engine| -> Result<()> {
        engine.reset()?;
        if depth > 0 {
            engine.feed(&ids[..depth])?;
        }
        if together { (0..sequences).try_for_each(|slot| engine.put(slot)) } else { Ok(()) }
    };
    let each_launch = |engine: &mut Engine| match together {
        true => block_on(engine.profile_each(&pass)),
        false => block_on(engine.profile(&pass, &ids[..tokens])),
    };
    let as_it_runs = |engine: &mut Engine| -> Result<f64> {
        let start = Instant::now();
        let chosen = match (together, tokens) {
            (true, _) => engine.follow_each(Next::Greedy)?,
            (false, 1) => engine.follow_any(Next::Greedy)?, // whatever was chosen last
            (false, _) => {
                engine.feed(&ids[..tokens])?;
                engine.pick(Next::Greedy)?
            }
        };
        block_on(chosen.words())?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first of each compiles.
    start_over(engine)?;
    each_launch(engine)?;
    start_over(engine)?;
    as_it_runs(engine)?;

    let (mut each, mut whole) = (Vec::new(), Vec::new());
    for _ in 0..repeat.max(1) {
        start_over(engine)?;
        warmer.run()?;
        each.push(each_launch(engine)?);
        start_over(engine)?;
        warmer.run()?;
        whole.push(as_it_runs(engine)?);
    }
    let launches: Vec<_> = pass.launches().collect();
    let timed: Vec<(String, Cost, f64)> = launches
        .iter()
        .enumerate()
        .map(|(i, l)| {
            let (op, cost) = (format!("{}.{}", l.kernel.name, l.variant), cost(l, launches.get(i + 1), depth + tokens));
            (op, cost, median(&each.iter().map(|run| run[i]).collect::<Vec<_>>()))
        })
        .collect();
    let timestamps = engine.device().gpu().is_some_and(|g| g.adapter.caps.timestamps);
    Ok(OpTable {
        pass: if tokens == 1 { "decode" } else { "prompt" }.to_owned(),
        tokens,
        sequences,
        depth,
        launches: timed.len(),
        sum_us: timed.iter().map(|t| t.2).sum::<f64>() * 1e6,
        pass_us: median(&whole) * 1e6,
        timed_by: if timestamps { "timestamps" } else { "clock" },
        rows: rows(&timed),
    })
}

/// Like launches added up, the slowest first.
fn rows(timed: &[(String, Cost, f64)]) -> Vec<OpRow> {
    let mut sums: Vec<(OpRow, u64, u64)> = Vec::new();
    for (op, cost, seconds) in timed {
        let at = sums.iter().position(|(r, _, _)| r.op == *op && r.sizes == cost.sizes).unwrap_or_else(|| {
            let (op, sizes) = (op.clone(), cost.sizes.clone());
            sums.push((OpRow { op, sizes, calls: 0, us: 0.0, share: 0.0, gb_per_s: 0.0, tflop_per_s: 0.0 }, 0, 0));
            sums.len() - 1
        });
        let (row, bytes, ops) = &mut sums[at];
        row.calls += 1;
        row.us += seconds * 1e6;
        *bytes += cost.bytes;
        *ops += cost.ops;
    }
    let total: f64 = sums.iter().map(|(r, _, _)| r.us).sum();
    let per = |amount: u64, us: f64, unit: f64| if us > 0.0 { amount as f64 / (us * 1e-6) / unit } else { 0.0 };
    let mut rows: Vec<OpRow> = sums
        .into_iter()
        .map(|(row, bytes, ops)| OpRow {
            share: if total > 0.0 { row.us / total } else { 0.0 },
            gb_per_s: per(bytes, row.us, 1e9),
            tflop_per_s: per(ops, row.us, 1e12),
            ..row
        })
        .collect();
    rows.sort_by(|a, b| b.us.total_cmp(&a.us));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_launches_add_up_and_the_slowest_is_first() {
        let cost = |sizes: &str, bytes, ops| Cost { sizes: sizes.to_owned(), bytes, ops };
        let timed = [
            ("a.base".to_owned(), cost("1 x 2", 1000, 0), 1e-6),
            ("b.base".to_owned(), cost("1 x 2", 4000, 8_000_000), 4e-6),
            ("a.base".to_owned(), cost("1 x 2", 1000, 0), 3e-6),
            ("a.base".to_owned(), cost("1 x 3", 1000, 0), 2e-6),
        ];
        let rows = rows(&timed);
        let names: Vec<_> = rows.iter().map(|r| (r.op.as_str(), r.sizes.as_str(), r.calls)).collect();
        assert_eq!(names, [("a.base", "1 x 2", 2), ("b.base", "1 x 2", 1), ("a.base", "1 x 3", 1)]);
        assert!((rows.iter().map(|r| r.share).sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((rows[0].gb_per_s - 0.5).abs() < 1e-9 && (rows[1].tflop_per_s - 2.0).abs() < 1e-9);
    }
}
