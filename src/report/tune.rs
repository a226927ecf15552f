//! `wgquant tune`: what was chosen, and how fast the others were.

use super::columns::table;
use crate::kernels::tuned::Choice;

/// A Markdown table, the candidates of each launch with their times; the first is what is taken without tuning.
#[must_use]
pub fn tune_markdown(choices: &[Choice]) -> String {
    let rows: Vec<Vec<String>> = choices
        .iter()
        .map(|c| {
            let times: Vec<String> = c.us.iter().map(|(name, us)| format!("{name} {us:.1}")).collect();
            vec![
                c.kernel.clone(),
                c.format.clone().unwrap_or_default(),
                c.variant.clone(),
                times.join(", "),
                4u64.saturating_pow(c.class).to_string(),
            ]
        })
        .collect();
    table(&["kernel", "format", "chosen", "us of each", "workgroups up to"], 4, &rows)
}
