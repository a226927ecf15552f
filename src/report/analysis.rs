//! The page of `wgquant analyze`: sizes, heat maps of outliers, memory of the Mamba-2 blocks.

use super::heat::{Heat, heat};
use super::html::{escape, page, row};
use super::text::{bytes, count, significant};
use crate::analyze::{Analysis, Details, Dynamics, TensorRow, range};

/// A column of a heat map: the part and what it is called there.
type Column = (&'static str, &'static str);

/// Columns of the heat maps of weights; in_proj has five.
const PARTS: [Column; 15] = [
    ("in_proj.z", "z"),
    ("in_proj.x", "x"),
    ("in_proj.B", "B"),
    ("in_proj.C", "C"),
    ("in_proj.dt", "dt"),
    ("conv1d", "conv"),
    ("out_proj", "out"),
    ("q_proj", "q"),
    ("k_proj", "k"),
    ("v_proj", "v"),
    ("o_proj", "o"),
    ("up_proj", "up"),
    ("down_proj", "down"),
    ("embedding", "embedding"),
    ("head", "head"),
];
/// Columns of the heat maps of inputs: parts that share one are one.
const INPUTS: [Column; 7] = [
    ("in_proj.z", "in_proj"),
    ("out_proj", "out_proj"),
    ("q_proj", "q, k, v"),
    ("o_proj", "o_proj"),
    ("up_proj", "up_proj"),
    ("down_proj", "down_proj"),
    ("head", "head"),
];

/// The whole page.
#[must_use]
pub fn analysis(a: &Analysis) -> String {
    let mut body = format!(
        "<h1>{}</h1>\n<p>{} of {} blocks ({}), hidden {}, vocabulary {}; {} parameters, {}, {:.2} bits a parameter.</p>\n",
        escape(&a.model.model),
        a.model_type,
        a.blocks.len(),
        escape(&a.blocks),
        a.hidden_size,
        a.vocab_size,
        count(a.model.parameters),
        bytes(a.model.bytes),
        a.model.bits_per_parameter
    );
    body += &format!("<h2>Sizes</h2>\n<div class=\"wide\">{}</div>\n", sizes(a));
    if let Some(details) = &a.details {
        body += &maps(details);
        body += &memory(&details.dynamics);
        body += &worst(a, details);
    }
    page("wgquant analyze", &body)
}

fn sizes(a: &Analysis) -> String {
    let mut head = vec!["Part".to_owned(), "Parameters".to_owned(), "Now".to_owned()];
    head.extend(a.predictions.iter().map(|p| escape(&p.scheme)));
    let mut rows = String::new();
    for (i, part) in a.parts.iter().enumerate() {
        let mut cells = vec![part.name.to_owned(), count(part.parameters), bytes(part.bytes)];
        cells.extend(a.predictions.iter().map(|p| bytes(p.parts[i].bytes)));
        rows += &row("td", &cells);
    }
    let mut line = |name: &str, now: String, then: &dyn Fn(&crate::analyze::Prediction) -> String| {
        let mut cells = vec![format!("<b>{name}</b>"), String::new(), now];
        cells.extend(a.predictions.iter().map(then));
        rows += &row("td", &cells);
    };
    line("file", bytes(a.model.bytes), &|p| bytes(p.bytes));
    line("bits a parameter", format!("{:.2}", a.model.bits_per_parameter), &|p| format!("{:.2}", p.bits_per_parameter));
    line("weights on the device", String::new(), &|p| bytes(p.device_bytes));
    line("peak, running", String::new(), &|p| bytes(p.peak_bytes));
    format!("<table><thead>{}</thead><tbody>{rows}</tbody></table>", row("th", &head))
}

/// One row a block, and one for what is outside.
fn grid(
    tensors: &[TensorRow],
    columns: &[Column],
    value: &dyn Fn(&TensorRow) -> Option<f64>,
) -> Vec<(String, Vec<Option<f64>>)> {
    let mut rows: Vec<(Option<usize>, String, Vec<Option<f64>>)> = Vec::new();
    for tensor in tensors {
        let Some(column) = columns.iter().position(|(part, _)| *part == tensor.part) else { continue };
        let name = match (tensor.layer, tensor.block) {
            (Some(layer), Some(block)) => format!("{layer} {block}"),
            _ => tensor.part.to_owned(),
        };
        if !rows.iter().any(|(_, n, _)| *n == name) {
            rows.push((tensor.layer, name.clone(), vec![None; columns.len()]));
        }
        if let Some((_, _, values)) = rows.iter_mut().find(|(_, n, _)| *n == name) {
            values[column] = value(tensor);
        }
    }
    rows.retain(|(_, _, values)| values.iter().any(Option::is_some));
    rows.into_iter().map(|(_, name, values)| (name, values)).collect()
}

