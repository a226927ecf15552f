//! The command line: one file a command. stdout is for results, stderr for logs and progress.

mod analyze;
mod args;
mod bench;
mod calibrate;
mod chat;
mod completions;
mod demo;
mod devices;
mod diff;
mod doctor;
mod draws;
mod eval;
mod generate;
mod generation;
mod load;
mod man;
mod out;
mod perplexity;
mod progress;
mod quantize;
mod recipe;
mod search;
mod serve;
pub(crate) mod signals;
mod stream;
mod synth;
mod test_ops;
mod tune;
mod verify;

use std::error::Error as _;
use std::io::Write as _;

use anyhow::{Result, bail};
use clap::builder::Resettable;
use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use wgquant::Error;

pub(crate) use out::{reader_left, say};

/// Quantize and run hybrid Mamba-2 language models (Nemotron-H) on any GPU.
///
/// Start with `wgquant demo`. MODEL is a directory in Hugging Face layout: config.json, safetensors and, for text,
/// tokenizer.json. Or the name of one in the Hugging Face cache, owner/name or owner/name@revision; nothing is downloaded.
///
/// Exit codes: 0 done, 1 a check or quality gate failed, 2 error.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    TestOps(test_ops::TestOps),
    Devices(devices::Devices),
    Analyze(analyze::Analyze),
    Calibrate(calibrate::Calibrate),
    Quantize(quantize::Quantize),
    Search(search::Search),
    Synth(synth::SynthCommand),
    Bench(bench::Bench),
    Tune(tune::Tune),
    Perplexity(perplexity::Perplexity),
    Eval(eval::Eval),
    Generate(generate::Generate),
    Chat(chat::Chat),
    Serve(serve::Serve),
    Diff(diff::Diff),
    Verify(verify::Verify),
    Completions(completions::Completions),
    Man(man::Man),
}

/// How a command that ran to its end ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Exit code 0.
    Passed,
    /// A check or quality gate failed: exit code 1.
    Failed,
}

impl Cli {
    /// Reads the command line. Where it is wrong, clap says so and ends the program; what is wrong with a model is said as by
    /// whatever opens one.
    pub(crate) fn from_env() -> Result<Self> {
        let mut command = without_empty(Self::command());
        let args = bench::long_flags(std::env::args_os());
        let matches = command.try_get_matches_from_mut(args);
        let read = matches.and_then(|m| Self::from_arg_matches(&m).map_err(|e| e.format(&mut command)));
        read.or_else(|e| match e.source().and_then(|e| e.downcast_ref()) {
            Some(of_model @ Error::BadCheckpoint { .. }) => bail!("{of_model}"),
            _ => e.exit(),
        })
    }

    /// Runs the command.
    pub(crate) fn run(&self) -> Result<Verdict> {
        match &self.command {
            Command::Demo(c) => c.run(),
            Command::Doctor(c) => c.run(),
            Command::TestOps(c) => c.run(),
            Command::Devices(c) => c.run(),
            Command::Analyze(c) => c.run(),
            Command::Calibrate(c) => c.run(),
            Command::Quantize(c) => c.run(),
            Command::Search(c) => c.run(),
            Command::Synth(c) => c.run(),
            Command::Bench(c) => c.run(),
            Command::Tune(c) => c.run(),
            Command::Perplexity(c) => c.run(),
            Command::Eval(c) => c.run(),
            Command::Generate(c) => c.run(),
            Command::Chat(c) => c.run(),
            Command::Serve(c) => c.run(),
            Command::Diff(c) => c.run(),
            Command::Verify(c) => c.run(),
            Command::Completions(c) => c.run(),
            Command::Man(c) => c.run(),
        }
    }
}

/// Variables that are set to nothing are as if they were not set: compose files and matrices of CI have no other way to say so. But a
/// secret that is nothing is one that somebody forgot, and is refused.
fn without_empty(command: clap::Command) -> clap::Command {
    let empty = |arg: &Arg| {
        let value = arg.get_env().filter(|_| !arg.is_hide_env_values_set()).and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    let set = move |arg: Arg| if empty(&arg) { arg.env(Resettable::Reset) } else { arg };
    command.mut_args(set).mut_subcommands(without_empty)
}

/// Logs go to stderr; `RUST_LOG` decides which. wgpu and its drivers are noisy below errors.
pub(crate) fn start_log() {
    let filter = "warn,wgquant=info,wgpu=error,wgpu_core=error,wgpu_hal=off,naga=error";
    let env = env_logger::Env::default().default_filter_or(filter);
    let line = |f: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        let level = match record.level() {
            log::Level::Warn => "warning".to_owned(),
            level => level.as_str().to_ascii_lowercase(),
        };
        writeln!(f, "{level}: {}", record.args())
    };
    env_logger::Builder::from_env(env).format(line).init();
}

/// A driver's message may have many lines; an error is one.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn messages_are_one_line() {
        assert_eq!(super::one_line("a\n\n  b \r\nc"), "a; b; c");
    }
}
