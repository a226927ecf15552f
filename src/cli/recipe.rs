//! Flags to a [`Recipe`]: the one place that reads them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use wgquant::hadamard;
use wgquant::kernels::TOKEN_GROUP;
use wgquant::model::{Block, Group, ModelConfig, ModelFile, ModelSource, OnlineRotation};
use wgquant::recipe::{Bits, Module, Preset, Recipe};
use wgquant::transform::{Rotation, Transform};

use super::args::refuse;

/// A kind of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Rotate {
    /// Hadamard matrices, randomised where it costs nothing (QuaRot).
    Hadamard,
    /// The stream along its own axes, then Hadamard, so that all channels vary alike (MambaQuant's; needs calibration
    /// text); elsewhere as `hadamard`.
    KltHadamard,
    /// The stream along its own axes (needs calibration text); elsewhere as `hadamard`.
    Klt,
    /// No rotation.
    None,
}

/// A place where activations are rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Site {
    /// The residual stream, folded into the weights.
    Residual,
    /// Before every out_proj, at run time.
    OutProj,
    /// Before every down_proj, at run time.
    DownProj,
    /// The values of each KV head, folded into the weights.
    Values,
    /// The queries and keys of each KV head, folded into the weights.
    Keys,
}

impl Site {
    /// Where rotations always help.
    const DEFAULT: [Self; 3] = [Self::Residual, Self::OutProj, Self::DownProj];

    /// The blocks that have it, where not all do.
    fn blocks(self) -> Option<(Block, &'static str)> {
        match self {
            Self::Residual => None,
            Self::OutProj => Some((Block::Mamba2, "Mamba-2")),
            Self::DownProj => Some((Block::Mlp, "MLP")),
            Self::Values | Self::Keys => Some((Block::Attention, "attention")),
        }
    }
}

/// How to rotate.
#[derive(Clone, Debug, Args)]
pub(super) struct TransformArgs {
    /// Rotate activations so that outliers spread out
    #[arg(long, value_enum, default_value = "hadamard")]
    pub(super) rotate: Rotate,
    /// Where to rotate [default: residual,out_proj,down_proj]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST")]
    pub(super) rotate_sites: Option<Vec<Site>>,
    /// Channels of a block of the rotations at run time; with `--activations dynamic --activation-group 32` those of 32 make
    /// decoding fastest [default: a norm group, the whole width; `search`: its --activation-group]
    #[arg(long, value_name = "N")]
    pub(super) rotate_block: Option<usize>,
    /// Multiply norm weights into the layers that read them [default: true when the residual stream is rotated]
    #[arg(long, value_name = "true|false")]
    pub(super) fold_norms: Option<bool>,
    /// Seed of the random signs of `hadamard` rotations of the stream, values and keys [default: 0]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
}

/// How to rotate and round.
#[derive(Clone, Debug, Args)]
pub(super) struct RecipeArgs {
    #[command(flatten)]
    pub(super) transform: TransformArgs,
    /// Inputs that share a scale in 4-bit weights: a number, or `channel` for whole rows [default: 128]
    #[arg(long, value_name = "N|channel", value_parser = group)]
    pub(super) group_size: Option<Group>,
    /// Bits of the embedding [default: 8; 16 where it is the head too and activations are floats]
    #[arg(long, value_name = "8|16", hide_possible_values = true, value_parser = PossibleValuesParser::new(["8", "16"]).map(|s| s == "8"))]
    pub(super) embedding: Option<bool>,
}

impl TransformArgs {
    /// The defaults of the command line but for `rotate`.
    fn rotated(rotate: Rotate) -> Self {
        Self { rotate, rotate_sites: None, rotate_block: None, fold_norms: None, seed: None }
    }
}

impl Default for RecipeArgs {
    /// The defaults of the command line.
    fn default() -> Self {
        Self::rotated(Rotate::Hadamard)
    }
}

