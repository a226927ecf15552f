//! Directories that are not what they claim to be: each is refused with the file's name and what to do.

use std::fs;

use serde_json::json;
use wgquant::checkpoint::Checkpoint;
use wgquant::model::WriteOptions;
use wgquant::tensor::{DType, Tensor};

use super::common::{config, edit_json, on_disk, refusal, rewrite, says, sharded};

const INDEX: &str = "model.safetensors.index.json";

fn tiny() -> (tempfile::TempDir, std::path::PathBuf) {
    on_disk(&config(), &WriteOptions::default())
}

#[test]
fn not_a_directory() {
    let (temp, dir) = tiny();
    says(&refusal(&temp.path().join("absent")), &["absent", "does not exist", "config.json"]);
    says(&refusal(&dir.join("config.json")), &["is not a directory"]);
}

#[test]
fn no_model_file() {
    let (_temp, dir) = tiny();
    fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap();
    says(&refusal(&dir), &["neither model.safetensors nor", INDEX, "convert pytorch_model.bin"]);
    fs::remove_file(dir.join("config.json")).unwrap();
    says(&refusal(&dir), &["holds no config.json"]);
}

#[test]
fn missing_shard() {
    let (_temp, dir) = sharded();
    let mut shards = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let shard = shards.find(|n| n.starts_with("model-00002")).unwrap();
    fs::remove_file(dir.join(&shard)).unwrap();
    says(&refusal(&dir), &[INDEX, &shard, "missing"]);
}

#[test]
fn truncated_file() {
    let (_temp, dir) = tiny();
    let path = dir.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 7, 100, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        says(&refusal(&dir), &["model.safetensors", "truncated", "download it again"]);
    }
    // A header that claims to be longer than any file.
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], &whole[8..]].concat()).unwrap();
    says(&refusal(&dir), &["truncated or damaged"]);
}

#[test]
fn duplicate_tensor_across_shards() {
    let (_temp, dir) = sharded();
    let first = Checkpoint::open(&dir).unwrap().file_of("backbone.embeddings.weight").to_owned();
    fs::copy(&first, dir.join("extra.safetensors")).unwrap();
    edit_json(&dir.join(INDEX), |j| j["weight_map"]["more"] = json!("extra.safetensors"));
    says(&refusal(&dir), &["is also in", "extra.safetensors", "delete one"]);
}

#[test]
fn tensor_of_the_index_missing_in_its_shard() {
    let (_temp, dir) = sharded();
    edit_json(&dir.join(INDEX), |j| {
        let file = j["weight_map"]["lm_head.weight"].clone();
        j["weight_map"]["ghost"] = file;
    });
    says(&refusal(&dir), &[INDEX, "`ghost`", "does not hold it"]);
}

#[test]
fn index_pointing_outside_the_directory() {
    let (temp, dir) = sharded();
    let secret = temp.path().join("secret.safetensors");
    fs::write(&secret, b"secret").unwrap();
    let absolute = secret.to_str().unwrap().to_owned();
    for name in [
        "../secret.safetensors",
        absolute.as_str(),
        "a/../../secret.safetensors",
        "./../secret.safetensors",
        "..\\secret",
    ] {
        edit_json(&dir.join(INDEX), |j| j["weight_map"]["lm_head.weight"] = json!(name));
        says(&refusal(&dir), &[INDEX, "outside the model directory"]);
    }
}

/// What the directory itself is called in a name says nothing of where the file is.
#[test]
fn names_of_the_index_that_begin_with_a_dot() {
    let (_temp, dir) = sharded();
    let rename = |change: &dyn Fn(&str) -> String| {
        edit_json(&dir.join(INDEX), |j| {
            for file in j["weight_map"].as_object_mut().unwrap().values_mut() {
                *file = json!(change(file.as_str().unwrap()));
            }
        });
    };
    rename(&|file| format!("./{file}"));
    let file = wgquant::model::ModelFile::open(&dir).unwrap();
    wgquant::model::Model::load(&file).unwrap();
    rename(&|_| String::new());
    says(&refusal(&dir), &[INDEX, "an empty name"]);
    rename(&|_| "./.".to_owned());
    says(&refusal(&dir), &[INDEX, "`./.`, the directory itself"]);
}

