//! What is said of a model and its manifest.

use crate::checkpoint::{Difference, Verified};
use crate::report::text::bytes;

/// `wgquant verify`: a line for each difference, and one for all.
#[must_use]
pub fn verified(report: &Verified) -> String {
    let mut out: String = report.differences.iter().map(line).collect();
    let (all, size) = (format!("{} files, {} tensors", report.files, report.tensors), bytes(report.bytes));
    out += &match report.differences.len() {
        0 => format!("{}: {all}, {size}: as {} wrote them\n", report.model, report.tool),
        n => format!("{}: of {all}, {size}: {n} not as {} wrote them\n", report.model, report.tool),
    };
    out
}

fn line(d: &Difference) -> String {
    let tensor = d.tensor.as_ref().map_or_else(String::new, |name| format!("tensor `{name}`: "));
    let what = if d.what == "presence" { String::new() } else { format!("{} ", d.what) };
    format!("{}: {tensor}{what}{}, in the manifest {}\n", d.file, d.found, d.manifest)
}
