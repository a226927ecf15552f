//! Results as they come.

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use wgquant::report::bench::{BenchContext, conditions, csv};

use crate::cli::out;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A Markdown table.
    Md,
    /// One array, at the end.
    Json,
    /// A record a line.
    Jsonl,
    /// A head line, then a record or an op a line; without lists of numbers.
    Csv,
}

/// Prints each result when it is there, so that what fails later does not take it along; an array at the end.
pub(super) struct Printer<T, M> {
    format: Format,
    /// A result as Markdown; is it the first?
    markdown: M,
    /// What was printed.
    pub(super) all: Vec<T>,
}

impl<T: Serialize, M: Fn(&T, bool) -> String> Printer<T, M> {
    pub(super) fn new(format: Format, markdown: M) -> Self {
        Self { format, markdown, all: Vec::new() }
    }

    /// The next result.
    pub(super) fn push(&mut self, result: T) -> Result<()> {
        let first = self.all.is_empty();
        match self.format {
            Format::Md => out::text(&(self.markdown)(&result, first))?,
            Format::Json => {}
            Format::Jsonl => out::text(&(serde_json::to_string(&result)? + "\n"))?,
            Format::Csv => out::text(&csv(&result, first)?)?,
        }
        self.all.push(result);
        Ok(())
    }

    /// What stands below all results, if there are any.
    pub(super) fn finish(&self, context: impl Fn(&T) -> &BenchContext) -> Result<()> {
        match (self.format, self.all.first()) {
            (Format::Md, Some(first)) => out::text(&format!("\n{}\n", conditions(context(first)))),
            (Format::Json, Some(_)) => out::text(&(serde_json::to_string_pretty(&self.all)? + "\n")),
            _ => Ok(()),
        }
    }
}
