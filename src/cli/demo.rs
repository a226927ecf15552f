//! `wgquant demo`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::checkpoint::TOOL;
use wgquant::eval::{Comparison, compare};
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::quantize::QUANTIZER;
use wgquant::recipe::Bits;
use wgquant::report::{DemoReport, DemoRow, DeviceInfo, ModelInfo, html, terminal};
use wgquant::runtime::Next;

use super::args::{GpuArgs, model};
use super::generation::{encode, generate};
use super::progress::Bar;
use super::recipe::{RecipeArgs, Rotate};
use super::{Verdict, doctor, load, out, quantize};

/// Its presence says that a directory is the demo's own and may be replaced.
const MARK: &str = ".wgquant-demo";
/// Enough for error bars, few enough for a software driver.
const WINDOWS: usize = 4;
const PROMPT: &str = "The old man looked at the sea and said";
const NEW_TOKENS: usize = 32;

/// Check this machine, then quantize, measure and run a small trained model
///
/// W8A8 and W4A8, with and without rotation, each compared with the original on held-out text. Takes a minute or two
/// without a GPU.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Model directory, with tokenizer.json and val_ids_u16.npy [default: assets/nano of this repository]
    #[arg(long, value_name = "DIR", value_parser = model())]
    model: Option<PathBuf>,
    /// Directory for models and report; the demo's own earlier output is replaced
    #[arg(long, value_name = "DIR", default_value = "out/demo")]
    out: PathBuf,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) fn run(&self) -> Result<Verdict> {
        let start = Instant::now();
        let file = ModelFile::open(&self.model_dir()?)?;
        // Before an earlier demo is removed for this one.
        let data = file.checkpoint().dir().join("val_ids_u16.npy");
        let windows = Windows::read(&data, None, None, 0, Some(WINDOWS))?;
        load::check_ids(&data, file.checkpoint().dir(), &file, windows.beyond(file.config().vocab_size))?;
        let device = self.gpu.open()?;
        fresh(&self.out)?;
        out::say(format_args!("1/3 checking every kernel on {}", DeviceInfo::from(&device).adapter));
        let health = doctor::examine(&device, self.gpu.reason(), false);
        if !health.healthy() {
            out::report(&health, self.json, terminal::doctor)?;
            return Ok(Verdict::Failed);
        }
        let models = self.measure(&file, &device, &windows)?;
        let report = DemoReport {
            tool: TOOL.to_owned(),
            device: DeviceInfo::from(&device),
            cases_passed: health.passed,
            cases_failed: health.failed,
            file: data.display().to_string(),
            windows: windows.0.len(),
            tokens: windows.targets(),
            prompt: PROMPT.to_owned(),
            models,
            seconds: start.elapsed().as_secs_f64(),
        };
        let json = serde_json::to_string_pretty(&report)?;
        out::save(&self.out.join("demo.json"), &format!("{json}\n"))?;
        let page = self.out.join("report.html");
        out::save(&page, &html::demo(&report))?;
        if !self.json {
            for row in &report.models {
                out::text(&format!("{:>16}: {}{}\n", row.name, PROMPT, row.text.replace('\n', " ")))?;
            }
        }
        out::report(&report, self.json, terminal::demo)?;
        out::say(format_args!("{:.0} s in all; page: {}", report.seconds, page.display()));
        Ok(Verdict::Passed)
    }

    fn model_dir(&self) -> Result<PathBuf> {
        let nano = Path::new("assets/nano");
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(nano);
        let places = [self.model.clone(), Some(nano.to_owned()), Some(built)];
        let mut places = places.into_iter().flatten();
        let found = if self.model.is_some() { places.next() } else { places.find(|p| p.is_dir()) };
        found.ok_or_else(|| anyhow!("assets/nano is not here; run the demo in the repository, or pass --model DIR"))
    }

    /// The original, then each quantized model.
    fn measure(&self, file: &ModelFile, device: &Device, windows: &Windows) -> Result<Vec<DemoRow>> {
        self.gpu.check(device, &QUANTIZER)?;
        out::say(format_args!("2/3 quantizing into {}", self.out.display()));
        let made = self.quantize_all(file, device)?;
        out::say(format_args!("3/3 comparing each with the original on {} held-out tokens", windows.targets()));
        let bar = Bar::new("comparing", made.len() * windows.0.len());
        let mut models = Vec::new();
        for (i, (name, dir)) in made.iter().enumerate() {
            let model = ModelFile::open(dir)?;
            let longest = windows.longest();
            let (mut base, mut engine) = (
                load::engine(&self.gpu, device, file, longest, load::Settings::default())?,
                load::engine(&self.gpu, device, &model, longest, load::Settings::default())?,
            );
            let mut step = |done, _| bar.at(i * windows.0.len() + done);
            let result = block_on(compare(&mut base, &mut engine, windows, &mut step))?;
            if models.is_empty() {
                models.push(base_row(file, &result, speak(&self.gpu, device, file)?));
            }
            models.push(row(name, &model, file, &result, speak(&self.gpu, device, &model)?));
        }
        Ok(models)
    }

    /// Names and directories of the quantized models.
    fn quantize_all(&self, file: &ModelFile, device: &Device) -> Result<Vec<(String, PathBuf)>> {
        let mut made = Vec::new();
        for bits in [Bits::W8A8, Bits::W4A8] {
            for (rotate, suffix) in [(Rotate::None, ""), (Rotate::Hadamard, "hadamard")] {
                let recipe = RecipeArgs::rotated(rotate).recipe(bits, file)?;
                let words: Vec<String> =
                    [bits.to_string(), suffix.to_owned()].into_iter().filter(|w| !w.is_empty()).collect();
                let dir = self.out.join(words.join("-"));
                quantize::quantize(file, &recipe, device, None, &bits.to_string(), &dir)?;
                made.push((words.join(" + "), dir));
            }
        }
        Ok(made)
    }
}

