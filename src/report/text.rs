//! Numbers and remarks for people.

use std::borrow::Cow;

use crate::analyze::Analysis;

/// `3474432` as `3.31 MiB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// `1734528` as `1.73 M`.
#[must_use]
pub fn count(n: u64) -> String {
    scaled(n as f64, 1000.0, &["", "K", "M", "B", "T"])
}

/// The unit of a rate in `what` a second, such as FLOP, and what makes the rate that many: software drivers do not reach one TFLOP/s.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn tera_or_giga(rate: f64, what: &str) -> (String, f64) {
    let (letter, size) = if rate >= 1e12 { ('T', 1e12) } else { ('G', 1e9) };
    (format!("{letter}{what}/s"), size)
}

/// What is to be said of the schemes of an analysis: of sizes that are not as the scheme's name has them, and why some have none.
pub(super) fn remarks(a: &Analysis) -> Vec<String> {
    let notes = a.predictions.iter().filter_map(|p| p.note.as_ref().map(|note| format!("{}: {note}", p.scheme)));
    notes.chain(a.refused.iter().map(|r| format!("{} cannot be made: {}", r.scheme, r.reason))).collect()
}

/// Whole below the first step, then three significant digits.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {}", units[unit]).trim_end().to_owned()
}

/// A word of a command line as a POSIX shell takes it: in quotes where some character would mean something to it.
#[must_use]
pub fn shell(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_alphanumeric() || "_-./:,=+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

/// `14.3136 ± 0.42`, or the value alone.
pub(super) fn with_error(value: f64, error: Option<f64>, digits: usize) -> String {
    match error {
        Some(e) => format!("{value:.digits$} ± {e:.digits$}"),
        None => format!("{value:.digits$}"),
    }
}

/// Fixed digits down to 0.001, then scientific: KL spans many orders.
pub(super) fn small(value: f64) -> String {
    if value == 0.0 || value.abs() >= 0.001 { format!("{value:.4}") } else { format!("{value:.1e}") }
}

/// `digits` significant digits; scientific outside 0.001 to 100,000.
pub(super) fn significant(value: f64, digits: usize) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.*e}", digits - 1);
    }
    let whole = size.log10().floor() as i32 + 1;
    format!("{value:.*}", usize::try_from(digits as i32 - whole).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits() {
        assert_eq!(significant(0.012_345, 3), "0.0123");
        assert_eq!(significant(-12.345, 3), "-12.3");
        assert_eq!(significant(12_345.0, 3), "12345");
        assert_eq!(significant(1.5e-7, 3), "1.50e-7");
        assert_eq!(significant(0.0, 3), "0");
    }

    #[test]
    fn words_of_a_command_line() {
        for plain in ["models/nano-w4a8", "./a_b.toml", "größe/1.0%"] {
            assert_eq!(shell(plain), plain);
        }
        assert_eq!(shell("my model"), "'my model'");
        assert_eq!(shell("a;b$(c)"), "'a;b$(c)'");
        assert_eq!(shell("it's"), r"'it'\''s'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(3_474_432), "3.31 MiB");
        assert_eq!(bytes(16 << 30), "16.0 GiB");
        assert_eq!(count(1_734_528), "1.73 M");
        assert_eq!(count(999), "999");
        assert_eq!(count(123_456_789), "123 M");
    }

    #[test]
    fn small_numbers_stay_readable() {
        assert_eq!(small(0.0), "0.0000");
        assert_eq!(small(0.01234), "0.0123");
        assert_eq!(small(0.000_012), "1.2e-5");
        assert_eq!(with_error(14.31, Some(0.4), 2), "14.31 ± 0.40");
    }
}
