//! What is said of a search.

use super::{driver_words, table};
use crate::report::SearchReport;
use crate::report::text::{bytes, shell, small};
use crate::search::ParetoPoint;

/// `wgquant search`.
#[must_use]
pub fn search(report: &SearchReport) -> String {
    let row = |p: &ParetoPoint| vec![format!("{:.3}", p.bits_per_parameter), bytes(p.bytes), small(p.predicted_kl)];
    let rows: Vec<_> = report.steps().iter().map(row).collect();
    let mut out = table(&["Bits/param", "Size", "Predicted KL"], 0, rows);
    if let Some(chosen) = &report.chosen {
        out += &format!(
            "chosen: {:.3} bits per parameter, {}, predicted KL of the weights {} nats\n",
            chosen.bits_per_parameter,
            bytes(chosen.bytes),
            small(chosen.predicted_kl)
        );
        out += &match &report.measured {
            Some(m) => {
                let error = m.mean_kl_stderr.map_or_else(String::new, |e| format!(" ± {}", small(e)));
                let calibrated = match m.calibrated {
                    true => "that also calibrate: other text has more",
                    false => "that do not calibrate",
                };
                format!(
                    "measured, activations rounded too: {}{error} nats on {} sequences, {} tokens, {calibrated}\n",
                    small(m.mean_kl),
                    m.sequences,
                    m.tokens
                )
            }
            None => {
                "int8 activations add to that, and so does text that does not calibrate: --measure finds out how much\n"
                    .to_owned()
            }
        };
    }
    out += &format!("{:.1} s on {} ({})\n", report.seconds, report.device.adapter, driver_words(&report.device));
    match &report.recipe_file {
        Some(path) => {
            let (model, path) = (shell(&report.model.model), shell(path));
            out + &format!("next: wgquant quantize {model} -o DIR --recipe {path} -f FILE\n")
        }
        None => out,
    }
}
