//! JSON files of a checkpoint, with the liberties Python and transformers take.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// No configuration or index comes near this; a larger file is not one.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// What an infinite number becomes: JSON has none, and kernels must not meet one. No step size comes near it.
const INFINITY: &str = "1e30";

/// The only key of an object that stands for a number JSON has not, as transformers 5 writes it: `{"__float__": "Infinity"}`.
const SPECIAL_FLOAT: &str = "__float__";

/// Reads a JSON file. Python's bare `Infinity` becomes 1e30, `-Infinity` -1e30 and `NaN` null, and so do transformers 5's
/// `{"__float__": "Infinity"}` and the like.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::BadCheckpoint`] when it is not JSON or is far too large.
pub fn read_json(path: &Path) -> Result<Value> {
    let file = fs::File::open(path).map_err(|e| Error::io(path, e))?;
    let mut text = String::new();
    file.take(MAX_JSON_BYTES + 1).read_to_string(&mut text).map_err(|e| Error::io(path, e))?;
    if text.len() as u64 > MAX_JSON_BYTES {
        return Err(Error::bad(path, format!("is larger than {} MiB; not a configuration", MAX_JSON_BYTES >> 20)));
    }
    parse_json(path, &text)
}

/// As [`read_json`], for text that is in memory; `path` is its name in messages.
pub(super) fn parse_json(path: &Path, text: &str) -> Result<Value> {
    let mut value: Value = serde_json::from_str(&without_python_numbers(text))
        .map_err(|e| Error::bad(path, format!("is not JSON: {e}")))?;
    resolve_special_floats(&mut value);
    Ok(value)
}

/// Replaces the objects that stand for a special float. serde_json has no deeper nesting than 128.
fn resolve_special_floats(value: &mut Value) {
    let named = value.as_object().filter(|o| o.len() == 1).and_then(|o| o.get(SPECIAL_FLOAT)).and_then(Value::as_str);
    let number = match named {
        Some("Infinity") => Some(INFINITY.parse().map_or(Value::Null, Value::Number)),
        Some("-Infinity") => Some(format!("-{INFINITY}").parse().map_or(Value::Null, Value::Number)),
        Some("NaN") => Some(Value::Null),
        _ => None,
    };
    match (number, value) {
        (Some(number), value) => *value = number,
        (None, Value::Array(all)) => all.iter_mut().for_each(resolve_special_floats),
        (None, Value::Object(all)) => all.values_mut().for_each(resolve_special_floats),
        _ => {}
    }
}

/// Replaces `Infinity` and `NaN` wherever they stand outside a string.
fn without_python_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut quoted) = (text, false);
    while let Some(c) = rest.chars().next() {
        let word = [("Infinity", INFINITY), ("NaN", "null")].into_iter().find(|(w, _)| !quoted && rest.starts_with(w));
        if let Some((word, number)) = word {
            out.push_str(number);
            rest = &rest[word.len()..];
            continue;
        }
        let mut take = c.len_utf8();
        match c {
            '"' => quoted = !quoted,
            // The character after a backslash, a quote above all, does not end the string.
            '\\' if quoted => take += rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        out.push_str(&rest[..take]);
        rest = &rest[take..];
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn python_numbers_become_json_outside_strings_only() {
        let text = r#"{"a": [0.0, Infinity, -Infinity], "b \" Infinity": "NaN\\", "c": NaN, "é\é": 1}"#;
        let want = r#"{"a": [0.0, 1e30, -1e30], "b \" Infinity": "NaN\\", "c": null, "é\é": 1}"#;
        assert_eq!(without_python_numbers(text), want);
    }

    #[test]
    fn special_floats_of_transformers_become_numbers() {
        let text = r#"{"a": [0.0, {"__float__": "Infinity"}], "b": {"c": {"__float__": "-Infinity"}}, "d": {"__float__": "NaN"},
            "e": {"__float__": "Infinity", "f": 1}, "g": {"__float__": 1}}"#;
        let want = serde_json::json!({
            "a": [0.0, 1e30], "b": { "c": -1e30 }, "d": null, "e": { "__float__": "Infinity", "f": 1 }, "g": { "__float__": 1 },
        });
        assert_eq!(parse_json(Path::new("config.json"), text).unwrap(), want);
    }
}
