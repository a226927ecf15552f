//! Configurations that cannot be run, and the many spellings of those that can.

use proptest::prelude::*;
use serde_json::{Value, json};
use wgquant::model::{Block, ModelType};

use super::common::{config, edit_json, on_disk, parse, says, with};

#[track_caller]
fn refused(changes: Value, parts: &[&str]) {
    says(&parse(&with(changes)).unwrap_err().to_string(), parts);
}

#[test]
fn unknown_block_letter() {
    refused(json!({"hybrid_override_pattern": "M-XM"}), &["hybrid_override_pattern[2]", "`X`", "M (Mamba-2)"]);
    refused(json!({"hybrid_override_pattern": "MEMM"}), &["[1]", "`E` (mixture of experts)"]);
    let names = json!(["mamba", "moe", "mlp", "mlp"]);
    refused(json!({"hybrid_override_pattern": null, "layers_block_type": names}), &["layers_block_type[1]", "`moe`"]);
}

#[test]
fn heads_not_divisible() {
    refused(json!({"n_groups": 3}), &["n_groups", "3", "mamba heads 4"]);
    refused(json!({"num_key_value_heads": 3}), &["num_key_value_heads is 3,", "num_attention_heads 4"]);
    // Defaults are not said to be in the file.
    refused(json!({"n_groups": null}), &["n_groups is absent, so 8", "mamba heads 4"]);
    refused(json!({"n_groups": null, "mamba_n_groups": 3}), &["n_groups is 3,", "mamba heads 4"]);
    let mut config = config();
    config.as_object_mut().unwrap().remove("num_key_value_heads");
    let said = parse(&config).unwrap_err().to_string();
    says(&said, &["num_key_value_heads is absent, so 8", "num_attention_heads 4"]);
}

#[test]
fn a_file_of_no_keys_or_no_model() {
    for value in [json!(null), json!([]), json!("nemotron_h"), json!(3)] {
        says(&parse(&value).unwrap_err().to_string(), &["config.json: is no JSON object"]);
    }
    for (value, word) in [(json!(3), "3"), (json!(-1), "-1"), (json!(""), "\"\""), (json!(["mamba2"]), "[\"mamba2\"]")]
    {
        refused(json!({"model_type": value}), &[&format!("model_type is {word};"), "nemotron_h and mamba2"]);
    }
    refused(json!({"model_type": null}), &["model_type is missing;"]);
    refused(json!({"model_type": 3, "ssm_cfg": {}}), &["model_type is 3;"]);
}

/// Or `quantize` would take what nothing can run.
#[test]
fn sizes_that_no_kernel_takes() {
    refused(json!({"mamba_head_dim": 10}), &["mamba_head_dim is 10", "multiples of 4"]);
    refused(json!({"ssm_state_size": 6}), &["ssm_state_size is 6", "multiples of 4"]);
    refused(json!({"head_dim": 260}), &["head_dim is 260", "up to 256"]);
    assert_eq!(parse(&with(json!({"head_dim": 256}))).unwrap().head_dim, 256);
    // Of what there is no block, nothing is asked.
    let mlp = json!({"hybrid_override_pattern": "----", "mamba_head_dim": 10, "ssm_state_size": 6, "head_dim": 260});
    assert_eq!(parse(&with(mlp)).unwrap().blocks, [Block::Mlp; 4]);
    let (_temp, dir) = on_disk(&config(), &Default::default());
    edit_json(&dir.join("config.json"), |c| c["ssm_state_size"] = json!(6));
    let error = wgquant::model::ModelFile::open(&dir).unwrap_err();
    assert!(matches!(&error, wgquant::Error::UnsupportedModel { key, .. } if key == "ssm_state_size"), "{error}");
}

#[test]
fn pattern_of_another_length() {
    refused(json!({"num_hidden_layers": 5}), &["4 blocks long", "num_hidden_layers is 5"]);
    refused(json!({"num_hidden_layers": null, "hybrid_override_pattern": ""}), &["0 blocks"]);
}

#[test]
fn sizes_out_of_range() {
    refused(json!({"hidden_size": 0}), &["hidden_size is 0", "from 1"]);
    refused(json!({"hidden_size": u64::MAX}), &["hidden_size", "whole number"]);
    refused(json!({"vocab_size": -3}), &["vocab_size is -3"]);
    refused(json!({"conv_kernel": 4.5}), &["conv_kernel is 4.5"]);
    refused(json!({"mamba_num_heads": "4"}), &["mamba_num_heads is \"4\""]);
    refused(json!({"layer_norm_epsilon": -1.0}), &["layer_norm_epsilon"]);
    refused(json!({"time_step_limit": [1.0, 0.5]}), &["time_step_limit", "low < high"]);
    refused(json!({"eos_token_id": 50}), &["50", "vocab_size 50"]);
}