/// The recipe that `--recipe` names: a preset or a TOML file. Presets are rotated where the model's widths have Hadamard
/// matrices, and `calibrated` or rounded to nearest.
pub(super) fn named(name: &Path, file: &ModelFile, calibrated: bool) -> Result<Recipe> {
    let Some(preset) = name.to_str().and_then(Preset::named) else {
        let presets = Preset::ALL.map(|(name, _)| name).join(", ");
        let text = std::fs::read_to_string(name)
            .with_context(|| format!("--recipe {}: no preset ({presets}), and as a file", name.display()))?;
        // Flags may change what it says: whoever makes something of it names the file.
        return Ok(Recipe::parse(&name.display().to_string(), &text)?);
    };
    let transform = TransformArgs::rotated(Rotate::Hadamard).transform(file, Some(TOKEN_GROUP)).or_else(|e| {
        log::warn!("{e}: the model is not rotated");
        TransformArgs::rotated(Rotate::None).transform(file, None)
    })?;
    Ok(Recipe::preset(preset, file.config(), file.float_dtype(), transform, calibrated))
}

/// `--group-size` and `--activation-group`.
pub(super) fn group(text: &str) -> Result<Group, String> {
    match text.parse() {
        _ if text == "channel" => Ok(Group::Channel),
        Ok(n) if n > 0 => Ok(Group::Size(n)),
        _ => Err("not a number above 0, nor `channel`".to_owned()),
    }
}

impl RecipeArgs {
    /// The defaults of the command line but for `rotate`.
    pub(super) fn rotated(rotate: Rotate) -> Self {
        Self { transform: TransformArgs::rotated(rotate), group_size: None, embedding: None }
    }

    /// The recipe for a model.
    pub(super) fn recipe(&self, bits: Bits, file: &ModelFile) -> Result<Recipe> {
        let group = self.group_size.unwrap_or(Group::Size(128));
        let (float, transform) = (file.float_dtype(), self.transform.transform(file, None)?);
        let embedding = self.embedding.unwrap_or(true);
        let recipe = Recipe::uniform(file.config(), bits, group, embedding, float, transform);
        if self.embedding == Some(true) && !recipe.rules.iter().any(|r| r.modules.iter().any(|m| m == "Embedding")) {
            bail!(
                "--embedding 8: it is this model's head too, which stays float as activations do ({bits}); pass --fold-norms \
                 true for a head of its own"
            );
        }
        Ok(recipe)
    }
}

/// Of the groups asked for by `flag`, refuses a size that no weight can have, and says where another takes its place. `own`
/// gives a module's, where it has such.
pub(super) fn check_groups(
    flag: &str,
    asked: Option<Group>,
    modules: &[Module],
    own: impl Fn(&Module) -> Option<Group>,
) -> Result<()> {
    let Some(Group::Size(n)) = asked else { return Ok(()) };
    let sizes = |m: &Module| Some((own(m)?.len(m.cols), m.cols));
    let all: Vec<(usize, usize)> = modules.iter().filter_map(sizes).collect();
    let others = all.iter().filter(|(size, cols)| *size != n.min(*cols));
    let below: BTreeSet<usize> = others.clone().map(|(size, _)| *size).collect();
    let below = below.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match others.count() {
        0 if all.is_empty() => bail!("{flag} {n}: no weight has such groups in what is asked for"),
        0 => {}
        count if count == all.len() => {
            bail!("{flag} {n}: no weight of this model can have it; they would have {below} instead")
        }
        count => log::warn!("{flag} {n}: {count} of {} weights cannot have it, and have {below} instead", all.len()),
    }
    Ok(())
}

