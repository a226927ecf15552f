//! `wgquant test-ops`: every kernel's cases on an adapter, each in a watched process.

mod child;
mod filter;
mod output;
mod perf;
mod run;
mod supervise;

pub(super) use run::rfc3339;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use wgquant::gpu::DeviceChoice;
use wgquant::report::test_ops::{Baseline, Comparison, ResultFile, SCHEMA_VERSION, params};
use wgquant::report::{shell, terminal};

use super::args::{DEVICE, GpuArgs, check_backend};
use super::{Verdict, out};
use filter::{Filter, Ops};
use output::{Output, SupportOutput};

/// Of the inputs of who names none.
const SEED: u64 = 1;
/// Seconds of who sets none.
const TIMEOUT: f64 = 120.0;

/// Check or time every kernel's cases on an adapter, whatever its driver does
///
/// Each case runs in a watched process: a crash or a hang is a result. Exit code 1 when a case does not end as expected.
#[derive(Debug, Args)]
pub(super) struct TestOps {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Compare every case with the CPU reference
    Test(Cases),
    /// Time every case, in GB/s, GFLOP/s and percent of a measured copy and of measured multiply-adds
    Perf(Cases),
    /// Show which variants the adapter can run
    Support(Support),
    /// Show what differs between two result files; exit code 1 when a case ends otherwise
    Compare(Compare),
    #[command(hide = true)]
    RunCase(child::RunCase),
}

/// Where cases run.
#[derive(Debug, Args)]
struct Place {
    #[command(flatten)]
    gpu: GpuArgs,
    /// `vulkan`, `metal`, `dx12`, `gl` or `cpu`; anything else is as --device, which it takes the place of
    #[arg(short, long, value_name = "BACKEND")]
    backend: Option<String>,
}

#[derive(Debug, Args)]
struct Cases {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    filter: Filter,
    /// Seed of the inputs
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Seconds a case may take
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT, value_parser = seconds)]
    timeout: f64,
    /// Processes at a time; timing takes one
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Known failures: CSV (adapter,driver,kernel,case,variant,reason; the first five are regular expressions) or JSON
    /// lines
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// List the kernels and their cases' numbers
    #[arg(long)]
    list_ops: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Support {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    ops: Ops,
    #[command(flatten)]
    output: SupportOutput,
}

#[derive(Debug, Args)]
struct Compare {
    /// A result file: `test-ops test --output json`
    a: PathBuf,
    /// Another
    b: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TestOps {
    pub(super) fn run(&self) -> Result<Verdict> {
        match &self.mode {
            Mode::RunCase(c) => c.run(),
            Mode::Compare(c) => c.run(),
            Mode::Test(c) | Mode::Perf(c) if c.list_ops => list(&c.filter),
            Mode::Test(c) => c.run(false),
            Mode::Perf(c) => c.run(true),
            Mode::Support(c) => c.run(),
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|e| e.to_string())?;
    Duration::try_from_secs_f64(value).ok().filter(|d| !d.is_zero()).ok_or("expected seconds above 0")?;
    Ok(value)
}

fn list(filter: &Filter) -> Result<Verdict> {
    let (mut text, mut last) = (String::new(), "");
    for (entry, case) in filter.cases()? {
        if entry.name != last {
            text += &format!("{}\n", entry.name);
            last = entry.name;
        }
        text += &format!("  {} ({})\n", case.name, params(case));
    }
    out::text(&text)?;
    Ok(Verdict::Passed)
}

impl Cases {
    fn run(&self, perf: bool) -> Result<Verdict> {
        self.place.check()?;
        self.output.check()?;
        let known = self.baseline.as_deref().map(Baseline::read).transpose()?;
        let mut file = run::run(self, perf)?;
        if let Some(known) = known {
            known.apply(&mut file);
        }
        self.output.write(&file, &self.again())?;
        Ok(if file.as_expected() { Verdict::Passed } else { Verdict::Failed })
    }

    /// The flags that a failing case needs to run as it did, beside its names and seed.
    fn again(&self) -> String {
        let Place { gpu, backend } = &self.place;
        let device = match backend {
            Some(b) => Some(("--backend", b.clone())),
            None if gpu.device == DEVICE => None,
            None => Some(("--device", gpu.device.clone())),
        };
        // Of the CPU what the environment said of a GPU would be refused as flags.
        let cpu = backend.as_deref().unwrap_or(&gpu.device) == "cpu";
        let more = if cpu { Vec::new() } else { gpu.more() };
        let flags = device.into_iter().chain(more).map(|(flag, value)| format!(" {flag} {}", shell(&value)));
        flags.collect::<String>() + if self.filter.large { " --large" } else { "" }
    }
}

impl Place {
    /// -b beside a --device of the command line is refused; one that the environment names for all commands gives way. So
    /// are flags without effect.
    fn check(&self) -> Result<()> {
        check_backend()?;
        let (flag, name) = match &self.backend {
            Some(b) if !self.gpu.usual_device() => {
                bail!("--backend {b} and --device {}: both name the device, pass one of them", self.gpu.device)
            }
            Some(b) => ("--backend", b),
            None => ("--device", &self.gpu.device),
        };
        if DeviceChoice::from(name.as_str()) == DeviceChoice::Cpu {
            self.gpu.refuse_without_gpu(&format!("{flag} {name}"))?;
        }
        Ok(())
    }
}

impl Support {
    fn run(&self) -> Result<Verdict> {
        self.place.check()?;
        let kernels = self.ops.kernels()?;
        let ready = run::probe(&self.place, SEED, Duration::from_secs_f64(TIMEOUT))?;
        output::support(&ready, &kernels, self.output.json())?;
        Ok(Verdict::Passed)
    }
}

impl Compare {
    fn run(&self) -> Result<Verdict> {
        let comparison = Comparison::new(&read(&self.a)?, &read(&self.b)?);
        out::report(&comparison, self.json, terminal::comparison)?;
        Ok(if comparison.same_statuses() { Verdict::Passed } else { Verdict::Failed })
    }
}

fn read(path: &std::path::Path) -> Result<ResultFile> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(name)?;
    let json: serde_json::Value = serde_json::from_str(&text).with_context(name)?;
    let version = json.get("schema_version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(SCHEMA_VERSION)) {
        let got = version.map_or_else(|| "none".to_owned(), |v| v.to_string());
        anyhow::bail!("{}: schema_version is {got}, expected {SCHEMA_VERSION}", name());
    }
    serde_json::from_value(json).with_context(name)
}
