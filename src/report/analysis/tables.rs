//! Tables: what the blocks remember, and every weight.

use crate::analyze::{Analysis, Details, Dynamics, InputStats, TensorRow, range};
use crate::report::html::{escape, row};
use crate::report::text::{bytes, significant};

/// Memory of the Mamba-2 blocks; nothing where there are none.
pub(super) fn memory(blocks: &[Dynamics]) -> String {
    if blocks.is_empty() {
        return String::new();
    }
    let head =
        ["Block", "dt at rest", "dt seen", "A", "Decay a step", "Memory, tokens", "Memory seen", "State, largest"];
    let rows: String = blocks.iter().map(|d| row("td", &block(d))).collect();
    let note = "Smallest and largest over heads. Memory: tokens until the state has fallen to 1/e, at the step of the bias alone, and at the mean step seen.";
    format!("<h2>Memory of the Mamba-2 blocks</h2>\n{}<p class=\"soft\">{note}</p>\n", wide(&row("th", &head), &rows))
}

fn block(d: &Dynamics) -> [String; 8] {
    let between = |[low, high]: [f64; 2]| format!("{} – {}", significant(low, 3), significant(high, 3));
    let largest = |s: &Vec<f32>| significant(f64::from(s.iter().copied().fold(0.0, f32::max)), 3);
    [
        d.layer.to_string(),
        between(d.dt),
        d.dt_seen.map_or_else(String::new, between),
        between(d.a),
        between(range(&d.decay)),
        between(range(&d.memory)),
        d.memory_seen.as_ref().map_or_else(String::new, |m| between(range(m))),
        d.state.as_ref().map_or_else(String::new, largest),
    ]
}

/// Every weight, worst first.
pub(super) fn worst(a: &Analysis, details: &Details) -> String {
    let mut rows: Vec<&TensorRow> = details.tensors.iter().collect();
    rows.sort_by(|a, b| b.weights.outlier_ratio.total_cmp(&a.weights.outlier_ratio));
    let own = ["Weight", "Part", "Shape", "Bits now", "Max/median", "Kurtosis", "Rows", "Columns"];
    let mut head: Vec<String> =
        own.into_iter().chain(["Input max/median", "Input 99.9 %"]).map(str::to_owned).collect();
    if !a.quantized {
        head.extend(a.predictions.iter().map(|p| escape(&p.scheme)));
    }
    let body: String = rows.iter().map(|t| row("td", &weight(t))).collect();
    format!("<h2>Every weight, worst first</h2>\n{}", wide(&row("th", &head), &body))
}

fn weight(t: &TensorRow) -> Vec<String> {
    let number = |v: f64| significant(v, 3);
    let input = |f: fn(&InputStats) -> f64| t.input.as_ref().map_or_else(String::new, |i| number(f(i)));
    let mut cells = vec![
        escape(&t.module),
        t.part.to_owned(),
        format!("{} × {}", t.shape[0], t.shape[1]),
        format!("{:.2}", t.bits),
    ];
    let w = &t.weights;
    cells.extend([w.outlier_ratio, w.kurtosis, w.row_ratio, w.column_ratio].map(number));
    cells.extend([input(|i| i.outlier_ratio), input(|i| i.p999)]);
    cells.extend(t.predicted.iter().map(|b| bytes(*b)));
    cells
}

/// A table that scrolls where it does not fit.
fn wide(head: &str, body: &str) -> String {
    format!("<div class=\"wide\"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>\n")
}
