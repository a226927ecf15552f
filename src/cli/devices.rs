//! `wgquant devices`.

use anyhow::Result;
use clap::Args;
use pollster::block_on;
use serde::Serialize;
use wgquant::gpu::{AdapterReport, adapters};
use wgquant::report::terminal;

use super::args::check_backend;
use super::{Verdict, out};

/// List the GPU adapters with drivers, features and limits
#[derive(Debug, Args)]
pub(super) struct Devices {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Found {
    adapters: Vec<AdapterReport>,
}

impl Devices {
    pub(super) fn run(&self) -> Result<Verdict> {
        check_backend()?;
        let found = Found { adapters: block_on(adapters()) };
        if found.adapters.is_empty() {
            log::warn!("no GPU adapter found; install a Vulkan driver (Debian: apt-get install mesa-vulkan-drivers)");
        }
        out::report(&found, self.json, |f| terminal::devices(&f.adapters))?;
        Ok(Verdict::Passed)
    }
}
