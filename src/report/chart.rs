//! Bar charts as inline SVG: colours come from the page's style sheet, so they follow light and dark.

use std::fmt::Write as _;

use super::html::escape;

/// One bar.
pub(super) struct Bar {
    /// Name to the left.
    pub(super) label: String,
    /// Length.
    pub(super) value: f64,
    /// Value as text, to the right.
    pub(super) text: String,
}

const LABEL: f64 = 160.0;
const LONGEST: f64 = 280.0;
const VALUE: f64 = 90.0;
const STEP: f64 = 34.0;
const HEIGHT: f64 = 18.0;

/// Horizontal bars from zero, the longest as wide as there is room.
pub(super) fn bars(title: &str, bars: &[Bar]) -> String {
    let (width, height) = (LABEL + LONGEST + VALUE, STEP * bars.len() as f64);
    let longest = bars.iter().map(|b| b.value).fold(0.0, f64::max);
    let mut svg = format!(
        r#"<svg viewBox="0 0 {width} {height}" role="img" aria-label="{}"><line class="axis" x1="{LABEL}" y1="0" x2="{LABEL}" y2="{height}"/>"#,
        escape(title)
    );
    for (i, bar) in bars.iter().enumerate() {
        let length = if longest > 0.0 { bar.value / longest * LONGEST } else { 0.0 };
        let (top, base) = (STEP * i as f64 + (STEP - HEIGHT) / 2.0, STEP * i as f64 + STEP / 2.0 + 4.5);
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{base:.1}" text-anchor="end">{}</text><rect x="{LABEL}" y="{top:.1}" width="{length:.1}" height="{HEIGHT}" rx="2"/><text class="value" x="{:.1}" y="{base:.1}">{}</text>"#,
            LABEL - 10.0,
            escape(&bar.label),
            LABEL + length + 8.0,
            escape(&bar.text)
        );
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_in_proportion_and_text_is_escaped() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value, text: format!("{value}") };
        let svg = bars("a < b", &[bar("x&y", 1.0), bar("z", 4.0)]);
        assert!(svg.contains(r#"width="70.0""#) && svg.contains(r#"width="280.0""#), "{svg}");
        assert!(svg.contains("x&amp;y") && svg.contains("a &lt; b"));
        assert!(bars("empty", &[bar("x", 0.0)]).contains(r#"width="0.0""#));
    }
}
