//! Tiny models and ways to damage them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use wgquant::checkpoint::{Checkpoint, CheckpointWriter};
use wgquant::model::{
    Activations, Group, Layer, Linear, Mixer, Model, ModelConfig, ModelFile, QuantizedLinear, Scales, WriteOptions,
    write_model,
};
use wgquant::tensor::{DType, Tensor};

/// A hybrid with every kind of block; no size is a multiple of 32, so padding shows.
pub(crate) fn config() -> Value {
    json!({
        "model_type": "nemotron_h", "hybrid_override_pattern": "M-*M", "num_hidden_layers": 4, "vocab_size": 50,
        "hidden_size": 24, "intermediate_size": 40, "mamba_num_heads": 4, "mamba_head_dim": 12, "n_groups": 2,
        "ssm_state_size": 8, "conv_kernel": 4, "chunk_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "layer_norm_epsilon": 1e-5, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu",
        "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": [2, 3], "time_step_limit": [0.0, 1e30],
    })
}

/// `config` with some keys set; null removes a key.
pub(crate) fn with(changes: Value) -> Value {
    let mut config = config();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

pub(crate) fn parse(config: &Value) -> wgquant::error::Result<ModelConfig> {
    ModelConfig::from_json(Path::new("config.json"), config)
}

pub(crate) fn random(config: &Value) -> Model {
    Model::random(parse(config).unwrap(), 7)
}

/// Writes a random model of `config` to a new directory. The directory lives as long as the first value.
pub(crate) fn on_disk(config: &Value, options: &WriteOptions) -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    write_model(config, &random(config), &dir, options).unwrap();
    (temp, dir)
}

/// A model in several shards.
pub(crate) fn sharded() -> (TempDir, PathBuf) {
    on_disk(&config(), &WriteOptions { max_shard_bytes: 10_000, ..WriteOptions::default() })
}

/// What opening or reading `dir` says.
pub(crate) fn refusal(dir: &Path) -> String {
    match ModelFile::open(dir).and_then(|f| Model::load(&f)) {
        Ok(_) => panic!("{} was accepted", dir.display()),
        Err(e) => e.to_string(),
    }
}

/// Fails unless `text` holds every one of `parts`.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Fails unless `quantization_config` is of this crate's own method, and without the one that others look for: null, which both transformers
/// and vLLM end with an error at.
#[track_caller]
pub(crate) fn is_own(config: &Value) {
    assert_eq!((config.get("quant_method"), &config["wgquant_method"]), (Some(&Value::Null), &json!("wgquant")));
}

pub(crate) fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Copies a model, replacing tensors: `change` gives the tensor to store under a name, or none.
pub(crate) fn rewrite(dir: &Path, out: &Path, change: impl Fn(&str, Tensor) -> Option<Tensor>) {
    let from = Checkpoint::open(dir).unwrap();
    let mut to = CheckpointWriter::create(out).unwrap();
    for name in from.names() {
        if let Ok(values) = from.i64s(name) {
            to.add_i64s(name, &values).unwrap();
        } else if let Some(tensor) = change(name, from.tensor(name).unwrap()) {
            to.add(name, &tensor).unwrap();
        }
    }
    to.copy(&dir.join("config.json")).unwrap();
    to.finish(Value::Null).unwrap();
}

/// Round-to-nearest quantization, good enough to be stored.
pub(crate) fn quantize(linear: &Linear, bits: usize, group: Group, activations: Activations) -> Linear {
    let Linear::Float(w) = linear else { panic!("is quantized") };
    let (rows, cols) = linear.dims();
    let (values, half) = (w.to_f32().unwrap(), (1 << (bits - 1)) as f32);
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for row in values.chunks(cols) {
        for run in row.chunks(group.len(cols)) {
            let scale = run.iter().fold(0f32, |m, v| m.max(v.abs())) / (half - 0.5);
            scales.push(scale);
            codes.extend(run.iter().map(|v| (v / scale).round_ties_even().clamp(-half, half - 1.0) as i8));
        }
    }
    let codes = codes.into_iter().map(i8::cast_unsigned).collect();
    Linear::Quantized(QuantizedLinear {
        bits,
        group,
        codes: Tensor::new(DType::I8, [rows, cols], codes).unwrap(),
        scales: Scales::Plain(Tensor::from_f32_as(DType::BF16, [rows, group.count(cols)], &scales).unwrap()),
        activations,
        input_scales: Vec::new(),
    })
}

/// Applies `f` to every linear layer, given its block's index and name.
pub(crate) fn map_linears(model: &mut Model, mut f: impl FnMut(usize, &str, &Linear) -> Linear) {
    for (i, Layer { mixer, .. }) in model.layers.iter_mut().enumerate() {
        let linears: Vec<(&str, &mut Linear)> = match mixer {
            Mixer::Mamba2(m) => vec![("in_proj", &mut m.in_proj), ("out_proj", &mut m.out_proj)],
            Mixer::Attention(a) => vec![
                ("q_proj", &mut a.q_proj),
                ("k_proj", &mut a.k_proj),
                ("v_proj", &mut a.v_proj),
                ("o_proj", &mut a.o_proj),
            ],
            Mixer::Mlp(m) => vec![("up_proj", &mut m.up_proj), ("down_proj", &mut m.down_proj)],
        };
        for (name, linear) in linears {
            *linear = f(i, name, linear);
        }
    }
}
