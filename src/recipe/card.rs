//! The model card that [`super::quantize`] writes: README.md as Hugging Face's hub reads it. The same input gives the same
//! text, and no paths are in it.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Module, RECIPE_FILE, Recipe};
use crate::calibrate::{StatsMeta, Windows};
use crate::checkpoint::MANIFEST;
use crate::model::{Activations, Finished, Group, ModelFile};
use crate::quantize::{ROW_SCALE, ScaleFormat};
use crate::tensor::DType;

/// Its name.
pub(super) const CARD_FILE: &str = "README.md";

impl Module {
    /// In words: weights (of floats their type, `float`), the group that shares a scale, scales, inputs.
    pub(crate) fn words(&self, float: DType) -> [String; 4] {
        let inputs = match self.activations {
            Activations::Float => "float".to_owned(),
            Activations::Int8(Group::Channel) => "int8 a token".to_owned(),
            Activations::Int8(Group::Size(n)) => format!("int8 a group of {n}"),
            Activations::Static(Group::Channel) => "int8, one fixed scale".to_owned(),
            Activations::Static(Group::Size(n)) => format!("int8, fixed scales of {n}"),
        };
        let Some(format) = &self.weights else { return [float.to_string(), String::new(), String::new(), inputs] };
        let group = match format.group {
            Group::Channel => "channel".to_owned(),
            Group::Size(n) => n.to_string(),
        };
        let scales = match format.scales {
            ScaleFormat::Plain(dtype) => dtype.to_string(),
            ScaleFormat::Nested(bits) => format!("{bits} bits × {ROW_SCALE}"),
        };
        [format!("{} bits", format.bits), group, scales, inputs]
    }
}

/// What a card tells of, but for what is known once the weights are written.
pub(super) struct Card<'a> {
    pub(super) file: &'a ModelFile,
    /// [`crate::checkpoint::Checkpoint::fingerprint`] of that.
    pub(super) source: &'a Value,
    pub(super) recipe: &'a Recipe,
    pub(super) modules: &'a [Module],
    /// What calibrated, if anything did, and the name of the file it is from.
    pub(super) calibration: Option<(&'a str, &'a Windows)>,
}

impl Card<'_> {
    pub(super) fn text(&self, made: &Finished<'_>) -> String {
        let base = self.file.checkpoint().repository();
        let (before, parameters) = (self.file.bytes(), self.file.parameters());
        let bits = |bytes: u64| bytes as f64 * 8.0 / parameters.max(1) as f64;
        let name = code(&base.clone().unwrap_or_else(|| self.file.checkpoint().name()));
        format!(
            "{}\n# {name}, {}\n\nMade of {name} by wgquant {}. SHA-256 of the names, sizes and hashes of the original's files, which\n\
             `{MANIFEST}` has one by one: `{}`.\n\n\
             | {parameters} parameters | original | this |\n|---|--:|--:|\n| bytes of tensors | {before} | {} |\n\
             | bits per parameter | {:.2} | {:.2} |\n\n{}\n{}\n{}\n{}",
            self.front_matter(base.as_deref(), made),
            if self.quantized() { "quantized" } else { "transformed" },
            env!("CARGO_PKG_VERSION"),
            StatsMeta::sha256_of_files(self.source),
            made.tensor_bytes,
            bits(before),
            bits(made.tensor_bytes),
            self.forms(),
            self.method(),
            others(made),
            commands(base.as_deref()),
        )
    }

    fn front_matter(&self, base: Option<&str>, made: &Finished<'_>) -> String {
        let checkpoint = self.file.checkpoint();
        // The hub has no word for the relation of the same model in other coordinates.
        let relation = if self.quantized() { "base_model_relation: quantized\n" } else { "" };
        let base = base.map(|name| format!("base_model: {name}\n{relation}"));
        // In quotes, as YAML takes some words for other things than words.
        let license = checkpoint.note(CARD_FILE).and_then(|text| license(&text).map(|l| format!("license: \"{l}\"\n")));
        let method = made.method().flatten().filter(|_| made.ragged.is_empty());
        let family = checkpoint.config().get("model_type").and_then(Value::as_str);
        let tags = [Some("wgquant"), method, family]
            .into_iter()
            .flatten()
            .fold(String::new(), |all, tag| all + "- " + tag + "\n");
        format!("---\n{}{}tags:\n{tags}---\n", base.unwrap_or_default(), license.unwrap_or_default())
    }

    fn quantized(&self) -> bool {
        self.modules.iter().any(|module| module.weights.is_some())
    }

    /// A line for each form, with the kinds of weights that have it.
    fn forms(&self) -> String {
        let mut rows: Vec<([String; 4], Vec<&str>, usize)> = Vec::new();
        for module in self.modules {
            let words = module.words(self.recipe.float);
            let kind = module.name.rsplit('.').next().unwrap_or_default();
            match rows.iter_mut().find(|(w, ..)| *w == words) {
                Some((_, kinds, count)) => {
                    kinds.extend((!kinds.contains(&kind)).then_some(kind));
                    *count += 1;
                }
                None => rows.push((words, vec![kind], 1)),
            }
        }
        let head = "| weights | group | scales | inputs | of |\n|---|---|---|---|---|\n";
        rows.iter().fold(head.to_owned(), |all, (words, kinds, count)| {
            all + &format!("| {} | {} ({count}) |\n", words.join(" | "), kinds.join(", "))
        })
    }

    fn method(&self) -> String {
        let t = &self.recipe.transform;
        let rewrites = [
            (t.fold_norms, "norms are folded into the layers behind them"),
            (!t.smooth.is_none(), "outliers of activations are moved into weights"),
            (t.permute.is_some(), "channels are in another order"),
            (t.values.is_some(), "values are rotated"),
            (t.keys.is_some(), "queries and keys are rotated"),
            (t.residual.is_some(), "the residual stream is rotated"),
            (t.online.out_proj.is_some(), "inputs of out_proj are rotated as the model runs"),
            (t.online.down_proj.is_some(), "inputs of down_proj are rotated as the model runs"),
        ];
        let rewrites: Vec<_> = rewrites.into_iter().filter(|(there, _)| *there).map(|(_, words)| words).collect();
        let mut out = match self.recipe.gptq {
            _ if !self.quantized() => "Weights are floats.".to_owned(),
            Some(_) => "Weights are rounded by GPTQ.".to_owned(),
            None => "Weights are rounded to nearest.".to_owned(),
        };
        if let Some((file, Windows(sequences))) = self.calibration {
            let tokens: usize = sequences.iter().map(Vec::len).sum();
            // Writing to a String does not fail.
            let _ = write!(out, " Calibrated on {} sequences, {tokens} tokens, of {}.", sequences.len(), code(file));
        }
        if !rewrites.is_empty() {
            let _ = write!(out, " Before, exactly: {}.", rewrites.join(", "));
        }
        out + &format!(" `{RECIPE_FILE}` is the whole recipe.\n")
    }
}

