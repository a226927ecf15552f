//! Mixed precision: which weights get how many bits under a budget.
//!
//! ```text
//! model, text ─ survey ─► loss and KL of each module in each form ─ allocate ─► a front of sizes ─► recipe
//! ```
//!
//! As in NVIDIA's AutoQuantize and llama.cpp's `--target-bpw`, the model's loss is taken to be the sum of what each
//! module alone costs; unlike them, costs are GPTQ's own loss times a measured KL divergence. That is of weights: what
//! rounded activations add shows when the allocation is measured as a whole ([`measure`]).

mod allocate;
mod measure;
mod survey;

use std::fmt;

use serde::Serialize;

pub use allocate::{Cost, Front, LIMIT};
pub use measure::{MeasuredKl, measure};
pub use survey::{Form, Question, Sensitivity, Survey, survey};

use crate::analyze::predict;
use crate::error::{Error, Result};
use crate::model::{Activations, Group, ModelConfig, ModelFile, ModelSource, Names};
use crate::quantize::{Format, ScaleFormat};
use crate::recipe::{Module, Recipe, Rule, agree};
use crate::runtime::EngineOptions;

/// What to spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Bits per parameter, everything included.
    BitsPerParameter(f64),
    /// Bytes of all tensors.
    Bytes(u64),
    /// The smallest size of at most this predicted KL of the rounded weights, nats a token.
    Kl(f64),
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BitsPerParameter(bits) => write!(f, "budget of {bits} bits per parameter"),
            Self::Bytes(bytes) => write!(f, "budget of {bytes} bytes"),
            Self::Kl(kl) => write!(f, "budget of a KL of {kl} nats a token"),
        }
    }
}

/// An allocation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Allocation {
    /// Bytes of all tensors, as `quantize` will write them.
    pub bytes: u64,
    /// `bytes * 8 / parameters`.
    pub bits_per_parameter: f64,
    /// Predicted KL of the rounded weights, nats a token.
    pub predicted_kl: f64,
    /// What to do.
    pub recipe: Recipe,
}

/// A size and what it costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ParetoPoint {
    /// Bits per parameter, everything included.
    pub bits_per_parameter: f64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Predicted KL of the rounded weights, nats a token.
    pub predicted_kl: f64,
}

/// The forms to choose from: codes of these bits, with a 6-bit scale for each of these groups under an f16 scale a row.
/// 8 bits have one f16 scale a row, 16 are floats.
#[must_use]
pub fn formats(bits: &[usize], groups: &[usize]) -> Vec<Option<Format>> {
    let mut all = Vec::new();
    for &bits in bits {
        match bits {
            16 => all.push(None),
            8 => all.push(Some(Format {
                bits,
                group: Group::Channel,
                scales: ScaleFormat::Plain(crate::quantize::ROW_SCALE),
            })),
            _ => all.extend(
                groups.iter().map(|g| Some(Format { bits, group: Group::Size(*g), scales: ScaleFormat::Nested(6) })),
            ),
        }
    }
    all
}

/// The modules of a model under each format, as a [`Question`] wants them.
///
/// # Errors
/// As [`Recipe::modules`]; [`Error::Argument`] where queries, keys and values, which have one input, would round it in different ways
/// under different formats: a search may choose any of them for each.
pub fn candidates(
    base: &Recipe,
    config: &ModelConfig,
    formats: &[Option<Format>],
    activations: Activations,
) -> Result<Vec<Vec<Module>>> {
    let under = |weights: &Option<Format>| {
        let rules = vec![
            rule(vec!["Linear".to_owned()], *weights, activations),
            rule(vec!["Embedding".to_owned()], *weights, embedding_inputs(base, config, activations)),
        ];
        Recipe { rules, ..base.clone() }.modules(config)
    };
    let all = formats.iter().map(under).collect::<Result<Vec<_>>>()?;
    let which = "a search may choose another form for each; take a group that divides the hidden size, such as 32";
    agree(all.iter().flatten()).map_err(|e| Error::argument("activation group", format!("{e}; {which}")))?;
    Ok(all)
}

/// What inputs of the head are rounded to where that is the embedding.
fn embedding_inputs(base: &Recipe, config: &ModelConfig, activations: Activations) -> Activations {
    if base.ties(config) { activations } else { Activations::Float }
}

fn rule(modules: Vec<String>, weights: Option<Format>, activations: Activations) -> Rule {
    let activations = if weights.is_none() { Activations::Float } else { activations };
    Rule { modules, weights, activations, activation_percentile: None }
}

