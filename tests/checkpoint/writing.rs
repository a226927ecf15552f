//! A checkpoint appears whole or not at all, and its manifest tells what is in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wgquant::checkpoint::{CheckpointWriter, MANIFEST};
use wgquant::error::{Error, Result};
use wgquant::model::{
    Layer, Linear, Model, ModelConfig, ModelFile, ModelSource, OnlineRotation, WriteOptions, write_model,
};
use wgquant::tensor::{DType, Tensor};

use super::common::{config, on_disk, random, says};

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect()
}

#[test]
fn output_directory_that_exists() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("model");
    fs::create_dir(&out).unwrap();
    let err = write_model(&config(), &random(&config()), &out, &WriteOptions::default()).unwrap_err().to_string();
    says(&err, &["model exists", "choose another or remove it"]);
    assert_eq!(entries(temp.path()), [out]);
}

#[test]
fn output_directory_that_appears_meanwhile_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("model");
    let mut writer = CheckpointWriter::create(&out).unwrap();
    writer.add("x", &Tensor::from_f32([2], &[1.0, 2.0])).unwrap();
    fs::create_dir(&out).unwrap();
    says(&writer.finish(Value::Null).unwrap_err().to_string(), &["exists"]);
    assert_eq!(entries(temp.path()), std::slice::from_ref(&out));
    assert!(entries(&out).is_empty());
}

/// Of two at work at once, the second is told at the start; what a dead one left is no obstacle.
#[test]
fn output_directory_that_another_is_writing() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("model");
    let first = CheckpointWriter::create(&out).unwrap();
    let err = CheckpointWriter::create(&out).err().unwrap().to_string();
    says(&err, &["another run is writing", "model", ".model.partial-", "choose another"]);
    first.finish(Value::Null).unwrap();
    says(&CheckpointWriter::create(&out).err().unwrap().to_string(), &["exists"]);
    assert_eq!(entries(temp.path()), [out]);
}

/// It could not be read back, or would be another.
#[test]
fn a_model_that_its_configuration_does_not_describe_is_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut Model), parts: &[&str]| {
        let mut model = random(&config());
        change(&mut model);
        let out = temp.path().join("model");
        let err = write_model(&config(), &model, &out, &WriteOptions::default()).unwrap_err().to_string();
        says(&err, parts);
        assert!(entries(temp.path()).is_empty(), "left behind: {:?}", entries(temp.path()));
    };
    refused(&|m| m.rotation.out_proj = Some(7), &["rotation.out_proj", "7, which does not divide 48"]);
    refused(&|m| m.rotation.down_proj = Some(0), &["rotation.down_proj", "0, which does not divide 40"]);
    refused(&|m| m.config.blocks.truncate(3), &["block 3 is not there", "config.json has it as Mamba2"]);
    refused(&|m| m.config.chunk_size = 3, &["chunk_size is 3", "config.json says 16"]);
    refused(&|m| m.config.mamba_head_dim = usize::MAX / 2, &["mamba_head_dim is 9223372036854775807", "says 12"]);
    refused(&|m| m.config.norm_eps = f32::NAN, &["norm_eps", "NaN"]);
    refused(&|m| m.norm_f[3] = f32::NAN, &["`backbone.norm_f.weight`", "NaN at index 3"]);
    let nan = |m: &mut Model| {
        let Linear::Float(table) = &mut m.embedding else { panic!("random models are of floats") };
        table.bytes[4..8].fill(0xff);
    };
    refused(&nan, &["`backbone.embeddings.weight`", "NaN at index 1"]);
}

/// A model that, once its first layer is asked for, makes `data` in the unfinished output a full disk.
struct FillsDisk<'a> {
    model: Model,
    parent: &'a Path,
    file: &'a str,
    filled: AtomicBool,
}

impl ModelSource for FillsDisk<'_> {
    fn config(&self) -> &ModelConfig {
        &self.model.config
    }
    fn rotation(&self) -> OnlineRotation {
        self.model.rotation
    }
    fn embedding(&self) -> Result<Linear> {
        let [partial] = entries(self.parent).try_into().expect("one unfinished directory");
        assert!(partial.file_name().unwrap().to_str().unwrap().starts_with(".model.partial-"));
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/full", partial.join(self.file)).unwrap();
        self.filled.store(true, Ordering::Relaxed);
        self.model.embedding()
    }
    fn layer(&self, index: usize) -> Result<Layer> {
        self.model.layer(index)
    }
    fn norm_f(&self) -> Result<Vec<f32>> {
        self.model.norm_f()
    }
    fn head(&self) -> Result<Option<Linear>> {
        self.model.head()
    }
}

/// Writing to `/dev/full` fails as a full disk does, in the kernel; every kind of file meets it once.
#[cfg(target_os = "linux")]
#[test]
fn full_disk() {
    for (file, shard_bytes) in [
        ("shard-0.data", 1 << 30),
        ("shard-3.data", 10_000),
        ("shard-0", 1 << 30),
        ("config.json", 1 << 30),
        (MANIFEST, 1 << 30),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("model");
        let source = FillsDisk { model: random(&config()), parent: temp.path(), file, filled: AtomicBool::new(false) };
        let options = WriteOptions { max_shard_bytes: shard_bytes, ..WriteOptions::default() };
        let err = write_model(&config(), &source, &out, &options).unwrap_err();
        assert!(source.filled.load(Ordering::Relaxed) && matches!(err, Error::DiskFull { .. }), "{err}");
        says(&err.to_string(), &[file, "no space left", "free some space", "model"]);
        assert!(entries(temp.path()).is_empty(), "left behind: {:?}", entries(temp.path()));
    }
}

