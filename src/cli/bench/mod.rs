//! `wgquant bench`.

mod flags;
mod host;
mod print;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use wgquant::bench::{Pass, Peaks, Test, WARM_UP, Warmer, measure, measure_peaks, multiplies_on_matrices, profile};
use wgquant::gpu::{Device, Gpu};
use wgquant::model::{ModelConfig, ModelFile, ModelSource, Stored};
use wgquant::report::bench::{
    BenchContext, BenchRecord, OpsReport, Shown, TestMemory, TokenCost, markdown, ops_markdown,
};
use wgquant::report::sweep::{SweepRecord, sweep_html, sweep_markdown};
use wgquant::report::{DeviceInfo, count};
use wgquant::runtime::{Engine, EngineOptions, KvFormat, Memory, Next, StateFormat};
use wgquant::synth::Synth;

use super::args::{GpuArgs, model, seconds};
use super::progress::Bar;
use super::test_ops::rfc3339;
use super::{Verdict, load, out, synth};
pub(super) use flags::long_flags;
use flags::{Batch, Pair, Sizes, no_flash_attention, no_layers, no_second_output, no_threads};
use print::{Format, Printer};

/// Prompts of a sweep.
const SWEEP: &str = "512-131072*2";

/// Measure prompts and tokens a second, or each op with --ops
///
/// Flags, columns and JSON keys are llama-bench's where it has them. The GPU's clocks are brought up before anything is
/// timed. A token made counts with its choice on the device and the id read back.
///
/// floor: how much of what was measured of the device a test takes: of copies for tokens; of prompts, by what most of their
/// products run on, of a large W8A8 product on matrix units (matrix), of packed int8 products (dot) or of f32 multiply-adds
/// (fma); none for -pg, nor of prompts on the CPU reference. matrix is of wgquant's own product by itself, with its loads and
/// stores, the others are of what does nothing else. device mem: what the device holds where that test is the only one, as planned. held: the most that it really held during the test, staging and read-back
/// included, of an engine made for the largest test; empty where wgpu does not count (Metal, OpenGL). host mem: the most that
/// the process held since it began to load the model.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("measured").required(true).multiple(true).args(["model", "synth"])))]
pub(super) struct Bench {
    /// Model directory; several with several -m
    #[arg(short, long, value_name = "DIR", conflicts_with = "shape", value_parser = model())]
    model: Vec<PathBuf>,
    /// Or a published shape with random weights, held in memory; see `wgquant synth`
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "model")]
    synth: Option<String>,
    #[command(flatten)]
    shape: synth::Shape,
    /// Tokens of prompts: N, several with commas, FIRST-LAST, FIRST-LAST+STEP, FIRST-LAST*FACTOR; 0: none;
    /// several flags add up
    #[arg(short = 'p', long, value_name = "LIST", default_value = "512", default_value_if("sweep", "true", SWEEP))]
    n_prompt: Vec<Sizes>,
    /// Tokens to make, likewise
    #[arg(short = 'n', long, value_name = "LIST", default_value = "128", default_value_if("sweep", "true", "0"))]
    n_gen: Vec<Sizes>,
    /// A prompt and tokens after it, timed together (also -pg); several with several flags
    #[arg(long = "pg", value_name = "PROMPT,GEN")]
    pairs: Vec<Pair>,
    /// Tokens before each test, which are not timed
    #[arg(short = 'd', long, value_name = "LIST", default_value = "0")]
    n_depth: Vec<Sizes>,
    /// Sequences that make tokens together (also -npl), likewise; -p alone is of one
    #[arg(long, value_name = "LIST", default_value = "1", alias = "n-parallel")]
    parallel: Vec<Sizes>,
    /// Tokens a pass at most, if fewer than -ub; a list as of -p: each with each of -ub is measured
    #[arg(short, long, value_name = "LIST", default_value = "2048", value_parser = Sizes::above_0)]
    batch_size: Vec<Sizes>,
    /// Tokens a pass at most (also -ub), likewise; the model is loaded anew for another
    #[arg(long, value_name = "LIST", default_value = "512", value_parser = Sizes::above_0)]
    ubatch_size: Vec<Sizes>,
    /// Repetitions
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Do not run each test once before it counts
    #[arg(long, conflicts_with = "ops")]
    no_warmup: bool,
    /// Seconds that a GPU is kept busy before each repetition
    #[arg(long, value_name = "SECONDS", default_value_t = WARM_UP, value_parser = seconds)]
    warm_up: f64,
    /// Seconds to wait before each test
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds, conflicts_with = "ops")]
    delay: f64,
    /// Time each op of a prompt's pass (of -p tokens, up to -ub) and of a token (where -n is not 0) instead; of -pg both
    #[arg(long)]
    ops: bool,
    /// Show how cost grows: with prompts of 512 to 131072 tokens, or those of -p; with -p 0 -n 128 -npl 1-64*2 by sequences
    #[arg(long, conflicts_with_all = ["ops", "pairs"])]
    sweep: bool,
    /// Write the sweep as a page with a plot, too
    #[arg(long, value_name = "FILE", requires = "sweep")]
    html: Option<PathBuf>,
    /// Form of the results
    #[arg(short, long, value_enum, value_name = "md|json|jsonl|csv", default_value = "md")]
    output: Format,
    /// Another word for --kv (also -ctk), with --cache-type-v of the same format
    #[arg(long, value_enum, value_name = "FORMAT", requires = "cache_type_v", conflicts_with = "kv")]
    cache_type_k: Option<load::KvWord>,
    /// Likewise (also -ctv), with --cache-type-k
    #[arg(long, value_enum, value_name = "FORMAT", requires = "cache_type_k", conflicts_with = "kv")]
    cache_type_v: Option<load::KvWord>,
    /// llama-bench's -ngl, to say what takes its place; the others that are hidden likewise
    #[arg(long, hide = true, value_parser = no_layers)]
    n_gpu_layers: Option<u32>,
    #[arg(short = 't', long, hide = true, value_parser = no_threads)]
    threads: Option<u32>,
    #[arg(long, hide = true, value_parser = no_flash_attention)]
    flash_attn: Option<u32>,
    #[arg(long, hide = true, value_parser = no_second_output)]
    output_err: Option<String>,
    #[command(flatten)]
    state: load::StateArgs,
    #[command(flatten)]
    gpu: GpuArgs,
}

