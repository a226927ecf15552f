//! `wgquant test-ops` on a terminal.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::{caps_words, table};
use crate::report::test_ops::{CaseRecord, Change, Comparison, ResultFile, Status};
use crate::report::text::{shell, tera_or_giga};

/// `wgquant test-ops test` and `perf`; every case with `verbose`. `again` are the flags, each after a space, that a case needs to
/// run as it did, beside its names and seed.
#[must_use]
pub fn test_ops(file: &ResultFile, verbose: bool, again: &str) -> String {
    let a = &file.adapter;
    let mut out = format!("{} ({} {}), features: {}\n", a.name, a.backend, file.driver(), caps_words(&file.caps));
    if let Some(p) = &file.peaks {
        let (unit, size) = tera_or_giga(p.fma_ops_per_s, "FLOP");
        out += &format!(
            "measured peaks: copy {:.2} GB/s, f32 multiply-adds {:.1} {unit}\n",
            p.copy_bytes_per_s / 1e9,
            p.fma_ops_per_s / size
        );
        out += &speeds(file, &unit, size / 1e9);
    } else if file.cases.iter().any(|c| c.speed.is_some()) {
        out += &speeds(file, "GFLOP/s", 1.0);
    } else {
        out += &kernels(file);
    }
    if verbose {
        for c in &file.cases {
            let nmse = c.nmse.map_or_else(String::new, |n| format!(" NMSE {n:.1e}"));
            let message = c.message.as_deref().map_or_else(String::new, |m| format!(": {m}"));
            out += &format!("  {} ({}): {:?}{nmse}{message}\n", c.id, c.params, c.status);
        }
    }
    out += &told(file);
    out += &failing(file, again);
    let counts: Vec<String> = file.counts().iter().map(|(s, n)| format!("{n} {s:?}")).collect();
    out + &format!(
        "{} of {} cases as expected ({}), seed {}, in {:.1} s\n",
        file.cases.iter().filter(|c| !c.status.unexpected()).count(),
        file.cases.len(),
        counts.join(", "),
        file.seed,
        file.seconds
    )
}

fn kernels(file: &ResultFile) -> String {
    let rows = file.rows().into_iter().map(|(kernel, variant, cases)| {
        let count = |wanted: fn(Status) -> bool| cases.iter().filter(|c| wanted(c.status)).count().to_string();
        let worst = cases.iter().filter_map(|c| c.nmse).fold(0.0, f64::max);
        vec![
            kernel.to_owned(),
            variant.to_owned(),
            count(|s| s == Status::Pass),
            count(Status::unexpected),
            count(|s| s == Status::ExpectedFail),
            count(|s| s == Status::Skip),
            match worst {
                _ if cases.iter().all(|c| c.nmse.is_none()) => "none".to_owned(),
                0.0 => "exact".to_owned(),
                w => format!("{w:.1e}"),
            },
            format!("{:.0}", cases.iter().map(|c| c.ms).sum::<f64>()),
        ]
    });
    let head = ["Kernel", "Variant", "Pass", "Unexpected", "ExpectedFail", "Skip", "Worst NMSE", "ms"];
    table(&head, 2, rows.collect::<Vec<_>>())
}

/// Without measured peaks there are no percentages.
fn speeds(file: &ResultFile, unit: &str, giga: f64) -> String {
    let percent = |of_peak: f64| file.peaks.map_or_else(String::new, |_| format!("{of_peak:.1}"));
    let rows = file.cases.iter().filter_map(|c| c.speed.map(|s| (c, s))).map(|(c, s)| {
        vec![
            c.id.kernel.clone(),
            c.id.variant.clone(),
            c.id.case.clone(),
            format!("{:.1}", s.us),
            format!("{:.2}", s.gb_per_s),
            format!("{:.3}", s.gflop_per_s / giga),
            percent(s.percent_of_copy),
            percent(s.percent_of_fma),
        ]
    });
    let head = ["Kernel", "Variant", "Case", "us", "GB/s", unit, "% of copy", "% of FMA"];
    table(&head, 3, rows.collect::<Vec<_>>())
}

/// Why cases were skipped and what probes found, each said once.
fn told(file: &ResultFile) -> String {
    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for c in file.cases.iter().filter(|c| matches!(c.status, Status::Pass | Status::Skip)) {
        if let Some(message) = &c.message {
            *lines.entry(format!("{:?} {} [{}]: {message}", c.status, c.id.kernel, c.id.variant)).or_default() += 1;
        }
    }
    lines.into_iter().map(|(line, n)| format!("{line} ({n} cases)\n")).collect()
}

/// What did not end as expected, and how to see it again.
fn failing(file: &ResultFile, again: &str) -> String {
    let line = |c: &CaseRecord| {
        let message = c.message.as_deref().unwrap_or("the baseline expects it to fail; remove the entry");
        format!(
            "{:?} {}: {message}\n  again: wgquant test-ops test -o {} --case {} --variant {} --seed {}{again}\n",
            c.status,
            c.id,
            shell(&c.id.kernel),
            shell(&c.id.case),
            shell(&c.id.variant),
            c.seed
        )
    };
    file.cases.iter().filter(|c| c.status.unexpected()).map(line).collect()
}

/// `wgquant test-ops compare`.
#[must_use]
pub fn comparison(c: &Comparison) -> String {
    let mut out = part("Machine", &c.machine, |v| v.clone());
    out += &part("Shader source", &c.shaders, |v| v.chars().take(12).collect::<String>());
    out += &part("Status", &c.summary, |v| format!("{v:?}"));
    out += &part("NMSE, more than 10 times apart", &c.errors, |v| format!("{v:.1e}"));
    let (otherwise, against) = (c.statuses.len(), c.contradictions());
    out + &format!(
        "{} cases in both; {otherwise} end otherwise: {against} ran in both files, {} in one only\n",
        c.common,
        otherwise - against
    )
}

fn part<T, D: Display>(title: &str, changes: &[Change<T>], show: impl Fn(&T) -> D) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let cell = |v: &Option<T>| v.as_ref().map_or_else(|| "(missing)".to_owned(), |v| show(v).to_string());
    let rows = changes.iter().map(|c| vec![c.what.clone(), cell(&c.a), cell(&c.b)]);
    table(&[title, "A", "B"], 3, rows.collect::<Vec<_>>())
}
