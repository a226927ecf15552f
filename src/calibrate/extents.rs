//! How large a site's activations get, group by group: what fixed scales are chosen from.

use super::calibrator::{Probe, check_finite};
use super::stats::edge;
use super::walk::Collect;
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::{self, Samples};
use crate::model::{Activations, Group};
use crate::reference::quantize_tokens::group_scale;

/// How a site's activations are rounded before products.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rounding {
    pub(crate) activations: Activations,
    /// One for each group of inputs where `activations` are static, else none.
    pub(crate) scales: Vec<f32>,
}

impl From<Activations> for Rounding {
    fn from(activations: Activations) -> Self {
        Self { activations, scales: Vec::new() }
    }
}

/// Below, a group counts as zeros, as when scales are found token by token.
const SMALLEST: f64 = 1e-35;

/// Histograms of magnitudes of each group of columns. Counts of 32 bits hold those of 134 million tokens.
pub(super) struct Extents {
    width: usize,
    group: usize,
    probes: Vec<Probe>,
}

impl Extents {
    /// Of inputs of `width`.
    pub(super) fn new(device: &Device, width: usize, group: Group) -> Result<Self> {
        let group = group.len(width).max(1);
        let probe = |first| Probe::new(device, group.min(width - first), false);
        let probes = (0..width).step_by(group).map(probe).collect::<Result<_>>()?;
        Ok(Self { width, group, probes })
    }

    /// For each group the magnitude that `percentile` percent of its values do not exceed, as the scale that has code
    /// 127 there; `site` is for messages.
    pub(super) async fn scales(&self, device: &Device, site: &str, percentile: f64) -> Result<Vec<f32>> {
        let mut scales = Vec::with_capacity(self.probes.len());
        for probe in &self.probes {
            let found = probe.take(device).await?;
            check_finite(site, &found)?;
            // Magnitudes are known to an eighth of an octave, but the largest exactly.
            let most = f64::from(found.largest());
            let top = if percentile < 100.0 { found.percentile(percentile / 100.0) } else { most };
            // A ReLU may leave zeros for the most part: they ask for no scale, and one next to nothing would cut off all the rest.
            let top = if top > edge(1) { top } else { most };
            scales.push(if top < SMALLEST { 1.0 } else { (top / 127.0) as f32 });
        }
        // As those that are found token by token, where there are several.
        let several = scales.len() > 1;
        Ok(scales.into_iter().map(|s| if several { group_scale(s) } else { s }).collect())
    }
}

impl Collect for Extents {
    fn add(&self, plan: &mut Plan, x: &DeviceTensor) -> Result<()> {
        for (i, probe) in self.probes.iter().enumerate() {
            let (offset, channels) = (i * self.group, probe.channels());
            let at = Samples { stride: self.width, offset, outer: x.shape.rows(), channels, inner: 1 };
            kernels::channel_stats(plan, x, at, &probe.sums)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use pollster::block_on;

    use super::*;

    #[test]
    fn what_is_not_zero_is_not_cut_off() {
        let mut values = vec![0f32; 400];
        values[7] = 3.0;
        let extents = Extents::new(&Device::Cpu, 4, Group::Channel).unwrap();
        let x = Device::Cpu.upload_f32([100, 4], &values).unwrap();
        let mut plan = Plan::new(&Device::Cpu);
        extents.add(&mut plan, &x).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_eq!(block_on(extents.scales(&Device::Cpu, "a site", 99.0)).unwrap(), [3.0 / 127.0]);
    }
}
