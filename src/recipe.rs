//! What to do with a model, and the whole pipeline: read → rewrite → calibrate → quantize → write.

#[cfg(not(target_arch = "wasm32"))]
mod awq;
#[cfg(not(target_arch = "wasm32"))]
mod card;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod preset;
mod rules;
#[cfg(not(target_arch = "wasm32"))]
mod sequential;
#[cfg(not(target_arch = "wasm32"))]
mod statistics;
#[cfg(not(target_arch = "wasm32"))]
mod unfinished;

use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Activations, Group, Layer, Linear, Model, ModelConfig, ModelSource, Names, OnlineRotation, Role};
use crate::quantize::{GptqOptions, ScaleFormat, nearest};
use crate::tensor::{DType, FloatType, Tensor};
use crate::transform::{Rotation, Transform, Transformed};

#[cfg(not(target_arch = "wasm32"))]
pub use native::{Quantized, check_original, quantize, rewrites};
pub use preset::{Bits, Preset};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use rules::agree;
pub use rules::{ACTIVATION_PERCENTILE, Module, Rule, resolve};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use sequential::{EMBEDDING_STEPS, moments_fit};
#[cfg(not(target_arch = "wasm32"))]
pub use statistics::transformed;
#[cfg(not(target_arch = "wasm32"))]
pub use unfinished::{discard_unfinished, unfinished_dir};

/// Name of the recipe in the output directory.
pub const RECIPE_FILE: &str = "wgquant_recipe.toml";

/// Everything that decides the output, but the model and the calibration text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Type of weights that stay floats.
    #[serde(deserialize_with = "FloatType::deserialize")]
    pub float: DType,
    /// Which texts calibrate, where [`Recipe::calibrates`] something.
    #[serde(default)]
    pub calibration: Calibration,
    /// GPTQ; absent: round to nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gptq: Option<GptqOptions>,
    /// Exact rewrites before; absent: none.
    #[serde(default)]
    pub transform: Transform,
    /// Forms of weights; none: all stay floats.
    #[serde(rename = "rule", default)]
    pub rules: Vec<Rule>,
}

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// [`Error::Argument`] naming `name`, the line and what is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            // Of its several lines, with carets below the text, what fits in one.
            // Of what the whole file lacks, whose place is 0..0, no line says anything.
            let place = e.span().filter(|span| *span != (0..0));
            let at = place.and_then(|span| text.get(..span.start)).map(|before| {
                let line = before.matches('\n').count();
                format!("line {}, `{}`: ", line + 1, text.lines().nth(line).unwrap_or_default().trim())
            });
            Error::argument(name.to_owned(), at.unwrap_or_default() + e.message())
        })
    }

    /// The recipe as the text [`Recipe::parse`] reads.
    ///
    /// # Errors
    /// [`Error::Argument`] for numbers that TOML cannot hold.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::argument("recipe", e.to_string()))
    }

    /// What becomes of each weight of a model of this shape.
    ///
    /// # Errors
    /// As [`resolve`]; [`Error::Argument`] for a number that cannot be, or a transform that does not fit the model.
    pub fn modules(&self, config: &ModelConfig) -> Result<Vec<Module>> {
        if !self.float.is_float() {
            return Err(Error::argument("recipe: `float`", format!("{}, expected f32, f16 or bf16", self.float)));
        }
        config.countable()?;
        self.calibration.check()?;
        self.gptq.iter().try_for_each(GptqOptions::check)?;
        let Transform { values, keys, residual, .. } = self.transform;
        if [values, keys, residual].contains(&Some(Rotation::Given)) {
            let why = "`given`, by a matrix that a recipe cannot bring; a seed, `hadamard`, `klt` or `klt-hadamard`";
            return Err(Error::argument("recipe: rotation", why));
        }
        self.transform.check(config)?;
        resolve(&self.rules, &ModelConfig { tied: self.ties(config), ..config.clone() })
    }

    /// Is the head still the embedding? Folding the final norm gives a tied model a head of its own.
    pub(crate) fn ties(&self, config: &ModelConfig) -> bool {
        config.tied && !self.transform.fold_norms
    }

    /// What of it needs calibration text, in words, of a model with these [`Recipe::modules`]; `None` where nothing does.
    #[must_use]
    pub fn calibrates(&self, modules: &[Module]) -> Option<&'static str> {
        match self {
            _ if self.gptq.is_some() => Some("GPTQ"),
            _ if has_static(modules) => Some("a fixed scale of activations (static)"),
            _ if self.transform.needs_stats() => Some("the transform (KLT, smoothing, permutations)"),
            _ => None,
        }
    }

    /// Of queries, keys and values of one block, which vLLM makes one layer of the first's form, two that differ in form, in a model with
    /// these [`Recipe::modules`]; `None` where none do, or where vLLM refuses the model in any case.
    #[must_use]
    pub fn parted<'a>(&self, modules: &'a [Module]) -> Option<[&'a Module; 2]> {
        let head = modules.iter().any(|m| m.name == Names::default().head());
        let refused = |m: &Module| {
            matches!(m.activations, Activations::Static(Group::Size(_)))
                || m.weights.is_some_and(|f| matches!(f.scales, ScaleFormat::Nested(_)))
                || (m.role == Role::Embedding && m.weights.is_some() && !head)
        };
        let refused = self.transform.online != OnlineRotation::default() || modules.iter().any(refused);
        if refused { None } else { rules::parted(modules) }
    }

    /// With fixed scales for all int8 activations but a tied head's ([`Rule::activations`]): of `group`, so that `percentile` percent do not saturate (absent:
    /// [`ACTIVATION_PERCENTILE`]).
    pub fn fix_activations(&mut self, group: Group, percentile: Option<f64>) {
        for rule in self.rules.iter_mut().filter(|r| r.activations.int8()) {
            rule.activations = Activations::Static(group);
            rule.activation_percentile = percentile;
        }
    }

    /// With scales found as the model runs in place of fixed ones; of `group` everywhere, where it is given.
    pub fn free_activations(&mut self, group: Option<Group>) {
        for rule in &mut self.rules {
            let Some(own) = rule.activations.group() else { continue };
            rule.activations = Activations::Int8(group.unwrap_or(own));
            rule.activation_percentile = None;
        }
    }

    /// The whole quantized model, in memory and without calibration: for models that fit there, and for browsers,
    /// where nothing may block. `progress` is called with the number of layers done.
    ///
    /// # Errors
    /// As [`Transformed::new`], [`resolve`] and [`nearest`]; [`Error::Argument`] for a recipe with GPTQ
    /// or fixed scales of activations.
    pub async fn apply(&self, source: &dyn ModelSource, device: &Device, progress: impl Fn(usize)) -> Result<Model> {
        let modules = self.modules(source.config())?;
        if let Some(what) = self.calibrates(&modules).filter(|_| self.gptq.is_some() || has_static(&modules)) {
            return Err(Error::argument("recipe", format!("{what} needs calibration text; see recipe::quantize")));
        }
        let source = Transformed::new(source, self.transform)?;
        let forms = Forms::new(self, &source)?;
        let config = source.config().clone();
        let embedding = forms.nearest(device, &Names::default().embedding(), source.embedding()?).await?;
        let mut layers = Vec::with_capacity(config.blocks.len());
        for index in 0..config.blocks.len() {
            layers.push(forms.layer(device, index, source.layer(index)?).await?);
            progress(index + 1);
        }
        let head = match source.head()? {
            Some(head) => Some(forms.nearest(device, Names::default().head(), head).await?),
            None => None,
        };
        Ok(Model { rotation: source.rotation(), embedding, layers, norm_f: source.norm_f()?, head, config })
    }
}

