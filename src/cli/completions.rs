//! `wgquant completions`.

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Verdict, out};

/// Print what makes a shell complete commands and flags
///
/// For bash: wgquant completions bash > ~/.local/share/bash-completion/completions/wgquant
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Result<Verdict> {
        // Written here first: it panics where a reader has left.
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "wgquant", &mut script);
        out::last(&String::from_utf8(script).context("completions")?)?;
        Ok(Verdict::Passed)
    }
}
