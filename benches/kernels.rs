//! Times every case of every kernel: `cargo bench --bench kernels -- FILTER`, the filter matching
//! `kernel/variant/case`, where the variant `best` is the one the adapter gets. The device is the best GPU, or the
//! one `WGQUANT_DEVICE` names (`cpu` is the reference); `WGQUANT_CAPS` masks its capabilities. A case is checked
//! against the reference before it is timed; a wrong result stops the run.
//!
//! Times are GPU time by timestamp queries where the adapter has them. Throughput is bytes a second for kernels that
//! move more than they compute, else operations a second.

use std::cell::OnceCell;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use pollster::block_on;
use wgquant::gpu::{Device, DeviceChoice, Recording};
use wgquant::kernels::{ENTRIES, check};

/// Operations a byte above which a kernel is taken to be bound by arithmetic.
const BALANCE: usize = 16;

fn device() -> Device {
    let choice = std::env::var("WGQUANT_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let caps = std::env::var("WGQUANT_CAPS").ok();
    block_on(Device::open(&DeviceChoice::from(choice.as_str()), caps.as_deref())).expect("the device opens")
}

/// Checks a case and records it.
fn prepare(
    device: &Device,
    entry: &check::Entry,
    case: &check::Case,
    variant: Option<&'static str>,
) -> wgquant::Result<Recording> {
    let outcome = block_on(check::check(device, entry, case, variant, 1))?;
    let wrong = outcome.failure.or(outcome.skipped);
    assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
    check::build(device, entry, case, variant, 1)
}

fn bench(criterion: &mut Criterion, device: &Device, entry: &check::Entry, case: &check::Case) {
    let work = (entry.work)(&case.args());
    let throughput = if work.ops > BALANCE * work.bytes {
        Throughput::Elements(work.ops as u64)
    } else {
        Throughput::Bytes(work.bytes as u64)
    };
    for variant in std::iter::once(None).chain(check::available(device, entry.name).into_iter().map(Some)) {
        // Only when the first sample is taken, so that what the filter leaves out costs nothing.
        let recording = OnceCell::new();
        let mut group = criterion.benchmark_group(format!("{}/{}", entry.name, variant.unwrap_or("best")));
        group.throughput(throughput.clone());
        group.bench_function(case.name, |b| {
            let recording = recording.get_or_init(|| prepare(device, entry, case, variant).expect("the case runs"));
            b.iter_custom(|n| {
                let seconds: f64 = (0..n).map(|_| block_on(recording.run_timed()).expect("the case runs")).sum();
                // A timestamp query may see no time at all, which criterion refuses.
                Duration::from_secs_f64(seconds.max(1e-9 * n as f64))
            });
        });
        group.finish();
    }
}

fn main() {
    let device = device();
    eprintln!("{}", device.name());
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for entry in ENTRIES {
        for case in entry.cases {
            bench(&mut criterion, &device, entry, case);
        }
    }
    criterion.final_summary();
}
