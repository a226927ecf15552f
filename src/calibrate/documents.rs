//! Documents of a text file, one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};

/// Hands each document of `path` to `sink`: each line of a `.jsonl` (its `text`, or the contents of its `messages`,
/// a paragraph each), each row of a `.parquet` (its column `text`), or the whole of any other file.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadCheckpoint`] naming the line that holds no text; whatever `sink` gives.
pub(super) fn documents(path: &Path, sink: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("jsonl") => json_lines(path, sink),
        Some("parquet") => parquet(path, sink),
        _ => sink(&std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?),
    }
}

fn json_lines(path: &Path, sink: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let file = BufReader::new(File::open(path).map_err(|e| Error::io(path, e))?);
    for (i, line) in file.lines().enumerate() {
        let line = line.map_err(|e| Error::io(path, e))?;
        if line.trim().is_empty() {
            continue;
        }
        let at = |what: &str| Error::bad(path, format!("line {}{what}", i + 1));
        let value: Value = serde_json::from_str(&line).map_err(|e| at(&format!(": {e}")))?;
        match (value.get("text"), value.get("messages")) {
            (Some(Value::String(text)), _) => sink(text)?,
            (None, Some(Value::Array(messages))) => {
                let text = plain(messages).ok_or_else(|| at(" has `messages` without string `content`"))?;
                sink(&text)?;
            }
            _ => return Err(at(" has no string `text` and no list `messages`")),
        }
    }
    Ok(())
}

/// A conversation as plain text: chat templates differ from model to model, and statistics need none.
fn plain(messages: &[Value]) -> Option<String> {
    let contents: Option<Vec<&str>> = messages.iter().map(|m| m.get("content").and_then(Value::as_str)).collect();
    contents.filter(|c| !c.is_empty()).map(|c| c.join("\n\n"))
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, sink: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;
    use parquet::schema::types::Type;

    let bad = |e: &dyn std::fmt::Display| Error::bad(path, format!("as Parquet: {e}"));
    let file = SerializedFileReader::new(File::open(path).map_err(|e| Error::io(path, e))?).map_err(|e| bad(&e))?;
    let schema = file.metadata().file_metadata().schema();
    let column = schema.get_fields().iter().find(|f| f.name() == "text").cloned();
    let column = column.ok_or_else(|| {
        let names: Vec<&str> = schema.get_fields().iter().map(|f| f.name()).collect();
        bad(&format!("has no column `text`; its columns are {}", names.join(", ")))
    })?;
    // Only that column is read.
    let projection = Type::group_type_builder(schema.name()).with_fields(vec![column]).build().map_err(|e| bad(&e))?;
    for (i, row) in file.get_row_iter(Some(projection)).map_err(|e| bad(&e))?.enumerate() {
        let row = row.map_err(|e| bad(&e))?;
        sink(row.get_string(0).map_err(|e| bad(&format!("row {i}, column `text`: {e}")))?)?;
    }
    Ok(())
}

#[cfg(not(feature = "parquet"))]
fn parquet(path: &Path, _: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let what = "is Parquet, which this build does not read: install with `--features parquet`, or pass JSON lines";
    Err(Error::bad(path, what))
}
