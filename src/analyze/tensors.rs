//! Every weight of a model: size, outliers of the weight and of its input, sizes to come and what rounding it costs.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::letter;
use super::weights::{WeightStats, values};
use crate::calibrate::{SiteStats, Stats};
use crate::error::{Error, Result};
use crate::model::{Layer, Linear, Mixer, ModelConfig, ModelFile, ModelSource, Names};
use crate::recipe::{Module, Recipe};

/// What a search measured: module → bits and group → loss.
pub type Sensitivity = BTreeMap<String, BTreeMap<String, f64>>;

/// A weight, or a segment of one: in_proj has five.
#[derive(Clone, Debug, Serialize)]
pub struct TensorRow {
    /// Block it is in.
    pub layer: Option<usize>,
    /// The block's letter: M, *, -.
    pub block: Option<char>,
    /// `in_proj.z`, `conv1d`, `out_proj`, `up_proj`, `embedding`, ..
    pub part: &'static str,
    /// Module in a checkpoint.
    pub module: String,
    /// Outputs and inputs.
    pub shape: [usize; 2],
    /// Parameters.
    pub parameters: u64,
    /// Bits a parameter takes in the file now; of scales too.
    pub bits: f64,
    /// The values.
    pub weights: WeightStats,
    /// The input, from statistics.
    pub input: Option<InputStats>,
    /// Bytes under each scheme, in the order of the predictions; a segment's share of its module.
    pub predicted: Vec<u64>,
    /// Loss by bits and group (`4/32`; `8` for one scale a row), from a search.
    pub sensitivity: Option<BTreeMap<String, f64>>,
}

/// A site's activations in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InputStats {
    /// Largest magnitude.
    pub absmax: f64,
    /// Magnitude that 99.9 percent of all values do not exceed.
    pub p999: f64,
    /// Largest over median magnitude of a channel.
    pub outlier_ratio: f64,
    /// Of all channels together.
    pub kurtosis: f64,
}

impl InputStats {
    fn new(site: &SiteStats) -> Self {
        Self {
            absmax: f64::from(site.largest()),
            p999: site.percentile(0.999),
            outlier_ratio: site.outlier_ratio().min(1e38),
            kurtosis: site.kurtosis_of_all(),
        }
    }
}

/// What all rows are made with.
pub(super) struct Context<'a> {
    pub(super) file: &'a ModelFile,
    pub(super) stats: Option<&'a Stats>,
    pub(super) sensitivity: &'a Sensitivity,
    /// Modules under each recipe, and the type of its floats.
    modules: Vec<(Vec<Module>, &'a Recipe)>,
}

impl<'a> Context<'a> {
    /// # Errors
    /// As [`Recipe::modules`]; [`Error::Argument`] when `sensitivity` names a module that there is not.
    pub(super) fn new(
        file: &'a ModelFile,
        recipes: Vec<&'a Recipe>,
        stats: Option<&'a Stats>,
        sensitivity: &'a Sensitivity,
    ) -> Result<Self> {
        let resolved = |recipe: &'a Recipe| Ok((recipe.modules(file.config())?, recipe));
        let modules = recipes.into_iter().map(resolved).collect::<Result<_>>()?;
        let expected = Names::default().expected(&ModelConfig { tied: false, ..file.config().clone() }, true);
        if let Some(unknown) = sensitivity.keys().find(|k| !expected.iter().any(|e| e.module() == k.as_str())) {
            return Err(Error::argument("sensitivity", format!("names `{unknown}`, which this model does not have")));
        }
        Ok(Self { file, stats, sensitivity, modules })
    }

    /// Every row, in the order the model runs.
    pub(super) fn rows(&self) -> Result<Vec<TensorRow>> {
        let names = Names::default();
        let mut rows = vec![self.whole("embedding", &names.embedding(), &self.file.embedding()?)?];
        for index in 0..self.file.config().blocks.len() {
            rows.extend(self.layer(index, &self.file.layer(index)?)?);
        }
        if let Some(head) = self.file.head()? {
            rows.push(self.whole("head", names.head(), &head)?);
        }
        Ok(rows)
    }

