//! `wgquant analyze`.

use super::table;
use crate::analyze::{Analysis, Details, Dynamics, InputStats, Prediction, TensorRow, range};
use crate::report::text::{bytes, count, remarks, significant};

/// Weights in the table.
const WORST: usize = 12;

/// `wgquant analyze`.
#[must_use]
pub fn analysis(a: &Analysis) -> String {
    let mut out = format!(
        "{}: {}, {} blocks ({}), hidden {}, vocabulary {}\n",
        a.model.model,
        a.model_type,
        a.blocks.len(),
        a.blocks,
        a.hidden_size,
        a.vocab_size
    );
    let mut head = vec!["Part", "Stored as", "Blocks", "Parameters", "Now"];
    head.extend(a.predictions.iter().map(|p| p.scheme.as_str()));
    let mut rows: Vec<Vec<String>> = a
        .parts
        .iter()
        .enumerate()
        .map(|(i, part)| {
            let mut row = vec![
                part.name.to_owned(),
                part.dtypes.join(", "),
                if part.blocks > 0 { part.blocks.to_string() } else { String::new() },
                count(part.parameters),
                bytes(part.bytes),
            ];
            row.extend(a.predictions.iter().map(|p| bytes(p.parts[i].bytes)));
            row
        })
        .collect();
    let mut line = |name: &str, parameters: String, now: String, then: &dyn Fn(&Prediction) -> String| {
        let mut row = vec![name.to_owned(), String::new(), String::new(), parameters, now];
        row.extend(a.predictions.iter().map(then));
        rows.push(row);
    };
    line("total", count(a.model.parameters), bytes(a.model.bytes), &|p| bytes(p.bytes));
    let known = |n: Option<u64>| n.map_or_else(String::new, bytes);
    line("on the device", String::new(), known(a.device_bytes), &|p| bytes(p.device_bytes));
    line("peak, running", String::new(), known(a.peak_bytes), &|p| bytes(p.peak_bytes));
    line("bits per parameter", String::new(), format!("{:.2}", a.model.bits_per_parameter), &|p| {
        format!("{:.2}", p.bits_per_parameter)
    });
    if !a.predictions.is_empty() {
        line("smaller", String::new(), String::new(), &|p| format!("{:.2}×", p.reduction));
    }
    out += &table(&head, 2, rows);
    if let Some(details) = &a.details {
        out += &outliers(a, details);
        out += &memory(&details.dynamics);
    }
    let remarks = remarks(a);
    out.extend(remarks.iter().map(|remark| format!("{remark}\n")));
    let note = match a.predictions.iter().any(|p| p.note.is_none()) {
        _ if a.quantized => "This model is quantized already.\n",
        true if remarks.is_empty() => "Sizes are those `wgquant quantize` writes with its defaults.\n",
        true => "The other sizes are those `wgquant quantize` writes with its defaults.\n",
        false => "",
    };
    out + note
}

/// The weights that are hardest to round.
fn outliers(a: &Analysis, details: &Details) -> String {
    let mut rows: Vec<&TensorRow> = details.tensors.iter().collect();
    rows.sort_by(|a, b| b.weights.outlier_ratio.total_cmp(&a.weights.outlier_ratio));
    let number = |v: f64| significant(v, 3);
    let mut head = vec!["Largest outliers", "Part", "Shape", "Max/median", "Kurtosis", "Rows", "Columns"];
    let (stats, losses) = (details.stats.is_some(), details.tensors.iter().any(|t| t.sensitivity.is_some()));
    if stats {
        head.extend(["Input max/median", "Input 99.9 %", "Input kurtosis"]);
    }
    if losses {
        head.push("Loss by bits");
    }
    let cells = |t: &&TensorRow| {
        let w = &t.weights;
        let mut row = vec![t.module.clone(), t.part.to_owned(), format!("{} x {}", t.shape[0], t.shape[1])];
        row.extend([w.outlier_ratio, w.kurtosis, w.row_ratio, w.column_ratio].map(number));
        if stats {
            let input = |f: fn(&InputStats) -> f64| t.input.as_ref().map_or_else(String::new, |i| number(f(i)));
            row.extend([input(|i| i.outlier_ratio), input(|i| i.p999), input(|i| i.kurtosis)]);
        }
        if losses {
            let losses = t.sensitivity.iter().flatten().map(|(bits, loss)| format!("{bits}: {}", number(*loss)));
            row.push(losses.collect::<Vec<_>>().join(", "));
        }
        row
    };
    let shown = rows.iter().take(WORST).map(cells).collect::<Vec<_>>();
    let rest = rows.len() - shown.len();
    let note = format!(
        "{rest} more weights: --json, --html{}\n",
        if stats || a.quantized { "" } else { "; activations: wgquant calibrate, --stats" }
    );
    table(&head, 3, shown) + &note
}

/// How each Mamba-2 block forgets.
fn memory(blocks: &[Dynamics]) -> String {
    if blocks.is_empty() {
        return String::new();
    }
    let between = |[low, high]: [f64; 2]| format!("{} - {}", significant(low, 3), significant(high, 3));
    let rows = blocks.iter().map(|d| {
        let state = |s: &Vec<f32>| significant(f64::from(s.iter().copied().fold(0.0, f32::max)), 3);
        vec![
            d.layer.to_string(),
            between(d.dt),
            d.dt_seen.map_or_else(String::new, between),
            between(d.a),
            between(range(&d.decay)),
            between(range(&d.memory)),
            d.memory_seen.as_ref().map_or_else(String::new, |m| between(range(m))),
            d.state.as_ref().map_or_else(String::new, state),
        ]
    });
    let head =
        ["Mamba-2 block", "dt at rest", "dt seen", "A", "Decay a step", "Memory, tokens", "Memory seen", "State max"];
    table(&head, 1, rows.collect::<Vec<_>>())
}