/// A model on disk or made up.
enum Model {
    File(Box<ModelFile>),
    Synth(Box<Synth>, String),
}

impl Model {
    fn source(&self) -> &dyn ModelSource {
        match self {
            Self::File(file) => &**file,
            Self::Synth(synth, _) => &**synth,
        }
    }

    /// Does it multiply int8?
    fn int8(&self) -> Result<bool> {
        let int8 = |stored: Stored| matches!(stored, Stored::Codes { activations, .. } if activations.int8());
        Ok(self.source().forms()?.is_some_and(|forms| forms.iter().any(|f| int8(f.stored))))
    }

    /// Name, bytes in a file, parameters.
    fn facts(&self) -> (String, u64, u64) {
        match self {
            Self::File(f) => (f.checkpoint().dir().display().to_string(), f.bytes(), f.parameters()),
            Self::Synth(s, name) => (format!("synth:{name}"), s.bytes(), s.parameters()),
        }
    }
}

/// A model on the device, and what is the same for all its tests with passes of one size.
struct Loaded<'a> {
    model: &'a Model,
    engine: Engine,
    warmer: &'a Warmer,
    context: BenchContext,
    batch: Batch,
}

impl Bench {
    pub(super) fn run(&self) -> Result<Verdict> {
        self.state.check()?;
        let tests = self.tests();
        if tests.is_empty() {
            bail!("nothing to measure: -p and -n are 0, and there is no -pg");
        }
        if self.cache_type_k != self.cache_type_v {
            bail!("--cache-type-k and --cache-type-v differ; keys and values are of one format");
        }
        if let Some(file) = &self.html {
            out::check_file("--html", file)?;
        }
        let models = self.models()?;
        let types: BTreeSet<String> = models.iter().map(|m| self.model_type(m)).collect();
        let shown = Shown {
            files: types.len() < models.len(),
            n_batch: Sizes::differ(&self.batch_size),
            n_ubatch: Sizes::differ(&self.ubatch_size),
            each: tests.iter().any(|t| t.sequences > 1),
        };
        // Of what fails half way, what was measured is printed all the same.
        if self.ops {
            let apart = |first| if first { "" } else { "\n" };
            let mut printer =
                Printer::new(self.output, |r: &OpsReport, first| apart(first).to_owned() + &ops_markdown(r, shown));
            let done =
                self.each_batch(&models, &tests, |loaded| self.profile(loaded, &mut |table| printer.push(table)));
            printer.finish(|r| &r.context)?;
            done?;
        } else if self.sweep {
            let mut printer = Printer::new(self.output, |r: &SweepRecord, first| sweep_markdown(r, first, shown));
            let mut push = |record| printer.push(SweepRecord::after(&printer.all, record));
            let done = self.each_batch(&models, &tests, |loaded| self.measure(loaded, &tests, &mut push));
            printer.finish(|r| &r.record.context)?;
            if let Some(path) = self.html.as_ref().filter(|_| !printer.all.is_empty()) {
                out::save(path, &sweep_html(&printer.all, shown))?;
            }
            done?;
        } else {
            let mut printer = Printer::new(self.output, |r: &BenchRecord, first| markdown(r, first, shown));
            let done =
                self.each_batch(&models, &tests, |loaded| self.measure(loaded, &tests, &mut |r| printer.push(r)));
            printer.finish(|r| &r.context)?;
            done?;
        }
        Ok(Verdict::Passed)
    }