#[test]
fn missing_key_is_named() {
    refused(json!({"mamba_num_heads": null}), &["config.json", "has no `mamba_num_heads`"]);
}

#[test]
fn features_not_supported() {
    for key in ["use_bias", "mlp_bias", "attention_bias", "mamba_proj_bias"] {
        refused(json!({key: true}), &[key, "true", "not supported"]);
    }
    refused(json!({"mlp_hidden_act": "gelu"}), &["mlp_hidden_act", "gelu", "relu2"]);
    refused(json!({"mamba_hidden_act": "relu"}), &["mamba_hidden_act"]);
    refused(json!({"sliding_window": 128}), &["sliding_window"]);
    refused(json!({"model_type": "llama"}), &["model_type is llama", "nemotron_h and mamba2"]);
}

#[test]
fn two_names_of_a_key_that_differ() {
    refused(json!({"attention_head_dim": 16}), &["attention_head_dim is 16", "head_dim is 8"]);
}

#[test]
fn old_and_new_keys_mean_the_same() {
    let blocks = json!(["linear_attention", "mlp", "full_attention", "mamba"]);
    let other = with(json!({
        "hybrid_override_pattern": null, "layers_block_type": blocks, "num_hidden_layers": null,
        "n_groups": null, "mamba_n_groups": 2, "conv_kernel": null, "mamba_d_conv": 4,
        "chunk_size": null, "mamba_chunk_size": 16, "head_dim": null, "attention_head_dim": 8,
        "layer_norm_epsilon": null, "rms_norm_eps": 1e-5, "time_step_limit": null, "mamba_dt_limit": [0.0, "inf"],
    }));
    assert_eq!(parse(&other).unwrap(), parse(&config()).unwrap());
    let blocks = parse(&config()).unwrap().blocks;
    assert_eq!(blocks, [Block::Mamba2, Block::Mlp, Block::Attention, Block::Mamba2]);
}

#[test]
fn infinity_as_python_writes_it() {
    let (_temp, dir) = on_disk(&config(), &Default::default());
    let path = dir.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let limit = json["time_step_limit"][1].to_string();
    std::fs::write(&path, text.replace(&limit, "Infinity")).unwrap();
    let file = wgquant::model::ModelFile::open(&dir).unwrap();
    assert_eq!(wgquant::model::ModelSource::config(&file).dt_limit, (0.0, 1e30));
}

#[test]
fn mamba2_width_must_agree() {
    let mut v = json!({
        "model_type": "mamba2", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 4,
        "head_dim": 12, "state_size": 8, "n_groups": 1, "expand": 2,
    });
    let config = parse(&v).unwrap();
    assert_eq!((config.model_type, config.d_inner(), config.intermediate_size), (ModelType::Mamba2, 48, 0));
    v["head_dim"] = json!(10);
    says(&parse(&v).unwrap_err().to_string(), &["4 * 10", "expand * hidden_size is 48"]);
    v["head_dim"] = Value::Null;
    v["num_heads"] = json!(5);
    says(&parse(&v).unwrap_err().to_string(), &["48", "not divisible by num_heads 5"]);
    v["num_heads"] = json!(8);
    says(&parse(&v).unwrap_err().to_string(), &["head_dim is 6", "multiples of 4"]);
    (v["num_heads"], v["state_size"]) = (json!(4), json!(6));
    says(&parse(&v).unwrap_err().to_string(), &["state_size is 6", "multiples of 4"]);
}

proptest! {
    /// Whatever is under a key, parsing ends in a configuration or an error, never in a panic.
    #[test]
    fn any_value_under_any_key(index in 0usize..21, value in prop_oneof![
        Just(json!(null)), any::<i64>().prop_map(|n| json!(n)), any::<f64>().prop_map(|n| json!(n)),
        any::<bool>().prop_map(|b| json!(b)), ".{0,8}".prop_map(|s| json!(s)), Just(json!([])), Just(json!({"a": 1})),
        proptest::collection::vec(any::<i32>(), 0..4).prop_map(|v| json!(v)),
    ]) {
        let mut config = config();
        let key = config.as_object().unwrap().keys().nth(index).unwrap().clone();
        config[key] = value;
        if let Ok(parsed) = parse(&config) {
            prop_assert!(!parsed.blocks.is_empty() && parsed.hidden_size > 0);
        }
    }
}
