//! What `wgquant search` found.

use serde::Serialize;

use super::{DeviceInfo, ModelInfo};
use crate::search::{Allocation, MeasuredKl, ParetoPoint};

/// The sizes there are, and the one chosen.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    /// The original.
    pub model: ModelInfo,
    /// Where it was measured.
    #[serde(flatten)]
    pub device: DeviceInfo,
    /// The allocation within the budget, where one was given.
    pub chosen: Option<Allocation>,
    /// What it costs as a model, activations rounded too, where that was measured.
    pub measured: Option<MeasuredKl>,
    /// Where its recipe was written.
    pub recipe_file: Option<String>,
    /// Seconds it took; nearly none where all had been measured before.
    pub seconds: f64,
    /// The best of every size, by size upward.
    pub front: Vec<ParetoPoint>,
}

impl SearchReport {
    /// Of the front, the best at each quarter of a bit.
    #[must_use]
    pub fn steps(&self) -> Vec<ParetoPoint> {
        let (Some(first), Some(last)) = (self.front.first(), self.front.last()) else { return Vec::new() };
        let quarters = (first.bits_per_parameter * 4.0).ceil() as usize..=(last.bits_per_parameter * 4.0) as usize;
        let mut steps = vec![*first];
        for quarter in quarters {
            let fitting = self.front.partition_point(|p| p.bits_per_parameter <= quarter as f64 / 4.0);
            steps.extend(fitting.checked_sub(1).and_then(|i| self.front.get(i)));
        }
        steps.push(*last);
        steps.dedup_by_key(|p| p.bytes);
        steps
    }
}
