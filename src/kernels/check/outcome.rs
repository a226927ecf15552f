//! How a case ended.

use serde::Serialize;

use super::{Case, Entry};

/// How one case ended: with a failure, skipped, or well.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Kernel.
    pub kernel: &'static str,
    /// Case.
    pub case: &'static str,
    /// `kernel.variant` that ran; empty when none did.
    pub variant: String,
    /// Largest error over the float outputs: Σ(a−b)² / Σa², sums in f64.
    pub nmse: f64,
    /// Codes that differ by one step at a tie.
    pub ties: usize,
    /// What is wrong; `None` when all is well.
    pub failure: Option<String>,
    /// Why the case was not run: what the adapter lacks. Neither a success nor a failure.
    pub skipped: Option<String>,
    /// What a probe found out where drivers may differ.
    pub note: Option<String>,
}

impl Outcome {
    /// A case that agrees with the reference, until a comparison says otherwise.
    #[must_use]
    pub fn passed(entry: &Entry, case: &Case, variant: String) -> Self {
        let (failure, skipped, note) = (None, None, None);
        Self { kernel: entry.name, case: case.name, variant, nmse: 0.0, ties: 0, failure, skipped, note }
    }

    /// A case that could not even run.
    #[must_use]
    pub fn failed(entry: &Entry, case: &Case, failure: String) -> Self {
        Self { failure: Some(failure), ..Self::passed(entry, case, String::new()) }
    }

    /// A case that the adapter has not got the means for.
    #[must_use]
    pub fn skipped(entry: &Entry, case: &Case, reason: String) -> Self {
        Self { skipped: Some(reason), ..Self::passed(entry, case, String::new()) }
    }
}