impl TransformArgs {
    /// The rewrites these flags ask for; rotations at run time in blocks of `block` where they can be, unless a flag says.
    pub(super) fn transform(&self, file: &ModelFile, block: Option<usize>) -> Result<Transform> {
        let config = file.config();
        self.check(config)?;
        if self.rotate == Rotate::None {
            return Ok(Transform { fold_norms: self.fold_norms.unwrap_or(false), ..Transform::NONE });
        }
        let signs = Rotation::RandomHadamard(self.seed.unwrap_or(0));
        let in_blocks = |site, kind| match self.rotate_block {
            _ if !self.turns(site, config) => Ok(None),
            // Whether that can be is said of any recipe.
            Some(block) => Ok(Some(block)),
            None => Transform::online_block(config, kind, block),
        };
        let online = OnlineRotation {
            out_proj: in_blocks(Site::OutProj, Block::Mamba2)?,
            down_proj: in_blocks(Site::DownProj, Block::Mlp)?,
        };
        let residual = self.residual(config, signs);
        let of_heads = |site| Some(signs).filter(|_| self.turns(site, config));
        let (values, keys) = (of_heads(Site::Values), of_heads(Site::Keys));
        let fold_norms = self.fold_norms.unwrap_or(residual.is_some());
        if residual.is_some() && !fold_norms {
            bail!(
                "--fold-norms false: the residual stream cannot be rotated then; pass --rotate-sites out_proj,down_proj"
            );
        }
        if ![residual, values, keys].contains(&Some(signs)) {
            let seed = self.seed.map(|seed| format!("--seed {seed}"));
            refuse([seed], "on these rotations, none of which has random signs")?;
        }
        Ok(Transform { fold_norms, residual, values, keys, online, ..Transform::NONE })
    }

    /// Is this site to be rotated?
    fn on(&self, site: Site) -> bool {
        self.rotate_sites.as_deref().unwrap_or(&Site::DEFAULT).contains(&site)
    }

    /// Is it, and does the model have it?
    fn turns(&self, site: Site, config: &ModelConfig) -> bool {
        self.on(site) && site.blocks().is_none_or(|(kind, _)| config.blocks.contains(&kind))
    }

    /// How the stream is rotated, where it can be.
    fn residual(&self, config: &ModelConfig, signs: Rotation) -> Option<Rotation> {
        let (hidden, kind) = match self.rotate {
            Rotate::None => return None,
            _ if !self.on(Site::Residual) => return None,
            Rotate::Klt => return Some(Rotation::Klt),
            Rotate::KltHadamard => (config.hidden_size, Rotation::KltHadamard),
            Rotate::Hadamard => (config.hidden_size, signs),
        };
        if hadamard::factor(hidden).is_none() {
            log::warn!("hidden_size {hidden} has no Hadamard matrix: the residual stream is not rotated");
            return None;
        }
        Some(kind)
    }

    /// Refuses flags that would do nothing to such a model, or cannot be done.
    fn check(&self, config: &ModelConfig) -> Result<()> {
        let listed = self.rotate_sites.as_deref().unwrap_or_default();
        let block = self.rotate_block.map(|block| format!("--rotate-block {block}"));
        if self.rotate == Rotate::None {
            let sites = self.rotate_sites.as_ref().map(|_| "--rotate-sites".to_owned());
            let seed = self.seed.map(|seed| format!("--seed {seed}"));
            return refuse([sites, block, seed], "with --rotate none");
        }
        let absent = listed.iter().find(|site| !self.turns(**site, config));
        if let Some((site, (_, blocks))) = absent.and_then(|site| Some((site, site.blocks()?))) {
            let flag = format!("--rotate-sites {}", word(site));
            return refuse([Some(flag)], &format!("on a model without {blocks} blocks"));
        }
        let head = config.head_dim;
        if (self.on(Site::Values) || self.on(Site::Keys)) && hadamard::factor(head).is_none() {
            bail!("--rotate-sites values,keys: head_dim {head} has no Hadamard matrix");
        }
        if !self.on(Site::Residual) && self.rotate != Rotate::Hadamard {
            let kind = format!("--rotate {}", word(&self.rotate));
            refuse([Some(kind)], "where --rotate-sites leaves out the residual stream, the only one rotated so")?;
        }
        if ![Site::OutProj, Site::DownProj].into_iter().any(|site| self.turns(site, config)) {
            refuse([block], "where nothing is rotated at run time")?;
        }
        Ok(())
    }
}

/// What the command line calls it.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}
