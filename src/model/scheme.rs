//! Which quantization scheme a module has, as compressed-tensors' `quantization_config` says it.

use regex::{Regex, RegexBuilder};

use super::names::Role;
use super::{Activations, Group};
use crate::error::{Error, Result};

/// How the weights of some modules are quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    /// 2 to 8.
    pub(super) bits: usize,
    /// Inputs sharing a scale.
    pub(super) group: Group,
    /// Bits of nested scales' codes; `None` for plain scales.
    pub(super) scale_bits: Option<usize>,
    /// What inputs are rounded to.
    pub(super) activations: Activations,
    /// `pack-quantized` rather than `int-quantized`.
    pub(super) packed: bool,
}

/// Are codes packed into words? As compressed-tensors itself would choose, and the only forms vLLM runs: bytes where
/// activations are int8, words where they are not. Embeddings are looked up by row, so bytes.
pub(crate) fn is_packed(bits: usize, role: Role, activations: Activations) -> bool {
    bits < 8 || (role == Role::Linear && !activations.int8())
}

/// A parsed `quantization_config`.
#[derive(Debug, Default)]
pub(super) struct Quantization {
    pub(super) groups: Vec<(Vec<Target>, Scheme)>,
    pub(super) ignore: Vec<Target>,
}

/// An entry of `targets` or `ignore`, or of a recipe's rule.
#[derive(Debug)]
pub enum Target {
    /// `re:` and a pattern, matched from the start of the name as Python's `re.match` does.
    Pattern(Regex),
    /// A module or class.
    Name(String),
}

impl Target {
    /// `text` as models and recipes write it.
    ///
    /// # Errors
    /// [`Error::Argument`] for a pattern that cannot be used.
    pub fn parse(text: &str) -> Result<Self> {
        let Some(pattern) = text.strip_prefix("re:") else { return Ok(Self::Name(text.to_owned())) };
        // Anchored here, not by `^` in the pattern: alternatives must all be anchored.
        let regex = RegexBuilder::new(&format!("^(?:{pattern})")).size_limit(1 << 20).build();
        // Of a syntax error's several lines the last says what is wrong.
        let why = |e: regex::Error| e.to_string().lines().last().unwrap_or_default().to_owned();
        let regex =
            regex.map_err(|e| Error::argument(format!("`{text}`"), format!("no usable pattern: {}", why(e))))?;
        Ok(Self::Pattern(regex))
    }

    /// Does it mean this module?
    #[must_use]
    pub fn matches(&self, module: &str, role: Role) -> bool {
        self.rank(module, role) > 0
    }

    /// 3 for the module's name, 2 for a pattern, 1 for its class, 0 for no match; as compressed-tensors ranks them.
    fn rank(&self, module: &str, role: Role) -> usize {
        match self {
            Self::Name(name) if aliases(module).any(|m| m == *name) => 3,
            Self::Pattern(regex) if aliases(module).any(|m| regex.is_match(&m)) => 2,
            Self::Name(name) if *name == class(role) => 1,
            _ => 0,
        }
    }
}

/// PyTorch's class of the module.
fn class(role: Role) -> &'static str {
    match role {
        Role::Linear => "Linear",
        Role::Embedding => "Embedding",
        Role::Vector => "",
    }
}

/// The names a module goes by: Hugging Face 5 says `model.` in memory where checkpoints say `backbone.`, and some say `embed_tokens`
/// for `embeddings`.
fn aliases(module: &str) -> impl Iterator<Item = String> {
    let rest = match module.split_once('.') {
        Some(("backbone" | "model", "embeddings" | "embed_tokens")) => vec!["embeddings", "embed_tokens"],
        Some(("backbone" | "model", rest)) => vec![rest],
        _ => Vec::new(),
    };
    let others: Vec<String> =
        ["backbone", "model"].iter().flat_map(|prefix| rest.iter().map(move |r| format!("{prefix}.{r}"))).collect();
    std::iter::once(module.to_owned()).chain(others)
}

impl Quantization {
    /// The scheme of a module, `None` when it is not quantized.
    pub(super) fn scheme(&self, module: &str, role: Role) -> Option<Scheme> {
        if self.ignore.iter().any(|t| t.rank(module, role) > 0) {
            return None;
        }
        let mut best = (0, None);
        for (targets, scheme) in &self.groups {
            let rank = targets.iter().map(|t| t.rank(module, role)).max().unwrap_or(0);
            if rank > best.0 {
                best = (rank, Some(*scheme));
            }
        }
        best.1
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn scheme(bits: usize) -> Scheme {
        Scheme { bits, group: Group::Channel, scale_bits: None, activations: Activations::Float, packed: true }
    }

    #[test]
    fn names_win_over_patterns_over_classes_and_ignore_over_all() {
        let target = |t| Target::parse(t).unwrap();
        let q = Quantization {
            groups: vec![
                (vec![target("Linear")], scheme(8)),
                (vec![target(r"re:.*\.up_proj$")], scheme(4)),
                (vec![target("model.layers.1.mixer.up_proj")], scheme(2)),
            ],
            ignore: vec![target("lm_head"), target("re:layers|.*q_proj")],
        };
        let bits = |m| q.scheme(m, Role::Linear).map(|s| s.bits);
        assert_eq!(bits("backbone.layers.0.mixer.in_proj"), Some(8));
        assert_eq!(bits("backbone.layers.0.mixer.up_proj"), Some(4));
        assert_eq!(bits("backbone.layers.1.mixer.up_proj"), Some(2));
        assert_eq!(bits("backbone.layers.1.mixer.q_proj"), None);
        assert_eq!(bits("lm_head"), None);
        assert_eq!(q.scheme("backbone.embeddings", Role::Embedding), None);
    }

    #[test]
    fn modules_go_by_the_names_of_any_checkpoint() {
        for module in ["backbone.embeddings", "model.embed_tokens"] {
            for text in
                ["model.embed_tokens", "backbone.embeddings", "model.embeddings", "re:.*embed_tokens$", "Embedding"]
            {
                assert!(Target::parse(text).unwrap().matches(module, Role::Embedding), "{text}: {module}");
            }
        }
        for text in ["model.layers.1.mixer.up_proj", "backbone.layers.1.mixer.up_proj"] {
            let target = Target::parse(text).unwrap();
            assert!(target.matches("backbone.layers.1.mixer.up_proj", Role::Linear), "{text}");
            assert!(!target.matches("backbone.layers.0.mixer.up_proj", Role::Linear), "{text}");
        }
        assert!(!Target::parse("re:(backbone|model)").unwrap().matches("lm_head", Role::Linear));
    }

    #[test]
    fn pattern_that_regex_cannot_do_is_named() {
        let err = Target::parse("re:(?!x)y").unwrap_err().to_string();
        assert!(
            err.contains("`re:(?!x)y`: no usable pattern: error: look-around") && err.lines().count() == 1,
            "{err}"
        );
    }
}
