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

#[cfg(not(target_arch = "wasm32"))]
/// A falling curve of positive values, logarithmic upward, with one point marked.
pub(super) fn curve(title: &str, points: &[(f64, f64)], marked: Option<(f64, f64)>) -> String {
    const PLOT: (f64, f64) = (560.0, 300.0);
    const LEFT: f64 = 70.0;
    let positive: Vec<(f64, f64)> = points.iter().copied().filter(|(_, y)| *y > 0.0).collect();
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)))
    };
    let (x0, x1) = range(&mut positive.iter().map(|p| p.0));
    let (y0, y1) = range(&mut positive.iter().map(|p| p.1.log10()));
    let mut svg = format!(
        r#"<svg viewBox="0 0 {} {}" role="img" aria-label="{}">"#,
        LEFT + PLOT.0 + 20.0,
        PLOT.1 + 40.0,
        escape(title)
    );
    if positive.len() > 1 && x1 > x0 && y1 > y0 {
        let at = |(x, y): (f64, f64)| {
            let right = LEFT + (x - x0) / (x1 - x0) * PLOT.0;
            (right, 10.0 + (y1 - y.log10()) / (y1 - y0) * (PLOT.1 - 20.0))
        };
        for decade in (y0.ceil() as i32)..=(y1.floor() as i32) {
            let (_, y) = at((x0, 10f64.powi(decade)));
            let _ = write!(
                svg,
                r#"<line class="axis" x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">1e{decade}</text>"#,
                LEFT + PLOT.0,
                LEFT - 8.0,
                y + 4.5
            );
        }
        for bits in (x0.ceil() as usize)..=(x1.floor() as usize) {
            let (x, _) = at((bits as f64, 10f64.powf(y0)));
            let _ = write!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{bits}</text>"#, PLOT.1 + 20.0);
        }
        let line: Vec<String> = positive
            .iter()
            .map(|p| {
                let (x, y) = at(*p);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = write!(svg, r#"<polyline points="{}"/>"#, line.join(" "));
        if let Some((x, y)) = marked.filter(|(_, y)| *y > 0.0).map(at) {
            let _ = write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="5"/>"#);
        }
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
        let svg = curve("kl", &[(3.0, 0.1), (4.0, 0.01), (5.0, 0.001), (16.0, 0.0)], Some((4.0, 0.01)));
        assert!(svg.contains(r#"<circle cx="350.0" cy="150.0""#) && svg.contains("1e-2"), "{svg}");
        assert!(bars("empty", &[bar("x", 0.0)]).contains(r#"width="0.0""#));
    }
}
