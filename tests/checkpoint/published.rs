//! Models as Hugging Face has them: the shapes of published configurations, tensors of other tools, files left out.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use wgquant::model::{Block, Model, ModelFile, ModelSource, WriteOptions};
use wgquant::tensor::{DType, Tensor};

use super::common::{config, edit_json, on_disk, parse, refusal, rewrite, says, sharded, with};

/// Rewrites the header of a safetensors file, given its tensors and the bytes behind it.
fn edit_header(file: &Path, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
    let bytes = fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut data = bytes[8 + length..].to_vec();
    change(header.as_object_mut().unwrap(), &mut data);
    let header = header.to_string();
    fs::write(file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

/// Adds a tensor of any type; `bytes` are all it has.
fn add(dir: &Path, name: &str, dtype: &str, shape: &[usize], bytes: usize) {
    edit_header(&dir.join("model.safetensors"), |header, data| {
        let start = data.len();
        data.resize(start + bytes, 1);
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes] });
        header.insert(name.to_owned(), entry);
    });
}

/// What `config.json` of Nemotron-H-8B and of Nemotron-Nano-9B-v2 say, but for words about training.
fn nemotron(nano: bool) -> Value {
    let pattern = match nano {
        false => "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
        true => "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
    };
    let text = r#"{
        "architectures": ["NemotronHForCausalLM"], "attention_bias": false, "bos_token_id": 1, "chunk_size": 128,
        "conv_kernel": 4, "eos_token_id": 2, "expand": 2, "hidden_size": 4096,
        "intermediate_size": 21504, "layer_norm_epsilon": 1e-5, "mamba_head_dim": 64, "mamba_hidden_act": "silu",
        "mamba_num_heads": 128, "mamba_proj_bias": false, "max_position_embeddings": 8192, "mlp_bias": false,
        "mlp_hidden_act": "relu2", "model_type": "nemotron_h", "n_groups": 8, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_logits_to_keep": 1, "pad_token_id": 0,
        "rescale_prenorm_residual": true, "residual_in_fp32": false, "rms_norm_eps": 1e-5, "sliding_window": null,
        "ssm_state_size": 128, "tie_word_embeddings": false, "time_step_floor": 1e-4, "time_step_limit": [0.0, 1e30],
        "time_step_max": 0.1, "time_step_min": 0.001, "torch_dtype": "bfloat16", "use_bias": false, "use_cache": true,
        "use_conv_bias": true, "use_mamba_kernels": true, "vocab_size": 131072, "attention_head_dim": 128
    }"#;
    let mut config: Value = serde_json::from_str(text).unwrap();
    config["hybrid_override_pattern"] = json!(pattern);
    config["num_hidden_layers"] = json!(pattern.len());
    if nano {
        for (key, value) in [
            ("hidden_size", json!(4480)),
            ("intermediate_size", json!(15680)),
            ("mamba_head_dim", json!(80)),
            ("num_attention_heads", json!(40)),
            ("head_dim", json!(128)),
        ] {
            config[key] = value;
        }
    }
    config
}

#[test]
fn published_shapes() {
    let base = parse(&nemotron(false)).unwrap();
    assert_eq!((base.blocks.len(), base.d_inner(), base.head_dim, base.kv_heads), (52, 8192, 128, 8));
    // Neither `expand * hidden_size` nor `hidden_size / heads` is what these say.
    let nano = parse(&nemotron(true)).unwrap();
    assert_eq!((nano.d_inner(), nano.head_dim, nano.attention_heads * nano.head_dim), (10240, 128, 5120));
    let count = |block| nano.blocks.iter().filter(|b| **b == block).count();
    assert_eq!([Block::Mamba2, Block::Attention, Block::Mlp].map(count), [27, 4, 25]);
}

/// As transformers' configuration_nemotron_h.py fills them in.
#[test]
fn absent_keys_have_the_defaults_of_transformers() {
    let mut v = nemotron(true);
    let absent = ["head_dim", "attention_head_dim", "num_key_value_heads", "n_groups", "ssm_state_size", "conv_kernel"];
    let more =
        ["chunk_size", "time_step_limit", "time_step_min", "layer_norm_epsilon", "rms_norm_eps", "use_conv_bias"];
    for key in absent.into_iter().chain(more).chain(["tie_word_embeddings", "num_hidden_layers", "mlp_hidden_act"]) {
        v.as_object_mut().unwrap().remove(key).unwrap();
    }
    assert_eq!(parse(&v).unwrap(), parse(&nemotron(true)).unwrap());
    v["num_key_value_heads"] = Value::Null;
    assert_eq!(parse(&v).unwrap().kv_heads, 40, "null is as many as there are heads");
    let blocks = json!(["mamba", "mlp", "attention", "mamba"]);
    let listed = with(json!({ "hybrid_override_pattern": null, "layer_types": blocks }));
    assert_eq!(parse(&listed).unwrap(), parse(&config()).unwrap());
}

