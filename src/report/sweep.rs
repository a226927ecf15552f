//! How cost grows: tests over prompt lengths or sequences, each beside the first of its kind, as records, a table and a
//! page with a plot.

use serde::Serialize;

use super::bench::{BenchRecord, Shown, conditions};
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

/// A test, and its cost beside the first of the same model, size of passes, kind and depth.
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
    fn line(&self) -> (Grows, &str, usize, usize, usize) {
        let context = &self.record.context;
        (self.grows, &context.model_type, context.n_batch, context.n_ubatch, self.record.n_depth)
    }

    /// The name of that line, with what other lines differ in.
    fn name(&self, shown: Shown) -> String {
        let (context, depth) = (&self.record.context, self.record.n_depth);
        let parts = [
            (true, context.model_type.clone()),
            (shown.n_batch, format!(" -b {}", context.n_batch)),
            (shown.n_ubatch, format!(" -ub {}", context.n_ubatch)),
            (depth > 0, format!(" after {depth}")),
        ];
        parts.into_iter().filter(|(there, _)| *there).map(|(_, words)| words).collect()
    }

    fn cells(&self) -> Vec<String> {
        let r = &self.record;
        vec![
            r.context.model_type.clone(),
            r.context.n_batch.to_string(),
            r.context.n_ubatch.to_string(),
            r.test(),
            format!("{:.2}", r.median_ts),
            format!("{:.4}", self.ms_per_token),
            format!("{:.3}", self.relative),
            r.ttft_ns.map_or_else(String::new, |n| format!("{:.1} ms", n as f64 / 1e6)),
            bytes(r.peak_vram_bytes),
        ]
    }
}

const COLUMNS: [(&str, usize); 9] = [
    ("model", 30),
    ("n_batch", 7),
    ("n_ubatch", 8),
    ("test", 13),
    ("t/s", 9),
    ("ms/token", 9),
    ("relative", 8),
    ("ttft", 10),
    ("device mem", 10),
];

/// A line of a Markdown table, the first under its head.
#[must_use]
pub fn sweep_markdown(record: &SweepRecord, first: bool, shown: Shown) -> String {
    shown.line(&COLUMNS, record.cells(), first)
}

/// A page with a plot of each kind and the table; no script, nothing fetched.
#[must_use]
pub fn sweep_html(records: &[SweepRecord], shown: Shown) -> String {
    let plots: String = [(Grows::Prompt, "tokens of the prompt"), (Grows::Sequences, "sequences")]
        .into_iter()
        .map(|(grows, words)| plot(records, shown, grows, words))
        .collect();
    let columns = COLUMNS.map(|(name, _)| name);
    let kept = |cells: Vec<String>| -> Vec<String> {
        columns.iter().zip(cells).filter(|(name, _)| shown.has(name)).map(|(_, cell)| escape(&cell)).collect()
    };
    let cells: String = records.iter().map(|r| row("td", &kept(r.cells()))).collect();
    let body = format!(
        "<h1>How cost grows</h1>\n<p>{}.</p>\n{plots}<h2>Each test</h2>\n<div class=\"wide\"><table><thead>{}</thead><tbody>{cells}</tbody></table></div>\n<p class=\"soft\">t/s: median of all sequences together. ms/token: of one sequence. Relative: t/s over that of the first of the same model, size of passes and depth.</p>\n",
        records.first().map_or_else(String::new, |r| escape(&conditions(&r.record.context))),
        row("th", &kept(columns.map(str::to_owned).to_vec())),
    );
    page("wgquant bench: how cost grows", &body)
}

/// Tokens a second of all tests in which one thing grows.
fn plot(records: &[SweepRecord], shown: Shown, grows: Grows, words: &str) -> String {
    let mut all: Vec<Line> = Vec::new();
    let mut keys = Vec::new();
    for record in records.iter().filter(|r| r.grows == grows) {
        let point = (record.size() as f64, record.record.median_ts);
        let known = keys.iter().position(|k| *k == record.line());
        match known.and_then(|at| all.get_mut(at)) {
            Some(line) => line.points.push(point),
            None => {
                keys.push(record.line());
                all.push(Line { name: record.name(shown), points: vec![point] });
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
