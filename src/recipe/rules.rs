//! Which weights get which form: rules over module names, resolved against a model.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::checkpoint::packed_words;
use crate::error::{Error, Result};
use crate::kernels::TOKEN_GROUP;
use crate::model::{Activations, Group, ModelConfig, Names, Role, Stored, Target, WeightForm, is_packed, scale_type};
use crate::quantize::{Format, ROW_SCALE, ScaleFormat};
use crate::tensor::DType;

/// A form for the modules that a list of names matches. Of several rules that match a module, the last holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Module names (`backbone.layers.0.mixer.in_proj`), patterns (`re:.*\.in_proj$`) or classes (`Linear`,
    /// `Embedding`), as in compressed-tensors.
    pub modules: Vec<String>,
    /// Form of the weights; absent: floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Format>,
    /// What inputs are rounded to; of an embedding those of the head that it is, too, if it is. Fixed scales of that one are found as the
    /// model runs: the embedding is done before any text has come to the head.
    #[serde(default)]
    pub activations: Activations,
    /// Of static activations, the share in percent that is not to saturate; absent: [`ACTIVATION_PERCENTILE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_percentile: Option<f64>,
}

/// The percentile of static activations where a rule names none.
pub const ACTIVATION_PERCENTILE: f64 = 100.0;

impl Rule {
    /// # Errors
    /// [`Error::Argument`] for a form of weights that cannot be, or a percentile that means nothing.
    fn check(&self) -> Result<()> {
        match &self.weights {
            Some(format) => format.check()?,
            None if self.activations.int8() => {
                return Err(Error::argument("activations", "int8 beside weights that stay floats; give `weights` too"));
            }
            None => {}
        }
        let groups = [("weights", self.weights.map(|f| f.group)), ("activations", self.activations.group())];
        if let Some((what, _)) = groups.into_iter().find(|(_, group)| *group == Some(Group::Size(0))) {
            return Err(Error::argument(what, "a group of size 0, at least 1 is needed"));
        }
        match (self.activation_percentile, self.activations) {
            (None, _) => Ok(()),
            (Some(p), Activations::Static(_)) if p > 0.0 && p <= 100.0 => Ok(()),
            (Some(p), Activations::Static(_)) => {
                Err(Error::argument("activation_percentile", format!("{p}, not above 0 and up to 100")))
            }
            (Some(p), _) => {
                let what = format!("{p}, but only `activations = {{ static = .. }}` have one");
                Err(Error::argument("activation_percentile", what))
            }
        }
    }
}

/// A module with a weight, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Module {
    /// Name as published checkpoints have it.
    pub name: String,
    /// Linear layer or embedding.
    pub role: Role,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Index of the rule that holds.
    pub rule: Option<usize>,
    /// Form of the weights, with a group that divides the rows; `None`: floats.
    pub weights: Option<Format>,
    /// What inputs are rounded to.
    pub activations: Activations,
    /// Of static activations, the share in percent that does not saturate on the calibration text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_percentile: Option<f64>,
}

/// Bytes of the two 64-bit sizes that compressed-tensors stores beside packed codes.
const SHAPE_BYTES: usize = 16;

impl Module {
    /// The form its weight will have, where floats are stored as `float`.
    #[must_use]
    pub fn form(&self, float: DType) -> WeightForm {
        let stored = match &self.weights {
            None => Stored::Float(float),
            Some(f) => {
                let (plain, nested) = match f.scales {
                    ScaleFormat::Plain(dtype) => (dtype, None),
                    ScaleFormat::Nested(bits) => (ROW_SCALE, Some(bits)),
                };
                let scales = scale_type(f.bits, plain, nested);
                Stored::Codes { bits: f.bits, group: f.group, scales, activations: self.activations }
            }
        };
        WeightForm { role: self.role, rows: self.rows, cols: self.cols, stored }
    }

    /// Bytes its tensors take in a file, where floats are stored as `float`.
    #[must_use]
    pub fn bytes(&self, float: DType) -> u64 {
        let Some(format) = &self.weights else { return (self.rows * self.cols * float.bits() / 8) as u64 };
        let groups = format.group.count(self.cols);
        let codes = match is_packed(format.bits, self.role, self.activations) {
            true => self.rows * packed_words(format.bits, self.cols) * 4 + SHAPE_BYTES,
            false => self.rows * self.cols,
        };
        let scales = match format.scales {
            ScaleFormat::Plain(dtype) => groups * dtype.bits() / 8,
            ScaleFormat::Nested(bits) => packed_words(bits, groups) * 4 + ROW_SCALE.bits() / 8,
        };
        (codes + self.rows * scales + self.activations.stored_scales(self.cols) * DType::F32.bits() / 8) as u64
    }
}