/// Are any activations to have fixed scales?
fn has_static(modules: &[Module]) -> bool {
    modules.iter().any(|m| matches!(m.activations, Activations::Static(_)))
}

/// The forms of a model's weights, by module.
pub(crate) struct Forms {
    modules: Vec<Module>,
    float: DType,
}

impl Forms {
    /// # Errors
    /// As [`resolve`].
    pub(crate) fn new(recipe: &Recipe, model: &dyn ModelSource) -> Result<Self> {
        Ok(Self { modules: recipe.modules(model.config())?, float: recipe.float })
    }

    /// The module called `name`.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is none.
    pub(crate) fn module(&self, name: &str) -> Result<&Module> {
        let found = self.modules.iter().find(|m| m.name == name);
        found.ok_or_else(|| Error::argument("recipe", format!("has no module `{name}`")))
    }

    /// Of block `index`, the linear layer called `part`.
    pub(crate) fn part(&self, index: usize, part: &str) -> Result<&Module> {
        self.module(&Names::default().mixer(index, part))
    }

    /// A weight in its form, rounded to nearest.
    pub(crate) async fn nearest(&self, device: &Device, module: &str, weight: Linear) -> Result<Linear> {
        let module = self.module(module)?;
        match (&module.weights, weight) {
            (Some(format), weight) => {
                Ok(Linear::Quantized(nearest(device, &weight, format, module.activations).await?))
            }
            (None, Linear::Float(t)) => Ok(Linear::Float(Tensor::from_f32_as(self.float, t.shape, &t.to_f32()?)?)),
            (None, quantized) => Ok(quantized),
        }
    }

    /// A block with its linear layers in their forms, rounded to nearest; everything else is as it was.
    pub(crate) async fn layer(&self, device: &Device, index: usize, mut layer: Layer) -> Result<Layer> {
        for (part, linear) in layer.linears_mut() {
            let module = self.part(index, part)?.name.clone();
            *linear = self.nearest(device, &module, linear.clone()).await?;
        }
        Ok(layer)
    }
}
