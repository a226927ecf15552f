//! Models by their names in a Hugging Face cache, where a snapshot's files are links to blobs without extensions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;
use wgquant::model::{Model, ModelFile, WriteOptions, write_model};

use crate::common::{nano, refusal, says, short_windows, wgquant};

/// nano in several shards, as `lab/nano` of the cache that the second value is. The cache lives as long as the first.
fn cache() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let (file, dir) = (ModelFile::open(&nano()).unwrap(), temp.path().join("written"));
    let options = WriteOptions { max_shard_bytes: 1 << 20, ..WriteOptions::like(&file).unwrap() };
    write_model(file.checkpoint().config(), &Model::load(&file).unwrap(), &dir, &options).unwrap();
    // As others publish it.
    fs::remove_file(dir.join("wgquant_manifest.json")).unwrap();
    let hub = temp.path().join("hub");
    let repository = hub.join("models--lab--nano");
    for folder in ["blobs", "refs", "snapshots/c0ffee"] {
        fs::create_dir_all(repository.join(folder)).unwrap();
    }
    fs::write(repository.join("refs/main"), "c0ffee").unwrap();
    for (i, entry) in fs::read_dir(&dir).unwrap().enumerate() {
        let (path, blob) = (entry.unwrap().path(), format!("blobs/{i:040}"));
        fs::rename(&path, repository.join(&blob)).unwrap();
        let link = repository.join("snapshots/c0ffee").join(path.file_name().unwrap());
        symlink(format!("../../{blob}"), link).unwrap();
    }
    (temp, hub)
}

fn with(hub: &Path, args: &[&str]) -> Command {
    let mut command = wgquant();
    command.env("HF_HUB_CACHE", hub).args(args);
    command
}

#[test]
fn a_name_is_a_snapshot_of_the_cache() {
    let (temp, hub) = cache();
    let snapshot = hub.join("models--lab--nano/snapshots/c0ffee");
    assert!(snapshot.join("model.safetensors.index.json").is_symlink());
    let run = |args: &[&str]| {
        let output = with(&hub, args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = |args: &[&str]| serde_json::from_str::<Value>(&run(args)).unwrap();
    assert_eq!(json(&["analyze", "lab/nano", "--json"])["model"], snapshot.to_str().unwrap());

    let (out, ids) = (temp.path().join("out"), temp.path().join("ids.npy"));
    short_windows(&ids, 1, 33);
    let (out, ids) = (out.to_str().unwrap(), ids.to_str().unwrap());
    run(&["quantize", "lab/nano", "-o", out, "--scheme", "w8a8", "--rotate", "none", "--embedding", "16"]);
    let written = |name: &str| Path::new(out).join(name);
    assert!(fs::read_dir(out).unwrap().all(|e| e.unwrap().file_type().unwrap().is_file()), "links are left");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert!(fs::read(written(name)).unwrap() == fs::read(nano().join(name)).unwrap(), "{name}");
    }
    let card = fs::read_to_string(written("README.md")).unwrap();
    says(&card, &["base_model: lab/nano\nbase_model_relation: quantized\n", "--base lab/nano\n"]);
    let report = json(&["perplexity", out, "-f", ids, "--base", "lab/nano@main", "--json"]);
    assert!(report["mean_kl"].as_f64().unwrap() > 0.0, "{report}");
    run(&["generate", "lab/nano", "-p", "The sea", "-n", "2", "--device", "cpu"]);
    let same = run(&["diff", "lab/nano", "-p", "The sea", "--against", "lab/nano@c0ffee", "--device", "cpu"]);
    says(&same, &["ops are within their tolerances"]);
}

#[test]
fn what_the_cache_does_not_hold_is_not_downloaded() {
    let (temp, hub) = cache();
    for (name, command) in [
        ("lab/other", "hf download lab/other`"),
        ("lab/nano@v2", "hf download lab/nano --revision v2`"),
        ("lab/nano@0ff", "hf download lab/nano --revision 0ff`"),
    ] {
        says(&refusal(&mut with(&hub, &["analyze", name])), &[name, hub.to_str().unwrap(), command]);
    }
    let against = ["diff", "lab/nano", "-p", "x", "--device", "cpu", "--against", "lab/other"];
    says(&refusal(&mut with(&hub, &against)), &["--against lab/other: is no directory", "hf download lab/other"]);
    // What is there goes first, whatever it is.
    fs::create_dir_all(temp.path().join("lab/nano")).unwrap();
    let mut here = with(&hub, &["analyze", "lab/nano"]);
    says(&refusal(here.current_dir(temp.path())), &["lab/nano", "holds no config.json"]);
}

/// A snapshot's links may lead to the blobs of its own repository and nowhere else.
#[test]
fn links_out_of_the_repository_are_refused() {
    let (temp, hub) = cache();
    let link = hub.join("models--lab--nano/snapshots/c0ffee/tokenizer.json");
    let others = hub.join("models--lab--other/blobs/1");
    fs::create_dir_all(others.parent().unwrap()).unwrap();
    fs::write(&others, "{}").unwrap();
    for target in [&others, &nano().join("tokenizer.json")] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        let out = temp.path().join("out");
        let args = ["quantize", "lab/nano", "-o", out.to_str().unwrap(), "--scheme", "w8a8"];
        says(&refusal(&mut with(&hub, &args)), &["tokenizer.json", "lies outside the model directory"]);
        assert!(!out.exists());
    }
}