/// Making a model may take hours: what is to be copied beside it is read before.
#[test]
fn file_to_copy_that_cannot_be_read() {
    let temp = tempfile::tempdir().unwrap();
    let (out, absent) = (temp.path().join("model"), temp.path().join("absent.json"));
    let filled = AtomicBool::new(false);
    let source = FillsDisk { model: random(&config()), parent: temp.path(), file: "unused", filled };
    let options = WriteOptions { copy: vec![absent], ..WriteOptions::default() };
    let err = write_model(&config(), &source, &out, &options).unwrap_err();
    assert!(!source.filled.load(Ordering::Relaxed), "the model was asked for");
    says(&err.to_string(), &["absent.json"]);
    assert!(entries(temp.path()).is_empty(), "left behind: {:?}", entries(temp.path()));
}

#[test]
fn manifest_lists_every_file_with_its_hash() {
    let temp = tempfile::tempdir().unwrap();
    let notes = vec![("recipe.toml".to_owned(), "bits = 8\n".to_owned())];
    fs::write(temp.path().join("tokenizer.json"), "{}").unwrap();
    let options = WriteOptions {
        files: notes,
        copy: vec![temp.path().join("tokenizer.json")],
        max_shard_bytes: 10_000,
        source: json!({"from": "x"}),
        ..WriteOptions::default()
    };
    let (_dir, dir) = on_disk(&config(), &options);
    let manifest: Value = serde_json::from_slice(&fs::read(dir.join(MANIFEST)).unwrap()).unwrap();
    assert_eq!(manifest["source"]["from"], "x");
    assert!(manifest["tool"].as_str().unwrap().starts_with("wgquant "));
    let mut names: Vec<String> = Vec::new();
    for path in entries(&dir).into_iter().filter(|p| !p.ends_with(MANIFEST)) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(manifest["files"][&name], json!({"bytes": bytes.len(), "sha256": hash}), "{name}");
        names.push(name);
    }
    assert_eq!(names.len(), manifest["files"].as_object().unwrap().len());
    assert!(names.contains(&"recipe.toml".to_owned()) && names.contains(&"tokenizer.json".to_owned()));
    let file = ModelFile::open(&dir).unwrap();
    let norm = file.checkpoint().tensor("backbone.norm_f.weight").unwrap();
    let hash: String = Sha256::digest(&norm.bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(manifest["tensors"]["backbone.norm_f.weight"]["sha256"], hash);
}

#[test]
fn tensors_are_aligned_and_written_once() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("model");
    let mut writer = CheckpointWriter::create(&out).unwrap();
    writer.add("a", &Tensor::new(DType::I8, [3], vec![1, 2, 3]).unwrap()).unwrap();
    writer.add("b", &Tensor::from_f32([1], &[1.5])).unwrap();
    writer.add_i64s("c", &[7]).unwrap();
    says(&writer.add("a", &Tensor::from_f32([1], &[1.0])).unwrap_err().to_string(), &["`a`", "before"]);
    says(&writer.file("../x", b"").unwrap_err().to_string(), &["../x", "plain name"]);
    writer.file("config.json", b"{}").unwrap();
    let written = writer.finish(Value::Null).unwrap();
    assert_eq!((written.tensor_bytes, written.shards), (15, 1));
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let header: Value =
        serde_json::from_slice(&bytes[8..8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize]).unwrap();
    assert_eq!(header["c"]["data_offsets"], json!([0, 8]));
    assert_eq!(header["b"]["data_offsets"], json!([8, 12]));
    let read = wgquant::checkpoint::Checkpoint::open(&out).unwrap();
    assert_eq!(read.tensor("a").unwrap().bytes, [1, 2, 3]);
    assert_eq!(read.i64s("c").unwrap(), [7]);
    let total: u64 = entries(&out).iter().map(|p| p.metadata().unwrap().len()).sum();
    assert_eq!(written.file_bytes, total);
}

/// transformers' `trust_remote_code` looks for what `auto_map` names beside the configuration.
#[test]
fn code_that_the_configuration_names_goes_along() {
    let mut json = config();
    json["auto_map"] = json!({
        "AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM",
        "AutoModel": "someone/repository--other.X", "AutoTokenizer": ["../secret.X", null],
    });
    let (_temp, dir) = on_disk(&json, &WriteOptions::default());
    for file in ["configuration_x.py", "modeling_x.py", "other.py", "setup.py"] {
        fs::write(dir.join(file), "pass\n").unwrap();
    }
    let file = ModelFile::open(&dir).unwrap();
    let names = |dir: &std::path::Path| {
        let paths = entries(dir).into_iter().filter(|p| p.extension().is_some_and(|e| e == "py"));
        let mut names: Vec<_> = paths.map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    let out = dir.join("out");
    let options = WriteOptions { copy: file.checkpoint().sibling_files(), ..WriteOptions::default() };
    write_model(&json, &random(&json), &out, &options).unwrap();
    assert_eq!(names(&out), ["configuration_x.py", "modeling_x.py"]);
}