/// The budgets solved on what a survey found.
pub struct Plan<'a> {
    base: &'a Recipe,
    activations: Activations,
    embedding_inputs: Activations,
    survey: &'a Survey,
    front: Front,
    /// Bytes of what is no module: norms, convolutions.
    fixed: u64,
    /// Of the original model: a head that folding unties adds bytes, not parameters.
    parameters: f64,
}

impl<'a> Plan<'a> {
    /// Solves; `base` gives everything of a recipe but its rules.
    ///
    /// # Errors
    /// [`Error::Argument`] for a survey of another model, or as [`predict`].
    pub fn new(base: &'a Recipe, file: &ModelFile, survey: &'a Survey, activations: Activations) -> Result<Self> {
        let costs: Vec<Vec<Cost>> = survey
            .modules
            .iter()
            .map(|m| m.forms.iter().map(|f| Cost { bytes: f.bytes, loss: f.kl }).collect())
            .collect();
        let front = Front::new(&costs, LIMIT)?;
        let parameters = file.parameters() as f64;
        let embedding_inputs = embedding_inputs(base, file.config(), activations);
        let mut plan = Self { base, activations, embedding_inputs, survey, front, fixed: 0, parameters };
        let first = vec![0; survey.modules.len()];
        let predicted = predict(file, "search", &plan.recipe(&first), EngineOptions::default())?;
        plan.fixed = predicted.bytes - costs.iter().map(|forms| forms[0].bytes).sum::<u64>().min(predicted.bytes);
        Ok(plan)
    }

    /// The best allocation within `budget`.
    ///
    /// # Errors
    /// [`Error::Argument`] with the nearest that can be had when the budget cannot be met.
    pub fn within(&self, budget: Budget) -> Result<Allocation> {
        let found = match budget {
            Budget::BitsPerParameter(bits) => self.fitting((bits * self.parameters / 8.0) as u64),
            Budget::Bytes(bytes) => self.fitting(bytes),
            Budget::Kl(kl) => self.front.at_most(kl),
        };
        let Some((cost, picks)) = found else {
            let costs = self.points();
            let (first, last) = (costs.first(), costs.last());
            let (bits, bytes) = first.map_or((0.0, 0), |p| (p.bits_per_parameter, p.bytes));
            let least = last.map_or(0.0, |p| p.predicted_kl);
            let what = format!(
                "cannot be met with these forms: the smallest model has {bits:.3} bits per parameter, {bytes} bytes; the \
                 least predicted KL is {least:.2e}"
            );
            return Err(Error::argument(budget.to_string(), what));
        };
        let bytes = cost.bytes + self.fixed;
        Ok(Allocation {
            bytes,
            bits_per_parameter: bytes as f64 * 8.0 / self.parameters,
            predicted_kl: cost.loss,
            recipe: self.recipe(&picks),
        })
    }

    fn fitting(&self, bytes: u64) -> Option<(Cost, Vec<usize>)> {
        self.front.within(bytes.checked_sub(self.fixed)?)
    }

    /// The whole front, by size upward.
    #[must_use]
    pub fn points(&self) -> Vec<ParetoPoint> {
        let point = |c: &Cost| {
            let bytes = c.bytes + self.fixed;
            let bits_per_parameter = bytes as f64 * 8.0 / self.parameters;
            ParetoPoint { bits_per_parameter, bytes, predicted_kl: c.loss }
        };
        self.front.costs().iter().map(point).collect()
    }

    /// The recipe of one form a module: a rule for all linear layers in the form most have, then the others.
    fn recipe(&self, picks: &[usize]) -> Recipe {
        let embedding = Names::default().embedding();
        let mut groups: Vec<(Option<Format>, Vec<String>)> = Vec::new();
        let mut rules = Vec::new();
        for (module, pick) in self.survey.modules.iter().zip(picks) {
            let format = module.forms[*pick].format;
            if module.name == embedding {
                rules.push(rule(vec!["Embedding".to_owned()], format, self.embedding_inputs));
                continue;
            }
            match groups.iter_mut().find(|(f, _)| *f == format) {
                Some((_, names)) => names.push(module.name.clone()),
                None => groups.push((format, vec![module.name.clone()])),
            }
        }
        groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
        for (i, (format, names)) in groups.into_iter().enumerate() {
            let names = if i == 0 { vec!["Linear".to_owned()] } else { names };
            rules.push(rule(names, format, self.activations));
        }
        Recipe { rules, ..self.base.clone() }
    }
}
