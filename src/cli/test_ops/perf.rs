//! Timing: of cases, and of what the adapter can do at best.

use std::time::Instant;

use anyhow::Result;
use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::check::{Case, Entry, build};
use wgquant::kernels::{FMAS_PER_ROUND, fma_peak};
use wgquant::report::test_ops::{Peaks, Speed};
use wgquant::tensor::DType;

/// Asks the child for [`measure_peaks`].
pub(super) const PEAKS: &str = "peaks";
/// Seconds of runs to time a case by, and the most runs.
const BUDGET: (f64, usize) = (0.1, 50);
/// Seconds that a GPU is kept busy before a case of many operations is timed, since an idle one has dropped its clocks.
const WARM_UP: (f64, usize) = (0.3, 1 << 30);
/// Bytes of the copied buffer: beyond any cache, within any binding.
const COPY_BYTES: u64 = 64 << 20;
/// Elements of the multiply-add kernel: enough to fill the largest GPU.
const FMA_COUNT: usize = 1 << 18;
/// A measurement shorter than this is mostly overhead.
const LONG_ENOUGH: f64 = 0.02;

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

/// The fastest of several copies, and of several runs of multiply-adds.
pub(super) fn measure_peaks(device: &Device) -> Result<Peaks> {
    Ok(Peaks { copy_bytes_per_s: copy(device)?, fma_ops_per_s: fma(device)? })
}

fn copy(device: &Device) -> Result<f64> {
    let bytes = COPY_BYTES.min(device.max_binding_bytes());
    let words = (bytes / 4) as usize;
    let (from, to) = (device.alloc(DType::U32, [words])?, device.alloc(DType::U32, [words])?);
    let copies = 4;
    let mut plan = Plan::new(device);
    (0..copies).try_for_each(|_| plan.copy(&from, &to))?;
    let recording = plan.record()?;
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let start = Instant::now();
        recording.run()?;
        device.wait()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * bytes as f64 * f64::from(copies) / best)
}

fn fma(device: &Device) -> Result<f64> {
    // The reference does not go by rounds of hardware; a little will do.
    let count = if device.gpu().is_some() { FMA_COUNT } else { 1024 };
    let x = device.upload_f32([count], &vec![1.0; count])?;
    let out = device.alloc(DType::F32, [count])?;
    let mut rounds = 1;
    loop {
        let mut plan = Plan::new(device);
        fma_peak(&mut plan, &x, &out, rounds)?;
        let recording = plan.record()?;
        let mut best = f64::INFINITY;
        for _ in 0..3 {
            best = best.min(block_on(recording.run_timed())?.max(1e-9));
        }
        if best >= LONG_ENOUGH || rounds >= 1 << 16 {
            return Ok(2.0 * (count * rounds * FMAS_PER_ROUND) as f64 / best);
        }
        rounds *= 4;
    }
}