#[test]
fn models_of_other_layouts_say_what_to_do() {
    let own = json!({ "d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": { "layer": "Mamba2" } });
    says(&parse(&own).unwrap_err().to_string(), &["model_type is missing", "ssm_cfg", "convert"]);
    let error = parse(&with(json!({ "hybrid_override_pattern": ["M", "-"] }))).unwrap_err().to_string();
    says(&error, &["hybrid_override_pattern", "[\"M\",\"-\"]", "string of letters"]);
    let mtp = with(json!({ "num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E" }));
    assert_eq!(parse(&mtp).unwrap(), parse(&config()).unwrap(), "layers that only speed generation up");
}

#[test]
fn tensors_that_the_model_does_not_need_do_not_matter() {
    let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
    let before = Model::load(&ModelFile::open(&dir).unwrap()).unwrap();
    assert!(ModelFile::open(&dir).unwrap().unused().is_empty());
    add(&dir, "mtp.layers.0.mixer.q_proj.weight", "F8_E4M3", &[4, 4], 16);
    add(&dir, "backbone.layers.0.mixer.in_proj.bias", "BF16", &[3], 6);
    add(&dir, "backbone.layers.2.self_attn.k_scale", "F64", &[1], 8);
    let file = ModelFile::open(&dir).unwrap();
    let unused = ["backbone.layers.0.mixer.in_proj.bias", "backbone.layers.2.self_attn.k_scale"];
    assert_eq!(file.unused(), [&unused[..], &["mtp.layers.0.mixer.q_proj.weight"]].concat());
    assert!(Model::load(&file).unwrap() == before);
}

#[test]
fn weights_of_other_quantizers_are_refused_by_name() {
    let weight = "backbone.layers.0.mixer.out_proj.weight";
    for (dtype, per_byte) in [("F8_E4M3", 1), ("U8", 2)] {
        let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
        edit_header(&dir.join("model.safetensors"), |header, data| {
            let shape: Vec<usize> = serde_json::from_value(header[weight]["shape"].clone()).unwrap();
            let (start, bytes) = (data.len(), shape[0] * shape[1] / per_byte);
            // The old bytes must be somebody's.
            let old = header[weight].clone();
            header.insert("old".to_owned(), old);
            data.resize(start + bytes, 1);
            let shape = [shape[0], shape[1] / per_byte];
            header[weight] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes] });
        });
        let expected = if per_byte == 1 { "is F8_E4M3; supported are" } else { "[24, 24], config.json" };
        says(&refusal(&dir), &[weight, expected]);
        // What modelopt writes says so itself.
        let modelopt = json!({ "quant_method": "modelopt", "quant_algo": "NVFP4", "producer": { "name": "modelopt" } });
        edit_json(&dir.join("config.json"), |c| c["quantization_config"] = modelopt);
        says(&refusal(&dir), &["quantization_config.quant_method is \"modelopt\"", "before it was quantized"]);
    }
}

#[test]
fn floats_of_several_types_are_one_model() {
    let (temp, dir) = on_disk(&config(), &WriteOptions::default());
    let out = temp.path().join("mixed");
    rewrite(&dir, &out, |name, t| {
        let types = [DType::F32, DType::BF16, DType::F16];
        let values = t.to_f32().unwrap();
        Some(Tensor::from_f32_as(types[name.len() % 3], t.shape, &values).unwrap())
    });
    let [a, b] = [&dir, &out].map(|d| Model::load(&ModelFile::open(d).unwrap()).unwrap());
    assert_eq!((a.config.blocks.len(), a.layers.len()), (b.config.blocks.len(), b.layers.len()));
}

#[test]
fn files_left_out() {
    let (_temp, dir) = sharded();
    fs::remove_file(dir.join("model.safetensors.index.json")).unwrap();
    says(&refusal(&dir), &["neither model.safetensors nor", "index", "download it too"]);
    let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
    let note = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n";
    fs::write(dir.join("model.safetensors"), note).unwrap();
    says(&refusal(&dir), &["model.safetensors", "Git LFS", "git lfs pull"]);
}

/// A tied model may store its head; one that is not tied must.
#[test]
fn tied_heads() {
    let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
    edit_json(&dir.join("config.json"), |c| c["tie_word_embeddings"] = json!(true));
    let file = ModelFile::open(&dir).unwrap();
    assert!(file.unused().is_empty() && file.head().unwrap().is_some(), "another than the embedding");
    let (_temp, dir) = on_disk(&with(json!({ "tie_word_embeddings": true })), &WriteOptions::default());
    let names: Vec<String> = ModelFile::open(&dir).unwrap().checkpoint().names().map(str::to_owned).collect();
    edit_json(&dir.join("config.json"), |c| c["tie_word_embeddings"] = json!(false));
    if !names.iter().any(|n| n == "lm_head.weight") {
        says(&refusal(&dir), &["`lm_head.weight` is missing"]);
    }
}
