//! What `wgquant test-ops` found: the result file that people exchange. Its schema is `schema/test-ops.schema.json`.

mod baseline;
mod browser;
mod compare;
mod export;
mod matrix;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checkpoint::hex;
use crate::gpu::{AdapterReport, Caps, Device};
use crate::kernels::check::{Case, Outcome, tolerance};
use crate::shaders::KERNELS;

pub use baseline::Baseline;
pub use browser::{Browser, ModelRun};
pub use compare::{Change, Comparison};

/// Name of the variant that an adapter gets.
pub const BEST: &str = "best";

/// A case's numbers as text: `rows=5, cols=128`.
#[must_use]
pub fn params(case: &Case) -> String {
    case.args.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
}

/// Version of the file's layout; readers refuse others.
pub const SCHEMA_VERSION: u32 = 1;

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Agrees with the reference.
    Pass,
    /// Does not, or gave an error.
    Fail,
    /// Not run: the adapter lacks something the case needs.
    Skip,
    /// The process died, or the device was lost.
    Crash,
    /// The process was ended because the case took too long.
    Timeout,
    /// Failed, then passed on a second run with the same seed.
    Flake,
    /// Failed, as the baseline says.
    ExpectedFail,
    /// Passed although the baseline says it fails: the entry should go.
    UnexpectedPass,
}

impl Status {
    /// Does it make `test-ops` exit with 1?
    #[must_use]
    pub fn unexpected(self) -> bool {
        !matches!(self, Self::Pass | Self::Skip | Self::ExpectedFail)
    }

    /// Did the case itself fail, whatever was expected?
    #[must_use]
    pub fn failed(self) -> bool {
        matches!(self, Self::Fail | Self::Crash | Self::Timeout | Self::Flake | Self::ExpectedFail)
    }
}

/// Which case in which variant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CaseId {
    /// Kernel.
    pub kernel: String,
    /// Case.
    pub case: String,
    /// `best` (the one the adapter gets) or a forced variant.
    pub variant: String,
}

impl std::fmt::Display for CaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} [{}]", self.kernel, self.case, self.variant)
    }
}

/// How long a case takes on the device, and how much that is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Speed {
    /// Median time of a run, microseconds.
    pub us: f64,
    /// Timed runs.
    pub runs: usize,
    /// Bytes a second it must move, in 10^9.
    pub gb_per_s: f64,
    /// Operations a second it must do, in 10^9 (a multiply-add is two).
    pub gflop_per_s: f64,
    /// Bytes a second in percent of the measured copy; 0 where the peaks could not be measured.
    pub percent_of_copy: f64,
    /// Operations a second in percent of the measured f32 multiply-adds, likewise; int8 products may exceed 100.
    pub percent_of_fma: f64,
}

/// What the adapter can do, measured in the same run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Peaks {
    /// Bytes a second of a large copy, reads and writes counted.
    pub copy_bytes_per_s: f64,
    /// Operations a second of f32 multiply-adds in registers, two each.
    pub fma_ops_per_s: f64,
}

/// One case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CaseRecord {
    /// Which.
    #[serde(flatten)]
    pub id: CaseId,
    /// Its numbers: `rows=5, cols=128`.
    pub params: String,
    /// How it ended.
    pub status: Status,
    /// `kernel.variant` that ran last; empty when none did.
    pub shader: String,
    /// Largest error, Σ(a−b)² / Σa²; none when nothing was compared or it is not a number.
    pub nmse: Option<f64>,
    /// Largest error allowed.
    pub tolerance: f64,
    /// Codes off by one at a rounding tie.
    pub ties: usize,
    /// Milliseconds, set-up and reference included.
    pub ms: f64,
    /// Seed of the inputs.
    pub seed: u64,
    /// What is wrong, why it was skipped, what a probe found, or the baseline's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of `perf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
}

impl CaseRecord {
    /// A case that has nothing to show but its status.
    #[must_use]
    pub fn new(id: CaseId, params: String, seed: u64, status: Status, message: Option<String>) -> Self {
        let tolerance = tolerance(&id.kernel).0;
        let shader = String::new();
        Self { id, params, status, shader, nmse: None, tolerance, ties: 0, ms: 0.0, seed, message, speed: None }
    }

