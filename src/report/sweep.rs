//! How cost grows: tests over prompt lengths or sequences, each beside the first of its kind, as records, a table and a
//! page with a plot.

use serde::Serialize;

use super::bench::{BenchRecord, Columns, conditions};
use super::chart::{Line, lines};
use super::html::{escape, page, row};
use super::text::bytes;

/// What grows from test to test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grows {
    /// Tokens of the prompt.
    Prompt,
    /// Sequences whose tokens are made together.
    Sequences,
}

/// A test, and its cost beside the first of the same model, kind and depth.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRecord {
    /// The test.
    #[serde(flatten)]
    pub record: BenchRecord,
    /// What grows.
    pub grows: Grows,
    /// Milliseconds a token takes, of one sequence.
    pub ms_per_token: f64,
    /// Tokens a second over those of the first.
    pub relative: f64,
}

impl SweepRecord {
    /// A test beside the first of its kind in what is there so far.
    #[must_use]
    pub fn after(earlier: &[Self], record: BenchRecord) -> Self {
        let grows = if record.n_gen == 0 { Grows::Prompt } else { Grows::Sequences };
        let ms_per_token = 1e3 / record.sequence_ts;
        let mut new = Self { record, grows, ms_per_token, relative: 1.0 };
        if let Some(first) = earlier.iter().find(|first| first.line() == new.line()) {
            new.relative = new.record.median_ts / first.record.median_ts;
        }
        new
    }

    /// Tokens of the prompt or sequences.
    fn size(&self) -> usize {
        match self.grows {
            Grows::Prompt => self.record.n_prompt,
            Grows::Sequences => self.record.n_parallel,
        }
    }

    /// Records of one line of the plot have the same.
    fn line(&self) -> (Grows, &str, usize) {
        (self.grows, &self.record.context.model_type, self.record.n_depth)
    }

    fn cells(&self) -> Vec<String> {
        let r = &self.record;
        vec![
            r.context.model_type.clone(),
            r.test(),
            format!("{:.2}", r.median_ts),
            format!("{:.4}", self.ms_per_token),
            format!("{:.3}", self.relative),
            r.ttft_ns.map_or_else(String::new, |n| format!("{:.1} ms", n as f64 / 1e6)),
            bytes(r.peak_vram_bytes),
        ]
    }
}

const COLUMNS: [(&str, usize); 7] =
    [("model", 30), ("test", 13), ("t/s", 9), ("ms/token", 9), ("relative", 8), ("ttft", 10), ("device mem", 10)];

/// A line of a Markdown table, the first under its head.
#[must_use]
pub fn sweep_markdown(record: &SweepRecord, first: bool) -> String {
    Columns { left: 1, columns: COLUMNS.to_vec() }.next(&record.cells(), first)
}

/// A page with a plot of each kind and the table; no script, nothing fetched.
#[must_use]
pub fn sweep_html(records: &[SweepRecord]) -> String {
    let plots: String = [(Grows::Prompt, "tokens of the prompt"), (Grows::Sequences, "sequences")]
        .into_iter()
        .map(|(grows, words)| plot(records, grows, words))
        .collect();
    let cells: String =
        records.iter().map(|r| row("td", &r.cells().iter().map(|c| escape(c)).collect::<Vec<_>>())).collect();
    let body = format!(
        "<h1>How cost grows</h1>\n<p>{}.</p>\n{plots}<h2>Each test</h2>\n<div class=\"wide\"><table><thead>{}</thead><tbody>{cells}</tbody></table></div>\n<p class=\"soft\">t/s: median of all sequences together. ms/token: of one sequence. Relative: t/s over that of the first of the same model and depth.</p>\n",
        records.first().map_or_else(String::new, |r| escape(&conditions(&r.record.context))),
        row("th", &COLUMNS.map(|(name, _)| name)),
    );
    page("wgquant bench: how cost grows", &body)
}

/// Tokens a second of all tests in which one thing grows.
fn plot(records: &[SweepRecord], grows: Grows, words: &str) -> String {
    let mut all: Vec<Line> = Vec::new();
    let mut keys = Vec::new();
    for record in records.iter().filter(|r| r.grows == grows) {
        let point = (record.size() as f64, record.record.median_ts);
        let known = keys.iter().position(|k| *k == record.line());
        match known.and_then(|at| all.get_mut(at)) {
            Some(line) => line.points.push(point),
            None => {
                keys.push(record.line());
                let depth = record.record.n_depth;
                let after = if depth > 0 { format!(" after {depth}") } else { String::new() };
                all.push(Line { name: record.record.context.model_type.clone() + &after, points: vec![point] });
            }
        }
    }
    if all.is_empty() {
        return String::new();
    }
    format!(
        "<figure><figcaption>Tokens a second <span>by {words}, doubling to the right</span></figcaption>{}</figure>\n",
        lines(&format!("Tokens a second by {words}"), &all)
    )
}
