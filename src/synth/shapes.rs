//! Configurations of published models, as their `config.json` says them.
//!
//! Nemotron-H: arXiv:2504.03624; Nemotron Nano 2: arXiv:2508.14444; Mamba-2: arXiv:2405.21060, in the layout that
//! transformers gives it; Codestral Mamba: mistralai/Mamba-Codestral-7B-v0.1. `nano` and `small` are this project's.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// Sizes in which one Nemotron-H differs from another.
struct NemotronH {
    name: &'static str,
    pattern: &'static str,
    hidden: usize,
    intermediate: usize,
    /// Query heads, kv heads, elements a head.
    attention: [usize; 3],
    /// Heads, elements a head, groups, state.
    mamba: [usize; 4],
    vocab: usize,
    positions: usize,
    /// End of sequence.
    eos: u32,
}

/// Sizes in which one Mamba-2 differs from another; heads have 64 elements and `2 hidden / 64` are there.
struct Mamba2 {
    name: &'static str,
    layers: usize,
    hidden: usize,
    groups: usize,
    vocab: usize,
    tied: bool,
}

const OF_52: &str = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-";
const OF_56: &str = "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-";
const OF_98: &str =
    "M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-";

const NEMOTRON_H: [NemotronH; 6] = [
    NemotronH {
        name: "nemotron-h-8b",
        pattern: OF_52,
        hidden: 4096,
        intermediate: 21504,
        attention: [32, 8, 128],
        mamba: [128, 64, 8, 128],
        vocab: 131_072,
        positions: 8192,
        eos: 2,
    },
    NemotronH {
        name: "nemotron-h-4b",
        pattern: OF_52,
        hidden: 3072,
        intermediate: 12288,
        attention: [32, 8, 128],
        mamba: [112, 64, 8, 128],
        vocab: 131_072,
        positions: 8192,
        eos: 2,
    },
    NemotronH {
        name: "nemotron-h-47b",
        pattern: OF_98,
        hidden: 8192,
        intermediate: 30720,
        attention: [64, 8, 128],
        mamba: [256, 64, 8, 256],
        vocab: 131_072,
        positions: 8192,
        eos: 2,
    },
    NemotronH {
        name: "nemotron-nano-9b-v2",
        pattern: OF_56,
        hidden: 4480,
        intermediate: 15680,
        attention: [40, 8, 128],
        mamba: [128, 80, 8, 128],
        vocab: 131_072,
        positions: 131_072,
        eos: 12,
    },
    NemotronH {
        name: "nano",
        pattern: "M-M*-M-M-",
        hidden: 128,
        intermediate: 672,
        attention: [4, 2, 32],
        mamba: [8, 32, 2, 32],
        vocab: 2048,
        positions: 4096,
        eos: 2,
    },
    NemotronH {
        name: "small",
        pattern: "M-M-M*-M-M-M*-",
        hidden: 512,
        intermediate: 1344,
        attention: [8, 2, 64],
        mamba: [16, 64, 2, 128],
        vocab: 8192,
        positions: 4096,
        eos: 2,
    },
];

const MAMBA2: [Mamba2; 6] = [
    Mamba2 { name: "mamba2-130m", layers: 24, hidden: 768, groups: 1, vocab: 50_288, tied: true },
    Mamba2 { name: "mamba2-370m", layers: 48, hidden: 1024, groups: 1, vocab: 50_288, tied: true },
    Mamba2 { name: "mamba2-780m", layers: 48, hidden: 1536, groups: 1, vocab: 50_288, tied: true },
    Mamba2 { name: "mamba2-1.3b", layers: 48, hidden: 2048, groups: 1, vocab: 50_288, tied: true },
    Mamba2 { name: "mamba2-2.7b", layers: 64, hidden: 2560, groups: 1, vocab: 50_288, tied: true },
    Mamba2 { name: "mamba-codestral-7b", layers: 64, hidden: 4096, groups: 8, vocab: 32_768, tied: false },
];

