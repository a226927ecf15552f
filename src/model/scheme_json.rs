//! `quantization_config` of compressed-tensors 0.20, read and written.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::keys::unsupported;
use super::names::{Names, Role};
use super::scheme::{Quantization, Scheme, Target, is_packed};
use super::{Activations, BITS, Group, Linear};
use crate::error::Result;

const METHOD: &str = "compressed-tensors";
/// The method of models that compressed-tensors has no words for: nested scales, static activation scales by groups, rotations at run time.
/// The rest is alike. `quant_method` itself is null then: transformers 5 runs a model of a method that it does not know as one of floats, and
/// vLLM one whose method is missing, but null ends both with an error. Earlier versions of this crate wrote the name there.
const OWN_METHOD: &str = "wgquant";
const OWN_KEY: &str = "wgquant_method";
const PACKED: &str = "pack-quantized";
const INT: &str = "int-quantized";
const MIXED: &str = "mixed-precision";

/// Parts of compressed-tensors that change what a model computes and that this crate has not.
const MUST_BE_EMPTY: [&str; 4] = ["kv_cache_scheme", "sparsity_config", "transform_config", "moe_sparsity_config"];

/// Parses `quantization_config`; refuses whatever would be computed differently, naming key and value.
pub(super) fn parse(config: &Value) -> Result<Quantization> {
    let at = |key: &str| format!("quantization_config.{key}");
    let (key, method) = match (config.get("quant_method").unwrap_or(&Value::Null), config.get(OWN_KEY)) {
        (Value::Null, Some(own)) => (OWN_KEY, own),
        (method, _) => ("quant_method", method),
    };
    if ![json!(METHOD), json!(OWN_METHOD)].contains(method) {
        let value =
            format!("{method}; supported: {METHOD} and {OWN_METHOD}; start from the model before it was quantized");
        return Err(unsupported(&at(key), value));
    }
    expect(config, "quantization_config", "quantization_status", &[json!("compressed"), Value::Null])?;
    for key in MUST_BE_EMPTY {
        let value = config.get(key).unwrap_or(&Value::Null);
        if !value.is_null() && !value.as_object().is_some_and(Map::is_empty) {
            return Err(unsupported(&at(key), format!("{value}; supported is none")));
        }
    }
    let format = config.get("format").cloned().unwrap_or_default();
    let groups = config.get("config_groups").and_then(Value::as_object);
    let groups = groups.ok_or_else(|| unsupported(&at("config_groups"), "missing"))?;
    let group = |(name, group): (&String, &Value)| {
        let at = at(&format!("config_groups.{name}"));
        Ok((targets(group.get("targets"), &format!("{at}.targets"))?, scheme(group, &at, &format)?))
    };
    Ok(Quantization {
        groups: groups.iter().map(group).collect::<Result<_>>()?,
        ignore: targets(config.get("ignore"), &at("ignore"))?,
    })
}

fn targets(list: Option<&Value>, key: &str) -> Result<Vec<Target>> {
    let Some(list) = list.filter(|v| !v.is_null()) else { return Ok(Vec::new()) };
    let wrong = || unsupported(key, format!("{list}, not a list of words"));
    let words = list.as_array().ok_or_else(wrong)?;
    let target =
        |word: &Value| Target::parse(word.as_str().ok_or_else(wrong)?).map_err(|e| unsupported(key, e.to_string()));
    words.iter().map(target).collect()
}

fn scheme(group: &Value, at: &str, model_format: &Value) -> Result<Scheme> {
    let weights = group.get("weights").filter(|w| w.is_object());
    let weights = weights.ok_or_else(|| unsupported(at, format!("{group}, without `weights`")))?;
    let key = format!("{at}.weights");
    expect(group, at, "output_activations", &[Value::Null])?;
    let bits = size_in(weights, &key, "num_bits", BITS)?;
    expect(weights, &key, "type", &[json!("int"), Value::Null])?;
    expect(weights, &key, "symmetric", &[json!(true), Value::Null])?;
    expect(weights, &key, "dynamic", &[json!(false), Value::Null])?;
    // Reordering by activation is done and undone while quantizing; only the old `group` kind stored an order.
    expect(weights, &key, "actorder", &[Value::Null, json!("weight"), json!("static")])?;
    let strategy = weights.get("strategy").and_then(Value::as_str);
    let size = weights.get("group_size").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let group_of = match (strategy, size.filter(|n| *n > 0)) {
        (Some("channel"), _) => Group::Channel,
        (Some("group") | None, Some(n)) => Group::Size(n),
        _ => {
            expect(weights, &key, "strategy", &[json!("channel"), json!("group")])?;
            let size = weights.get("group_size").unwrap_or(&Value::Null);
            return Err(unsupported(&format!("{key}.group_size"), format!("{size}, not a size above 0")));
        }
    };
    let own = group.get("format").filter(|f| !f.is_null()).unwrap_or(model_format);
    let packed = match own.as_str() {
        Some(PACKED) => true,
        Some(INT) => false,
        _ => return Err(unsupported(&format!("{at}.format"), format!("{own}; supported are {PACKED} and {INT}"))),
    };
    let scale_bits = match weights.get("scale_bits").filter(|v| !v.is_null()) {
        Some(_) => Some(size_in(weights, &key, "scale_bits", 1..=7)?),
        None => None,
    };
    Ok(Scheme { bits, group: group_of, scale_bits, activations: activations(group, at)?, packed })
}

