//! What is said of models.

use super::{driver_words, table};
use crate::eval::doubling;
use crate::quantize::ModuleLoss;
use crate::recipe::{Module, Recipe};
use crate::report::text::{bytes, count, shell, small, with_error};
use crate::report::{DemoReport, Measured, ModelInfo, PerplexityReport, QuantizeReport};

/// `wgquant quantize --explain`.
#[must_use]
pub fn explained(modules: &[Module], recipe: &Recipe) -> String {
    let rows: Vec<Vec<String>> = modules
        .iter()
        .map(|m| {
            let rule =
                m.rule.map_or_else(|| "none".to_owned(), |i| format!("{i}: {}", recipe.rules[i].modules.join(", ")));
            let size = bytes(m.bytes(recipe.float));
            let [form, group, scales, inputs] = m.words(recipe.float);
            vec![m.name.clone(), format!("{} x {}", m.rows, m.cols), form, group, scales, inputs, size, rule]
        })
        .collect();
    table(&["Module", "Shape", "Weights", "Group", "Scales", "Inputs", "Size", "Rule"], 1, rows)
}

/// Modules named where not all are.
const WORST: usize = 5;

/// What GPTQ lost, `all` modules or those that lost most; nothing where weights were rounded to nearest.
fn losses(losses: &[ModuleLoss], all: bool) -> String {
    if losses.is_empty() {
        return String::new();
    }
    let mut shown: Vec<&ModuleLoss> = losses.iter().collect();
    if !all {
        shown.sort_by(|a, b| b.loss.total_cmp(&a.loss));
        shown.truncate(WORST);
    }
    let segments = |l: &ModuleLoss| l.segments.iter().map(|(n, v)| format!("{n} {}", small(*v))).collect::<Vec<_>>();
    let row = |l: &&ModuleLoss| {
        let (group, damping) = (l.group.to_string(), small(l.damping));
        vec![l.module.clone(), segments(l).join(", "), l.bits.to_string(), group, small(l.loss), damping]
    };
    let (n, sum) = (losses.len(), losses.iter().map(|l| l.loss).sum::<f64>());
    let seconds: f64 = losses.iter().map(|l| l.seconds).sum();
    format!(
        "{}{n} modules by GPTQ in {seconds:.1} s: of the energy of the outputs that it aims at, rounding lost {} in the mean{}\n",
        table(
            &["Module", "Segments", "Bits", "Group", "Loss", "Damping"],
            2,
            shown.iter().map(row).collect::<Vec<_>>()
        ),
        small(sum / n as f64),
        if all || n <= WORST { "" } else { "; the worst are above (-v: all)" }
    )
}

/// `wgquant quantize`; with `verbose`, what was lost in every module.
#[must_use]
pub fn quantized(report: &QuantizeReport, verbose: bool) -> String {
    let size = |by: f64| if by < 1.0 { format!("{:.2}× larger", 1.0 / by) } else { format!("{by:.2}× smaller") };
    let row = |name: &str, m: &ModelInfo| {
        vec![
            name.to_owned(),
            m.model.clone(),
            count(m.parameters),
            bytes(m.bytes),
            format!("{:.2}", m.bits_per_parameter),
        ]
    };
    let rows = vec![row("before", &report.source), row("after", &report.output)];
    losses(&report.losses, verbose)
        + &format!(
            "{}{}, {:.1} s on {}\nnext: wgquant perplexity {} -f FILE --base {}\n",
            table(&["", "Model", "Parameters", "Size", "Bits/param"], 2, rows),
            size(report.reduction),
            report.seconds,
            report.device.adapter,
            shell(&report.output.model),
            shell(&report.source.model)
        )
}

/// `wgquant perplexity`.
#[must_use]
pub fn perplexity(report: &PerplexityReport) -> String {
    let model = report.measured.model();
    let line = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        line("perplexity", with_error(model.perplexity, model.perplexity_stderr, 4)),
        line(
            "size",
            format!("{} ({:.2} bits per parameter)", bytes(report.model.bytes), report.model.bits_per_parameter),
        ),
    ];
    if let Measured::Against { base_model, comparison: c } = &report.measured {
        rows.extend([
            line("perplexity of the base", with_error(c.base.perplexity, c.base.perplexity_stderr, 4)),
            line(
                "size of the base",
                format!("{} ({:.2} bits per parameter)", bytes(base_model.bytes), base_model.bits_per_parameter),
            ),
            line("perplexity ratio", with_error(c.perplexity_ratio, c.perplexity_ratio_stderr, 4)),
            line(
                "mean KL, nats",
                c.mean_kl_stderr.map_or_else(|| small(c.mean_kl), |e| format!("{} ± {}", small(c.mean_kl), small(e))),
            ),
            line(
                "same top token, %",
                with_error(c.top1_agreement * 100.0, c.top1_agreement_stderr.map(|e| e * 100.0), 2),
            ),
        ]);
        let ranges = doubling(&c.kl_by_position);
        if ranges.len() > 1 {
            rows.extend(ranges.iter().map(|r| line(&format!("mean KL at {} to {}", r.from, r.to), small(r.mean_kl))));
        }
    }
    rows.push(line(
        "tokens",
        format!(
            "{} in {} windows, {:.0} a second",
            model.tokens,
            report.windows,
            model.tokens as f64 / model.seconds.max(1e-9)
        ),
    ));
    rows.push(line("device", format!("{} ({})", report.device.adapter, driver_words(&report.device))));
    table(&[report.model.model.as_str(), ""], 2, rows)
}

/// `wgquant demo`.
#[must_use]
pub fn demo(report: &DemoReport) -> String {
    let head =
        ["Model", "Adapter", "Size", "Smaller", "Bits/param", "Perplexity", "Ratio", "KL", "Top-1 %", "Tokens/s"];
    let rows = report.models.iter().map(|m| {
        vec![
            m.name.clone(),
            report.device.adapter.clone(),
            bytes(m.model.bytes),
            format!("{:.2}×", m.reduction),
            format!("{:.2}", m.model.bits_per_parameter),
            format!("{:.3}", m.perplexity),
            format!("{:.4}", m.perplexity_ratio),
            small(m.mean_kl),
            format!("{:.1}", m.top1_agreement * 100.0),
            m.tokens_per_second.map_or_else(String::new, |speed| format!("{speed:.1}")),
        ]
    });
    table(&head, 2, rows.collect::<Vec<_>>())
}