/// The modules of a model of this shape under `rules`, in order of use.
///
/// # Errors
/// [`Error::Argument`] for an entry of a rule that matches nothing, a form that cannot be, a group that fits no row, activations of
/// what has none, or layers of one input that round it to int8 in different ways.
pub fn resolve(rules: &[Rule], config: &ModelConfig) -> Result<Vec<Module>> {
    let parsed = rules
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            rule.check().map_err(|e| Error::argument(format!("rule {i}"), e.to_string()))?;
            let targets = rule.modules.iter().map(|text| Target::parse(text)).collect::<Result<Vec<_>>>();
            targets.map_err(|e| Error::argument(format!("rule {i}"), e.to_string()))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut used: Vec<Vec<bool>> = rules.iter().map(|rule| vec![false; rule.modules.len()]).collect();
    let mut inputs = vec![false; rules.len()];
    let mut modules = Vec::new();
    for tensor in Names::default().expected(config, false) {
        if tensor.role == Role::Vector {
            continue;
        }
        let name = tensor.module().to_owned();
        let mut rule = None;
        for (i, targets) in parsed.iter().enumerate() {
            for (_, used) in targets.iter().zip(&mut used[i]).filter(|(t, _)| t.matches(&name, tensor.role)) {
                *used = true;
                inputs[i] |= tensor.role == Role::Linear || config.tied;
                rule = Some(i);
            }
        }
        let cols = tensor.shape[1];
        let weights = match rule.and_then(|i| rules[i].weights) {
            Some(format) => Some(Format { group: fitting(&format, cols, &name)?, ..format }),
            None => None,
        };
        let activations = match (tensor.role, weights, rule) {
            (Role::Linear, Some(format), Some(i)) => beside(rules[i].activations, format, cols, &name)?,
            (Role::Embedding, Some(format), Some(i)) if config.tied => {
                let asked = rules[i].activations.group().map_or(Activations::Float, Activations::Int8);
                beside(asked, format, cols, &name)?
            }
            _ => Activations::Float,
        };
        let activation_percentile = match (activations, rule) {
            (Activations::Static(_), Some(i)) => rules[i].activation_percentile.or(Some(ACTIVATION_PERCENTILE)),
            _ => None,
        };
        let (role, rows) = (tensor.role, tensor.shape[0]);
        modules.push(Module { name, role, rows, cols, rule, weights, activations, activation_percentile });
    }
    for (i, (rule, used)) in rules.iter().zip(&used).enumerate() {
        if let Some((idle, _)) = rule.modules.iter().zip(used).find(|(_, used)| !**used) {
            return Err(Error::argument(format!("rule {i}"), format!("`{idle}` matches no module of this model")));
        }
        if rule.modules.is_empty() {
            return Err(Error::argument(format!("rule {i}"), "its list of modules is empty"));
        }
        if rule.activations.int8() && !inputs[i] {
            let what = "activations, but it matches the embedding alone, which has no inputs to round";
            return Err(Error::argument(format!("rule {i}"), what));
        }
    }
    agree(&modules)?;
    Ok(modules)
}

/// Of queries, keys and values, which have one input, those that take it in int8 must take the same; `modules` may have each several times.
///
/// # Errors
/// [`Error::Argument`] naming two that do not.
pub(crate) fn agree<'a>(modules: impl IntoIterator<Item = &'a Module>) -> Result<()> {
    let form = |m: &Module| (m.activations, m.activation_percentile);
    let mut first: HashMap<&str, &Module> = HashMap::new();
    for module in modules.into_iter().filter(|m| m.activations.int8()) {
        let Some(mixer) = mixer(module) else { continue };
        let one = *first.entry(mixer).or_insert(module);
        if form(one) != form(module) {
            let what = format!("{:?}, but `{}`, which has the same input, {:?}", form(module), one.name, form(one));
            return Err(Error::argument(format!("activations of `{}`", module.name), what));
        }
    }
    Ok(())
}

