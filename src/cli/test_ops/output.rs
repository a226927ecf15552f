//! Writing a result file in the formats asked for.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use wgquant::kernels::check::lacking;
use wgquant::report::terminal;
use wgquant::report::test_ops::ResultFile;

use super::super::out;
use super::child::Ready;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Tables
    Console,
    /// The result file to keep and to compare
    Json,
    /// JUnit XML
    Junit,
    /// One line a case
    Csv,
    /// One page with the matrix
    Html,
}

/// Where results go.
#[derive(Clone, Debug, Args)]
pub(super) struct Output {
    /// Format
    #[arg(long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// As --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Write to FILE, and tables to stdout; the format is --output or by the ending: .json, .xml, .csv, .html
    #[arg(short = 'O', long, value_name = "FILE")]
    output_file: Vec<PathBuf>,
    /// Show every case
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SupportFormat {
    /// A table
    Console,
    /// JSON
    Json,
}

/// How `support` says it.
#[derive(Clone, Debug, Args)]
pub(super) struct SupportOutput {
    /// Format
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "console")]
    output: SupportFormat,
    /// As --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

impl SupportOutput {
    /// Is JSON wanted?
    pub(super) fn json(&self) -> bool {
        self.json || self.output == SupportFormat::Json
    }
}

impl Output {
    fn format(&self) -> Option<Format> {
        self.output.or(self.json.then_some(Format::Json))
    }

    fn format_of(&self, file: &Path) -> Result<Format> {
        if let Some(format) = self.format() {
            return Ok(format);
        }
        Ok(match file.extension().and_then(|e| e.to_str()) {
            Some("json") => Format::Json,
            Some("xml") => Format::Junit,
            Some("csv") => Format::Csv,
            Some("html") => Format::Html,
            Some("txt") => Format::Console,
            _ => bail!("--output-file {}: the ending names no format; add --output", file.display()),
        })
    }

    /// Refuses what could not be written.
    pub(super) fn check(&self) -> Result<()> {
        for file in &self.output_file {
            self.format_of(file)?;
            out::check_file("--output-file", file)?;
        }
        Ok(())
    }

    /// Writes everything; `again` are the flags that a failing case needs to run as it did.
    pub(super) fn write(&self, result: &ResultFile, again: &str) -> Result<()> {
        for file in &self.output_file {
            out::save(file, &self.text(result, self.format_of(file)?, again)?)?;
        }
        let shown = if self.output_file.is_empty() { self.format() } else { None };
        out::last(&self.text(result, shown.unwrap_or(Format::Console), again)?)
    }

    fn text(&self, result: &ResultFile, format: Format, again: &str) -> Result<String> {
        Ok(match format {
            Format::Console => terminal::test_ops(result, self.verbose, again),
            Format::Json => result.json()?,
            Format::Junit => result.junit(),
            Format::Csv => result.csv(),
            Format::Html => result.html(),
        })
    }
}

/// Prints the variants of `kernels` and whether the adapter has what they need.
pub(super) fn support(ready: &Ready, kernels: &[&'static str], json: bool) -> Result<()> {
    let adapter = &ready.file.adapter;
    let mut rows = Vec::new();
    for kernel in wgquant::shaders::KERNELS.iter().filter(|k| kernels.contains(&k.name)) {
        let missing = lacking(kernel.variants, &ready.file.caps);
        for v in kernel.variants.iter().filter(|v| !v.emulated()) {
            let lacks = missing.iter().find(|(name, _)| *name == v.name).map(|(_, m)| m.clone());
            // The reference ignores variants.
            let lacks = lacks.filter(|_| adapter.backend != "cpu");
            rows.push((kernel.name, v.name, lacks));
        }
    }
    if json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(k, v, lacks)| json!({"kernel": k, "variant": v, "supported": lacks.is_none(), "lacks": lacks}))
            .collect();
        let all = json!({"adapter": adapter, "caps": ready.file.caps, "variants": rows});
        return out::text(&format!("{}\n", serde_json::to_string_pretty(&all)?));
    }
    let mut text = format!("{} ({} {})\n", adapter.name, adapter.backend, ready.file.driver());
    for (kernel, variant, lacks) in rows {
        let verdict = lacks.map_or_else(|| "yes".to_owned(), |l| format!("no, lacks {l}"));
        text += &format!("  {kernel}.{variant}: {verdict}\n");
    }
    out::text(&text)
}
