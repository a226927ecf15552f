//! How cost grows: tests over prompt lengths or sequences, each beside the first of its kind, as records, a table and a
//! page with a plot.

use serde::Serialize;

use super::bench::{BenchContext, BenchRecord, Shown, conditions};
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

/// A test, and its cost beside the first of the same model, size of passes, kind, depth and tokens made.
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
    fn line(&self) -> (Grows, [&str; 2], [usize; 4]) {
        let BenchRecord { context, n_depth, n_gen, .. } = &self.record;
        let BenchContext { model_filename, model_type, n_batch, n_ubatch, .. } = context;
        (self.grows, [model_filename.as_str(), model_type.as_str()], [*n_batch, *n_ubatch, *n_depth, *n_gen])
    }

    /// The name of that line, with what other lines of its plot differ in.
    fn name(&self, shown: Shown, plot: &[&Self]) -> String {
        let (context, depth) = (&self.record.context, self.record.n_depth);
        let parts = [
            (true, context.model(shown)),
            (plot.iter().any(|r| r.record.n_gen != self.record.n_gen), format!(" -n {}", self.record.n_gen)),
            (shown.n_batch, format!(" -b {}", context.n_batch)),
            (shown.n_ubatch, format!(" -ub {}", context.n_ubatch)),
            (depth > 0, format!(" after {depth}")),
        ];
        parts.into_iter().filter(|(there, _)| *there).map(|(_, words)| words).collect()
    }

    fn cells(&self, shown: Shown) -> Vec<String> {
        let r = &self.record;
        vec![
            r.context.model(shown),
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
    shown.line(&COLUMNS, record.cells(shown), first)
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
    let cells: String = records.iter().map(|r| row("td", &kept(r.cells(shown)))).collect();
    let body = format!(
        "<h1>How cost grows</h1>\n<p>{}.</p>\n{plots}<h2>Each test</h2>\n<div class=\"wide\"><table><thead>{}</thead><tbody>{cells}</tbody></table></div>\n<p class=\"soft\">t/s: median of all sequences together. ms/token: of one sequence. Relative: t/s over that of the first of the same model, size of passes, depth and tokens made.</p>\n",
        records.first().map_or_else(String::new, |r| escape(&conditions(&r.record.context))),
        row("th", &kept(columns.map(str::to_owned).to_vec())),
    );
    page("wgquant bench: how cost grows", &body)
}

/// Tokens a second of all tests in which one thing grows.
fn plot(records: &[SweepRecord], shown: Shown, grows: Grows, words: &str) -> String {
    let mut all: Vec<Line> = Vec::new();
    let mut keys = Vec::new();
    let records: Vec<&SweepRecord> = records.iter().filter(|r| r.grows == grows).collect();
    for record in &records {
        let point = (record.size() as f64, record.record.median_ts);
        let known = keys.iter().position(|k| *k == record.line());
        match known.and_then(|at| all.get_mut(at)) {
            Some(line) => line.points.push(point),
            None => {
                keys.push(record.line());
                all.push(Line { name: record.name(shown, &records), points: vec![point] });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Runs, Test};
    use crate::report::bench::{TestMemory, TokenCost};
    use crate::runtime::Memory;

    /// The rates of tests of `sequences` that make `tokens`, of models of one type; each took as many seconds.
    fn swept(tests: &[(&str, usize, usize, f64)]) -> Vec<SweepRecord> {
        let mut all: Vec<SweepRecord> = Vec::new();
        for (file, tokens, sequences, seconds) in tests {
            let context = BenchContext {
                model_filename: (*file).to_owned(),
                model_type: "a type".to_owned(),
                ..Default::default()
            };
            let test = Test { prompt: 0, generate: *tokens, depth: 0, sequences: *sequences };
            let runs = Runs { seconds: vec![*seconds], ..Default::default() };
            let plan = Memory { weights: 1, kv: 2, state: 3, kept: 0, scratch: 4 };
            let memory = TestMemory { plan, device: None, host: None };
            let cost = TokenCost { bytes: 1, ops: 1, int8: false, matrix: false };
            let record = BenchRecord::new(&context, test, &runs, memory, cost, String::new());
            all.push(SweepRecord::after(&all, record));
        }
        all
    }

    #[test]
    fn models_of_one_type_and_tokens_made_have_lines_of_their_own() {
        let relative = |all: &[SweepRecord]| all.iter().map(|r| r.relative).collect::<Vec<_>>();
        let models = swept(&[("m/a", 8, 1, 1.0), ("m/a", 8, 2, 1.0), ("m/b", 8, 1, 4.0), ("m/b", 8, 2, 2.0)]);
        assert_eq!(relative(&models), [1.0, 2.0, 1.0, 4.0]);
        let files = Shown { files: true, ..Shown::default() };
        let page = sweep_html(&models, files);
        assert!(page.contains(">a type (m/a)<") && page.contains(">a type (m/b)<"), "{page}");
        assert_eq!(page.matches("<td>a type (m/a)</td>").count(), 2, "also in the table: {page}");
        assert!(sweep_markdown(&models[2], false, files).starts_with("| a type (m/b) "), "and in the terminal's");
        assert_eq!(page.matches("<polyline ").count(), 4, "a line and its sample in the legend, twice");
        let tokens = swept(&[("m/a", 8, 1, 1.0), ("m/a", 4, 1, 1.0), ("m/a", 8, 2, 1.0), ("m/a", 4, 2, 1.0)]);
        assert_eq!(relative(&tokens), [1.0, 1.0, 2.0, 2.0]);
        let page = sweep_html(&tokens, Shown::default());
        assert!(page.contains(">a type -n 8<") && page.contains(">a type -n 4<"), "{page}");
        // What all have is not said.
        assert!(!sweep_html(&models[..2], Shown::default()).contains("m/a"));
    }
}
