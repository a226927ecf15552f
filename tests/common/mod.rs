//! What several test binaries share: the GPU, and running the cases of a kernel.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod shared;

use std::sync::OnceLock;

use pollster::block_on;
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::kernels::{ENTRIES, check};
use wgquant::shaders::{KERNELS, Variant};

/// The GPU under test: the best there is, or the one `WGQUANT_DEVICE` names. No GPU is a failure, not a skip.
pub(crate) fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(|| open(std::env::var("WGQUANT_CAPS").ok().as_deref())).clone()
}

/// The same opened anew, with these capabilities: for tests that change what a device does, which no other may see.
pub(crate) fn open(caps: Option<&str>) -> Device {
    let choice = std::env::var("WGQUANT_DEVICE").unwrap_or_else(|_| "gpu".to_owned());
    let opened = block_on(Device::open(&DeviceChoice::from(choice.as_str()), caps));
    opened.expect("tests need a GPU driver; `make test` installs Mesa's software one")
}

/// Runs every case of a kernel in every variant this adapter has, and fails with all failures listed. Only probes may
/// be skipped, and say so.
pub(crate) fn check_all(kernel: &str) {
    let device = gpu();
    let entry = ENTRIES.iter().find(|e| e.name == kernel).expect("the kernel is registered");
    let mut failures = Vec::new();
    for case in entry.cases {
        for variant in check::variants(&device, entry, case) {
            match block_on(check::check(&device, entry, case, variant, 1)) {
                Ok(check::Outcome { skipped: Some(reason), case, .. }) if kernel.starts_with("probe_") => {
                    println!("SKIPPED {kernel}/{case}: {reason}");
                }
                Ok(outcome) => failures.extend(outcome.failure.or(outcome.skipped)),
                Err(e) => failures.push(format!("{kernel}/{}: {e}", case.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Runs a variant that no adapter is given by itself on every case that is of its format.
pub(crate) fn check_variant(kernel: &str, variant: &'static str) {
    check_variants(kernel, &[variant]);
}

/// Likewise variants that are one shader, for formats that only other variants tell apart.
pub(crate) fn check_variants(kernel: &str, variants: &[&'static str]) {
    let device = gpu();
    let named =
        KERNELS.iter().filter(|k| k.name == kernel).flat_map(|k| k.variants).filter(|v| variants.contains(&v.name));
    let (f16, threads) =
        named.fold((false, 0), |(f16, most), v| (f16 || v.needs.contains(&"f16"), most.max(threads(v))));
    if device.gpu().is_some_and(|g| (f16 && !g.caps.f16) || threads > g.adapter.max_invocations) {
        let takes = if f16 { "f16 and " } else { "" };
        println!("SKIPPED: {kernel}.{} takes {takes}{threads} threads: {}", variants.join(", "), device.name());
        return;
    }
    let entry = ENTRIES.iter().find(|e| e.name == kernel).expect("the kernel is registered");
    let mut cases = Vec::new();
    for variant in variants {
        let label = format!("{kernel}.{variant}");
        let dispatches = |case: &&check::Case| check::labels(entry, case, variant).is_ok_and(|l| l.contains(&label));
        cases.extend(entry.cases.iter().filter(dispatches).map(|case| (case, *variant)));
    }
    assert!(cases.len() > 5, "{} cases dispatch {kernel}.{}", cases.len(), variants.join(", "));
    let outcomes = cases.into_iter().map(|(case, v)| block_on(check::check(&device, entry, case, Some(v), 1)));
    let failed = |o: check::Outcome| o.failure.or(o.skipped);
    let failures: Vec<_> = outcomes.filter_map(|o| o.map_or_else(|e| Some(e.to_string()), failed)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Threads of a workgroup, where the shader names their number.
pub(crate) fn threads(variant: &Variant) -> u32 {
    let named = |source: &str| source.split_once("const WG = ")?.1.split_once('u')?.0.parse().ok();
    named(variant.source).unwrap_or(0)
}

/// Golden values of single operations, from other implementations (`tests/fixtures/README.md`).
pub(crate) struct Golden(Vec<u8>);

/// The file's tensors.
pub(crate) fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ops.safetensors");
    Golden(std::fs::read(path).expect("the fixture is in the repository"))
}

impl Golden {
    fn view(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let file = safetensors::SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }

    /// Shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Vec<usize> {
        self.view(name).0
    }

    /// An f32 tensor.
    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        let bytes = self.view(name).1;
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// An i32 tensor.
    pub(crate) fn i32(&self, name: &str) -> Vec<i32> {
        let bytes = self.view(name).1;
        bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// An i8 tensor.
    pub(crate) fn i8(&self, name: &str) -> Vec<i8> {
        self.view(name).1.into_iter().map(|b| b as i8).collect()
    }
}

/// Fails unless `got` is `want` within `nmse`.
#[track_caller]
pub(crate) fn assert_close(got: &[f32], want: &[f32], nmse: f64) {
    assert_eq!(got.len(), want.len());
    let (e, worst) = check::error(got, want);
    assert!(e <= nmse, "NMSE {e:.3e} above {nmse:.0e}; worst at {worst}: {} for {}", got[worst], want[worst]);
}

/// The small trained model in the repository.
pub(crate) fn nano() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nano")
}
