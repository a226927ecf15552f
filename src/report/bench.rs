//! `wgquant bench`: records with llama-bench's keys and what it lacks, as Markdown, JSON, JSON lines or CSV.

use serde::Serialize;
use serde_json::{Map, Value};

use super::columns::{Columns, table};
use super::text::{bytes, tera_or_giga};
use crate::bench::{OpTable, Peaks, Runs, Test, mean_and_deviation, median};
use crate::runtime::Memory;

/// What is the same for all tests of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BenchContext {
    /// The commit it was built from, where a release was built in a clone; else the version of the program.
    pub build_commit: String,
    /// Always 0: there are no numbered builds.
    pub build_number: u32,
    /// Name of the processor.
    pub cpu_info: String,
    /// Name of the adapter.
    pub gpu_info: String,
    /// vulkan, metal, dx12, gl or cpu.
    pub backends: String,
    /// Path of the model, or `synth:NAME`.
    pub model_filename: String,
    /// Family, size and forms of the weights.
    pub model_type: String,
    /// Bytes of its tensors in a file.
    pub model_size: u64,
    /// Parameters.
    pub model_n_params: u64,
    /// Tokens handed over at most.
    pub n_batch: usize,
    /// Tokens of a pass at most.
    pub n_ubatch: usize,
    /// Threads of the host.
    pub n_threads: usize,
    /// Type of keys.
    pub type_k: String,
    /// Type of values.
    pub type_v: String,
    /// Type of what the scan of prompts reads.
    pub type_scan: String,
    /// Type of states of Mamba-2 blocks.
    pub type_state: String,
    /// Name of the adapter.
    pub devices: String,
    /// Name of the driver.
    pub driver: String,
    /// Its version.
    pub driver_info: String,
    /// Words of the adapter's features that are used.
    pub caps: String,
    /// Bytes of the weights on the device.
    pub weight_bytes: u64,
    /// Seconds from opening the model to an engine.
    pub load_s: f64,
    /// Rates of the device, measured in this run.
    #[serde(flatten)]
    pub peaks: Peaks,
}

impl BenchContext {
    /// What a model is called in tables and plots.
    pub(super) fn model(&self, shown: Shown) -> String {
        if shown.files { format!("{} ({})", self.model_type, self.model_filename) } else { self.model_type.clone() }
    }
}

/// One test.
#[derive(Clone, Debug, Serialize)]
pub struct BenchRecord {
    /// What all have.
    #[serde(flatten)]
    pub context: BenchContext,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens made.
    pub n_gen: usize,
    /// Tokens before.
    pub n_depth: usize,
    /// Sequences that decode together; all counts of tokens are of each of them.
    pub n_parallel: usize,
    /// When, RFC 3339.
    pub test_time: String,
    /// Mean time, nanoseconds.
    pub avg_ns: u64,
    /// Its standard deviation.
    pub stddev_ns: u64,
    /// Mean of tokens a second, of all sequences together.
    pub avg_ts: f64,
    /// Its standard deviation.
    pub stddev_ts: f64,
    /// Median of tokens a second.
    pub median_ts: f64,
    /// The same of one of the sequences.
    pub sequence_ts: f64,
    /// Median time from the prompt to the first id, nanoseconds.
    pub ttft_ns: Option<u64>,
    /// Bytes that the device holds where this test is the only one, as planned: weights, keys and values, states, activations.
    /// Tests of a run share an engine made for the largest of them.
    pub peak_vram_bytes: u64,
    /// Bytes of keys and values.
    pub kv_bytes: u64,
    /// Bytes of states.
    pub state_bytes: u64,
    /// Bytes of activations.
    pub scratch_bytes: u64,
    /// Most bytes of buffers that the process held on the device while this test ran, where wgpu counts them (Vulkan and DX12): of
    /// the engine that all tests of this model and size of passes share, staging and read-back. Not what the driver keeps for itself.
    pub held_vram_bytes: Option<u64>,
    /// Most memory the process has held since it began to load this model, where the system says; also what it kept of earlier ones.
    pub peak_ram_bytes: Option<u64>,
    /// The longest submit of a prompt that was measured, nanoseconds; of a software driver none is.
    pub longest_submit_ns: Option<u64>,
    /// Bytes a token must move, at the middle of the tokens made; of tests that only make tokens.
    pub token_bytes: Option<u64>,
    /// `token_bytes` times tokens a second, over the measured copy.
    pub bandwidth_share: Option<f64>,
    /// Operations of the linear layers a token; of tests that only read a prompt.
    pub token_ops: Option<u64>,
    /// `token_ops` times tokens a second, over the measured multiply-adds; matrix units may exceed 1. Of the CPU reference this and the
    /// next two are none: its products are not computed by the code that is measured.
    pub fma_share: Option<f64>,
    /// The same over the measured packed int8 products; of models whose products are of int8; matrix units may exceed 1, too.
    pub dot_share: Option<f64>,
    /// The same over the measured product on matrix units; of prompts most of whose products run on them. Products of other
    /// shapes or of int4 weights may be a little faster than that one.
    pub matrix_share: Option<f64>,
    /// Time of each repetition, nanoseconds.
    pub samples_ns: Vec<u64>,
    /// Tokens a second of each.
    pub samples_ts: Vec<f64>,
}