    /// Does `each` with one model after the other, with each size of passes, on a device whose peaks are known.
    fn each_batch(
        &self,
        models: &[Model],
        tests: &[Test],
        mut each: impl FnMut(&mut Loaded<'_>) -> Result<()>,
    ) -> Result<()> {
        let device = self.gpu.open()?;
        // What is measured is not to be of a kernel that is then found wrong and not used.
        self.gpu.check(&device, &[])?;
        let warmer = Warmer::new(&device, self.warm_up)?;
        let peaks = measure_peaks(&device, &warmer)?;
        for model in models {
            let mut last: Option<Loaded<'_>> = None;
            for batch in self.batches() {
                // An engine for other passes is gone before the next takes its memory.
                let mut loaded = match last.take().filter(|l| l.batch.pass_tokens() == batch.pass_tokens()) {
                    Some(loaded) => loaded,
                    None => {
                        host::reset_peak_memory();
                        let (engine, seconds) = self.engine(&device, model, tests, batch)?;
                        let context = self.context(model, &engine, peaks, seconds, batch);
                        Loaded { model, engine, warmer: &warmer, context, batch }
                    }
                };
                loaded.batch = batch;
                (loaded.context.n_batch, loaded.context.n_ubatch) = (batch.n_batch, batch.n_ubatch);
                each(&mut loaded)?;
                last = Some(loaded);
            }
        }
        Ok(())
    }

    fn profile(&self, loaded: &mut Loaded<'_>, push: &mut dyn FnMut(OpsReport) -> Result<()>) -> Result<()> {
        for pass in self.new_passes(loaded.batch) {
            let table = profile(&mut loaded.engine, loaded.warmer, pass, self.repetitions as usize)?;
            push(OpsReport { context: loaded.context.clone(), table })?;
        }
        Ok(())
    }

    fn measure(
        &self,
        loaded: &mut Loaded<'_>,
        tests: &[Test],
        push: &mut dyn FnMut(BenchRecord) -> Result<()>,
    ) -> Result<()> {
        let Loaded { model, engine, warmer, context, batch } = loaded;
        let (int8, device) = (model.int8()?, engine.device().clone());
        let bar = Bar::new(format!("{} {}", context.model_filename, context.model_type), tests.len());
        for (i, test) in tests.iter().enumerate() {
            bar.at(i);
            std::thread::sleep(Duration::from_secs_f64(self.delay));
            if let Some(gpu) = device.gpu() {
                gpu.watch_held_bytes();
            }
            let runs = measure(engine, warmer, *test, self.repetitions as usize, !self.no_warmup)?;
            let alone = Memory::of(model.source(), self.options(&[*test], *batch))?;
            let memory = TestMemory {
                plan: alone.unwrap_or_else(|| engine.memory()),
                device: device.gpu().and_then(Gpu::most_held_bytes),
                host: host::peak_memory(),
            };
            let cost = TokenCost {
                bytes: engine.token_bytes(test.depth + test.prompt + test.generate / 2, test.sequences),
                ops: engine.linear_ops(),
                int8,
                matrix: on_matrices(engine, test.prompt.min(batch.pass_tokens()))?,
            };
            let record = BenchRecord::new(context, *test, &runs, memory, cost, now());
            bar.aside(|| push(record))?;
        }
        Ok(())
    }

    /// Prompts, then tokens, then both, at each depth.
    fn tests(&self) -> Vec<Test> {
        let mut all = Vec::new();
        for depth in Sizes::all(&self.n_depth) {
            let test = |prompt, generate, sequences| Test { prompt, generate, depth, sequences };
            all.extend(Sizes::all(&self.n_prompt).filter(|p| *p > 0).map(|p| test(p, 0, 1)));
            for sequences in self.sequences() {
                all.extend(Sizes::all(&self.n_gen).filter(|n| *n > 0).map(|n| test(0, n, sequences)));
                all.extend(self.pairs.iter().map(|Pair(p, n)| test(*p, *n, sequences)));
            }
        }
        all
    }

    fn sequences(&self) -> impl Iterator<Item = usize> + '_ {
        Sizes::all(&self.parallel).filter(|n| *n > 0)
    }

