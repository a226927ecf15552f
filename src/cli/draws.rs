//! How the tokens of texts are chosen, as commands are told.

use anyhow::{Result, anyhow};
use clap::Args;
use wgquant::runtime::Next;

use super::args::refuse;
use super::generation::sampling;

/// Which tokens are drawn, and by what seed.
#[derive(Clone, Debug, Args)]
pub(super) struct DrawArgs {
    /// Temperature; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    temp: f32,
    /// Draw from the K most likely tokens only; 0 for all [default: 0]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<u32>,
    /// Draw from the most likely tokens that together have this probability [default: 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Seed of the draws; of several texts each has the next one [default: 0]
    #[arg(short, long)]
    seed: Option<u32>,
}

impl DrawArgs {
    /// How tokens are chosen. Refuses what is no such number, and what has no effect.
    pub(super) fn next(&self) -> Result<Next> {
        let next = sampling((self.temp, self.top_k.unwrap_or(0), self.top_p.unwrap_or(1.0)), ["--temp", "--top-p"])
            .map_err(|(flag, what)| anyhow!("{flag}: {what}"))?;
        if next == Next::Greedy {
            let (k, p) = (self.top_k.map(|k| format!("--top-k {k}")), self.top_p.map(|p| format!("--top-p {p}")));
            let seed = self.seed.map(|seed| format!("--seed {seed}"));
            refuse([k, p, seed], "with --temp 0, the default, which draws nothing")?;
        }
        Ok(next)
    }

    /// Of the first text; each other has the next.
    pub(super) fn seed(&self) -> u32 {
        self.seed.unwrap_or(0)
    }
}
