//! Bar charts as inline SVG: colours come from the page's style sheet, so they follow light and dark.

use std::fmt::Write as _;

use super::html::escape;
#[cfg(not(target_arch = "wasm32"))]
use super::text::significant;

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
        let decades = ((y0.ceil() as i32)..=(y1.floor() as i32)).map(|d| (10f64.powi(d), format!("1e{d}")));
        for (value, label) in labels(decades, [y0, y1].map(|y| 10f64.powf(y))) {
            let (_, y) = at((x0, value));
            let _ = write!(
                svg,
                r#"<line class="axis" x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
                LEFT + PLOT.0,
                LEFT - 8.0,
                y + 4.5
            );
        }
        let whole = ((x0.ceil() as usize)..=(x1.floor() as usize)).map(|bits| (bits as f64, bits.to_string()));
        for (bits, label) in labels(whole, [x0, x1]) {
            let (x, _) = at((bits, 10f64.powf(y0)));
            let _ = write!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, PLOT.1 + 20.0);
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

/// The round values of an axis with their labels; both its ends where those are fewer than two, which tell no scale.
#[cfg(not(target_arch = "wasm32"))]
fn labels(round: impl Iterator<Item = (f64, String)>, ends: [f64; 2]) -> Vec<(f64, String)> {
    let round: Vec<_> = round.collect();
    if round.len() < 2 { ends.map(|end| (end, significant(end, 3))).into() } else { round }
}

/// One line of a plot.
#[cfg(not(target_arch = "wasm32"))]
pub(super) struct Line {
    /// Name.
    pub(super) name: String,
    /// Positive sizes and values.
    pub(super) points: Vec<(f64, f64)>,
}

#[cfg(not(target_arch = "wasm32"))]
/// Lines over sizes that double to the right, from zero upward. The second is dashed, and so on.
pub(super) fn lines(title: &str, all: &[Line]) -> String {
    const PLOT: (f64, f64) = (560.0, 300.0);
    const LEFT: f64 = 70.0;
    let points = || all.iter().flat_map(|l| &l.points).filter(|(x, y)| *x > 0.0 && y.is_finite());
    let x0 = points().map(|p| p.0.log2()).fold(f64::INFINITY, f64::min);
    let x1 = points().map(|p| p.0.log2()).fold(f64::NEG_INFINITY, f64::max);
    let top = points().map(|p| p.1).fold(0.0, f64::max);
    let names = 22.0 * all.len() as f64;
    let mut svg = format!(
        r#"<svg viewBox="0 0 {} {}" role="img" aria-label="{}">"#,
        LEFT + PLOT.0 + 20.0,
        PLOT.1 + 40.0 + names,
        escape(title)
    );
    let at = |(x, y): (f64, f64)| {
        let right = if x1 > x0 { (x.log2() - x0) / (x1 - x0) * PLOT.0 } else { PLOT.0 / 2.0 };
        (LEFT + right, 10.0 + (1.0 - if top > 0.0 { y / top } else { 0.0 }) * (PLOT.1 - 20.0))
    };
    for quarter in 0..=4 {
        let value = top * f64::from(quarter) / 4.0;
        let (_, y) = at((x0.exp2(), value));
        let _ = write!(
            svg,
            r#"<line class="axis" x1="{LEFT}" y1="{y:.1}" x2="{:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            LEFT + PLOT.0,
            LEFT - 8.0,
            y + 4.5,
            significant(value, 3)
        );
    }
    let mut sizes: Vec<f64> = points().map(|p| p.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    for size in sizes {
        let (x, _) = at((size, 0.0));
        let label =
            if size >= 1024.0 && size % 1024.0 == 0.0 { format!("{}K", size / 1024.0) } else { size.to_string() };
        let _ = write!(svg, r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#, PLOT.1 + 14.0);
    }
    for (i, line) in all.iter().enumerate() {
        let dash = if i == 0 { "none".to_owned() } else { format!("{} 4", 4 * i + 2) };
        let y = PLOT.1 + 40.0 + 22.0 * i as f64;
        let path: Vec<String> = line.points.iter().map(|p| at(*p)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            svg,
            r#"<polyline stroke-dasharray="{dash}" points="{}"/><polyline stroke-dasharray="{dash}" points="{LEFT},{y:.1} {},{y:.1}"/><text x="{}" y="{:.1}">{}</text>"#,
            path.join(" "),
            LEFT + 40.0,
            LEFT + 50.0,
            y + 4.5,
            escape(&line.name)
        );
        line.points.iter().map(|p| at(*p)).for_each(|(x, y)| {
            let _ = write!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="4"/>"#);
        });
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
        // Within a decade, and between two whole bits, the ends are named.
        let svg = curve("kl", &[(4.25, 0.03), (4.5, 0.02)], None);
        for end in [">4.25<", ">4.50<", ">0.0300<", ">0.0200<"] {
            assert!(svg.contains(end), "{end}: {svg}");
        }
        assert!(bars("empty", &[bar("x", 0.0)]).contains(r#"width="0.0""#));
    }

    #[test]
    fn sizes_double_to_the_right_and_values_start_at_zero() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.to_owned(), points: points.to_vec() };
        let svg =
            lines("t", &[line("a<b", &[(512.0, 100.0), (1024.0, 50.0), (2048.0, 0.0)]), line("c", &[(1024.0, 25.0)])]);
        assert!(svg.contains(r#"points="70.0,10.0 350.0,150.0 630.0,290.0""#), "{svg}");
        assert!(svg.contains(r#"cx="350.0" cy="220.0""#) && svg.contains("a&lt;b"), "{svg}");
        assert!(svg.contains(">512</text>") && svg.contains(">2K</text>"), "{svg}");
        // One point, or none above zero, is no reason to divide by zero.
        for svg in [lines("t", &[line("a", &[(8.0, 0.0)])]), lines("t", &[])] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
