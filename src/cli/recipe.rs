//! Flags to a [`Recipe`]: the one place that reads them.

use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use wgquant::hadamard;
use wgquant::model::{Group, ModelFile, ModelSource, OnlineRotation};
use wgquant::recipe::{Bits, Recipe};
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

/// How to rotate and round.
#[derive(Clone, Debug, Args)]
pub(super) struct RecipeArgs {
    /// Rotate activations so that outliers spread out
    #[arg(long, value_enum, default_value = "hadamard")]
    pub(super) rotate: Rotate,
    /// Where to rotate
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", default_value = "residual,out_proj,down_proj")]
    pub(super) rotate_sites: Vec<Site>,
    /// Channels of a block of the rotations at run time; with `--activations dynamic --activation-group 32` those of 32 make
    /// decoding fastest [default: a norm group, the whole width; `search`: its --activation-group]
    #[arg(long, value_name = "N")]
    pub(super) rotate_block: Option<usize>,
    /// Inputs that share a scale in 4-bit weights: a number, or `channel` for whole rows
    #[arg(long, value_name = "N|channel", default_value = "128", value_parser = group)]
    pub(super) group_size: Group,
    /// Multiply norm weights into the layers that read them [default: true when the residual stream is rotated]
    #[arg(long, value_name = "true|false")]
    pub(super) fold_norms: Option<bool>,
    /// Bits of the embedding
    #[arg(long, action = clap::ArgAction::Set, value_name = "8|16", default_value = "8", value_parser = PossibleValuesParser::new(["8", "16"]).map(|s| s == "8"))]
    pub(super) embedding: bool,
    /// Seed of the rotation's random signs
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

impl Default for RecipeArgs {
    /// The defaults of the command line.
    fn default() -> Self {
        Self {
            rotate: Rotate::Hadamard,
            rotate_sites: Site::DEFAULT.to_vec(),
            rotate_block: None,
            group_size: Group::Size(128),
            fold_norms: None,
            embedding: true,
            seed: 0,
        }
    }
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
    /// The recipe for a model.
    pub(super) fn recipe(&self, bits: Bits, file: &ModelFile) -> Result<Recipe> {
        let (group, float, transform) = (self.group_size, file.float_dtype(), self.transform(file)?);
        Ok(Recipe::uniform(file.config(), bits, group, self.embedding, float, transform))
    }

    /// The rewrites these flags ask for.
    pub(super) fn transform(&self, file: &ModelFile) -> Result<Transform> {
        if self.rotate == Rotate::None {
            return Ok(Transform { fold_norms: self.fold_norms.unwrap_or(false), ..Transform::NONE });
        }
        let mut transform = Transform::hadamard(file.config(), self.seed)?;
        let on = |site| self.rotate_sites.contains(&site);
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
