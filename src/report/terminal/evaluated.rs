//! Tables of questions answered.

use super::{driver_words, table};
use crate::eval::{Scores, TaskResult};
use crate::report::EvalReport;
use crate::report::text::with_error;

/// A row for each measure: its name, and where it is among [`Scores`], with its error.
type Measure = (&'static str, fn(&Scores) -> Option<(f64, Option<f64>)>);

const MEASURES: [Measure; 3] = [
    ("acc", |s| Some((s.acc, s.acc_stderr))),
    ("acc_norm", |s| Some((s.acc_norm?, s.acc_norm_stderr))),
    ("perplexity", |s| Some((s.perplexity?, s.perplexity_stderr))),
];

/// `wgquant eval`.
#[must_use]
pub fn evaluated(report: &EvalReport) -> String {
    let mut head = vec!["Task", "Metric", "Questions", report.model.model.as_str()];
    if let Some(base) = &report.base_model {
        head.extend([base.model.as_str(), "Difference", "Same answer, %"]);
    }
    let rows: Vec<Vec<String>> = report.tasks.iter().flat_map(rows).collect();
    let seconds: f64 = report.tasks.iter().map(|t| t.seconds).sum();
    let questions: usize = report.tasks.iter().map(|t| t.questions).sum();
    let device = format!("{} ({})", report.device.adapter, driver_words(&report.device));
    format!("{}{questions} questions in {seconds:.1} s on {device}\n", table(&head, 2, rows))
}

fn rows(task: &TaskResult) -> impl Iterator<Item = Vec<String>> {
    MEASURES.iter().filter_map(move |(name, of)| {
        let words = |scores: &Scores| of(scores).map(|(value, error)| with_error(value, error, 4));
        let examples = match task.examples.count {
            0 => String::new(),
            n => format!(", {n}-shot"),
        };
        let mut row =
            vec![task.task.clone() + &examples, (*name).to_owned(), task.questions.to_string(), words(&task.scores)?];
        if let Some(paired) = &task.paired {
            let of_acc = *name == "acc";
            let difference = with_error(paired.acc_difference, paired.acc_difference_stderr, 4);
            let same = format!("{:.1}", paired.same_answer * 100.0);
            row.extend([words(&paired.base).unwrap_or_default()]);
            row.extend([difference, same].map(|cell| if of_acc { cell } else { String::new() }));
        }
        Some(row)
    })
}
