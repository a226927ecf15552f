//! The `wgquant` program: reads the command line, runs a command, says what went wrong in one line.

// `cli::say` instead: these panic where stderr takes nothing.
#![warn(clippy::print_stderr)]

mod cli;

use std::process::ExitCode;

/// 0 done, 1 a check or quality gate failed, 2 error (as clap's own for wrong usage).
fn main() -> ExitCode {
    let run = |cli: cli::Cli| {
        cli::start_log();
        cli::signals::clean_up();
        cli.run()
    };
    match cli::Cli::from_env().and_then(run) {
        Ok(cli::Verdict::Passed) => ExitCode::SUCCESS,
        Ok(cli::Verdict::Failed) => ExitCode::from(1),
        // `wgquant .. | head` has what it wants.
        Err(e) if cli::reader_left(&e) => ExitCode::SUCCESS,
        Err(e) => {
            cli::say(format_args!("wgquant: {}", cli::one_line(&format!("{e:#}"))));
            ExitCode::from(2)
        }
    }
}
