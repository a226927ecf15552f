//! Running the program, and models to run it on.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;
use wgquant::model::{Model, ModelConfig, ModelFile, WriteOptions, write_model};

/// The built program, with an environment of its own.
pub(crate) fn wgquant() -> Command {
    Command::from_std(program())
}

/// As [`wgquant`], to be started and left to run.
pub(crate) fn program() -> std::process::Command {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("wgquant"));
    // Mesa's device-selection layer writes to stderr where there is no screen.
    command
        .env("NODEVICE_SELECT", "1")
        .env("WGQUANT_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"))
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE")
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// The small trained model in the repository.
pub(crate) fn nano() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/nano")
}

/// Runs the program; it must succeed. Gives stdout.
#[track_caller]
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> String {
    let output = wgquant().args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// As [`run`], and stdout must be JSON, all of it.
#[track_caller]
pub(crate) fn run_json<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Value {
    let stdout = run(args);
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
}

/// The error of `command`: exit code 2, nothing on stdout, one line on stderr.
#[track_caller]
pub(crate) fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("wgquant: "), "{stderr}");
    stderr
}

/// Fails unless `text` holds every one of `parts`.
#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// A copy of nano to damage. It lives as long as the first value.
pub(crate) fn copy() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    fs::create_dir(&dir).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(nano().join(file), dir.join(file)).unwrap();
    }
    (temp, dir)
}

/// Changes a JSON file.
pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// The first tokens of nano's held-out windows, `[windows, length]` u16, as a NumPy file.
pub(crate) fn short_windows(path: &Path, windows: usize, length: usize) {
    const ALL: (usize, usize) = (64, 1025);
    let file = fs::read(nano().join("val_ids_u16.npy")).unwrap();
    let data = &file[file.len() - ALL.0 * ALL.1 * 2..];
    let mut head = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({windows}, {length}), }}");
    while (10 + head.len() + 1) % 64 != 0 {
        head.push(' ');
    }
    head.push('\n');
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((head.len() as u16).to_le_bytes());
    npy.extend(head.as_bytes());
    data.chunks(ALL.1 * 2).take(windows).for_each(|row| npy.extend(&row[..length * 2]));
    fs::write(path, npy).unwrap();
}

/// A small random model, in a directory `model` below the first value, with these `changes` of its configuration.
pub(crate) fn tiny(changes: Value) -> (TempDir, ModelFile) {
    let mut config = json!({
        "model_type": "nemotron_h", "hybrid_override_pattern": "M-*M", "num_hidden_layers": 4, "vocab_size": 50,
        "hidden_size": 64, "intermediate_size": 96, "mamba_num_heads": 4, "mamba_head_dim": 12, "n_groups": 2,
        "ssm_state_size": 8, "conv_kernel": 4, "chunk_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 8, "mlp_hidden_act": "relu2", "mamba_hidden_act": "silu", "tie_word_embeddings": false,
    });
    changes.as_object().unwrap().iter().for_each(|(k, v)| config[k] = v.clone());
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model");
    let model = Model::random(ModelConfig::from_json(Path::new("config.json"), &config).unwrap(), 3);
    write_model(&config, &model, &dir, &WriteOptions::default()).unwrap();
    (temp, ModelFile::open(&dir).unwrap())
}
