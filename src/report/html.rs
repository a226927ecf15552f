//! The demo as one HTML page: no script, nothing fetched, light and dark.

use super::DeviceInfo;
#[cfg(not(target_arch = "wasm32"))]
use super::SearchReport;
pub use super::analysis::analysis;
#[cfg(not(target_arch = "wasm32"))]
use super::chart::curve;
use super::chart::{Bar, bars};
use super::demo::{DemoReport, DemoRow};
use super::text::{bytes, small, with_error};
#[cfg(not(target_arch = "wasm32"))]
use crate::search::ParetoPoint;

const STYLE: &str = include_str!("page.css");

/// Text made safe for HTML, attributes included.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A page around `body`; no script, nothing fetched.
#[must_use]
pub fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE}</style>
<main>
{body}</main>
</html>
"#
    )
}

/// The whole page.
#[must_use]
pub fn demo(report: &DemoReport) -> String {
    let DemoReport { windows, tokens, cases_passed, cases_failed, seconds, .. } = report;
    let body = format!(
        r#"<h1>A hybrid Mamba-2 model, quantized</h1>
<p>Measured on {device}. The original is the base of every comparison.</p>
<p class="soft">{windows} held-out windows, {tokens} predicted tokens; {cases_passed} of {cases} kernel cases agree with the CPU reference; {seconds:.0} s in all; {tool}.</p>
<h2>Results</h2>
<div class="wide">{table}</div>
<p class="soft">Ratio: perplexity over the original's. KL: KL(original || model), mean over tokens, in nats. Top-1: tokens whose most likely next token is the original's. ±: standard error over windows.</p>
<h2>What the bits cost</h2>
<div class="charts">{charts}</div>
<h2>Greedy continuations of “{prompt}”</h2>
<div class="wide">{texts}</div>
<h2>Repeat it</h2>
<p><code>wgquant demo</code>, or on one of these models <code>wgquant perplexity MODEL -f FILE --base ORIGINAL</code>. The numbers of this page are in <code>demo.json</code> beside it.</p>
"#,
        device = escape(&device_words(&report.device)),
        cases = cases_passed + cases_failed,
        tool = escape(&report.tool),
        table = table(&report.models),
        charts = charts(&report.models),
        prompt = escape(&report.prompt),
        texts = texts(&report.models),
    );
    page("wgquant demo", &body)
}

/// What `wgquant search` found.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn search(report: &SearchReport) -> String {
    let points: Vec<(f64, f64)> = report.front.iter().map(|p| (p.bits_per_parameter, p.predicted_kl)).collect();
    let chosen = report.chosen.as_ref().map(|c| (c.bits_per_parameter, c.predicted_kl));
    let steps = report.steps();
    let cells = |p: &ParetoPoint| [format!("{:.3}", p.bits_per_parameter), bytes(p.bytes), small(p.predicted_kl)];
    let rows: String = steps.iter().map(|p| row("td", &cells(p))).collect();
    let body = format!(
        r#"<h1>Bits and what they cost: {model}</h1>
<p>Measured on {device}. KL: what rounding the weights adds, in nats a token, predicted from each weight's own.</p>
<figure><figcaption>Predicted KL <span>logarithmic, by bits per parameter, everything included</span></figcaption>{plot}</figure>
<h2>Best at each size</h2>
<div class="wide"><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>
"#,
        model = escape(&report.model.model),
        device = escape(&device_words(&report.device)),
        plot = curve("Predicted KL by bits per parameter", &points, chosen),
        head = row("th", &["Bits/param", "Size", "Predicted KL"]),
    );
    page("wgquant search", &body)
}

fn device_words(device: &DeviceInfo) -> String {
    // The reference is a CPU, too, and no driver.
    let software = if device.device_type == "Cpu" && device.backend != "cpu" { "a software driver" } else { "" };
    let words = [device.adapter.as_str(), software, &device.backend, &device.driver];
    words.into_iter().filter(|w| !w.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn table(models: &[DemoRow]) -> String {
    let head = ["Model", "Size", "Smaller", "Bits/param", "Perplexity", "Ratio", "KL", "Top-1", "Tokens/s"];
    let cells = |m: &DemoRow| {
        [
            escape(&m.name),
            bytes(m.model.bytes),
            format!("{:.2}×", m.reduction),
            format!("{:.2}", m.model.bits_per_parameter),
            with_error(m.perplexity, m.perplexity_stderr, 3),
            format!("{:.4}", m.perplexity_ratio),
            small(m.mean_kl),
            format!("{:.1} %", m.top1_agreement * 100.0),
            m.tokens_per_second.map_or_else(String::new, |speed| format!("{speed:.1}")),
        ]
    };
    let rows = models.iter().map(|m| row("td", &cells(m)));
    format!("<table><thead>{}</thead><tbody>{}</tbody></table>", row("th", &head), rows.collect::<String>())
}

pub(super) fn row<T: AsRef<str>>(tag: &str, cells: &[T]) -> String {
    let cells: String = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", c.as_ref())).collect();
    format!("<tr>{cells}</tr>\n")
}

fn charts(models: &[DemoRow]) -> String {
    let chart = |title: &str, note: &str, value: fn(&DemoRow) -> f64, text: fn(f64) -> String| {
        let all: Vec<Bar> =
            models.iter().map(|m| Bar { label: m.name.clone(), value: value(m), text: text(value(m)) }).collect();
        format!("<figure><figcaption>{title} <span>{note}</span></figcaption>{}</figure>\n", bars(title, &all))
    };
    let bits = chart("Bits per parameter", "everything counted", |m| m.model.bits_per_parameter, |v| format!("{v:.2}"));
    let kl = chart("KL to the original", "nats a token, lower is better", |m| m.mean_kl, small);
    bits + &kl
}

fn texts(models: &[DemoRow]) -> String {
    let rows = models.iter().map(|m| row("td", &[escape(&m.name), escape(&m.text)]));
    let head = row("th", &["Model", "Text"]);
    format!("<table class=\"words\"><thead>{head}</thead><tbody>{}</tbody></table>", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;

    #[test]
    fn a_software_driver_is_called_one_and_the_reference_is_not() {
        let reference = DeviceInfo::from(&Device::Cpu);
        assert_eq!(device_words(&reference), "CPU reference · cpu");
        let software = DeviceInfo { adapter: "llvmpipe".to_owned(), backend: "vulkan".to_owned(), ..reference };
        assert_eq!(device_words(&software), "llvmpipe · a software driver · vulkan");
    }
}
