//! `wgquant doctor`.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use pollster::block_on;
use wgquant::gpu::{Caps, Device};
use wgquant::kernels::ENTRIES;
use wgquant::kernels::check::{Case, Entry, Outcome, check, variants};
use wgquant::report::{DeviceInfo, DoctorReport, terminal};

use super::args::GpuArgs;
use super::progress::Bar;
use super::{Verdict, out};

/// Seed of the inputs; a failure names it.
const SEED: u64 = 1;

/// Pick an adapter, say why, and check every kernel on it against the CPU reference
///
/// Exit code 1 when a case fails. Please add the output to bug reports.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(&self) -> Result<Verdict> {
        let device = self.gpu.open()?;
        let report = examine(&device, self.gpu.reason(), true);
        out::report(&report, self.json, terminal::doctor)?;
        Ok(if report.healthy() { Verdict::Passed } else { Verdict::Failed })
    }
}

/// Runs every kernel's cases, in every variant or in the one that this device gets.
pub(super) fn examine(device: &Device, reason: String, every_variant: bool) -> DoctorReport {
    let start = Instant::now();
    let bar = Bar::new("checking kernels", ENTRIES.len());
    let mut cases = Vec::new();
    for (done, entry) in ENTRIES.iter().enumerate() {
        for case in entry.cases {
            let mut variants = if every_variant { variants(device, entry, case) } else { vec![None] };
            if variants.len() > 1 {
                variants.remove(0); // the best is one of the others
            }
            cases.extend(variants.iter().map(|variant| examine_case(device, entry, case, *variant)));
        }
        bar.at(done + 1);
    }
    let failed = cases.iter().filter(|c| c.failure.is_some()).count();
    let skipped = cases.iter().filter(|c| c.skipped.is_some()).count();
    DoctorReport {
        device: DeviceInfo::from(device),
        reason,
        details: device.gpu().map(|g| g.adapter.clone()),
        caps: device.gpu().map_or(Caps::BASELINE, |g| g.caps),
        version: env!("CARGO_PKG_VERSION"),
        passed: cases.len() - failed - skipped,
        failed,
        skipped,
        seconds: start.elapsed().as_secs_f64(),
        cases,
    }
}

/// A case that cannot even run has failed.
fn examine_case(device: &Device, entry: &Entry, case: &Case, variant: Option<&'static str>) -> Outcome {
    block_on(check(device, entry, case, variant, SEED)).unwrap_or_else(|e| {
        let failure = super::one_line(&format!("{}/{}: {e}", entry.name, case.name));
        Outcome { variant: variant.unwrap_or("best").to_owned(), ..Outcome::failed(entry, case, failure) }
    })
}
