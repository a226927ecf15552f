//! Writing results to stdout. A reader that has left is an error here and success in `main`.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;

/// Writes `text` as it is, now.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Refuses, before hours of work, a file that could not be written after; `flag` names it.
pub(super) fn check_file(flag: &str, file: &Path) -> Result<()> {
    let dir = file.parent().filter(|d| !d.as_os_str().is_empty());
    if dir.is_some_and(|d| !d.is_dir()) {
        bail!("{flag} {}: there is no such directory", file.display());
    }
    if file.is_dir() {
        bail!("{flag} {}: is a directory", file.display());
    }
    Ok(())
}

/// Writes `report` as JSON with `json`, else as `table` shows it.
pub(super) fn report<T: Serialize>(report: &T, json: bool, table: impl FnOnce(&T) -> String) -> Result<()> {
    if json { text(&format!("{}\n", serde_json::to_string_pretty(report)?)) } else { text(&table(report)) }
}
