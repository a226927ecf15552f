//! Documents of a text file, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::chat::{ChatTemplate, content};
use crate::error::{Error, Result};

/// What Windows' editors put before a text in UTF-8; no part of it.
pub const BOM: char = '\u{feff}';

/// Hands each document of `path` to `sink`: each line of a `.jsonl` or `.ndjson` or row of a `.parquet`, or the whole of any other
/// file. A line or row has a `text`, or `messages`, a list of `{role, content}`: those become text by the model's chat
/// `template`, with the list `tools` that a line has beside them, and without a template by their contents, a paragraph each.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadCheckpoint`] naming the line that holds no text; whatever `sink` gives.
pub(super) fn documents(
    path: &Path,
    template: Option<&ChatTemplate>,
    sink: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    match extension(path).as_str() {
        "jsonl" | "ndjson" => json_lines(path, &mut |line, value| {
            sink(&text(value, template).map_err(|e| Error::bad(path, format!("line {line} {e}")))?)
        }),
        "json" => Err(Error::bad(
            path,
            "is JSON, whose documents cannot be told apart; pass JSON lines (.jsonl), Parquet or text",
        )),
        "parquet" => parquet(path, template, sink),
        _ => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
            sink(text.strip_prefix(BOM).unwrap_or(&text))
        }
    }
}

/// What kind of file a name says it is, in small letters; empty where it says nothing.
pub(super) fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// Bytes of a line at most: one without an end would take all memory.
const LONGEST: u64 = 1 << 30;

/// Hands each line of a `.jsonl` that is not empty to `sink`, with its number from 1.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadCheckpoint`] naming the line that is no JSON or too long; whatever `sink` gives.
pub(crate) fn json_lines(path: &Path, sink: &mut dyn FnMut(usize, Value) -> Result<()>) -> Result<()> {
    let file = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
    json_lines_of(path, file, LONGEST, sink)
}

/// As [`json_lines`], of what `file` holds, in lines of up to `longest` bytes.
fn json_lines_of(
    path: &Path,
    mut file: impl BufRead,
    longest: u64,
    sink: &mut dyn FnMut(usize, Value) -> Result<()>,
) -> Result<()> {
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = file.by_ref().take(longest + 1).read_until(b'\n', &mut bytes).map_err(|e| Error::io(path, e))?;
        if read == 0 {
            break;
        }
        let bad = |what: String| Error::bad(path, format!("line {number}: {what}"));
        if read as u64 > longest && !bytes.ends_with(b"\n") {
            return Err(bad(format!("has more than {longest} bytes")));
        }
        let line = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
        let line = line.strip_prefix(BOM).filter(|_| number == 1).unwrap_or(line);
        if !line.trim().is_empty() {
            sink(number, serde_json::from_str(line).map_err(|e| bad(e.to_string()))?)?;
        }
    }
    Ok(())
}

/// The text of a line or row; an error says what it has instead.
fn text(mut value: Value, template: Option<&ChatTemplate>) -> Result<String, String> {
    let mut take = |key: &str| value.get_mut(key).map(Value::take).unwrap_or_default();
    let (own, messages, tools) = (take("text"), take("messages"), take("tools"));
    match (own, messages) {
        (Value::String(text), _) => Ok(text),
        (Value::Null, Value::Array(messages)) => match template {
            Some(template) => template.render(&messages, listed(tools)?.as_deref()),
            None => plain(&messages),
        },
        _ => Err("has no string `text` and no list `messages`".to_owned()),
    }
}

/// The tools of a conversation, if it has any: a list, or one as JSON in a string, which tables hold more easily.
fn listed(tools: Value) -> Result<Option<Vec<Value>>, String> {
    let tools = match tools {
        Value::String(json) => serde_json::from_str(&json).map_err(|e| format!("has `tools` that are no JSON: {e}"))?,
        other => other,
    };
    match tools {
        Value::Null => Ok(None),
        Value::Array(tools) => Ok(Some(tools)),
        other => Err(format!("has `tools` that are no list: {other}")),
    }
}

/// A conversation without a template.
fn plain(messages: &[Value]) -> Result<String, String> {
    let contents = messages.iter().filter_map(|message| content(message).transpose()).collect::<Result<Vec<_>, _>>()?;
    if contents.is_empty() { Err("has `messages` without `content`".to_owned()) } else { Ok(contents.join("\n\n")) }
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, template: Option<&ChatTemplate>, sink: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::schema::types::Type;

    let bad = |e: &dyn std::fmt::Display| Error::bad(path, format!("as Parquet: {e}"));
    let file = SerializedFileReader::new(File::open(path).map_err(|e| Error::io(path, e))?).map_err(|e| bad(&e))?;
    let schema = file.metadata().file_metadata().schema();
    let columns = schema.get_fields();
    let column = ["text", "messages"].into_iter().find(|name| columns.iter().any(|f| f.name() == *name));
    let column = column.ok_or_else(|| {
        let names: Vec<&str> = columns.iter().map(|f| f.name()).collect();
        bad(&format!("has no column `text` or `messages`; its columns are {}", names.join(", ")))
    })?;
    // Only what makes the text is read.
    let read = |name: &str| name == column || (name == "tools" && column == "messages");
    let fields = columns.iter().filter(|f| read(f.name())).cloned().collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(|e| bad(&e))?;
    for (i, row) in file.get_row_iter(Some(projection)).map_err(|e| bad(&e))?.enumerate() {
        let row = row.map_err(|e| bad(&e))?.to_json_value();
        sink(&text(row, template).map_err(|e| bad(&format!("row {i} {e}")))?)?;
    }
    Ok(())
}

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _: Option<&ChatTemplate>, _: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let what = "is Parquet, which this build does not read: install with `--features parquet`, or pass JSON lines";
    Err(Error::bad(path, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(file: impl BufRead, longest: u64) -> Result<Vec<(usize, Value)>> {
        let mut lines = Vec::new();
        json_lines_of(Path::new("z.jsonl"), file, longest, &mut |number, value| {
            lines.push((number, value));
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn lines_have_numbers_and_a_greatest_length() {
        let text = "\u{feff}1\r\n\n  \n[2, 3]\n\"456\"";
        let lines = numbered(text.as_bytes(), 6).unwrap();
        assert_eq!(lines, [(1, Value::from(1)), (4, Value::from(vec![2, 3])), (5, Value::from("456"))]);
        let refused = |error: Result<_>| error.unwrap_err().to_string();
        assert_eq!(refused(numbered(text.as_bytes(), 5)), "z.jsonl: line 4: has more than 5 bytes");
        assert_eq!(refused(numbered(&b"1\n\xff\n"[..], 6)).split(": ").nth(1), Some("line 2"));
    }

    #[test]
    fn tools_are_a_list_or_one_in_a_string() {
        let list = serde_json::json!([{ "name": "sum" }]);
        for tools in [list.clone(), Value::from(list.to_string())] {
            assert_eq!(listed(tools).unwrap(), list.as_array().cloned());
        }
        assert_eq!(listed(Value::Null), Ok(None));
        for (tools, said) in
            [(Value::from(3), "no list: 3"), (Value::from("["), "no JSON"), (Value::from("{}"), "no list: {}")]
        {
            assert!(listed(tools).unwrap_err().contains(said));
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let endless = BufReader::new(std::io::repeat(0));
        let error = numbered((&b"{}\n"[..]).chain(endless), 1 << 20).unwrap_err().to_string();
        assert_eq!(error, "z.jsonl: line 2: has more than 1048576 bytes");
    }
}
