//! `wgquant verify`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use wgquant::checkpoint::verify;
use wgquant::report::terminal;

use super::args::model;
use super::{Verdict, out};

/// Check a model that wgquant wrote against its manifest; needs no GPU
///
/// Every file's size and SHA-256, every tensor's file, type, shape and SHA-256; and whether the model is read from files that the
/// manifest does not name. Finds damage; who changes files on purpose can change the manifest, too. Exit code 1 when
/// something differs, 2 when there is nothing to check against.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Directory that wgquant wrote
    #[arg(value_parser = model())]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self) -> Result<Verdict> {
        let report = verify(&self.dir)?;
        out::report(&report, self.json, terminal::verified)?;
        Ok(if report.differences.is_empty() { Verdict::Passed } else { Verdict::Failed })
    }
}