/// Who else loads it.
fn others(made: &Finished<'_>) -> String {
    match made.method() {
        None => "Its weights are floats under their usual names: other tools load it.\n".to_owned(),
        Some(_) if !made.ragged.is_empty() => {
            let modules = made.ragged.len();
            format!("wgquant runs it; other tools refuse the {modules} weights whose rows are no whole number of groups.\n")
        }
        Some(Some(method)) => format!(
            "It is in {method} format, which transformers and vLLM load; which of its forms they have kernels for is theirs to say.\n"
        ),
        Some(None) => "wgquant runs it. Other tools end with an error, as `quant_method` is null: compressed-tensors has no words for all \
             that it does.\n"
            .to_owned(),
    }
}

fn commands(base: Option<&str>) -> String {
    let original = base.unwrap_or("ORIGINAL");
    format!(
        "```sh\nwgquant verify DIR                 # is every file and tensor as it was written?\n\
         wgquant generate DIR -p \"Once upon a time\"\n\
         wgquant perplexity DIR -f TEXT --base {original}\n```\n\nDIR is the directory of this file.\n"
    )
}

/// A name as code, which no character of it ends.
fn code(name: &str) -> String {
    format!("`{}`", name.replace(|c: char| c == '`' || c == '|' || c.is_control(), "_"))
}

/// The license in the front matter of a card, if it is one word.
fn license(card: &str) -> Option<&str> {
    let (first, rest) = card.split_once('\n')?;
    let front = rest.lines().take_while(|line| line.trim_end() != "---").find_map(|l| l.strip_prefix("license:"));
    let license = front.filter(|_| first.trim_end() == "---")?.trim().trim_matches(['"', '\'']);
    let plain = license.chars().all(|c| c.is_ascii_alphanumeric() || "-._+".contains(c));
    Some(license).filter(|l| !l.is_empty() && plain)
}

#[cfg(test)]
mod tests {
    use super::{code, license};

    #[test]
    fn licenses_of_front_matter() {
        assert_eq!(license("---\r\nlanguage: en\r\nlicense: apache-2.0\r\n---\r\ntext"), Some("apache-2.0"));
        assert_eq!(license("---\nlicense: \"other\"\nlicense_name: x\n---\n"), Some("other"));
        for none in
            ["", "license: mit\n", "---\n---\nlicense: mit\n", "---\nlicense:\n- mit\n---\n", "---\nlicense: [a, b]\n"]
        {
            assert_eq!(license(none), None, "{none:?}");
        }
    }

    #[test]
    fn names_end_no_code() {
        assert_eq!(code("a`b|c\nd"), "`a_b_c_d`");
    }
}
