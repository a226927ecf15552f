//! Reports as text for a terminal; no colours.

mod analysis;
mod calibrated;
mod diff;
mod evaluated;
mod models;
mod search;
mod test_ops;
mod verified;

use comfy_table::{CellAlignment, Table, presets};

pub use analysis::analysis;
pub use calibrated::calibrated;
pub use diff::diff;
pub use evaluated::evaluated;
pub use models::{demo, explained, perplexity, quantized};
pub use search::search;
pub use test_ops::{comparison, test_ops};
pub use verified::verified;

use super::text::bytes;
use super::{DeviceInfo, DoctorReport};
use crate::gpu::{AdapterReport, Caps};

/// A table whose first `left` columns are words and the rest numbers.
fn table<'a>(head: &[&str], left: usize, rows: impl IntoIterator<Item = Vec<String>> + 'a) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).set_header(head.to_vec());
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{table}\n")
}

/// Capabilities as words.
fn caps_words(caps: &Caps) -> String {
    let subgroups = caps
        .subgroups
        .map(|(lo, hi)| if lo == hi { format!("subgroups {lo}") } else { format!("subgroups {lo}-{hi}") });
    let words = [
        caps.f16.then(|| "f16".to_owned()),
        subgroups,
        caps.packed_dot.then(|| "packed_dot".to_owned()),
        caps.coop_matrix.then(|| "coop_matrix".to_owned()),
        caps.timestamps.then(|| "timestamps".to_owned()),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() { "baseline".to_owned() } else { words.join(", ") }
}

fn driver_words(device: &DeviceInfo) -> String {
    if device.driver.is_empty() { device.backend.clone() } else { format!("{}, {}", device.backend, device.driver) }
}

/// `wgquant devices`.
#[must_use]
pub fn devices(adapters: &[AdapterReport]) -> String {
    let head = ["--device", "Name", "Type", "Backend", "Driver", "Features", "Binding", "Buffer"];
    let mut rows: Vec<Vec<String>> = adapters
        .iter()
        .enumerate()
        .map(|(i, a)| {
            vec![
                i.to_string(),
                a.name.clone(),
                a.device_type.clone(),
                a.backend.clone(),
                format!("{} {}", a.driver, a.driver_info),
                caps_words(&a.caps),
                bytes(a.max_binding_bytes),
                bytes(a.max_buffer_bytes),
            ]
        })
        .collect();
    let reference = ["cpu", "CPU reference", "Cpu", "", "", "the definition of every kernel; always there", "", ""];
    rows.push(reference.map(str::to_owned).to_vec());
    table(&head, 6, rows)
}

/// `wgquant doctor`.
#[must_use]
pub fn doctor(report: &DoctorReport) -> String {
    let mut out = format!(
        "{}\n  driver:   {}\n  choice:   {}\n  features: {}\n",
        report.device.adapter,
        driver_words(&report.device),
        report.reason,
        caps_words(&report.caps)
    );
    if let Some(a) = &report.details {
        out += &format!(
            "  limits:   binding {}, buffer {}, workgroup memory {}, {} invocations, {} storage buffers\n",
            bytes(a.max_binding_bytes),
            bytes(a.max_buffer_bytes),
            bytes(u64::from(a.max_workgroup_bytes)),
            a.max_invocations,
            a.max_storage_buffers
        );
    }
    let rows = report.by_kernel().into_iter().map(|(kernel, cases)| {
        let failed = cases.iter().filter(|c| c.failure.is_some()).count();
        let worst = cases.iter().map(|c| c.nmse).fold(0.0, f64::max);
        let skipped = cases.iter().filter(|c| c.skipped.is_some()).count();
        let verdict = match (failed, skipped) {
            (0, 0) => "ok".to_owned(),
            (0, n) => format!("{n} skipped"),
            (n, _) => format!("{n} FAILED"),
        };
        vec![
            kernel.to_owned(),
            verdict,
            cases.len().to_string(),
            if worst == 0.0 { "exact".to_owned() } else { format!("{worst:.1e}") },
        ]
    });
    out += &table(&["Kernel", "Result", "Cases", "Worst NMSE"], 2, rows.collect::<Vec<_>>());
    let told = report.cases.iter().filter_map(|c| Some(format!("{}: {}", c.kernel, c.note.as_ref()?)));
    let skips = report.cases.iter().filter_map(|c| Some(format!("SKIPPED {}: {}", c.kernel, c.skipped.as_ref()?)));
    // Many cases say the same.
    let once: std::collections::BTreeSet<String> = told.chain(skips).collect();
    once.iter().for_each(|line| out += &format!("{line}\n"));
    for case in &report.cases {
        if let Some(failure) = &case.failure {
            out += &format!("FAILED {} [{}]: {failure}\n", case.kernel, case.variant);
        }
    }
    let total = report.passed + report.failed;
    let skipped = if report.skipped > 0 { format!(", {} skipped", report.skipped) } else { String::new() };
    let verdict = if report.healthy() { "everything works here" } else { "do not trust results of this device" };
    out + &format!(
        "{} of {total} cases agree with the CPU reference{skipped}, in {:.1} s: {verdict}\n",
        report.passed, report.seconds
    )
}