/// What a test takes.
#[derive(Clone, Copy, Debug)]
pub struct TestMemory {
    /// As planned for this test alone.
    pub plan: Memory,
    /// [`BenchRecord::held_vram_bytes`].
    pub device: Option<u64>,
    /// [`BenchRecord::peak_ram_bytes`].
    pub host: Option<u64>,
}

/// What a test's tokens cost.
#[derive(Clone, Copy, Debug)]
pub struct TokenCost {
    /// Bytes of a token made.
    pub bytes: u64,
    /// Operations of a token of a prompt.
    pub ops: u64,
    /// Are its products of int8?
    pub int8: bool,
    /// Do most of a prompt's run on matrix units?
    pub matrix: bool,
}

impl BenchRecord {
    /// The record of a test.
    #[must_use]
    pub fn new(
        context: &BenchContext,
        test: Test,
        runs: &Runs,
        memory: TestMemory,
        cost: TokenCost,
        test_time: String,
    ) -> Self {
        let tokens = test.tokens() as f64;
        let rates: Vec<f64> = runs.seconds.iter().map(|s| tokens / s).collect();
        let nanos = |s: f64| (s * 1e9).round() as u64;
        let (avg, stddev) = mean_and_deviation(&runs.seconds);
        let (avg_ts, stddev_ts) = mean_and_deviation(&rates);
        let median_ts = median(&rates);
        let token_bytes = (test.prompt == 0).then_some(cost.bytes);
        let token_ops = (test.generate == 0).then_some(cost.ops);
        let share = |amount: Option<u64>, peak: f64| amount.map(|n| n as f64 * median_ts / peak);
        let gpu_ops = token_ops.filter(|_| context.backends != "cpu");
        let peaks = context.peaks;
        Self {
            n_prompt: test.prompt,
            n_gen: test.generate,
            n_depth: test.depth,
            n_parallel: test.sequences,
            test_time,
            avg_ns: nanos(avg),
            stddev_ns: nanos(stddev),
            avg_ts,
            stddev_ts,
            median_ts,
            sequence_ts: median_ts / test.sequences.max(1) as f64,
            ttft_ns: (!runs.first_token.is_empty()).then(|| nanos(median(&runs.first_token))),
            peak_vram_bytes: memory.plan.total(),
            kv_bytes: memory.plan.kv,
            state_bytes: memory.plan.state,
            scratch_bytes: memory.plan.scratch,
            held_vram_bytes: memory.device,
            peak_ram_bytes: memory.host,
            longest_submit_ns: runs.longest_submit.map(nanos),
            token_bytes,
            bandwidth_share: share(token_bytes, peaks.copy_bytes_per_s),
            token_ops,
            fma_share: share(gpu_ops, peaks.fma_ops_per_s),
            dot_share: share(gpu_ops.filter(|_| cost.int8), peaks.dot_ops_per_s),
            matrix_share: peaks.matrix_ops_per_s.and_then(|peak| share(gpu_ops.filter(|_| cost.matrix), peak)),
            samples_ns: runs.seconds.iter().map(|s| nanos(*s)).collect(),
            samples_ts: rates,
            context: context.clone(),
        }
    }

