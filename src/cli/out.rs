//! Writing results to stdout. A reader that has left is an error here and success in `main`.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

/// Writes `text` as it is, now.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes `report` as JSON with `json`, else as `table` shows it.
pub(super) fn report<T: Serialize>(report: &T, json: bool, table: impl FnOnce(&T) -> String) -> Result<()> {
    if json { text(&format!("{}\n", serde_json::to_string_pretty(report)?)) } else { text(&table(report)) }
}
