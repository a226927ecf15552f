//! What `wgquant calibrate` gathered.

use std::path::Path;

use serde::Serialize;

use crate::calibrate::{SiteStats, Stats, StatsMeta};

/// Statistics in short.
#[derive(Clone, Debug, Serialize)]
pub struct CalibrateReport {
    /// Where the statistics are.
    pub output: String,
    /// What they are of.
    #[serde(flatten)]
    pub meta: StatsMeta,
    /// Every site.
    pub sites: Vec<SiteRow>,
}

/// One site in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteRow {
    /// Name.
    pub site: String,
    /// Numbers a sample has.
    pub channels: usize,
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
    /// Root of the mean square.
    pub rms: f64,
    /// Magnitudes that 50, 99 and 99.9 percent of all values do not exceed.
    pub percentiles: [f64; 3],
    /// Largest over median magnitude of a channel.
    pub outlier_ratio: f64,
    /// Kurtosis of all channels together; 3 for a normal distribution.
    pub kurtosis: f64,
}

impl SiteRow {
    /// A site's numbers.
    #[must_use]
    pub fn new(name: &str, site: &SiteStats) -> Self {
        let (min, max) = site.range();
        let squares = site.moment(2);
        Self {
            site: name.to_owned(),
            channels: site.channels(),
            min,
            max,
            rms: (squares.iter().sum::<f64>() / squares.len().max(1) as f64).sqrt(),
            percentiles: [0.5, 0.99, 0.999].map(|p| site.percentile(p)),
            outlier_ratio: site.outlier_ratio(),
            kurtosis: site.kurtosis_of_all(),
        }
    }
}

impl CalibrateReport {
    /// Of statistics saved at `output`.
    #[must_use]
    pub fn new(stats: &Stats, output: &Path) -> Self {
        Self {
            output: output.display().to_string(),
            meta: stats.meta.clone(),
            sites: stats.sites.iter().map(|(name, site)| SiteRow::new(name, site)).collect(),
        }
    }
}
