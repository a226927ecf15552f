//! `wgquant calibrate`.

use super::table;
use crate::report::CalibrateReport;
use crate::report::text::{count, shell, significant};

/// Sites in the table.
const WORST: usize = 12;

/// `wgquant calibrate`.
#[must_use]
pub fn calibrated(report: &CalibrateReport) -> String {
    let mut out = String::new();
    for part in &report.meta.parts {
        out += &format!(
            "{}: {} sequences of {} tokens, seed {}; token ids {}\n",
            part.file,
            part.sequences,
            part.length,
            part.seed,
            part.tokens_sha256.get(..16).unwrap_or(&part.tokens_sha256)
        );
    }
    let mut sites: Vec<_> = report.sites.iter().collect();
    sites.sort_by(|a, b| b.outlier_ratio.total_cmp(&a.outlier_ratio));
    let rows = sites.iter().take(WORST).map(|s| {
        let mut row = vec![s.site.clone(), s.channels.to_string()];
        let numbers = [s.rms, f64::from(s.min), f64::from(s.max), s.percentiles[2], s.outlier_ratio, s.kurtosis];
        row.extend(numbers.map(|x| significant(x, 3)));
        row
    });
    let head = ["Largest outliers", "Channels", "RMS", "Min", "Max", "99.9 %", "Max/median", "Kurtosis"];
    out += &table(&head, 1, rows.collect::<Vec<_>>());
    let tokens: u64 = report.meta.parts.iter().map(|p| p.tokens).sum();
    out + &format!(
        "{} sites, {} tokens on {}: {}\nnext: wgquant analyze MODEL --stats {}\n",
        report.sites.len(),
        count(tokens),
        report.meta.device,
        report.output,
        shell(&report.output)
    )
}