/// Tokens a second and a continuation of the prompt.
fn speak(gpu: &GpuArgs, device: &Device, file: &ModelFile) -> Result<(Option<f64>, String)> {
    let tokenizer = load::tokenizer(file.checkpoint().dir())?;
    let tokenizer =
        tokenizer.ok_or_else(|| anyhow!("{}: holds no tokenizer.json", file.checkpoint().dir().display()))?;
    let ids = encode(&tokenizer, file, PROMPT)?;
    let settings = load::Settings { announce: true, ..Default::default() };
    let mut engine = load::engine(gpu, device, file, ids.len() + NEW_TOKENS, settings)?;
    let made = generate(&mut engine, &tokenizer, PROMPT, &ids, NEW_TOKENS, Next::Greedy, |_| Ok(()))?;
    Ok((made.tokens_per_second, made.text))
}

fn row(name: &str, model: &ModelFile, base: &ModelFile, c: &Comparison, said: (Option<f64>, String)) -> DemoRow {
    DemoRow {
        name: name.to_owned(),
        model: ModelInfo::from(model),
        reduction: base.bytes() as f64 / model.bytes().max(1) as f64,
        perplexity: c.model.perplexity,
        perplexity_stderr: c.model.perplexity_stderr,
        perplexity_ratio: c.perplexity_ratio,
        mean_kl: c.mean_kl,
        top1_agreement: c.top1_agreement,
        tokens_per_second: said.0,
        text: said.1,
    }
}

/// The original against itself.
fn base_row(base: &ModelFile, c: &Comparison, said: (Option<f64>, String)) -> DemoRow {
    let row = row("original", base, base, c, said);
    let (perplexity, perplexity_stderr) = (c.base.perplexity, c.base.perplexity_stderr);
    DemoRow { perplexity, perplexity_stderr, perplexity_ratio: 1.0, mean_kl: 0.0, top1_agreement: 1.0, ..row }
}

/// An empty directory at `out`: new, empty already, or the demo's own.
fn fresh(out: &Path) -> Result<()> {
    let named = || format!("{}", out.display());
    if out.symlink_metadata().is_ok() {
        let empty = out.read_dir().with_context(named)?.next().is_none();
        if !empty && !out.join(MARK).is_file() {
            bail!("{} exists and is not the demo's own; choose another with --out", out.display());
        }
        std::fs::remove_dir_all(out).with_context(named)?;
    }
    std::fs::create_dir_all(out).with_context(named)?;
    out::save(&out.join(MARK), "Made by `wgquant demo`, which replaces this directory.\n")
}
