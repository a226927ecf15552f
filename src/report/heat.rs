//! Heat maps: layers by parts, coloured by a number, as HTML tables that follow light and dark.

use std::fmt::Write as _;

use super::html::escape;
use super::text::significant;

/// One map.
pub(super) struct Heat<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    /// Names of the columns.
    pub(super) columns: Vec<&'a str>,
    /// Name of a row, and a value for each column that it has.
    pub(super) rows: Vec<(String, Vec<Option<f64>>)>,
    /// Value that has no colour: what a harmless part has.
    pub(super) neutral: f64,
}

/// The table, or nothing where there is no value. Colour is by the logarithm, from neutral to the largest.
pub(super) fn heat(map: &Heat<'_>) -> String {
    let values = || map.rows.iter().flat_map(|(_, row)| row.iter().flatten().copied());
    let largest = values().filter(|v| v.is_finite()).fold(map.neutral, f64::max);
    if values().next().is_none() {
        return String::new();
    }
    let used = |c: &usize| map.rows.iter().any(|(_, row)| row[*c].is_some());
    let used: Vec<usize> = (0..map.columns.len()).filter(used).collect();
    let mut out = format!(
        "<figure><figcaption>{} <span>{}</span></figcaption><div class=\"wide\"><table class=\"heat\"><thead><tr><th></th>",
        escape(map.title),
        escape(map.note)
    );
    out.extend(used.iter().map(|c| format!("<th>{}</th>", escape(map.columns[*c]))));
    out.push_str("</tr></thead><tbody>\n");
    for (name, row) in &map.rows {
        let _ = write!(out, "<tr><th>{}</th>", escape(name));
        for value in used.iter().map(|c| row[*c]) {
            match value {
                None => out.push_str("<td></td>"),
                Some(v) => {
                    let share = strength(v, map.neutral, largest) * 100.0;
                    let _ = write!(out, "<td class=\"on\" style=\"--h:{share:.0}%\">{}</td>", significant(v, 3));
                }
            }
        }
        out.push_str("</tr>\n");
    }
    out + "</tbody></table></div></figure>\n"
}

/// 0 at `neutral` and below, 1 at `largest`.
fn strength(value: f64, neutral: f64, largest: f64) -> f64 {
    let span = (largest / neutral).ln();
    if span <= 0.0 || value <= neutral { 0.0 } else { ((value / neutral).ln() / span).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_grow_with_the_logarithm_and_empty_columns_go() {
        let row = |v: [Option<f64>; 3]| v.to_vec();
        let rows = vec![
            ("0 M".to_owned(), row([Some(1.0), None, Some(10.0)])),
            ("1 <".to_owned(), row([None, None, Some(100.0)])),
        ];
        let map = Heat { title: "t", note: "n", columns: vec!["a", "b", "c"], rows, neutral: 1.0 };
        let html = heat(&map);
        assert!(
            html.contains("--h:0%\">1.00<") && html.contains("--h:50%\">10.0<") && html.contains("--h:100%\">100<")
        );
        assert!(!html.contains("<th>b</th>") && html.contains("1 &lt;"));
        assert_eq!(heat(&Heat { rows: vec![], ..map }), "");
    }
}