    /// llama-bench's name of the test.
    pub(super) fn test(&self) -> String {
        let Self { n_prompt: prompt, n_gen: generate, n_depth: depth, n_parallel: sequences, .. } = *self;
        Test { prompt, generate, depth, sequences }.name()
    }

    /// A line of the Markdown table. Of a prompt and tokens together there is no floor: they are bound by different things.
    fn cells(&self, shown: Shown) -> Vec<String> {
        let shares = [
            (self.bandwidth_share, "copy"),
            (self.matrix_share, "matrix"),
            (self.dot_share, "dot"),
            (self.fma_share, "fma"),
        ];
        let floor = shares.iter().find_map(|(share, of)| Some(format!("{:.1} % {of}", (*share)? * 100.0)));
        let (size, parameters) = (self.context.model_size as f64, self.context.model_n_params as f64);
        let (mib, million) = (f64::from(1u32 << 20), 1e6);
        vec![
            self.context.model(shown),
            // In llama-bench's units.
            if size < 1024.0 * mib {
                format!("{:.2} MiB", size / mib)
            } else {
                format!("{:.2} GiB", size / mib / 1024.0)
            },
            if parameters < 1e9 {
                format!("{:.2} M", parameters / million)
            } else {
                format!("{:.2} B", parameters / 1e9)
            },
            self.context.backends.clone(),
            self.context.n_batch.to_string(),
            self.context.n_ubatch.to_string(),
            self.test(),
            format!("{:.2} ± {:.2}", self.avg_ts, self.stddev_ts),
            format!("{:.2}", self.median_ts),
            format!("{:.2}", self.sequence_ts),
            floor.unwrap_or_default(),
            self.ttft_ns.map_or_else(String::new, |n| format!("{:.1} ms", n as f64 / 1e6)),
            bytes(self.peak_vram_bytes),
            self.held_vram_bytes.map_or_else(String::new, bytes),
            self.peak_ram_bytes.map_or_else(String::new, bytes),
        ]
    }
}

/// llama-bench's columns, then ours, with the width of usual cells.
const COLUMNS: [(&str, usize); 15] = [
    ("model", 30),
    ("size", 10),
    ("params", 8),
    ("backend", 7),
    ("n_batch", 7),
    ("n_ubatch", 8),
    ("test", 13),
    ("t/s", 18),
    ("median", 9),
    ("each", 9),
    ("floor", 12),
    ("ttft", 10),
    ("device mem", 10),
    ("held", 10),
    ("host mem", 8),
];

/// What is left out where all tests would say the same there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Tokens handed over at most.
    pub n_batch: bool,
    /// Tokens of a pass at most.
    pub n_ubatch: bool,
    /// Tokens a second of each sequence, which say nothing where no test is of several.
    pub each: bool,
    /// The models' paths, behind their types: those of two models may be one.
    pub files: bool,
}

impl Shown {
    /// Is there a column of this name?
    pub(super) fn has(self, column: &str) -> bool {
        match column {
            "n_batch" => self.n_batch,
            "n_ubatch" => self.n_ubatch,
            "each" => self.each,
            _ => true,
        }
    }

