//! Heat maps: blocks by parts.

use crate::analyze::{InputStats, TensorRow};
use crate::report::heat::{Heat, heat};

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

/// What a map shows of a tensor.
type Value = dyn Fn(&TensorRow) -> Option<f64>;

/// Every map that there are numbers for.
pub(super) fn all(tensors: &[TensorRow]) -> String {
    weights(tensors) + &inputs(tensors) + &sensitivity(tensors)
}

/// One map; empty where there is no number.
fn map(t: &[TensorRow], title: &str, note: &str, columns: &[Column], neutral: f64, value: &Value) -> String {
    let names = columns.iter().map(|(_, name)| *name).collect();
    heat(&Heat { title, note, columns: names, rows: grid(t, columns, value), neutral })
}

fn weights(t: &[TensorRow]) -> String {
    let of = |title, note, neutral, value: &Value| map(t, title, note, &PARTS, neutral, value);
    let note = "z, x, B, C, dt: segments of in_proj";
    let outliers = of("Largest over median magnitude", note, 4.0, &|r| Some(r.weights.outlier_ratio));
    let kurtosis = of("Kurtosis", "3 for a normal distribution", 3.0, &|r| Some(r.weights.kurtosis));
    let columns = of("Inputs: largest over median column", "1 where all columns are alike", 1.0, &|r| {
        Some(r.weights.column_ratio)
    });
    format!("<h2>Weights</h2>\n{outliers}{kurtosis}{columns}")
}

fn inputs(t: &[TensorRow]) -> String {
    let of = |title, note, neutral, value: fn(&InputStats) -> f64| {
        map(t, title, note, &INPUTS, neutral, &move |r| r.input.as_ref().map(value))
    };
    let outliers = of("Largest over median channel", "1 where all channels are alike", 1.0, |i| i.outlier_ratio);
    if outliers.is_empty() {
        return "<p class=\"soft\">Activations: not known. <code>wgquant calibrate</code> gathers them, <code>--stats</code> shows them.</p>\n".to_owned();
    }
    let title = "Largest magnitude over the one that 99.9 % do not exceed";
    let clipping = of(title, "what clipping could win", 1.0, |i| i.absmax / i.p999.max(1e-30));
    let kurtosis = of("Kurtosis", "3 for a normal distribution", 3.0, |i| i.kurtosis);
    format!("<h2>Inputs of linear layers</h2>\n{outliers}{clipping}{kurtosis}")
}

fn sensitivity(t: &[TensorRow]) -> String {
    let note = "from a search; segments of in_proj share its";
    let loss = map(t, "Loss at the fewest bits measured", note, &PARTS, 1e-6, &|r| {
        r.sensitivity.as_ref()?.first_key_value().map(|(_, v)| *v)
    });
    if loss.is_empty() { loss } else { format!("<h2>Sensitivity</h2>\n{loss}") }
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