    /// A case that was compared, or skipped.
    #[must_use]
    pub fn compared(id: CaseId, params: String, seed: u64, outcome: Outcome) -> Self {
        let status = match &outcome {
            Outcome { failure: Some(_), .. } => Status::Fail,
            Outcome { skipped: Some(_), .. } => Status::Skip,
            _ => Status::Pass,
        };
        let nmse = Some(outcome.nmse).filter(|n| n.is_finite() && status != Status::Skip);
        let rest = Self::new(id, params, seed, status, outcome.failure.or(outcome.skipped).or(outcome.note));
        let tolerance = if outcome.variant.is_empty() { rest.tolerance } else { tolerance(&outcome.variant).0 };
        Self { shader: outcome.variant, nmse, tolerance, ties: outcome.ties, ..rest }
    }
}

/// Source of one shader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShaderHash {
    /// `kernel.variant`.
    pub shader: String,
    /// SHA-256 of the preprocessed WGSL.
    pub sha256: String,
}

/// The result file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResultFile {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Program and version.
    pub tool: String,
    /// Operating system and processor.
    pub platform: String,
    /// `test` or `perf`.
    pub mode: String,
    /// Start, RFC 3339 in UTC; empty where there is no clock.
    pub time: String,
    /// Adapter with vendor, device, driver, backend, limits and features; the reference has the backend `cpu`.
    pub adapter: AdapterReport,
    /// Features after masking: they choose the variants.
    pub caps: Caps,
    /// Seed of the inputs.
    pub seed: u64,
    /// Seconds in all.
    pub seconds: f64,
    /// Of `perf`, unless measuring them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peaks: Option<Peaks>,
    /// Every shader of the program.
    pub shaders: Vec<ShaderHash>,
    /// Every case.
    pub cases: Vec<CaseRecord>,
    /// Where a page ran the cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub browser: Option<Browser>,
    /// Models that a page ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelRun>,
}

impl ResultFile {
    /// A file without cases.
    #[must_use]
    pub fn new(device: &Device, mode: &str, seed: u64) -> Self {
        let shaders = KERNELS.iter().flat_map(|k| k.variants.iter().map(move |v| (k.name, v)));
        Self {
            schema_version: SCHEMA_VERSION,
            tool: format!("wgquant {}", env!("CARGO_PKG_VERSION")),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            mode: mode.to_owned(),
            time: String::new(),
            adapter: device.gpu().map_or_else(reference, |g| g.adapter.clone()),
            caps: device.gpu().map_or(Caps::BASELINE, |g| g.caps),
            seed,
            seconds: 0.0,
            peaks: None,
            shaders: shaders
                .map(|(kernel, v)| ShaderHash {
                    shader: format!("{kernel}.{}", v.name),
                    sha256: hex(&Sha256::digest(v.source)),
                })
                .collect(),
            cases: Vec::new(),
            browser: None,
            models: Vec::new(),
        }
    }

    /// How often each status occurs.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Status, usize> {
        let mut counts = BTreeMap::new();
        self.cases.iter().for_each(|c| *counts.entry(c.status).or_default() += 1);
        counts
    }

    /// Did all cases end as expected?
    #[must_use]
    pub fn as_expected(&self) -> bool {
        !self.cases.iter().any(|c| c.status.unexpected())
    }

    /// Driver and version.
    #[must_use]
    pub fn driver(&self) -> String {
        format!("{} {}", self.adapter.driver, self.adapter.driver_info).trim().to_owned()
    }

    /// Cases by kernel and variant, in order of first appearance.
    #[must_use]
    pub fn rows(&self) -> Vec<(&str, &str, Vec<&CaseRecord>)> {
        let mut rows: Vec<(&str, &str, Vec<&CaseRecord>)> = Vec::new();
        for case in &self.cases {
            let (kernel, variant) = (case.id.kernel.as_str(), case.id.variant.as_str());
            match rows.iter_mut().find(|(k, v, _)| (*k, *v) == (kernel, variant)) {
                Some((.., cases)) => cases.push(case),
                None => rows.push((kernel, variant, vec![case])),
            }
        }
        rows
    }
}

fn reference() -> AdapterReport {
    AdapterReport {
        name: "CPU reference".to_owned(),
        backend: "cpu".to_owned(),
        device_type: "Cpu".to_owned(),
        vendor: 0,
        device: 0,
        driver: String::new(),
        driver_info: String::new(),
        caps: Caps::BASELINE,
        max_binding_bytes: u64::MAX,
        max_buffer_bytes: u64::MAX,
        max_workgroup_bytes: 0,
        max_invocations: 0,
        max_storage_buffers: 0,
    }
}
