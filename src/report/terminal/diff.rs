//! Where two runs part.

use super::table;
use crate::eval::{Judgement, OpError};
use crate::report::DiffReport;

/// How many of the largest errors are named.
const WORST: usize = 5;

/// `wgquant diff`: every op with `all`, else the worst of each layer and whatever failed.
#[must_use]
pub fn diff(report: &DiffReport, all: bool) -> String {
    if report.ops.is_empty() {
        let DiffReport { run, against, tokens, .. } = report;
        return format!("{run}\n{tokens} tokens and one decode step written to {against}, compared with nothing\n");
    }
    let ops: Vec<&OpError> = report.ops.iter().filter(|op| all || shown(op, &report.ops)).collect();
    let rows = ops.iter().map(|op| {
        vec![
            op.layer.map_or_else(String::new, |i| i.to_string()),
            op.block.to_owned(),
            step(op) + &op.op,
            match op.verdict {
                Judgement::Ok => "ok",
                Judgement::Failed => "FAILED",
                Judgement::OtherBasis => "other basis",
            }
            .to_owned(),
            number(op.nmse),
            format!("{:.0e}", op.limit),
            number(op.max_abs),
            number(op.carried_nmse),
        ]
    });
    let head = ["Layer", "Block", "Op", "Verdict", "NMSE", "Tolerance", "Max abs", "Carried NMSE"];
    let decode = if report.ops.iter().any(|op| op.step == "decode") { " and one decode step" } else { "" };
    let mut out = format!("{}\nagainst {}, {} tokens{decode}\n", report.run, report.against, report.tokens);
    out += &table(&head, 4, rows.collect::<Vec<_>>());
    let mut worst: Vec<&OpError> = report.ops.iter().filter(|op| op.verdict != Judgement::OtherBasis).collect();
    worst.sort_by(|a, b| b.nmse.total_cmp(&a.nmse));
    let worst: Vec<String> = worst.iter().take(WORST).map(|op| format!("{} {}", name(op), number(op.nmse))).collect();
    out += &format!("largest errors: {}\n", worst.join(", "));
    match &report.culprit {
        Some(op) => {
            out += &format!(
                "first op past its tolerance: {} ({}): NMSE {} above {:.0e}\n",
                name(op),
                op.block,
                number(op.nmse),
                op.limit
            );
        }
        None => out += &format!("{} ops are within their tolerances\n", report.judged),
    }
    match report.ops.len() - report.judged {
        0 => out,
        others => {
            out + &format!(
                "{others} could not be compared: their values are in another basis, or may be; what goes wrong in them \
                 shows in the next that could\n"
            )
        }
    }
}

/// The largest own error of its step and layer, or one that failed.
fn shown(op: &OpError, ops: &[OpError]) -> bool {
    let judged = |o: &&OpError| (o.step, o.layer) == (op.step, op.layer) && o.verdict != Judgement::OtherBasis;
    let worst = ops.iter().filter(judged).max_by(|a, b| a.nmse.total_cmp(&b.nmse));
    op.verdict == Judgement::Failed || worst.is_some_and(|w| std::ptr::eq(w, op))
}

fn name(op: &OpError) -> String {
    step(op) + &op.layer.map_or_else(|| op.op.clone(), |i| format!("layer {i} {}", op.op))
}

fn step(op: &OpError) -> String {
    if op.step == "decode" { "decode: ".to_owned() } else { String::new() }
}

fn number(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}