    /// A line of a table with all these columns and cells, but for those that are left out.
    pub(super) fn line(self, columns: &[(&'static str, usize)], cells: Vec<String>, first: bool) -> String {
        let all = columns.iter().copied().zip(cells);
        let (columns, cells): (Vec<_>, Vec<_>) = all.filter(|((name, _), _)| self.has(name)).unzip();
        Columns { left: 1, columns }.next(&cells, first)
    }
}

/// A line of the Markdown table, the first under its head.
#[must_use]
pub fn markdown(record: &BenchRecord, first: bool, shown: Shown) -> String {
    shown.line(&COLUMNS, record.cells(shown), first)
}

/// Where and against what it was measured.
#[must_use]
pub fn conditions(c: &BenchContext) -> String {
    let driver = format!(" ({})", [c.driver.as_str(), c.driver_info.as_str()].join(" ").trim());
    let driver = if driver == " ()" { "" } else { &driver };
    let p = c.peaks;
    let rate = |rate: f64, what: &str| {
        let (unit, size) = tera_or_giga(rate, what);
        format!("{:.2} {unit}", rate / size)
    };
    let mut peaks = format!(
        "copy {:.0} GB/s, f32 multiply-adds {}, packed int8 products {}",
        p.copy_bytes_per_s / 1e9,
        rate(p.fma_ops_per_s, "FLOP"),
        rate(p.dot_ops_per_s, "OP")
    );
    if let Some(peak) = p.matrix_ops_per_s {
        peaks += &format!(", a W8A8 product on matrix units {}", rate(peak, "OP"));
    }
    format!("{}{driver}; {peaks}; loaded in {:.1} s", c.gpu_info, c.load_s)
}

/// Comma-separated values, the first under a head line. Of a list of records each is a line; lists of numbers are left to
/// JSON.
///
/// # Errors
/// [`serde_json::Error`] for numbers that JSON cannot hold.
pub fn csv<T: Serialize>(record: &T, first: bool) -> serde_json::Result<String> {
    let Value::Object(fields) = serde_json::to_value(record)? else { return Ok(String::new()) };
    let (lists, own): (Vec<_>, Vec<_>) = fields.into_iter().partition(|(_, v)| v.is_array());
    let records = |list: &Value| list.as_array()?.iter().map(|r| r.as_object().cloned()).collect::<Option<Vec<_>>>();
    let rows = lists.iter().find_map(|(_, list)| records(list)).unwrap_or_else(|| vec![Map::new()]);
    let quoted = |v: &Value| match v {
        Value::Null => String::new(),
        Value::String(s) => format!("\"{}\"", s.replace('"', "\"\"")),
        other => other.to_string(),
    };
    let mut out = String::new();
    for (i, row) in rows.iter().enumerate() {
        let fields = || own.iter().map(|(k, v)| (k, v)).chain(row);
        if first && i == 0 {
            out += &(fields().map(|(k, _)| k.as_str()).collect::<Vec<_>>().join(",") + "\n");
        }
        out += &(fields().map(|(_, v)| quoted(v)).collect::<Vec<_>>().join(",") + "\n");
    }
    Ok(out)
}

/// Where the time of passes goes, each with its model.
#[derive(Clone, Debug, Serialize)]
pub struct OpsReport {
    /// Model and device.
    #[serde(flatten)]
    pub context: BenchContext,
    /// The pass.
    #[serde(flatten)]
    pub table: OpTable,
}

/// A table of ops in Markdown.
#[must_use]
pub fn ops_markdown(report: &OpsReport, shown: Shown) -> String {
    let OpsReport { context, table: t } = report;
    let depth = if t.depth > 0 { format!(" after {}", t.depth) } else { String::new() };
    let mut tokens = if t.tokens == 1 { "1 token".to_owned() } else { format!("{} tokens", t.tokens) };
    if t.sequences > 1 {
        tokens += &format!(" in each of {} sequences", t.sequences);
    }
    let mut out = format!(
        "### {}: {} of {tokens}{depth}\n\n{} launches, {:.1} us one by one (by {}), {:.1} us as it runs\n\n",
        context.model(shown),
        t.pass,
        t.launches,
        t.sum_us,
        t.timed_by,
        t.pass_us
    );
    let peaks = context.peaks;
    let rows: Vec<Vec<String>> = t
        .rows
        .iter()
        .map(|r| {
            let flops = if r.tflop_per_s > 0.0 { format!("{:.2}", r.tflop_per_s) } else { String::new() };
            vec![
                r.op.clone(),
                r.sizes.clone(),
                r.calls.to_string(),
                format!("{:.1}", r.us),
                format!("{:.2}", r.us / r.calls.max(1) as f64),
                format!("{:.1} %", r.share * 100.0),
                format!("{:.0}", r.gb_per_s),
                format!("{:.0} %", r.gb_per_s * 1e11 / peaks.copy_bytes_per_s),
                flops,
            ]
        })
        .collect();
    let head = ["op", "sizes", "calls", "us", "us each", "share", "GB/s", "of copy", "TFLOP/s"];
    out += &table(&head, 2, &rows);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(matrix_ops_per_s: Option<f64>) -> BenchContext {
        let peaks = Peaks { copy_bytes_per_s: 1e12, fma_ops_per_s: 1e13, dot_ops_per_s: 1e14, matrix_ops_per_s };
        BenchContext { peaks, gpu_info: "a card".to_owned(), ..Default::default() }
    }

    fn record(context: &BenchContext, test: Test, int8: bool, matrix: bool) -> BenchRecord {
        let runs = Runs { seconds: vec![0.5], ..Default::default() };
        let plan = Memory { weights: 1, kv: 2, state: 3, kept: 0, scratch: 4 };
        let memory = TestMemory { plan, device: Some(11), host: None };
        let cost = TokenCost { bytes: 1 << 30, ops: 1 << 34, int8, matrix };
        BenchRecord::new(context, test, &runs, memory, cost, String::new())
    }

    /// 2,048 tokens a second of 2^34 operations are 35.2 TOP/s.
    #[test]
    fn a_prompt_is_measured_by_the_units_that_compute_it() {
        let floor = |r: &BenchRecord| {
            r.cells(Shown::default())[COLUMNS.iter().position(|c| c.0 == "floor").unwrap_or(0)].clone()
        };
        let prompt = Test { prompt: 1024, generate: 0, depth: 0, sequences: 1 };
        let with = Some(3e14);
        for (peak, int8, matrix, words) in [
            (with, true, true, "11.7 % matrix"),
            (with, true, false, "35.2 % dot"),
            (with, false, false, "351.8 % fma"),
            (None, true, true, "35.2 % dot"),
        ] {
            let record = record(&context(peak), prompt, int8, matrix);
            assert_eq!(floor(&record), words);
            assert_eq!(record.matrix_share.is_some(), peak.is_some() && matrix);
            assert_eq!(record.dot_share.is_some(), int8, "what was there stays");
        }
        let token = record(&context(with), Test { prompt: 0, generate: 1024, ..prompt }, true, true);
        assert!(floor(&token).ends_with("% copy") && token.matrix_share.is_none());
        assert_eq!(floor(&record(&context(with), Test { generate: 1, ..prompt }, true, true)), "");
        // The reference's products are not what was measured of it.
        let of_cpu = record(&BenchContext { backends: "cpu".to_owned(), ..context(with) }, prompt, true, true);
        assert_eq!(
            (floor(&of_cpu), of_cpu.fma_share, of_cpu.dot_share, of_cpu.token_ops),
            (String::new(), None, None, Some(1 << 34))
        );
    }

    #[test]
    fn what_was_not_measured_is_not_said() {
        assert!(conditions(&context(Some(2.985e14))).contains(", a W8A8 product on matrix units 298.50 TOP/s; loaded"));
        let slow = Peaks { copy_bytes_per_s: 7e10, fma_ops_per_s: 1.5e9, dot_ops_per_s: 2.5e9, matrix_ops_per_s: None };
        let words = conditions(&BenchContext { peaks: slow, ..context(None) });
        let said = "a card; copy 70 GB/s, f32 multiply-adds 1.50 GFLOP/s, packed int8 products 2.50 GOP/s; loaded";
        assert!(words.starts_with(said), "{words}");
    }
}