    fn batches(&self) -> Vec<Batch> {
        Batch::each(&self.batch_size, &self.ubatch_size)
    }

    /// What to profile with passes of this size that is not profiled with those before it: a pass of as many tokens is the same.
    fn new_passes(&self, batch: Batch) -> Vec<Pass> {
        let before: Vec<Pass> =
            self.batches().into_iter().take_while(|b| *b != batch).flat_map(|b| self.passes(b)).collect();
        self.passes(batch).into_iter().filter(|pass| !before.contains(pass)).collect()
    }

    /// Of each depth a token, prompts, then the prompt of each pair and a token behind it.
    fn passes(&self, batch: Batch) -> Vec<Pass> {
        let mut all = Vec::new();
        let mut add = |tokens, depth, sequences| {
            let pass = Pass { tokens, depth, sequences };
            if !all.contains(&pass) {
                all.push(pass);
            }
        };
        for depth in Sizes::all(&self.n_depth) {
            if Sizes::all(&self.n_gen).any(|n| n > 0) {
                self.sequences().for_each(|sequences| add(1, depth, sequences));
            }
            let prompts = Sizes::all(&self.n_prompt).filter(|p| *p > 0);
            prompts.for_each(|p| add(p.min(batch.pass_tokens()), depth, 1));
            for Pair(prompt, _) in &self.pairs {
                add(batch.pass_tokens().min(*prompt), depth, 1);
                self.sequences().for_each(|sequences| add(1, depth + prompt, sequences));
            }
        }
        all
    }

    fn models(&self) -> Result<Vec<Model>> {
        if let Some(name) = &self.synth {
            return Ok(vec![Model::Synth(Box::new(self.shape.source("--synth", name)?), name.clone())]);
        }
        self.model.iter().map(|dir| Ok(Model::File(Box::new(ModelFile::open(dir)?)))).collect()
    }

