//! Damaged and hostile models: one line that names the thing at fault, and nothing is written.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use wgquant::model::{ModelConfig, Names};

use crate::common::{copy, edit, nano, refusal, run_json, says, short_windows, wgquant};

/// What `quantize` says of a model. Beside the model, nothing may be left.
#[track_caller]
fn quantize_refusal(temp: &Path, model: &Path) -> String {
    let count = || fs::read_dir(temp).unwrap().count();
    let before = count();
    let out = temp.join("out");
    let args = ["--scheme", "w8a8", "--device", "cpu", "-o"];
    let line = refusal(wgquant().arg("quantize").arg(model).args(args).arg(&out));
    assert!(!out.exists());
    assert_eq!(count(), before, "something was left behind");
    line
}

#[track_caller]
fn with_config(change: impl FnOnce(&mut Value)) -> String {
    let (temp, dir) = copy();
    edit(&dir.join("config.json"), change);
    quantize_refusal(temp.path(), &dir)
}

fn index(dir: &Path, file: &str) {
    let map = json!({ "weight_map": { "lm_head.weight": file } });
    fs::write(dir.join("model.safetensors.index.json"), map.to_string()).unwrap();
}

#[test]
fn no_model() {
    let temp = tempfile::tempdir().unwrap();
    says(&quantize_refusal(temp.path(), &temp.path().join("nothing")), &["nothing", "does not exist", "config.json"]);
    let empty = temp.path().join("empty");
    fs::create_dir(&empty).unwrap();
    says(&quantize_refusal(temp.path(), &empty), &["holds no config.json"]);
}

#[test]
fn missing_shard() {
    let (temp, dir) = copy();
    index(&dir, "model-00001-of-00002.safetensors");
    says(&quantize_refusal(temp.path(), &dir), &["model-00001-of-00002.safetensors", "missing", "download it again"]);
}

#[test]
fn truncated_file() {
    let (temp, dir) = copy();
    let file = dir.join("model.safetensors");
    let bytes = fs::read(&file).unwrap();
    for length in [0, 7, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).unwrap();
        says(&quantize_refusal(temp.path(), &dir), &["model.safetensors", "truncated or damaged"]);
    }
}

#[test]
fn wrong_dtype() {
    let (temp, dir) = copy();
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|w| w == b"\"BF16\"").unwrap();
    bytes[at..at + 6].copy_from_slice(b"\"U16\" ");
    fs::write(&file, bytes).unwrap();
    says(&quantize_refusal(temp.path(), &dir), &["tensor `", "is U16", "BF16"]);
}

#[test]
fn nan_weights() {
    let (temp, dir) = copy();
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes());
    fs::write(&file, bytes).unwrap();
    says(&quantize_refusal(temp.path(), &dir), &["tensor `", "holds NaN at index"]);
}

/// Changes the bytes of a tensor.
pub(crate) fn damage(dir: &Path, tensor: &str, change: impl FnOnce(&mut [u8])) {
    let file = dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..][..header]).unwrap();
    let [start, end] = [0, 1].map(|i| 8 + header + json[tensor]["data_offsets"][i].as_u64().unwrap() as usize);
    change(&mut bytes[start..end]);
    fs::write(file, bytes).unwrap();
}

/// `analyze` has no row of the last norm, and reads it all the same.
#[test]
fn nan_in_the_last_norm() {
    let (_temp, dir) = copy();
    damage(&dir, "backbone.norm_f.weight", |b| b[6..8].copy_from_slice(&0x7fc0u16.to_le_bytes()));
    let line = refusal(wgquant().arg("analyze").arg(&dir));
    says(&line, &["tensor `backbone.norm_f.weight` holds NaN at index 3"]);
}

/// Weights that are numbers, of a model whose logits are not.
#[test]
fn logits_that_overflow() {
    let (temp, dir) = copy();
    damage(&dir, "lm_head.weight", |b| b.fill(0x7f));
    let ids = temp.path().join("ids.npy");
    short_windows(&ids, 1, 9);
    let mut command = wgquant();
    let output =
        command.arg("perplexity").arg(&dir).args(["--device", "cpu", "--json", "-f"]).arg(&ids).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    says(&stderr, &["warning: ", dir.to_str().unwrap(), "no numbers, first in window 0"]);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert!(report["perplexity"].is_null() && report["nll_per_window"][0].is_null(), "{report}");
    let generate = |dir: &Path, args: &[&str], stdout: &str, words: &str| {
        let output =
            wgquant().arg("generate").arg(dir).args(["--device", "cpu", "-n", "3"]).args(args).output().unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(2), stdout.as_bytes()));
        says(&String::from_utf8(output.stderr).unwrap(), &[words]);
    };
    generate(&dir, &["-p", "x", "--json"], "", "wgquant: logits are no numbers (good new tokens before: 0)");
    let first = "wgquant: prompt 1 of 2: logits are no numbers (good new tokens before: 0)";
    generate(&dir, &["-p", "x", "-p", "yz"], "", first);
    // Channel 0 alone decides, and of token 0, the first of equal ones, it is larger than of any text.
    let (_late, dir) = copy();
    let number = |b: &mut [u8], bits: u16| b[..2].copy_from_slice(&bits.to_le_bytes());
    damage(&dir, "lm_head.weight", |b| b.chunks_mut(2 * 128).for_each(|row| number(row, 0x7e80)));
    damage(&dir, "backbone.embeddings.weight", |b| {
        b[..2 * 128].fill(0);
        number(b, 0x4780);
    });
    generate(&dir, &["-p", "x"], "x\n", "wgquant: logits are no numbers (good new tokens before: 1)");
}