fn maps(details: &Details) -> String {
    let t = &details.tensors;
    let map = |title, note, columns: &[Column], neutral, value: &dyn Fn(&TensorRow) -> Option<f64>| {
        let names = columns.iter().map(|(_, name)| *name).collect();
        heat(&Heat { title, note, columns: names, rows: grid(t, columns, value), neutral })
    };
    let mut out = "<h2>Weights</h2>\n".to_owned();
    out += &map("Largest over median magnitude", "z, x, B, C, dt: segments of in_proj", &PARTS, 4.0, &|r| {
        Some(r.weights.outlier_ratio)
    });
    out += &map("Kurtosis", "3 for a normal distribution", &PARTS, 3.0, &|r| Some(r.weights.kurtosis));
    out += &map("Inputs: largest over median column", "1 where all columns are alike", &PARTS, 1.0, &|r| {
        Some(r.weights.column_ratio)
    });
    let inputs = map("Largest over median channel", "1 where all channels are alike", &INPUTS, 1.0, &|r| {
        Some(r.input?.outlier_ratio)
    });
    if inputs.is_empty() {
        out += "<p class=\"soft\">Activations: not known. <code>wgquant calibrate</code> gathers them, <code>--stats</code> shows them.</p>\n";
    } else {
        out += "<h2>Inputs of linear layers</h2>\n";
        out += &inputs;
        out += &map(
            "Largest magnitude over the one that 99.9 % do not exceed",
            "what clipping could win",
            &INPUTS,
            1.0,
            &|r| Some(r.input?.absmax / r.input?.p999.max(1e-30)),
        );
        out += &map("Kurtosis", "3 for a normal distribution", &INPUTS, 3.0, &|r| Some(r.input?.kurtosis));
    }
    let loss =
        map("Loss at the fewest bits measured", "from a search; segments of in_proj share its", &PARTS, 1e-6, &|r| {
            r.sensitivity.as_ref()?.first_key_value().map(|(_, v)| *v)
        });
    if !loss.is_empty() {
        out += "<h2>Sensitivity</h2>\n";
        out += &loss;
    }
    out
}

fn memory(blocks: &[Dynamics]) -> String {
    if blocks.is_empty() {
        return String::new();
    }
    let between = |[low, high]: [f64; 2]| format!("{} – {}", significant(low, 3), significant(high, 3));
    let rows: String = blocks
        .iter()
        .map(|d| {
            let seen = d.memory_seen.as_ref().map_or_else(String::new, |m| between(range(m)));
            let state = d
                .state
                .as_ref()
                .map_or_else(String::new, |s| significant(f64::from(s.iter().copied().fold(0.0, f32::max)), 3));
            row(
                "td",
                &[
                    d.layer.to_string(),
                    between(d.dt),
                    d.dt_seen.map_or_else(String::new, between),
                    between(d.a),
                    between(range(&d.decay)),
                    between(range(&d.memory)),
                    seen,
                    state,
                ],
            )
        })
        .collect();
    let head =
        ["Block", "dt at rest", "dt seen", "A", "Decay a step", "Memory, tokens", "Memory seen", "State, largest"];
    format!(
        "<h2>Memory of the Mamba-2 blocks</h2>\n<div class=\"wide\"><table><thead>{}</thead><tbody>{rows}</tbody></table></div>\n<p class=\"soft\">Smallest and largest over heads. Memory: tokens until the state has fallen to 1/e, at the step of the bias alone, and at the mean step seen.</p>\n",
        row("th", &head)
    )
}

/// Every weight, worst first.
fn worst(a: &Analysis, details: &Details) -> String {
    let mut rows: Vec<&TensorRow> = details.tensors.iter().collect();
    rows.sort_by(|a, b| b.weights.outlier_ratio.total_cmp(&a.weights.outlier_ratio));
    let mut head: Vec<String> = [
        "Weight",
        "Part",
        "Shape",
        "Bits now",
        "Max/median",
        "Kurtosis",
        "Rows",
        "Columns",
        "Input max/median",
        "Input 99.9 %",
    ]
    .map(str::to_owned)
    .to_vec();
    if !a.quantized {
        head.extend(a.predictions.iter().map(|p| escape(&p.scheme)));
    }
    let cells = |t: &&TensorRow| {
        let (w, number) = (&t.weights, |v: f64| significant(v, 3));
        let input =
            |f: fn(&crate::analyze::InputStats) -> f64| t.input.as_ref().map_or_else(String::new, |i| number(f(i)));
        let mut cells = vec![
            escape(&t.module),
            t.part.to_owned(),
            format!("{} × {}", t.shape[0], t.shape[1]),
            format!("{:.2}", t.bits),
            number(w.outlier_ratio),
            number(w.kurtosis),
            number(w.row_ratio),
            number(w.column_ratio),
            input(|i| i.outlier_ratio),
            input(|i| i.p999),
        ];
        cells.extend(t.predicted.iter().map(|b| bytes(*b)));
        row("td", &cells)
    };
    let body: String = rows.iter().map(cells).collect();
    format!(
        "<h2>Every weight, worst first</h2>\n<div class=\"wide\"><table><thead>{}</thead><tbody>{body}</tbody></table></div>\n",
        row("th", &head)
    )
}
