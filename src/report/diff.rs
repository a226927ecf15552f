//! What `wgquant diff` found.

use serde::Serialize;

use crate::eval::{Judgement, OpError};

/// One prompt through two configurations.
#[derive(Clone, Debug, Serialize)]
pub struct DiffReport {
    /// The run that was judged: model and device.
    pub run: String,
    /// What it was judged by: model and device, or a file; without any ops the file it was written to.
    pub against: String,
    /// Tokens of the prompt; one decode step follows them.
    pub tokens: usize,
    /// Ops that have a verdict. The others' values have another basis, such as a rotated one, so that nothing can be said of them.
    pub judged: usize,
    /// The first op whose own error passes its tolerance.
    pub culprit: Option<OpError>,
    /// Every op compared, in the order of execution.
    pub ops: Vec<OpError>,
}

impl DiffReport {
    /// Sums up; the first failed op is the culprit.
    #[must_use]
    pub fn new(run: String, against: String, tokens: usize, ops: Vec<OpError>) -> Self {
        let culprit = ops.iter().find(|op| op.verdict == Judgement::Failed).cloned();
        let judged = ops.iter().filter(|op| op.verdict != Judgement::OtherBasis).count();
        Self { run, against, tokens, judged, culprit, ops }
    }
}
