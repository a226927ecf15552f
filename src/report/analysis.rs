//! The page of `wgquant analyze`: sizes, heat maps of outliers, memory of the Mamba-2 blocks.

mod maps;
mod tables;

use super::html::{escape, page, row};
use super::text::{bytes, count, remarks};
use crate::analyze::{Analysis, Prediction};

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
    body.extend(remarks(a).iter().map(|remark| format!("<p class=\"soft\">{}</p>\n", escape(remark))));
    if let Some(details) = &a.details {
        body += &maps::all(&details.tensors);
        body += &tables::memory(&details.dynamics);
        body += &tables::worst(a, details);
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
    let mut line = |name: &str, now: String, then: &dyn Fn(&Prediction) -> String| {
        let mut cells = vec![format!("<b>{name}</b>"), String::new(), now];
        cells.extend(a.predictions.iter().map(then));
        rows += &row("td", &cells);
    };
    line("file", bytes(a.model.bytes), &|p| bytes(p.bytes));
    line("bits a parameter", format!("{:.2}", a.model.bits_per_parameter), &|p| format!("{:.2}", p.bits_per_parameter));
    let known = |n: Option<u64>| n.map_or_else(String::new, bytes);
    line("weights on the device", known(a.device_bytes), &|p| bytes(p.device_bytes));
    line("peak, running", known(a.peak_bytes), &|p| bytes(p.peak_bytes));
    format!("<table><thead>{}</thead><tbody>{rows}</tbody></table>", row("th", &head))
}
