//! Times every case of every kernel: `cargo bench --bench kernels -- FILTER`, a filter being part of
//! `kernel/variant/case`. The device is the best GPU, or the one `WGQUANT_DEVICE` names (`cpu` is the reference);
//! `WGQUANT_CAPS` masks its capabilities. A case is checked against the reference before it is timed; a wrong
//! result stops the run.
//!
//! Times are GPU time by timestamp queries where the adapter has them. Throughput is bytes a second for kernels that
//! move more than they compute, else operations a second.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use pollster::block_on;
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::kernels::{ENTRIES, check};

/// Operations a byte above which a kernel is taken to be bound by arithmetic.
const BALANCE: usize = 16;

fn device() -> Device {
    let choice = std::env::var("WGQUANT_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let caps = std::env::var("WGQUANT_CAPS").ok();
    block_on(Device::open(&DeviceChoice::from(choice.as_str()), caps.as_deref())).expect("the device opens")
}

/// The variant that runs when none is forced is named by the check.
fn bench(criterion: &mut Criterion, device: &Device, entry: &check::Entry, case: &check::Case, wanted: &[String]) {
    for variant in check::variants(device, entry.name) {
        let name = variant.unwrap_or("best");
        let id = format!("{}/{name}/{}", entry.name, case.name);
        // Skipped here, since building and checking take longer than criterion's own filter saves.
        if !wanted.is_empty() && !wanted.iter().any(|w| id.contains(w)) {
            continue;
        }
        let outcome = block_on(check::check(device, entry, case, variant, 1)).expect("the case runs");
        assert!(outcome.failure.is_none(), "{}", outcome.failure.unwrap_or_default());
        let recording = check::build(device, entry, case, variant, 1).expect("the case records");
        let work = (entry.work)(&case.args());
        let throughput = if work.ops > BALANCE * work.bytes {
            Throughput::Elements(work.ops as u64)
        } else {
            Throughput::Bytes(work.bytes as u64)
        };
        let mut group = criterion.benchmark_group(format!("{}/{name}", entry.name));
        group.throughput(throughput);
        group.bench_function(case.name, |b| {
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
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for entry in ENTRIES {
        for case in entry.cases {
            bench(&mut criterion, &device, entry, case, &wanted);
        }
    }
    criterion.final_summary();
}