#[cfg(unix)]
#[test]
fn link_out_of_the_directory() {
    let (temp, dir) = tiny();
    let outside = temp.path().join("outside.safetensors");
    fs::rename(dir.join("model.safetensors"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("model.safetensors")).unwrap();
    says(&refusal(&dir), &["outside the model directory"]);
}

/// What lies beside the weights goes into copies of the model: a stranger's file must not.
#[cfg(unix)]
#[test]
fn link_of_another_file_out_of_the_directory() {
    for file in ["config.json", "generation_config.json", "tokenizer.json"] {
        let (temp, dir) = tiny();
        let outside = temp.path().join("outside.json");
        fs::rename(dir.join("config.json"), &outside).unwrap();
        if file != "config.json" {
            fs::copy(&outside, dir.join("config.json")).unwrap();
        }
        std::os::unix::fs::symlink(&outside, dir.join(file)).unwrap();
        says(&refusal(&dir), &[file, "is a link", "outside the model directory"]);
    }
}

/// What is there and cannot be read is not as good as absent: where sequences end would be lost without a word.
#[cfg(unix)]
#[test]
fn files_that_are_there_and_cannot_be_read() {
    use std::os::unix::fs::symlink;
    for file in ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors", INDEX] {
        let (_temp, dir) = tiny();
        let path = dir.join(file);
        let _ = fs::remove_file(&path);
        symlink("nowhere", &path).unwrap();
        says(&refusal(&dir), &[file, "is a link to what is missing"]);
        fs::remove_file(&path).unwrap();
        symlink(file, &path).unwrap();
        says(&refusal(&dir), &[file, "symbolic link"]);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let line = refusal(&dir);
        says(&line, &[file, ": is no regular file"]);
        fs::remove_dir(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        says(&refusal(&dir), &[file, ": is no regular file"]);
    }
}

/// A directory that nobody may look into says nothing of what is in it.
#[cfg(unix)]
#[test]
fn directory_without_permission() {
    use std::os::unix::fs::PermissionsExt as _;
    let (temp, dir) = tiny();
    let allow = |dir: &std::path::Path, mode| fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
    for (closed, named) in [(dir.as_path(), "config.json"), (temp.path(), "model")] {
        allow(closed, 0o000);
        // Root may look everywhere.
        let said = fs::metadata(dir.join("config.json")).is_err().then(|| refusal(&dir));
        allow(closed, 0o700);
        if let Some(line) = said {
            says(&line, &[named, "ermission denied"]);
        }
    }
}

/// A pipe that nobody writes to would be waited for.
#[cfg(unix)]
#[test]
fn shard_that_is_no_file() {
    let (_temp, dir) = sharded();
    let pipe = dir.join("pipe.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::create_dir(dir.join("folder.safetensors")).unwrap();
    for name in ["pipe.safetensors", "folder.safetensors"] {
        edit_json(&dir.join(INDEX), |j| j["weight_map"]["lm_head.weight"] = json!(name));
        says(&refusal(&dir), &[INDEX, name, "no regular file"]);
    }
}

#[cfg(unix)]
#[test]
fn links_of_a_hugging_face_cache_are_followed() {
    let (temp, dir) = tiny();
    let (blobs, snapshot) = (temp.path().join("blobs"), temp.path().join("snapshots/abc"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(dir.join("tokenizer.json"), "{}").unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::rename(dir.join(file), blobs.join(file)).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{file}"), snapshot.join(file)).unwrap();
    }
    let file = wgquant::model::ModelFile::open(&snapshot).unwrap();
    assert_eq!(file.checkpoint().sibling_files(), [snapshot.join("tokenizer.json")]);
}

#[test]
fn wrong_dtype() {
    let (temp, dir) = tiny();
    let out = temp.path().join("bytes");
    rewrite(&dir, &out, |name, t| match name {
        "backbone.norm_f.weight" => Some(Tensor::new(DType::I8, t.shape, vec![1; t.elements()]).unwrap()),
        _ => Some(t),
    });
    says(&refusal(&out), &["`backbone.norm_f.weight`", "is I8", "F32, F16 or BF16"]);

    let file = dir.join("model.safetensors");
    let text = fs::read(&file).unwrap();
    let at = text.windows(5).position(|w| w == b"\"F32\"").unwrap();
    let changed = [&text[..at], b"\"U32\"", &text[at + 5..]].concat();
    fs::write(&file, changed).unwrap();
    says(&refusal(&dir), &["is U32", "supported are F32"]);
}

/// Of any shape, too, a tensor matters only where it is asked for.
#[test]
fn odd_shapes_of_unused_tensors() {
    let (_temp, dir) = sharded();
    let header = json!({
        "deep": { "dtype": "F32", "shape": [1, 1, 1, 1, 2], "data_offsets": [0, 8] },
        "empty": { "dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8] },
    });
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    fs::write(dir.join("odd.safetensors"), [&length[..], header.as_bytes(), &[0; 8]].concat()).unwrap();
    edit_json(&dir.join(INDEX), |j| {
        j["weight_map"]["deep"] = json!("odd.safetensors");
        j["weight_map"]["empty"] = json!("odd.safetensors");
    });
    let file = wgquant::model::ModelFile::open(&dir).unwrap();
    wgquant::model::Model::load(&file).unwrap();
    for (name, shape) in [("deep", vec![1, 1, 1, 1, 2]), ("empty", vec![0, 3])] {
        let (tensor, floats) = (file.checkpoint().tensor(name), file.checkpoint().float_vec(name, &shape));
        let shape = format!("{shape:?}");
        for error in [tensor.unwrap_err(), floats.unwrap_err()] {
            says(&error.to_string(), &["odd.safetensors", name, &shape, "up to 4 axes above 0"]);
        }
    }
}

#[test]
fn nan_weights() {
    let (temp, dir) = tiny();
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "infinity")] {
        let out = temp.path().join(word);
        rewrite(&dir, &out, |name, t| {
            if name != "backbone.layers.0.mixer.in_proj.weight" {
                return Some(t);
            }
            let mut values = t.to_f32().unwrap();
            values[5] = value;
            Some(Tensor::from_f32(t.shape, &values))
        });
        says(&refusal(&out), &["`backbone.layers.0.mixer.in_proj.weight`", word, "index 5"]);
    }
}

#[test]
fn missing_tensor() {
    let (temp, dir) = tiny();
    let out = temp.path().join("less");
    rewrite(&dir, &out, |name, t| (name != "backbone.layers.3.mixer.D").then_some(t));
    says(&refusal(&out), &["`backbone.layers.3.mixer.D` is missing"]);
}

#[test]
fn config_that_is_not_json() {
    let (_temp, dir) = tiny();
    fs::write(dir.join("config.json"), "{\"model_type\": ").unwrap();
    says(&refusal(&dir), &["config.json", "is not JSON"]);
}

#[test]
fn config_that_contradicts_tensors() {
    let (_temp, dir) = tiny();
    edit_json(&dir.join("config.json"), |j| j["hidden_size"] = json!(28));
    says(&refusal(&dir), &["`backbone.embeddings.weight`", "[50, 24]", "hidden_size 28", "[50, 28]"]);
    edit_json(&dir.join("config.json"), |j| {
        j["hidden_size"] = json!(24);
        j["ssm_state_size"] = json!(12);
    });
    says(&refusal(&dir), &["`backbone.layers.0.mixer.in_proj.weight`", "implies [148, 24]"]);
}

/// Flipped, cut or grown: whatever happened to the file, opening ends in a model or an error, never in a panic.
#[test]
fn damaged_bytes_never_panic() {
    use proptest::prelude::*;
    let (_temp, dir) = tiny();
    let path = dir.join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    // Most of the damage goes to the header, where the file makes claims.
    let place = prop_oneof![4 => 0..4000usize, 1 => 0..whole.len()];
    let damage = (proptest::collection::vec((place, any::<u8>()), 1..4), 0..3usize);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() });
    let outcome = runner.run(&damage, |(bytes, length)| {
        let mut file = whole.clone();
        for (at, value) in bytes {
            let at = at % file.len();
            file[at] = value;
        }
        match length {
            1 => file.truncate(file.len() / 2),
            2 => file.extend([0; 9]),
            _ => {}
        }
        fs::write(&path, file).unwrap();
        let _ = wgquant::model::ModelFile::open(&dir).and_then(|f| wgquant::model::Model::load(&f));
        Ok(())
    });
    outcome.unwrap();
}
