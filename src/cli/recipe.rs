//! Flags to a [`Recipe`]: the one place that reads them.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use wgquant::hadamard;
use wgquant::model::{Group, ModelFile, ModelSource, OnlineRotation};
use wgquant::recipe::{Bits, Module, Preset, Recipe};
use wgquant::transform::{Rotation, Transform};

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
    /// Seed of the rotation's random signs
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

/// How to rotate and round.
#[derive(Clone, Debug, Args)]
pub(super) struct RecipeArgs {
    #[command(flatten)]
    pub(super) transform: TransformArgs,
    /// Inputs that share a scale in 4-bit weights: a number, or `channel` for whole rows [default: 128]
    #[arg(long, value_name = "N|channel", value_parser = group)]
    pub(super) group_size: Option<Group>,
    /// Bits of the embedding
    #[arg(long, action = clap::ArgAction::Set, value_name = "8|16", default_value = "8", value_parser = PossibleValuesParser::new(["8", "16"]).map(|s| s == "8"))]
    pub(super) embedding: bool,
}

impl TransformArgs {
    /// The defaults of the command line but for `rotate`.
    fn rotated(rotate: Rotate) -> Self {
        Self { rotate, rotate_sites: None, rotate_block: None, fold_norms: None, seed: 0 }
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
        return Ok(Recipe::parse(&name.display().to_string(), &text)?);
    };
    let transform = TransformArgs::rotated(Rotate::Hadamard).transform(file).or_else(|e| {
        log::warn!("{e}: the model is not rotated");
        TransformArgs::rotated(Rotate::None).transform(file)
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
        Self { transform: TransformArgs::rotated(rotate), group_size: None, embedding: true }
    }

    /// The recipe for a model.
    pub(super) fn recipe(&self, bits: Bits, file: &ModelFile) -> Result<Recipe> {
        let group = self.group_size.unwrap_or(Group::Size(128));
        let (float, transform) = (file.float_dtype(), self.transform.transform(file)?);
        Ok(Recipe::uniform(file.config(), bits, group, self.embedding, float, transform))
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
    let nearest: BTreeSet<usize> = others.clone().map(|(size, _)| *size).collect();
    let nearest = nearest.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    match others.count() {
        0 if all.is_empty() => bail!("{flag} {n}: no weight has such groups in what is asked for"),
        0 => {}
        count if count == all.len() => {
            bail!("{flag} {n}: no weight of this model can have it; the nearest are {nearest}")
        }
        count => log::warn!("{flag} {n}: {count} of {} weights cannot have it, and have {nearest} instead", all.len()),
    }
    Ok(())
}

impl TransformArgs {
    /// The rewrites these flags ask for.
    pub(super) fn transform(&self, file: &ModelFile) -> Result<Transform> {
        if self.rotate == Rotate::None {
            for (flag, given) in
                [("--rotate-sites", self.rotate_sites.is_some()), ("--rotate-block", self.rotate_block.is_some())]
            {
                if given {
                    bail!("{flag}: nothing is rotated with --rotate none");
                }
            }
            return Ok(Transform { fold_norms: self.fold_norms.unwrap_or(false), ..Transform::NONE });
        }
        let mut transform = Transform::hadamard(file.config(), self.seed)?;
        let on = |site| self.rotate_sites.as_deref().unwrap_or(&Site::DEFAULT).contains(&site);
        if on(Site::Residual) && transform.residual.is_none() {
            let hidden = file.config().hidden_size;
            log::warn!("hidden_size {hidden} has no Hadamard matrix: the residual stream is not rotated");
        }
        transform.residual = transform.residual.filter(|_| on(Site::Residual)).map(|hadamard| match self.rotate {
            Rotate::Klt => Rotation::Klt,
            Rotate::KltHadamard => Rotation::KltHadamard,
            Rotate::Hadamard | Rotate::None => hadamard,
        });
        transform.online.out_proj = transform.online.out_proj.filter(|_| on(Site::OutProj));
        transform.online.down_proj = transform.online.down_proj.filter(|_| on(Site::DownProj));
        if let Some(block) = self.rotate_block {
            let OnlineRotation { out_proj, down_proj } = transform.online;
            transform.online =
                OnlineRotation { out_proj: out_proj.map(|_| block), down_proj: down_proj.map(|_| block) };
        }
        let head = file.config().head_dim;
        if (on(Site::Values) || on(Site::Keys)) && hadamard::factor(head).is_none() {
            bail!("--rotate-sites values,keys: head_dim {head} has no Hadamard matrix");
        }
        transform.values = on(Site::Values).then_some(Rotation::RandomHadamard(self.seed));
        transform.keys = on(Site::Keys).then_some(Rotation::RandomHadamard(self.seed));
        let needed = transform.residual.is_some();
        transform.fold_norms = self.fold_norms.unwrap_or(needed);
        if needed && !transform.fold_norms {
            bail!(
                "--fold-norms false: the residual stream cannot be rotated then; pass --rotate-sites out_proj,down_proj"
            );
        }
        Ok(transform)
    }
}
