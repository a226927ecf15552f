//! The watched process: opens the device, then runs the cases it is given, one a line.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use pollster::block_on;
use serde::{Deserialize, Serialize};
use wgquant::Error;
use wgquant::gpu::Device;
use wgquant::kernels::ENTRIES;
use wgquant::kernels::check::{Case, Entry, available, check};
use wgquant::report::test_ops::{CaseId, CaseRecord, ResultFile, Status, params};

use super::super::args::GpuArgs;
use super::super::{Verdict, one_line, out};
use super::perf;
use super::supervise::{MARK, RESTART};

/// What the child says first.
#[derive(Serialize, Deserialize)]
pub(super) struct Ready {
    /// A result file without cases.
    pub(super) file: ResultFile,
    /// Variants that the adapter can run, by kernel, where there is a choice.
    pub(super) variants: BTreeMap<String, Vec<String>>,
}

/// Run the cases read from stdin
#[derive(Debug, Args)]
pub(super) struct RunCase {
    #[command(flatten)]
    gpu: GpuArgs,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time what passes; measures the peaks first
    #[arg(long)]
    perf: bool,
}

impl RunCase {
    pub(super) fn run(&self) -> Result<Verdict> {
        let device = self.gpu.open()?;
        let mode = if self.perf { "perf" } else { "test" };
        let names = |e: &Entry| available(&device, e.name).into_iter().map(str::to_owned).collect();
        let ready = Ready {
            file: ResultFile::new(&device, mode, self.seed),
            variants: ENTRIES.iter().map(|e| (e.name.to_owned(), names(e))).collect(),
        };
        say(&serde_json::to_string(&ready)?)?;
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            if line == perf::PEAKS {
                inject(&device, perf::PEAKS)?;
                say(&serde_json::to_string(&perf::measure_peaks(&device)?)?)?;
                continue;
            }
            let id: CaseId = serde_json::from_str(&line).with_context(|| format!("not a case: {line}"))?;
            inject(&device, &format!("{}/{}", id.kernel, id.case))?;
            let (record, lost) = self.record(&device, id)?;
            let answer = serde_json::to_string(&record)?;
            if lost {
                // A lost device fails everything after it.
                say(&format!("{RESTART} {answer}"))?;
                break;
            }
            say(&answer)?;
        }
        Ok(Verdict::Passed)
    }

    /// Runs one case; also says whether the device should be given up.
    fn record(&self, device: &Device, id: CaseId) -> Result<(CaseRecord, bool)> {
        let (entry, case) = find(&id)?;
        let variant = available(device, entry.name).into_iter().find(|v| *v == id.variant);
        let (params, start) = (params(case), Instant::now());
        let (mut record, mut restart) = match block_on(check(device, entry, case, variant, self.seed)) {
            Ok(outcome) => (CaseRecord::compared(id, params, self.seed, outcome), false),
            Err(e) => {
                // A seed that a case cannot use is no fault of the driver.
                let text = one_line(&e.to_string());
                let status = if text.contains("take another seed") { Status::Skip } else { Status::Fail };
                let restart = matches!(e, Error::Gpu { .. });
                (CaseRecord::new(id, params, self.seed, status, Some(text)), restart)
            }
        };
        if let Some(how) = device.gpu().and_then(wgquant::gpu::Gpu::lost) {
            // Whatever was read after that says nothing.
            let message = record
                .message
                .take()
                .filter(|m| !m.contains(&how))
                .map_or_else(|| how.clone(), |m| format!("{how}; {m}"));
            (record.status, record.message, restart) = (Status::Crash, Some(one_line(&message)), true);
        }
        record.ms = start.elapsed().as_secs_f64() * 1e3;
        if self.perf && record.status == Status::Pass {
            record.speed = Some(perf::time(device, entry, case, variant, self.seed)?);
        }
        Ok((record, restart))
    }
}

/// Fault injection, for tests of the watching only: what `WGQUANT_INJECT_FAULT` says happens to cases of its names.
/// `KERNEL/CASE=KIND;..`, with `peaks=KIND` for measuring those, where the kind is `abort`, `hang`, `lost` (the device) or,
/// with a file that it makes the first time, `abort-once:FILE`.
fn inject(device: &Device, name: &str) -> Result<()> {
    let Ok(faults) = std::env::var("WGQUANT_INJECT_FAULT") else { return Ok(()) };
    match faults.split(';').filter_map(|f| f.split_once('=')).find(|(of, _)| *of == name).map(|(_, kind)| kind) {
        None => {}
        Some("abort") => std::process::abort(),
        Some("hang") => loop {
            std::thread::park();
        },
        Some("lost") => device.gpu().into_iter().for_each(wgquant::gpu::Gpu::lose),
        Some(other) => match other.strip_prefix("abort-once:") {
            Some(file) if std::path::Path::new(file).exists() => {}
            Some(file) => {
                std::fs::write(file, "")?;
                std::process::abort();
            }
            None => anyhow::bail!("WGQUANT_INJECT_FAULT: `{other}` is no fault"),
        },
    }
    Ok(())
}

fn find(id: &CaseId) -> Result<(&'static Entry, &'static Case)> {
    let entry = ENTRIES.iter().find(|e| e.name == id.kernel);
    entry.and_then(|e| Some((e, e.case(&id.case)?))).with_context(|| format!("no case {id}"))
}

fn say(line: &str) -> Result<()> {
    out::text(&format!("{MARK}{line}\n"))
}
