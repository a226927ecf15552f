//! `wgquant analyze`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use wgquant::analyze::analyze;
use wgquant::model::ModelFile;
use wgquant::recipe::Bits;
use wgquant::report::terminal;

use super::recipe::{RecipeArgs, Rotate};
use super::{Verdict, out};

/// Show what a model consists of and how large it will be under each scheme; needs no GPU
#[derive(Debug, Args)]
pub(super) struct Analyze {
    /// Model directory
    model: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Analyze {
    pub(super) fn run(&self) -> Result<Verdict> {
        let file = ModelFile::open(&self.model)?;
        let recipe = |bits| {
            // Where a width has no Hadamard matrix, the size without rotations is the size to expect.
            let plain = RecipeArgs { rotate: Rotate::None, ..RecipeArgs::default() };
            let recipe = RecipeArgs::default().recipe(bits, &file).or_else(|_| plain.recipe(bits, &file))?;
            Ok((bits.to_string(), recipe))
        };
        let recipes = Bits::ALL.into_iter().map(recipe).collect::<Result<Vec<_>>>()?;
        out::report(&analyze(&file, &recipes)?, self.json, terminal::analysis)?;
        Ok(Verdict::Passed)
    }
}