/// int8, dynamic per token or per group of a token's inputs, or static per tensor or per group of inputs; or none.
fn activations(group: &Value, at: &str) -> Result<Activations> {
    let Some(inputs) = group.get("input_activations").filter(|v| !v.is_null()) else {
        return Ok(Activations::Float);
    };
    let key = format!("{at}.input_activations");
    expect(inputs, &key, "num_bits", &[json!(8)])?;
    expect(inputs, &key, "type", &[json!("int"), Value::Null])?;
    expect(inputs, &key, "symmetric", &[json!(true), Value::Null])?;
    expect(inputs, &key, "dynamic", &[json!(true), json!(false)])?;
    let dynamic = inputs.get("dynamic") == Some(&json!(true));
    let whole = if dynamic { "token" } else { "tensor" };
    expect(inputs, &key, "strategy", &[json!(whole), json!("group")])?;
    let group = match inputs.get("strategy") == Some(&json!("group")) {
        true => Group::Size(size_in(inputs, &key, "group_size", 4..=usize::MAX)?),
        false => Group::Channel,
    };
    Ok(if dynamic { Activations::Int8(group) } else { Activations::Static(group) })
}

/// A whole number of `object.key` in `range`.
fn size_in(object: &Value, at: &str, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
    let value = object.get(key).unwrap_or(&Value::Null);
    let size = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| range.contains(n));
    let (low, high) = (range.start(), range.end());
    size.ok_or_else(|| unsupported(&format!("{at}.{key}"), format!("{value}, not a whole number of {low} to {high}")))
}

/// Refuses a value of `object.key` that is not in `allowed`; null stands for absent.
fn expect(object: &Value, at: &str, key: &str, allowed: &[Value]) -> Result<()> {
    let value = object.get(key).unwrap_or(&Value::Null);
    if allowed.contains(value) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().filter(|v| !v.is_null()).map(Value::to_string).collect();
    let allowed = if allowed.is_empty() { "none".to_owned() } else { allowed.join(" and ") };
    Err(unsupported(&format!("{at}.{key}"), format!("{value}; supported: {allowed}")))
}

/// Collects the schemes of modules as they are written.
#[derive(Default)]
pub(super) struct SchemeList {
    modules: Vec<(String, Role, Option<Scheme>)>,
}

impl SchemeList {
    /// Notes a module, and says how its weight is to be stored.
    pub(super) fn add(&mut self, module: &str, role: Role, weight: &Linear) -> Option<Scheme> {
        let scheme = match weight {
            Linear::Float(_) => None,
            Linear::Quantized(q) => {
                // Of an embedding those of the head that it is, too.
                let activations = q.activations;
                let packed = is_packed(q.bits, role, activations);
                // A group as long as the row is a channel.
                let cols = weight.dims().1;
                let whole = |group: Group| if group.len(cols) == cols { Group::Channel } else { group };
                let group = whole(q.group);
                let activations = match activations {
                    Activations::Static(group) => Activations::Static(whole(group)),
                    other => other,
                };
                let scale_bits = q.scales.nested_bits();
                Some(Scheme { bits: q.bits, group, scale_bits, activations, packed })
            }
        };
        self.modules.push((module.to_owned(), role, scheme));
        scheme
    }

