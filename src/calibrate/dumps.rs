//! JSON in templates, as Python's `json.dumps` writes it: so models have seen it.

use std::io;

use minijinja::value::{Kwargs, Serde};
use minijinja::{Error, ErrorKind, State, Value};
use serde::Serialize as _;
use serde_json::ser::{Formatter, Serializer};

use super::bounds;

/// Most spaces of one indentation.
const WIDEST: usize = 64;

/// `tojson` as transformers has it: `json.dumps(x, ensure_ascii, indent, separators, sort_keys)`, and nothing escaped for HTML.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    ascii: Option<Value>,
    more: Kwargs,
) -> Result<String, Error> {
    let failed = |what: String| Error::new(ErrorKind::InvalidOperation, format!("tojson: {what}"));
    if value.is_undefined() {
        return Err(failed("of a value that is not defined".to_owned()));
    }
    bounds::check(state, value, |_| None)?;
    let ascii = ascii.or(more.get("ensure_ascii")?).is_some_and(|v| v.is_true());
    let indent = more.get::<Option<Value>>("indent")?.map(|v| indentation(&v).ok_or(v)).transpose();
    let indent = indent.map_err(|v| failed(format!("indent {v} is neither text nor 0 to {WIDEST} spaces")))?;
    let separators = more.get::<Option<Serde<(String, String)>>>("separators")?;
    let sorted = more.get::<Option<Value>>("sort_keys")?.is_some_and(|v| v.is_true());
    more.assert_all_used()?;
    let (item, key) = match separators {
        Some(Serde(pair)) => pair,
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut json = serde_json::to_value(value).map_err(|e| failed(e.to_string()))?;
    if sorted {
        json.sort_all_objects();
    }
    let mut out = Vec::new();
    let python = Python { item, key, indent, depth: 0, filled: false };
    json.serialize(&mut Serializer::with_formatter(&mut out, python)).map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8(out).map_err(|e| failed(e.to_string()))?;
    Ok(if ascii { escaped(&text) } else { text })
}

/// What each level is set in by.
fn indentation(value: &Value) -> Option<String> {
    let spaces = || usize::try_from(value.clone()).ok().filter(|n| *n <= WIDEST).map(|n| " ".repeat(n));
    value.as_str().map(str::to_owned).or_else(spaces)
}

/// JSON with characters beyond ASCII, which are in strings only, as UTF-16 units.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

/// What stands between values.
struct Python {
    item: String,
    key: String,
    /// All on one line without.
    indent: Option<String>,
    depth: usize,
    /// Has the list or object at hand a value?
    filled: bool,
}

impl Python {
    fn begin<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn end<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn next<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }

    fn line<W: io::Write + ?Sized>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = &self.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(indent.as_bytes()))
    }
}

impl Formatter for Python {
    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn end_array_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;

    /// What Python 3's `json.dumps` gives.
    #[test]
    fn as_python_writes_it() {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let json = serde_json::json!({ "b": "a<b & 'c' é😀\n", "a": [1, 2.5, null, true, [], {}] });
        let of = |filter: &str| {
            let value = context! { x => Value::from(Serde(&json)) };
            environment.render_str(&format!("{{{{ x | tojson{filter} }}}}"), value)
        };
        for (filter, want) in [
            ("", r#"{"b": "a<b & 'c' é😀\n", "a": [1, 2.5, null, true, [], {}]}"#),
            ("(ensure_ascii=False, indent=none)", r#"{"b": "a<b & 'c' é😀\n", "a": [1, 2.5, null, true, [], {}]}"#),
            ("(true)", r#"{"b": "a<b & 'c' \u00e9\ud83d\ude00\n", "a": [1, 2.5, null, true, [], {}]}"#),
            ("(separators=(',', ':'), sort_keys=true)", r#"{"a":[1,2.5,null,true,[],{}],"b":"a<b & 'c' é😀\n"}"#),
            (
                "(indent=2)",
                "{\n  \"b\": \"a<b & 'c' é😀\\n\",\n  \"a\": [\n    1,\n    2.5,\n    null,\n    true,\n    [],\n    {}\n  ]\n}",
            ),
        ] {
            assert_eq!(of(filter).unwrap(), want, "{filter}");
        }
        for (filter, word) in [("(indent=1000)", "1000"), ("(colour=1)", "colour")] {
            let error = of(filter).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(environment.render_str("{{ tools | tojson }}", ()).unwrap_err().to_string().contains("not defined"));
    }
}