/// Of queries, keys and values of one block, a first and another in another form.
pub(crate) fn parted(modules: &[Module]) -> Option<[&Module; 2]> {
    let form = |m: &Module| (m.weights.map(|f| (f.bits, f.group)), m.activations);
    let mut first: HashMap<&str, &Module> = HashMap::new();
    modules.iter().find_map(|module| {
        let one = *first.entry(mixer(module)?).or_insert(module);
        (form(one) != form(module)).then_some([one, module])
    })
}

/// The mixer whose queries, keys or values this is.
fn mixer(module: &Module) -> Option<&str> {
    ["q_proj", "k_proj", "v_proj"].iter().find_map(|part| module.name.strip_suffix(part))
}

/// Codes of a word of int32 as products read them: a group is whole words.
fn codes_a_word(bits: usize) -> usize {
    if bits > 4 { 4 } else { 8 }
}

/// Kernels sum integers over the smaller of a weight's and its input's groups, so one must divide the other: where it
/// does not, the largest smaller group of activations that does is taken. A group is whole words of the weight's codes, and a row whole groups,
/// or other tools refuse the file.
fn beside(activations: Activations, weights: Format, cols: usize, module: &str) -> Result<Activations> {
    let Some(Group::Size(asked)) = activations.group() else { return Ok(activations) };
    let own = weights.group.len(cols);
    let word = codes_a_word(weights.bits);
    let fits = |g: &usize| {
        g.is_multiple_of(word) && cols.is_multiple_of(*g) && (own.is_multiple_of(*g) || g.is_multiple_of(own))
    };
    let group = match (4..=asked.min(cols)).rev().find(fits) {
        Some(group) => Group::Size(group),
        None if asked >= cols => Group::Channel,
        None => {
            let bits = weights.bits;
            let what = format!(
                "no group of up to {asked} of its {cols} inputs divides them, divides or is a multiple of its weight's {own} and is whole \
                 words of {word} codes of {bits} bits; use one scale a token (channel)"
            );
            return Err(Error::argument(format!("activations of `{module}`"), what));
        }
    };
    Ok(match activations {
        Activations::Static(_) if group.len(cols) == cols => Activations::Static(Group::Channel),
        Activations::Static(_) => Activations::Static(group),
        Activations::Int8(_) | Activations::Float => Activations::Int8(group),
    })
}