    /// `quantization_config`; `None` when nothing is quantized nor `rotated` at run time: whoever does not know that must not run the model.
    /// `tied`: no head was written, but others have one, a linear layer with the embedding's weight. Of codes it would have no scales.
    pub(super) fn to_json(&self, rotated: bool, tied: bool) -> Option<Value> {
        let mut schemes: Vec<(Role, Scheme)> = Vec::new();
        for (_, role, scheme) in &self.modules {
            if let Some(scheme) = scheme
                && !schemes.contains(&(*role, *scheme))
            {
                schemes.push((*role, *scheme));
            }
        }
        let linears = schemes.iter().filter(|(role, _)| *role == Role::Linear).count();
        let groups: Map<String, Value> = schemes
            .iter()
            .enumerate()
            .map(|(i, (role, scheme))| {
                let targets = match role {
                    Role::Linear if linears > 1 => self.patterns(Role::Linear, Some(*scheme)),
                    Role::Linear => self.class(),
                    _ => vec!["Embedding".to_owned()],
                };
                (format!("group_{i}"), group_json(*scheme, &targets))
            })
            .collect();
        if schemes.is_empty() && !rotated {
            return None;
        }
        let mut ignore = if linears > 0 { self.patterns(Role::Linear, None) } else { Vec::new() };
        if tied && linears > 0 {
            ignore.push(Names::default().head().to_owned());
        }
        let head_of_codes = tied && schemes.iter().any(|(role, _)| *role == Role::Embedding);
        let standard = !rotated && !head_of_codes && schemes.iter().all(|(_, s)| is_standard(*s));
        let format = schemes.first().map(|(_, first)| match schemes.iter().all(|(_, s)| s.packed == first.packed) {
            true => format_name(*first),
            false => MIXED,
        });
        let mut quantization = json!({
            "config_groups": groups,
            "format": format,
            "global_compression_ratio": null,
            "ignore": ignore,
            "kv_cache_scheme": null,
            "quant_method": standard.then_some(METHOD),
            "quantization_status": "compressed",
            "sparsity_config": {},
            "transform_config": {},
            "version": "0.20.0",
        });
        if !standard {
            quantization[OWN_KEY] = json!(OWN_METHOD);
        }
        Some(quantization)
    }

    /// All quantized linear layers, which have one scheme. The head by its name, too: vLLM has a class of its own for it, which `Linear`
    /// does not mean there. First, as compressed-tensors warns of a name that comes behind its class.
    fn class(&self) -> Vec<String> {
        let head = Names::default().head();
        let quantized = self.modules.iter().any(|(module, _, scheme)| module == head && scheme.is_some());
        quantized.then_some(head).into_iter().chain(["Linear"]).map(str::to_owned).collect()
    }

    /// Patterns that match exactly the modules of one scheme: one for a kind of projection where all layers agree,
    /// else one a layer. They leave out the prefix, which is `backbone.` in files but `model.` in Hugging Face 5.
    fn patterns(&self, role: Role, scheme: Option<Scheme>) -> Vec<String> {
        let leaf = |module: &str| module.rsplit('.').next().unwrap_or_default().to_owned();
        let mut patterns = Vec::new();
        for (module, _, _) in self.modules.iter().filter(|(_, r, s)| *r == role && *s == scheme) {
            let kind = leaf(module);
            let agreed = self.modules.iter().filter(|(m, r, _)| *r == role && leaf(m) == kind).all(|m| m.2 == scheme);
            let pattern = match module.split_once(".layers.") {
                Some(_) if agreed => format!(r"re:.*\.{kind}$"),
                Some((_, rest)) => format!(r"re:.*\.layers\.{}$", rest.replace('.', r"\.")),
                None => module.clone(),
            };
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        patterns
    }
}

/// Can compressed-tensors run it? It has no nested scales, and 0.20 applies static scales of groups along tokens.
fn is_standard(scheme: Scheme) -> bool {
    scheme.scale_bits.is_none() && !matches!(scheme.activations, Activations::Static(Group::Size(_)))
}

fn format_name(scheme: Scheme) -> &'static str {
    if scheme.packed { PACKED } else { INT }
}

fn group_json(scheme: Scheme, targets: &[String]) -> Value {
    let arguments = |bits: usize, size: Option<usize>, strategy: &str, dynamic: bool| {
        json!({
            "num_bits": bits,
            "type": "int",
            "symmetric": true,
            "group_size": size,
            "strategy": strategy,
            "dynamic": dynamic,
        })
    };
    let mut weights = match scheme.group {
        Group::Channel => arguments(scheme.bits, None, "channel", false),
        Group::Size(n) => arguments(scheme.bits, Some(n), "group", false),
    };
    if let Some(bits) = scheme.scale_bits {
        weights["scale_bits"] = json!(bits);
    }
    let input_activations = match scheme.activations {
        Activations::Float => Value::Null,
        Activations::Int8(Group::Channel) => arguments(8, None, "token", true),
        Activations::Int8(Group::Size(n)) => arguments(8, Some(n), "group", true),
        Activations::Static(Group::Channel) => arguments(8, None, "tensor", false),
        Activations::Static(Group::Size(n)) => arguments(8, Some(n), "group", false),
    };
    json!({
        "targets": targets,
        "weights": weights,
        "input_activations": input_activations,
        "output_activations": null,
        "format": format_name(scheme),
    })
}
