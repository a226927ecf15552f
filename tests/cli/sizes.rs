//! `analyze` predicts the bytes that `quantize` writes, to the byte.

use std::path::Path;

use serde_json::{Value, json};
use wgquant::analyze::predict;
use wgquant::gpu::Device;
use wgquant::kernels::StateRounding;
use wgquant::model::{Group, Model, ModelConfig, ModelFile, ModelSource, WriteOptions, write_model};
use wgquant::recipe::{Bits, Recipe, quantize};
use wgquant::runtime::{Engine, EngineOptions, KvFormat, Memory, StateFormat};
use wgquant::transform::Transform;

use crate::common::{nano, run_json};

fn check(file: &ModelFile, recipe: &Recipe) {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let predicted = predict(file, "x", recipe, EngineOptions::default()).unwrap();
    quantize(file, recipe, &Device::Cpu, None, &out, &|_| ()).unwrap();
    let made = ModelFile::open(&out).unwrap();
    assert_eq!(predicted.bytes, made.bytes(), "{recipe:?}");
    let engine = Engine::new(&Device::Cpu, &made, EngineOptions::default()).unwrap();
    assert_eq!(predicted.device_bytes, engine.weight_bytes(), "on the device: {recipe:?}");
    assert_eq!(predicted.peak_bytes, engine.weight_bytes() + engine.working_bytes(), "peak: {recipe:?}");
    // An int8 state wants a multiple of 4.
    let state = match file.config().state_size % 4 {
        0 => StateFormat::Int8 { rounding: StateRounding::Feedback, rotate: true, window: 8 },
        _ => StateFormat::F32,
    };
    let small = EngineOptions { state, kv: KvFormat::Int4, context: 9000, ..EngineOptions::default() };
    let engine = Engine::new(&Device::Cpu, &made, small).unwrap();
    let predicted_small = predict(file, "x", recipe, small).unwrap();
    let peak = engine.weight_bytes() + engine.working_bytes();
    assert_eq!(Memory::of(&made, small).unwrap(), Some(engine.memory()), "planned: {recipe:?}");
    assert_eq!(predicted_small.peak_bytes, peak, "with codes for state, keys and values: {recipe:?}");
    // Of the original's parameters: folding unties the head of a tied model, which adds bytes only.
    let bits = made.bytes() as f64 * 8.0 / file.parameters() as f64;
    assert!((predicted.bits_per_parameter - bits).abs() < 1e-12, "{recipe:?}");
}

fn check_all(file: &ModelFile) {
    let hadamard = Transform::hadamard(file.config(), 0).unwrap();
    for bits in Bits::ALL {
        for group in [Group::Size(128), Group::Size(32), Group::Channel] {
            for (embedding, transform) in
                [(true, hadamard), (false, hadamard), (true, Transform::NONE), (false, Transform::NONE)]
            {
                let float = file.float_dtype();
                check(file, &Recipe::uniform(file.config(), bits, group, embedding, float, transform));
            }
        }
    }
}

fn tiny(changes: Value) -> (tempfile::TempDir, ModelFile) {
    let mut config = json!({
        "model_type": "nemotron_h", "hybrid_override_pattern": "M-*M", "num_hidden_layers": 4, "vocab_size": 50,
        "hidden_size": 64, "intermediate_size": 96, "mamba_num_heads": 4, "mamba_head_dim": 12, "n_groups": 2,
        "ssm_state_size": 6, "conv_kernel": 4, "chunk_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu", "tie_word_embeddings": false,
    });
    changes.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    let model = Model::random(ModelConfig::from_json(Path::new("config.json"), &config).unwrap(), 3);
    write_model(&config, &model, &dir, &WriteOptions::default()).unwrap();
    (temp, ModelFile::open(&dir).unwrap())
}

#[test]
fn hybrid() {
    check_all(&tiny(json!({})).1);
}

#[test]
fn tied() {
    let (_temp, file) = tiny(json!({ "tie_word_embeddings": true }));
    check_all(&file);
}

#[test]
fn nano_in_the_library() {
    let file = ModelFile::open(&nano()).unwrap();
    assert_eq!(file.config().state_size % 4, 0);
    let (float, transform) = (file.float_dtype(), Transform::hadamard(file.config(), 0).unwrap());
    check(&file, &Recipe::uniform(file.config(), Bits::ALL[0], Group::Channel, true, float, transform));
}

#[test]
fn nano_through_the_program() {
    let temp = tempfile::tempdir().unwrap();
    let model = nano();
    let analysis = run_json(&["analyze", model.to_str().unwrap(), "--json"]);
    for prediction in analysis["predictions"].as_array().unwrap() {
        let scheme = prediction["scheme"].as_str().unwrap();
        let out = temp.path().join(scheme);
        let args = ["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--scheme", scheme, "--json"];
        let report = run_json(&args);
        for key in ["bytes", "bits_per_parameter"] {
            assert_eq!(prediction[key], report["output"][key], "{scheme} {key}");
        }
        assert_eq!(prediction["reduction"], report["reduction"]);
        assert!(report["ragged"].as_array().unwrap().is_empty());
    }
}