/// A row must be whole groups, or other tools refuse the file, and a group whole words of codes, or no product takes it: where the group is
/// not, the largest smaller one that is, of those that are multiples of 32 if there are any, as products on matrix units and those that make
/// the next one's codes want them, or else of 8.
fn fitting(format: &Format, cols: usize, module: &str) -> Result<Group> {
    let Group::Size(n) = format.group else { return Ok(Group::Channel) };
    if n >= cols {
        return Ok(Group::Channel);
    }
    let word = codes_a_word(format.bits);
    let fits = |g: &usize| cols.is_multiple_of(*g) && g.is_multiple_of(word);
    let smaller = |of: usize| (1..n).rev().find(|g| fits(g) && g.is_multiple_of(of));
    let found = Some(n).filter(fits).or_else(|| [TOKEN_GROUP, 8, word].into_iter().find_map(smaller));
    found.map(Group::Size).ok_or_else(|| {
        let bits = format.bits;
        let what = format!(
            "no group of up to {n} divides its rows of {cols} and is whole words of {word} codes of {bits} bits; use one scale a row (channel)"
        );
        Error::argument(format!("`{module}`"), what)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn format(bits: usize, group: usize) -> Format {
        Format { bits, group: Group::Size(group), scales: ScaleFormat::Plain(DType::F16) }
    }

    #[test]
    fn groups_are_whole_words_that_divide_a_row() {
        let fits = |bits, group, cols| fitting(&format(bits, group), cols, "m").ok();
        assert_eq!(fits(4, 128, 672), Some(Group::Size(96)));
        assert_eq!(fits(4, 128, 15680), Some(Group::Size(64))); // down_proj of Nemotron-Nano-9B-v2
        assert_eq!(fits(4, 112, 672), Some(Group::Size(112)));
        assert_eq!(fits(4, 128, 560), Some(Group::Size(112)));
        assert_eq!(fits(4, 8, 672), Some(Group::Size(8)));
        assert_eq!(fits(4, 700, 672), Some(Group::Channel));
        // Of 8 bits a word is four codes, of 4 eight.
        assert_eq!((fits(8, 20, 640), fits(4, 20, 640)), (Some(Group::Size(20)), Some(Group::Size(16))));
        assert_eq!((fits(8, 4, 640), fits(4, 4, 640)), (Some(Group::Size(4)), None));
        // What is no multiple of 8, or small, is better than none.
        assert_eq!((fits(5, 32, 100), fits(5, 20, 100)), (Some(Group::Size(20)), Some(Group::Size(20))));
        assert_eq!((fits(7, 20, 108), fits(7, 8, 36)), (Some(Group::Size(12)), Some(Group::Size(4))));
        assert_eq!((fits(8, 64, 360), fits(4, 128, 536)), (Some(Group::Size(40)), Some(Group::Size(8))));
        assert_eq!((fits(4, 32, 100), fits(5, 128, 130)), (None, None));
        let error = fitting(&format(4, 4), 640, "m").unwrap_err().to_string();
        assert!(error.contains("rows of 640") && error.contains("8 codes of 4 bits"), "{error}");
    }

    #[test]
    fn activations_have_a_group_or_none_is_written() {
        let of = |bits, group, asked, cols| {
            let weights = Format { group, ..format(bits, 1) };
            beside(Activations::Int8(Group::Size(asked)), weights, cols, "m").map(|a| a.group())
        };
        let size = |n| Some(Group::Size(n));
        assert_eq!(of(4, Group::Size(32), 48, 672).unwrap(), size(32));
        assert_eq!(of(8, Group::Channel, 7, 672).unwrap(), size(4));
        // 48 is a multiple of 16 and divides no row.
        assert_eq!(of(4, Group::Size(16), 48, 128).unwrap(), size(32));
        assert_eq!(of(8, Group::Channel, 48, 256).unwrap(), size(32));
        // As many inputs as there are, or more: one scale for all.
        assert_eq!(of(8, Group::Channel, 128, 118).unwrap(), Some(Group::Channel));
        assert_eq!(of(8, Group::Channel, 128, 96).unwrap(), size(96));
        for (bits, group, asked, cols) in
            [(8, Group::Channel, 2, 672), (4, Group::Size(32), 7, 672), (8, Group::Channel, 32, 118)]
        {
            let error = of(bits, group, asked, cols).unwrap_err().to_string();
            let words = [format!("up to {asked} of its {cols} inputs"), format!("codes of {bits} bits")];
            assert!(error.contains("`m`") && words.iter().all(|w| error.contains(w)), "{error}");
        }
    }

    fn rule(modules: &[&str], activations: Activations) -> Rule {
        let modules = modules.iter().map(|m| (*m).to_owned()).collect();
        let weights = Some(Format { group: Group::Channel, ..format(8, 1) });
        Rule { modules, weights, activations, activation_percentile: None }
    }

    fn nano() -> ModelConfig {
        crate::model::ModelConfig::from_json("config.json".as_ref(), &crate::synth::shape("nano").unwrap()).unwrap()
    }

    fn recipe(rules: Vec<Rule>) -> crate::recipe::Recipe {
        let transform = crate::transform::Transform::NONE;
        let calibration = crate::calibrate::Calibration::default();
        crate::recipe::Recipe { float: DType::BF16, calibration, gptq: None, transform, rules }
    }

    #[test]
    fn an_embedding_has_no_activations() {
        let config = nano();
        let alone = [rule(&["Linear"], Activations::TOKEN), rule(&["Embedding"], Activations::TOKEN)];
        let error = resolve(&alone, &config).unwrap_err().to_string();
        assert!(error.contains("rule 1") && error.contains("the embedding alone"), "{error}");
        for modules in [&["Linear", "Embedding"][..], &["re:.*"]] {
            let found = resolve(&[rule(modules, Activations::TOKEN)], &config).unwrap();
            let floats = found.iter().filter(|m| !m.activations.int8()).map(|m| m.role);
            assert_eq!(floats.collect::<Vec<_>>(), [Role::Embedding], "{modules:?}");
        }
    }

    /// Not what a rule says that holds nowhere.
    #[test]
    fn fixed_scales_are_those_of_modules() {
        let (config, fixed) = (nano(), Activations::Static(Group::Channel));
        let calibrates = |rules: Vec<Rule>| {
            let recipe = recipe(rules);
            recipe.calibrates(&recipe.modules(&config).unwrap())
        };
        assert!(calibrates(vec![rule(&["Linear"], fixed)]).is_some_and(|what| what.contains("static")));
        assert_eq!(calibrates(vec![rule(&["Linear"], fixed), rule(&["Linear"], Activations::TOKEN)]), None);
        let others = vec![rule(&["Linear"], Activations::TOKEN), rule(&["Linear", "Embedding"], fixed)];
        assert!(calibrates(others).is_some());
    }

    #[test]
    fn a_tied_embedding_has_activations_of_the_head() {
        use crate::recipe::{Bits, Preset, Recipe};
        use crate::transform::Transform;
        let config = ModelConfig { tied: true, ..nano() };
        let first = |modules: Vec<Module>| (modules[0].name.clone(), modules[0].activations);
        let name = "backbone.embeddings".to_owned();
        let groups = Activations::Int8(Group::Size(32));
        let fixed = Activations::Static(Group::Size(32));
        let float = Activations::Float;
        for (asked, found) in
            [(float, float), (Activations::TOKEN, Activations::TOKEN), (groups, groups), (fixed, groups)]
        {
            let modules = resolve(&[rule(&["Embedding"], asked)], &config).unwrap();
            assert_eq!(modules[0].activation_percentile, None);
            assert_eq!(first(modules), (name.clone(), found));
        }
        let presets = Preset::ALL.map(|(_, p)| Recipe::preset(p, &config, DType::BF16, Transform::NONE, false));
        let uniform = [Bits::W8A8, Bits::W4A8]
            .map(|bits| Recipe::uniform(&config, bits, Group::Size(32), true, DType::BF16, Transform::NONE));
        for recipe in presets.iter().chain(&uniform) {
            assert_eq!(first(recipe.modules(&config).unwrap()), (name.clone(), Activations::TOKEN), "{recipe:?}");
        }
    }

    #[test]
    fn layers_of_one_input_agree() {
        let module = |name: &str, group: usize| Module {
            name: name.to_owned(),
            role: Role::Linear,
            rows: 64,
            cols: 640,
            rule: Some(0),
            weights: Some(format(8, 32)),
            activations: Activations::Int8(Group::Size(group)),
            activation_percentile: None,
        };
        let other =
            [module("a.0.q_proj", 32), module("a.0.k_proj", 32), module("a.1.q_proj", 64), module("a.0.o_proj", 16)];
        agree(&other).unwrap();
        let error = agree(&[module("a.0.q_proj", 32), module("a.0.k_proj", 64)]).unwrap_err().to_string();
        assert!(error.contains("`a.0.k_proj`") && error.contains("`a.0.q_proj`") && error.contains("64"), "{error}");
        let floats = Module { activations: Activations::Float, ..module("a.0.v_proj", 1) };
        agree(&[module("a.0.q_proj", 32), floats]).unwrap();
    }

    /// vLLM makes one layer of them. What it refuses in any case is not looked at.
    #[test]
    fn queries_keys_and_values_of_several_forms_are_found() {
        let q4 = |modules: &[&str]| Rule { weights: Some(format(4, 32)), ..rule(modules, Activations::Float) };
        let found = |rules: Vec<Rule>, online: Option<usize>, tied: bool| {
            let mut recipe = recipe(rules);
            recipe.transform.online.out_proj = online;
            let modules = recipe.modules(&ModelConfig { tied, ..nano() }).unwrap();
            recipe.parted(&modules).map(|pair| pair.map(|m| m.name.rsplit('.').next().unwrap().to_owned()))
        };
        let two = || vec![q4(&["Linear"]), rule(&[r"re:.*\.[kv]_proj$"], Activations::Float)];
        let names = ["q_proj", "k_proj"].map(ToOwned::to_owned);
        assert_eq!(found(vec![q4(&["Linear"])], None, false), None);
        assert_eq!(found(two(), None, false), Some(names.clone()));
        assert_eq!(found(vec![q4(&[r"re:.*\.q_proj$"])], None, false), Some(names.clone()));
        assert_eq!(found(two(), Some(32), false), None);
        let more = |rule: Rule| two().into_iter().chain([rule]).collect::<Vec<_>>();
        let nested = Format { scales: ScaleFormat::Nested(6), ..format(4, 32) };
        assert_eq!(found(more(Rule { weights: Some(nested), ..q4(&[r"re:.*\.o_proj$"]) }), None, false), None);
        let fixed = Activations::Static(Group::Size(32));
        assert_eq!(found(more(Rule { activations: fixed, ..q4(&[r"re:.*\.o_proj$"]) }), None, false), None);
        assert_eq!(found(more(q4(&["Embedding"])), None, false), Some(names));
        assert_eq!(found(more(q4(&["Embedding"])), None, true), None);
    }
}
