//! What is said of a model and its manifest.

use crate::checkpoint::{Difference, Verified};
use crate::report::text::bytes;

/// `wgquant verify`: a line for each difference, and one for all.
#[must_use]
pub fn verified(report: &Verified) -> String {
    let mut out: String = report.differences.iter().map(line).collect();
    let (all, size) = (format!("{} files, {} tensors", report.files, report.tensors), bytes(report.bytes));
    out += &match report.differences.len() {
        0 => format!("{}: {all}, {size}: as {} wrote them", report.model, plain(&report.tool)),
        n => format!("{}: of {all}, {size}: {n} not as {} wrote them", report.model, plain(&report.tool)),
    };
    out + if report.opened { "\n" } else { "; the model does not open, so tensors were not compared\n" }
}

/// Without what a terminal would take for orders: a manifest may be anybody's.
fn plain(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

fn line(d: &Difference) -> String {
    let tensor = d.tensor.as_ref().map_or_else(String::new, |name| format!("tensor `{name}`: "));
    let what = if d.what == "presence" { String::new() } else { format!("{} ", d.what) };
    let line = format!("{}: {tensor}{what}{}, in the manifest {}", d.file, d.found, d.manifest);
    plain(&line) + "\n"
}
