//! `wgquant man`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory};
use wgquant::checkpoint::TOOL;

use super::{Cli, Verdict, out};

/// Print the manual page of wgquant, or write those of all commands
#[derive(Debug, Args)]
pub(super) struct Man {
    /// Write a page for each command into this directory, which is made where there is none
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(&self) -> Result<Verdict> {
        // `help` of a command has nothing that its page has not.
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        match &self.output {
            None => out::last(&page(&command)?.1)?,
            Some(dir) => {
                fs::create_dir_all(dir).with_context(|| format!("--output {}", dir.display()))?;
                write(&command, dir)?;
            }
        }
        Ok(Verdict::Passed)
    }
}

/// Writes the pages of a command and of those below it.
fn write(command: &Command, dir: &Path) -> Result<()> {
    let (name, text) = page(command)?;
    out::save(&dir.join(name), &text)?;
    command.get_subcommands().filter(|c| !c.is_hide_set()).try_for_each(|c| write(c, dir))
}

/// Name and text of a command's page.
fn page(command: &Command) -> Result<(String, String)> {
    let page = clap_mangen::Man::new(command.clone()).source(TOOL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((page.get_filename(), String::from_utf8(text).context("manual page")?))
}
