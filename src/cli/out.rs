//! Writing results to stdout and files, and words to stderr. A reader that has left ends what streams, by an error that is
//! success in `main`; a report is a command's last word, after which its verdict stands.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use wgquant::files;

/// Writes `text` as it is, now.
pub(super) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// Writes a line to stderr. Where that takes nothing, a full disk or a reader that has left, the exit code says it all the same.
pub(crate) fn say(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{words}");
}

/// As [`say`], without the end of the line.
pub(super) fn ask(words: &str) {
    let _ = io::stderr().lock().write_all(words.as_bytes());
}

/// Is this of a reader that has left? Whatever context it was given is looked through.
pub(crate) fn reader_left(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes a command's last word. Who has stopped reading waits for the exit code all the same.
pub(super) fn last(words: &str) -> Result<()> {
    text(words).or_else(|e| if reader_left(&e) { Ok(()) } else { Err(e) })
}

/// Refuses, before hours of work, a file that could not be written after or whose place a model's is in; `flag` names it.
pub(super) fn check_file(flag: &str, file: &Path) -> Result<()> {
    check_place(flag, file)?;
    if belongs_to_a_model(file) {
        bail!("{flag} {}: would replace a file of the model in its directory; name another", file.display());
    }
    Ok(())
}

/// As [`check_file`], of a file that a run may go on with. A device, pipe or link, such as /dev/stdout, would give its place to the file.
pub(super) fn check_place(flag: &str, file: &Path) -> Result<()> {
    let text = file.as_os_str().to_string_lossy();
    if text.is_empty() || text.ends_with(std::path::is_separator) {
        bail!("{flag} `{text}`: is no file's name");
    }
    let dir = file.parent().filter(|d| !d.as_os_str().is_empty());
    if dir.is_some_and(|d| !d.is_dir()) {
        bail!("{flag} {}: there is no such directory", file.display());
    }
    if file.is_dir() {
        bail!("{flag} {}: is a directory", file.display());
    }
    if file.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        bail!("{flag} {}: is a link, device or pipe, which would be replaced by a file", file.display());
    }
    files::writable(file).with_context(|| format!("{flag} {}", file.display()))
}

/// Where `file` is or will be, the same however it is named.
pub(super) fn place(file: &Path) -> PathBuf {
    let dir = file.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (dir.canonicalize(), file.file_name()) {
        (Ok(dir), Some(name)) => dir.join(name),
        _ => file.to_owned(),
    }
}

/// Is there such a file, of a kind that models consist of, beside a `config.json`?
fn belongs_to_a_model(file: &Path) -> bool {
    const KINDS: [&str; 7] = ["json", "safetensors", "bin", "model", "npy", "txt", "py"];
    let kind = file.extension().is_some_and(|e| KINDS.iter().any(|kind| e.eq_ignore_ascii_case(kind)));
    kind && file.is_file() && file.with_file_name("config.json").is_file()
}

/// Writes a file, as a whole or not at all.
pub(super) fn save(path: &Path, text: &str) -> Result<()> {
    files::replace(path, |to| to.write_all(text.as_bytes())).with_context(|| format!("{}", path.display()))
}

/// Writes `report` as JSON with `json`, else as `table` shows it: a command's last word.
pub(super) fn report<T: Serialize>(report: &T, json: bool, table: impl FnOnce(&T) -> String) -> Result<()> {
    if json { last(&format!("{}\n", serde_json::to_string_pretty(report)?)) } else { last(&table(report)) }
}
