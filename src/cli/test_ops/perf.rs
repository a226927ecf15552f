//! Timing: of cases, and of what the adapter can do at best.

use std::time::Instant;

use anyhow::Result;
use pollster::block_on;
use wgquant::bench::{Warmer, copy_peak, fma_peak};
use wgquant::gpu::Device;
use wgquant::kernels::check::{Case, Entry, build};
use wgquant::report::test_ops::{Peaks, Speed};

/// Asks the child for [`measure_peaks`].
pub(super) const PEAKS: &str = "peaks";
/// Seconds of runs to time a case by, and the most runs.
const BUDGET: (f64, usize) = (0.1, 50);
/// Seconds that a GPU is kept busy before a case of many operations is timed, since an idle one has dropped its clocks.
const WARM_UP: (f64, usize) = (0.3, 1 << 30);
/// Times a case; its percentages are 0 until the peaks are known.
pub(super) fn time(
    device: &Device,
    entry: &Entry,
    case: &Case,
    variant: Option<&'static str>,
    seed: u64,
) -> Result<Speed> {
    let recording = build(device, entry, case, variant, seed)?;
    // The first run compiles and pages in.
    block_on(recording.run_timed())?;
    let work = (entry.work)(&case.args());
    let start = Instant::now();
    while work.ops >= WARM_UP.1 && start.elapsed().as_secs_f64() < WARM_UP.0 {
        block_on(recording.run_timed())?;
    }
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.is_empty() || (start.elapsed().as_secs_f64() < BUDGET.0 && times.len() < BUDGET.1) {
        // A timestamp query may see no time at all.
        times.push(block_on(recording.run_timed())?.max(1e-9));
    }
    times.sort_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    Ok(Speed {
        us: seconds * 1e6,
        runs: times.len(),
        gb_per_s: work.bytes as f64 / seconds / 1e9,
        gflop_per_s: work.ops as f64 / seconds / 1e9,
        percent_of_copy: 0.0,
        percent_of_fma: 0.0,
    })
}

/// Fills in the percentages.
pub(super) fn relate(speed: &mut Speed, peaks: &Peaks) {
    speed.percent_of_copy = 100.0 * speed.gb_per_s * 1e9 / peaks.copy_bytes_per_s;
    speed.percent_of_fma = 100.0 * speed.gflop_per_s * 1e9 / peaks.fma_ops_per_s;
}

/// The fastest of several copies, and of several runs of multiply-adds, on a warm device.
pub(super) fn measure_peaks(device: &Device) -> Result<Peaks> {
    let warmer = Warmer::new(device, WARM_UP.0)?;
    Ok(Peaks { copy_bytes_per_s: copy_peak(device, &warmer)?, fma_ops_per_s: fma_peak(device, &warmer)? })
}