/// Names that [`shape`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    NEMOTRON_H.iter().map(|m| m.name).chain(MAMBA2.iter().map(|m| m.name))
}

/// The `config.json` of a published model, with all its layers.
///
/// # Errors
/// [`Error::Argument`] listing the names known.
pub fn shape(name: &str) -> Result<Value> {
    let is = |n: &str| n.eq_ignore_ascii_case(name);
    if let Some(m) = NEMOTRON_H.iter().find(|m| is(m.name)) {
        return Ok(m.config());
    }
    if let Some(m) = MAMBA2.iter().find(|m| is(m.name)) {
        return Ok(m.config());
    }
    let known: Vec<&str> = names().collect();
    Err(Error::argument("shape", format!("`{name}` is no shape known: {}", known.join(", "))))
}

/// The first `layers` blocks of `config`, whichever of the keys that models have for their blocks it has.
///
/// # Errors
/// [`Error::Argument`] for none, or more than there are.
pub fn cut(config: &mut Value, layers: usize) -> Result<()> {
    const KEYS: [&str; 3] = ["layers_block_type", "layer_types", "hybrid_override_pattern"];
    let there = || KEYS.into_iter().filter_map(|key| config.get(key));
    // As a model's are read: names before letters.
    let names = there().find_map(|v| v.as_array().map(Vec::len));
    let letters = || there().find_map(|v| v.as_str().map(|s| s.chars().count()));
    let stated = || config.get("num_hidden_layers").and_then(Value::as_u64).unwrap_or(0) as usize;
    let all = names.or_else(letters).unwrap_or_else(stated);
    if layers == 0 || layers > all {
        return Err(Error::argument("--layers", format!("{layers}, but the shape has 1 to {all}")));
    }
    config["num_hidden_layers"] = json!(layers);
    for key in KEYS {
        match config.get_mut(key) {
            Some(Value::Array(list)) => list.truncate(layers),
            Some(Value::String(letters)) => *letters = letters.chars().take(layers).collect(),
            _ => {}
        }
    }
    Ok(())
}

impl NemotronH {
    fn config(&self) -> Value {
        let [heads, kv_heads, head_dim] = self.attention;
        let [mamba_heads, mamba_head_dim, groups, state] = self.mamba;
        let mut config = json!({
            "attention_head_dim": head_dim,
            "eos_token_id": self.eos,
            "head_dim": head_dim,
            "hidden_size": self.hidden,
            "hybrid_override_pattern": self.pattern,
            "intermediate_size": self.intermediate,
            "mamba_head_dim": mamba_head_dim,
            "mamba_num_heads": mamba_heads,
            "max_position_embeddings": self.positions,
            "n_groups": groups,
            "num_attention_heads": heads,
            "num_hidden_layers": self.pattern.len(),
            "num_key_value_heads": kv_heads,
            "ssm_state_size": state,
            "vocab_size": self.vocab,
        });
        // What all of them have.
        let fixed = json!({
            "architectures": ["NemotronHForCausalLM"],
            "model_type": "nemotron_h",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "chunk_size": 128,
            "conv_kernel": 4,
            "expand": 2,
            "hidden_dropout": 0.0,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-5,
            "mamba_hidden_act": "silu",
            "mamba_proj_bias": false,
            "mlp_bias": false,
            "mlp_hidden_act": "relu2",
            "num_logits_to_keep": 1,
            "pad_token_id": 0,
            "rescale_prenorm_residual": true,
            "residual_in_fp32": false,
            "rms_norm_eps": 1e-5,
            "sliding_window": null,
            "tie_word_embeddings": false,
            "time_step_floor": 1e-4,
            "time_step_limit": [0.0, 1e30],
            "time_step_max": 0.1,
            "time_step_min": 0.001,
            "torch_dtype": "bfloat16",
            "use_bias": false,
            "use_cache": true,
            "use_conv_bias": true,
        });
        if let (Some(config), Value::Object(fixed)) = (config.as_object_mut(), fixed) {
            config.extend(fixed);
        }
        config
    }
}