    fn whole(&self, part: &'static str, module: &str, linear: &Linear) -> Result<TensorRow> {
        Ok(self.row(None, (part, module), &values(linear)?, linear.dims().1, linear.dims().0))
    }

    fn layer(&self, index: usize, layer: &Layer) -> Result<Vec<TensorRow>> {
        let module = |part: &str| Names::default().mixer(index, part);
        let mut rows = Vec::new();
        for (part, linear) in layer.linears() {
            let (all, (out, cols)) = (values(linear)?, linear.dims());
            let segments = match part {
                "in_proj" => segments(self.file.config()),
                part => vec![(part, 0, out)],
            };
            let row = |(name, first, count): (&'static str, usize, usize)| {
                let segment = &all[first * cols..][..count * cols];
                self.row(Some(index), (name, &module(part)), segment, cols, out)
            };
            rows.par_extend(segments.into_par_iter().map(row));
        }
        if let Mixer::Mamba2(m) = &layer.mixer {
            let kernel = self.file.config().conv_kernel;
            let conv = self.row(Some(index), ("conv1d", &module("conv1d")), &m.conv_weight, kernel, m.conv_bias.len());
            rows.insert(rows.len() - 1, conv);
        }
        Ok(rows)
    }

    /// A row of values, all or some of a module's `out` rows.
    fn row(
        &self,
        layer: Option<usize>,
        (part, module): (&'static str, &str),
        values: &[f32],
        cols: usize,
        out: usize,
    ) -> TensorRow {
        let rows = values.len() / cols.max(1);
        let predicted = self.modules.iter().map(|(modules, recipe)| {
            let found = modules.iter().find(|m| m.name == module);
            // What has no module is a vector, stored as the checkpoint has it.
            let bytes = found.map_or_else(|| self.bytes(module), |m| m.bytes(recipe.float));
            bytes * rows as u64 / out.max(1) as u64
        });
        TensorRow {
            layer,
            block: layer.map(|i| letter(self.file.config().blocks[i])),
            part,
            module: module.to_owned(),
            shape: [rows, cols],
            parameters: values.len() as u64,
            bits: self.bytes(module) as f64 * 8.0 / (out * cols).max(1) as f64,
            weights: WeightStats::new(values, cols),
            input: self.stats.and_then(|s| s.input(module)).map(InputStats::new),
            predicted: predicted.collect(),
            sensitivity: self.sensitivity.get(module).cloned(),
        }
    }

    /// Bytes of a module's weight and what comes with it in the file now.
    fn bytes(&self, module: &str) -> u64 {
        let (names, file) = (Names::default(), self.file.names());
        let own = match module {
            m if m == names.embedding() => file.embedding(),
            m if m == names.head() => m.to_owned(),
            m => m.replacen(names.layer(0, "").trim_end_matches("0."), file.layer(0, "").trim_end_matches("0."), 1),
        };
        let prefix = format!("{own}.weight");
        let checkpoint = self.file.checkpoint();
        let size =
            |name: &&str| checkpoint.info(name).map_or(0, |i| i.shape.iter().product::<usize>() * i.dtype.size());
        checkpoint.names().filter(|n| n.starts_with(&prefix)).map(|n| size(&n) as u64).sum()
    }
}

/// The five segments of in_proj: name, first row, rows.
fn segments(c: &ModelConfig) -> Vec<(&'static str, usize, usize)> {
    let (inner, bc, heads) = (c.d_inner(), c.n_groups * c.state_size, c.mamba_heads);
    let mut first = 0;
    let parts =
        [("in_proj.z", inner), ("in_proj.x", inner), ("in_proj.B", bc), ("in_proj.C", bc), ("in_proj.dt", heads)];
    parts
        .into_iter()
        .map(|(name, rows)| {
            first += rows;
            (name, first - rows, rows)
        })
        .collect()
}