#[test]
fn config_contradicting_tensors() {
    says(&with_config(|c| c["hidden_size"] = json!(136)), &["`backbone.embeddings.weight`", "128", "hidden_size 136"]);
}

#[test]
fn heads_that_contradict_tensors() {
    let line = with_config(|c| {
        c["head_dim"] = Value::Null;
        c["attention_head_dim"] = Value::Null;
        c["num_attention_heads"] = json!(6);
    });
    says(&line, &["q_proj.weight", "[128, 128]", "[768, 128]"]);
    says(&with_config(|c| c["n_groups"] = json!(3)), &["n_groups is 3", "mamba heads 8"]);
}

#[test]
fn unknown_block_letter() {
    says(&with_config(|c| c["hybrid_override_pattern"] = json!("M-E*-M-M-")), &["hybrid_override_pattern[2]", "`E`"]);
}

#[test]
fn generation_config_that_ends_nowhere() {
    let (temp, dir) = copy();
    for (text, part) in
        [(r#"{"eos_token_id": "</s>"}"#, "</s>"), (r#"{"eos_token_id": [2, 9999]}"#, "9999"), ("[]", "object")]
    {
        fs::write(dir.join("generation_config.json"), text).unwrap();
        says(&quantize_refusal(temp.path(), &dir), &["generation_config.json", part]);
    }
}

/// Where sequences end is not lost with it.
#[cfg(unix)]
#[test]
fn generation_config_that_is_nowhere() {
    let (temp, dir) = copy();
    std::os::unix::fs::symlink("nowhere", dir.join("generation_config.json")).unwrap();
    let line = quantize_refusal(temp.path(), &dir);
    says(&line, &["generation_config.json", "is a link to what is missing", "download it again"]);
}

#[test]
fn unknown_model_type() {
    says(&with_config(|c| c["model_type"] = json!("llama")), &["model_type is llama", "nemotron_h and mamba2"]);
}

#[test]
fn index_pointing_outside_the_directory() {
    for name in ["../secret.safetensors", "/etc/passwd"] {
        let (temp, dir) = copy();
        index(&dir, name);
        says(&quantize_refusal(temp.path(), &dir), &[name, "outside the model directory"]);
    }
}

/// Tensors above the adapter's largest binding are split. The file is sparse, it takes no room on the disk: all weights are
/// zeros, and so every token is as likely as any other.
#[test]
fn tensor_above_the_adapters_limit() {
    let found = run_json(&["devices", "--json"]);
    let limit = found["adapters"][0]["max_binding_bytes"].as_u64().expect("tests need a GPU driver");
    if limit >= 1 << 30 {
        return eprintln!("the adapter binds {limit} bytes: too large a file for a test");
    }
    let (temp, dir) = copy();
    let path = dir.join("config.json");
    let vocab = limit / 256 + 1;
    edit(&path, |c| c["vocab_size"] = json!(vocab));
    let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let config = ModelConfig::from_json(&path, &config).unwrap();
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for tensor in Names::default().expected(&config, true) {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * 2;
        header.insert(tensor.name, json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end] }));
    }
    let header = Value::Object(header).to_string();
    let file = dir.join("model.safetensors");
    fs::write(&file, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_len((8 + header.len() + end) as u64).unwrap();

    let tokens = temp.path().join("ids.npy");
    short_windows(&tokens, 1, 9);
    let result = run_json(&["perplexity", dir.to_str().unwrap(), "-f", tokens.to_str().unwrap(), "--json"]);
    let perplexity = result["perplexity"].as_f64().unwrap();
    assert!((perplexity / vocab as f64 - 1.0).abs() < 1e-5, "{perplexity} of {vocab}");
}

#[test]
fn quantized_already() {
    let temp = tempfile::tempdir().unwrap();
    let model = temp.path().join("model");
    let made =
        wgquant().arg("quantize").arg(nano()).args(["--scheme", "w8a8", "--device", "cpu", "-o"]).arg(&model).output();
    assert!(made.unwrap().status.success());
    says(&quantize_refusal(temp.path(), &model), &["is quantized already", "original"]);
    // What is not done is not explained.
    let explain = ["--recipe", "w4a8", "--explain"];
    says(&refusal(wgquant().arg("quantize").arg(&model).args(explain)), &["model: is quantized already", "original"]);
}

/// A tokenizer of a larger vocabulary, copied from elsewhere, is told before anything is loaded or printed.
#[test]
fn tokenizer_of_another_model() {
    let (_temp, dir) = copy();
    edit(&dir.join("tokenizer.json"), |t| t["model"]["vocab"]["a"] = json!(2048));
    let line = refusal(wgquant().arg("generate").arg(&dir).args(["-p", "a", "--device", "cpu"]));
    says(&line, &["tokenizer.json is another model's", "token id 2048", "vocabulary is of 2048"]);
}