impl Mamba2 {
    fn config(&self) -> Value {
        json!({
            "architectures": ["Mamba2ForCausalLM"],
            "model_type": "mamba2",
            "bos_token_id": 0,
            "chunk_size": 256,
            "conv_kernel": 4,
            "eos_token_id": 0,
            "expand": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.1,
            "layer_norm_epsilon": 1e-5,
            "n_groups": self.groups,
            "num_heads": 2 * self.hidden / 64,
            "num_hidden_layers": self.layers,
            "pad_token_id": 0,
            "rescale_prenorm_residual": false,
            "residual_in_fp32": true,
            "rms_norm": true,
            "state_size": 128,
            "tie_word_embeddings": self.tied,
            "time_step_floor": 1e-4,
            "time_step_max": 0.1,
            "time_step_min": 0.001,
            "torch_dtype": "bfloat16",
            "use_bias": false,
            "use_cache": true,
            "use_conv_bias": true,
            "vocab_size": self.vocab,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::{Block, ModelConfig, Names};

    fn config(name: &str) -> ModelConfig {
        ModelConfig::from_json(Path::new("config.json"), &shape(name).unwrap()).unwrap()
    }

    fn parameters(name: &str) -> usize {
        let tensors = Names::default().expected(&config(name), true);
        tensors.iter().map(|t| t.shape.iter().product::<usize>()).sum()
    }

    /// The published counts, of the model cards and of the repository's own models.
    #[test]
    fn parameters_are_those_published() {
        assert_eq!(parameters("nemotron-h-8b"), 8_100_852_736);
        let near = |name: &str, billions: f64| {
            let got = parameters(name) as f64 / 1e9;
            assert!((got / billions - 1.0).abs() < 0.02, "{name}: {got}");
        };
        near("nemotron-h-47b", 46.8);
        near("nemotron-nano-9b-v2", 8.89);
        near("mamba2-2.7b", 2.70);
        near("mamba2-130m", 0.129);
        near("mamba-codestral-7b", 7.29);
    }

    #[test]
    fn every_shape_is_read_and_cut() {
        for name in names() {
            let all = config(name).blocks;
            let mut json = shape(name).unwrap();
            cut(&mut json, 3).unwrap();
            let some = ModelConfig::from_json(Path::new("config.json"), &json).unwrap().blocks;
            assert_eq!(some, all[..3], "{name}");
            assert!(cut(&mut json, 4).is_err() && cut(&mut json, 0).is_err(), "{name}");
        }
        let count = |b: Block| config("nemotron-nano-9b-v2").blocks.iter().filter(|x| **x == b).count();
        assert_eq!([count(Block::Mamba2), count(Block::Mlp), count(Block::Attention)], [27, 25, 4]);
    }

    /// However a model's configuration names its blocks.
    #[test]
    fn blocks_are_cut_by_whichever_key() {
        let all = config("nano").blocks;
        let names = json!(["mamba", "mlp", "mamba", "attention", "mlp", "mamba", "mlp", "mamba", "mlp"]);
        let letters = json!("M-M*-M-M-");
        for keys in [
            vec![("layers_block_type", &names)],
            vec![("layer_types", &names)],
            vec![("layers_block_type", &letters)],
            vec![("layer_types", &names), ("hybrid_override_pattern", &letters)],
        ] {
            let mut json = shape("nano").unwrap();
            json.as_object_mut().unwrap().remove("hybrid_override_pattern");
            keys.iter().for_each(|(key, blocks)| json[*key] = (*blocks).clone());
            let read = |json: &Value| ModelConfig::from_json(Path::new("config.json"), json).unwrap().blocks;
            assert_eq!(read(&json), all, "{keys:?}");
            cut(&mut json, 4).unwrap();
            assert_eq!(read(&json), all[..4], "{keys:?}");
            assert!(cut(&mut json, 5).is_err(), "{keys:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_what_is_known() {
        let error = shape("gpt2").unwrap_err().to_string();
        assert!(error.contains("`gpt2`") && error.contains("mamba2-2.7b"), "{error}");
    }
}
