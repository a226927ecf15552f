//! `wgquant perplexity`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval;
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::{DeviceInfo, Measured, ModelInfo, PerplexityReport, terminal};

use super::args::{GpuArgs, check_fraction, model};
use super::progress::Bar;
use super::{Verdict, load, out};

/// Predicted tokens a window, unless given.
const CONTEXT: u32 = 1024;

/// Measure perplexity on a text, alone or token by token against a base model
#[derive(Debug, Args)]
pub(super) struct Perplexity {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Text (.txt), documents (.jsonl or .parquet with `text` or `messages`), or token ids (.npy, [windows, length] of u16 or u32)
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Compare with this model: perplexity ratio, KL divergence, agreement of the most likely token
    #[arg(long, value_name = "MODEL", value_parser = model())]
    base: Option<PathBuf>,
    /// Use only the first N windows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    windows: Option<u32>,
    /// Predicted tokens a window, for text [default: 1024]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    context: Option<u32>,
    /// Fail (exit code 1) when perplexity is more than this fraction above the base's, such as 0.01
    #[arg(long, value_name = "F", requires = "base", allow_negative_numbers = true)]
    max_ppl_increase: Option<f64>,
    /// Tokens a call at most: 1 measures what generating sees, where an int8 state is rounded between calls
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    step: Option<u32>,
    #[command(flatten)]
    run: load::MeasureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Perplexity {
    pub(super) fn run(&self) -> Result<Verdict> {
        check_fraction("--max-ppl-increase", self.max_ppl_increase)?;
        self.run.check()?;
        let file = ModelFile::open(&self.model)?;
        let base = self.base.as_ref().map(|dir| ModelFile::open(dir)).transpose()?;
        let windows = self.read(&file)?;
        let device = self.gpu.open()?;
        let measured = self.measure(&device, &file, base.as_ref(), &windows)?;
        self.check(&measured);
        let report = PerplexityReport {
            model: ModelInfo::from(&file),
            device: DeviceInfo::from(&device),
            file: self.file.display().to_string(),
            windows: windows.0.len(),
            measured,
        };
        out::report(&report, self.json, terminal::perplexity)?;
        Ok(self.gate(&report.measured))
    }

    fn read(&self, file: &ModelFile) -> Result<Windows> {
        let texts = load::texts(&self.model, &self.file)?;
        let limit = self.windows.map(|n| n as usize);
        if self.context.is_some() && load::is_ids(&self.file) {
            log::warn!("--context: is for text; the windows of {} are as they are", self.file.display());
        }
        let context = self.context.unwrap_or(CONTEXT) as usize;
        let windows = Windows::read(&self.file, texts.as_ref(), file.config().bos, context, limit)?;
        load::check_ids(&self.file, &self.model, file, windows.beyond(file.config().vocab_size))?;
        if let Some(asked) = limit.filter(|asked| *asked > windows.0.len()) {
            log::warn!("--windows {asked}: {} has {}", self.file.display(), windows.0.len());
        }
        Ok(windows)
    }

    fn measure(
        &self,
        device: &Device,
        file: &ModelFile,
        base: Option<&ModelFile>,
        windows: &Windows,
    ) -> Result<Measured> {
        let settings = load::Settings { step: self.step.map(|n| n as usize), ..self.run.settings() };
        let engine = |file, settings| load::engine(&self.gpu, device, file, windows.longest(), settings);
        let bar = Bar::new("measuring", windows.0.len());
        let mut step = |done, _| bar.at(done);
        let mut model = engine(file, settings)?;
        let Some(base) = base else {
            return Ok(Measured::Alone(block_on(eval::perplexity(&mut model, windows, &mut step))?));
        };
        let mut measure = engine(base, settings.of_base())?;
        let comparison = block_on(eval::compare(&mut measure, &mut model, windows, &mut step))?;
        Ok(Measured::Against { base_model: ModelInfo::from(base), comparison: Box::new(comparison) })
    }

    /// Says so where a model's logits were no numbers: then its perplexity is none either.
    fn check(&self, measured: &Measured) {
        let base = match (measured, &self.base) {
            (Measured::Against { comparison, .. }, Some(dir)) => Some((dir, &comparison.base)),
            _ => None,
        };
        for (dir, found) in [(&self.model, measured.model())].into_iter().chain(base) {
            if let Some(window) = found.nll_per_window.iter().position(|nll| !nll.is_finite()) {
                log::warn!(
                    "{}: gives logits that are no numbers, first in window {window}: its weights make values that overflow, \
                     and what is measured of it means nothing",
                    dir.display()
                );
            }
        }
    }

    fn gate(&self, measured: &Measured) -> Verdict {
        let (Some(limit), Measured::Against { comparison, .. }) = (self.max_ppl_increase, measured) else {
            return Verdict::Passed;
        };
        let increase = comparison.perplexity_ratio - 1.0;
        // Written so that NaN fails.
        if increase <= limit {
            return Verdict::Passed;
        }
        out::say(format_args!(
            "wgquant: quality gate: perplexity is {:.3} % above the base's, {:.3} % is allowed",
            increase * 100.0,
            limit * 100.0
        ));
        Verdict::Failed
    }
}