    fn kv(&self) -> KvFormat {
        self.cache_type_k.map_or(self.state.kv(), load::KvWord::format)
    }

    /// An engine for all of `tests`.
    fn options(&self, tests: &[Test], batch: Batch) -> EngineOptions {
        EngineOptions {
            context: tests.iter().map(Test::context).max().unwrap_or(1),
            pass_tokens: batch.pass_tokens(),
            sequences: tests.iter().map(|t| t.sequences).max().unwrap_or(1),
            state: self.state.format(),
            kv: self.kv(),
            scan: self.state.scan(),
            ..Default::default()
        }
    }

    /// The model on the device, and the seconds that took.
    fn engine(&self, device: &Device, model: &Model, tests: &[Test], batch: Batch) -> Result<(Engine, f64)> {
        let start = Instant::now();
        let options = self.options(tests, batch);
        load::say_memory(device, model.source(), options)?;
        let engine =
            Engine::new(device, model.source(), options).with_context(|| format!("loading {}", model.facts().0))?;
        device.wait()?;
        let seconds = start.elapsed().as_secs_f64();
        self.gpu.check(device, &engine.needs()?)?;
        Ok((engine, seconds))
    }

    fn context(&self, model: &Model, engine: &Engine, peaks: Peaks, load_s: f64, batch: Batch) -> BenchContext {
        let (model_filename, model_size, model_n_params) = model.facts();
        let info = DeviceInfo::from(engine.device());
        let (driver, driver_info, caps) = engine.device().gpu().map_or_else(Default::default, |g| {
            (g.adapter.driver.clone(), g.adapter.driver_info.clone(), host::caps(&g.caps))
        });
        let kv = match self.kv() {
            KvFormat::F32 => "f32",
            KvFormat::F16 => "f16",
            KvFormat::Int8 => "int8",
            KvFormat::Int4 => "int4",
        };
        BenchContext {
            build_commit: option_env!("WGQUANT_COMMIT").unwrap_or(concat!("v", env!("CARGO_PKG_VERSION"))).to_owned(),
            build_number: 0,
            cpu_info: host::cpu(),
            gpu_info: info.adapter.clone(),
            backends: info.backend,
            model_type: self.model_type(model),
            model_filename,
            model_size,
            model_n_params,
            n_batch: batch.n_batch,
            n_ubatch: batch.n_ubatch,
            n_threads: rayon::current_num_threads(),
            type_k: kv.to_owned(),
            type_v: kv.to_owned(),
            type_scan: self.state.scan().dtype().to_string(),
            type_state: if self.state.format() == StateFormat::F32 { "f32" } else { "int8" }.to_owned(),
            devices: info.adapter,
            driver,
            driver_info,
            caps,
            weight_bytes: engine.weight_bytes(),
            load_s,
            peaks,
        }
    }

    /// Family, size and forms.
    fn model_type(&self, model: &Model) -> String {
        let family = |c: &ModelConfig| match c.model_type {
            wgquant::model::ModelType::NemotronH => "nemotron_h",
            wgquant::model::ModelType::Mamba2 => "mamba2",
        };
        let (name, scheme) = match model {
            Model::Synth(_, name) => (name.as_str(), self.shape.scheme.clone()),
            Model::File(f) => {
                let bits = f.bytes() as f64 * 8.0 / f.parameters().max(1) as f64;
                (family(f.config()), format!("{bits:.2} bpw"))
            }
        };
        format!("{name} {} {scheme}", count(model.facts().2))
    }
}

/// Do most products of a pass over `tokens` run on matrix units? A prompt of several passes has the longest first.
fn on_matrices(engine: &Engine, tokens: usize) -> Result<bool> {
    Ok(tokens > 0 && multiplies_on_matrices(engine.record_profile(tokens, Next::Greedy)?.launches()))
}

fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()))
}
