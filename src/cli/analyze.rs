//! `wgquant analyze`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use wgquant::analyze::{Scheme, Sensitivity, analyze};
use wgquant::calibrate::Stats;
use wgquant::model::ModelFile;
use wgquant::recipe::Bits;
use wgquant::report::{html, terminal};
use wgquant::runtime::EngineOptions;
use wgquant::search::Survey;

use super::args::{model, refuse};
use super::load::StateArgs;
use super::recipe::{RecipeArgs, Rotate, named};
use super::{Verdict, out};

/// Show what a model consists of, how large it will be under each scheme and where its outliers are; needs no GPU
#[derive(Debug, Args)]
pub(super) struct Analyze {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Statistics of activations, from `wgquant calibrate`
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
    /// What rounding each module loses: the --sensitivity file of `wgquant search`
    #[arg(long, value_name = "FILE")]
    sensitivity: Option<PathBuf>,
    /// Also predict the size under this recipe: w8a8, w4a8, mixed, or a TOML file
    #[arg(long, value_name = "NAME|FILE")]
    recipe: Option<PathBuf>,
    /// Read headers only: sizes, no outliers
    #[arg(long, conflicts_with_all = ["stats", "sensitivity", "html"])]
    sizes_only: bool,
    /// Tokens of a sequence, for the memory it takes
    #[arg(short, long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    context: u32,
    #[command(flatten)]
    state: StateArgs,
    /// Write a page with heat maps
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Analyze {
    pub(super) fn run(&self) -> Result<Verdict> {
        if let Some(path) = &self.html {
            out::check_file("--html", path)?;
        }
        self.state.check()?;
        let file = ModelFile::open(&self.model)?;
        let stats = self.stats.as_ref().map(|path| Stats::load(path)).transpose()?;
        let sensitivity = self.sensitivity()?;
        if file.is_quantized() {
            let recipe = self.recipe.as_ref().map(|path| format!("--recipe {}", path.display()));
            refuse([recipe], "on a model that is quantized already")?;
        }
        let schemes = self.schemes(&file)?;
        let options = EngineOptions {
            context: self.context as usize,
            state: self.state.format(),
            kv: self.state.kv(),
            scan: self.state.scan(),
            ..EngineOptions::default()
        };
        let mut analysis = analyze(&file, &schemes, options)?;
        // Of schemes that nobody asked for the analysis says so; this one was.
        if let Some(path) = &self.recipe
            && let Some(refused) = analysis.refused.iter().find(|r| r.scheme == title(path))
        {
            bail!("--recipe {}: {}", path.display(), refused.reason);
        }
        if !self.sizes_only {
            analysis.detail(&file, &schemes, stats.as_ref(), &sensitivity)?;
        }
        if let Some(path) = &self.html {
            out::save(path, &html::analysis(&analysis))?;
            log::info!("{}: written", path.display());
        }
        out::report(&analysis, self.json, terminal::analysis)?;
        Ok(Verdict::Passed)
    }

    fn sensitivity(&self) -> Result<Sensitivity> {
        let survey = self.sensitivity.as_ref().map(|path| Survey::load(path)).transpose()?;
        Ok(survey.map_or_else(Sensitivity::default, |s| s.losses()))
    }

    /// The schemes at their defaults, and `--recipe`.
    fn schemes(&self, file: &ModelFile) -> Result<Vec<Scheme>> {
        let scheme = |bits: Bits| {
            let (recipe, note) = match RecipeArgs::default().recipe(bits, file) {
                Ok(recipe) => (recipe, None),
                // Where a width has no Hadamard matrix, the size without rotations is the size to expect.
                Err(e) => {
                    let why = "without rotations (--rotate none), as `wgquant quantize` with its defaults refuses";
                    (RecipeArgs::rotated(Rotate::None).recipe(bits, file)?, Some(format!("{why}: {e:#}")))
                }
            };
            Ok(Scheme { name: bits.to_string(), recipe, note })
        };
        let mut schemes = Bits::ALL.into_iter().map(scheme).collect::<Result<Vec<_>>>()?;
        if let Some(path) = &self.recipe {
            schemes.push(Scheme { name: title(path), recipe: named(path, file, true)?, note: None });
        }
        Ok(schemes)
    }
}

/// What `--recipe` goes by.
fn title(path: &Path) -> String {
    format!("recipe {}", path.file_stem().map(|s| s.to_string_lossy()).unwrap_or_default())
}
