//! Models that wgquant wrote, as they were and not.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::common::{nano, refusal, run, run_json, says, tiny, wgquant};

/// A model of two files and a manifest.
fn written() -> (TempDir, PathBuf) {
    let (temp, file) = tiny(json!({}));
    let dir = file.checkpoint().dir().to_owned();
    (temp, dir)
}

/// What `verify` says of a directory that is not as it was.
#[track_caller]
fn differs(dir: &Path) -> String {
    let output = wgquant().arg("verify").arg(dir).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("wgquant_manifest.json")).unwrap()).unwrap()
}

#[test]
fn a_model_as_it_was_written() {
    let (_temp, dir) = written();
    let dir = dir.to_str().unwrap();
    says(&run(&["verify", dir]), &[&format!("{dir}: 2 files, "), " tensors, ", ": as wgquant "]);
    let report = run_json(&["verify", dir, "--json"]);
    let tensors = manifest(Path::new(dir))["tensors"].as_object().unwrap().len();
    assert_eq!((report["tensors"].as_u64(), &report["differences"]), (Some(tensors as u64), &json!([])));
}

#[test]
fn each_difference_is_named_with_both_values() {
    let (_temp, dir) = &written();
    let (weights, said) = (dir.join("model.safetensors"), manifest(dir));
    let (whole, sha) = (fs::read(&weights).unwrap(), said["files"]["model.safetensors"]["sha256"].as_str().unwrap());

    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(&weights, damaged).unwrap();
    let text = differs(dir);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].starts_with("model.safetensors: sha256 ") && lines[0].ends_with(sha), "{text}");
    assert!(lines[1].starts_with("model.safetensors: tensor `") && lines[1].contains("`: sha256 "), "{text}");
    assert!(lines[2].contains(": 2 not as wgquant "), "{text}");
    let json = wgquant().arg("verify").arg(dir).arg("--json").output().unwrap();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let (file, tensor) = (&json["differences"][0], &json["differences"][1]);
    assert_eq!((&file["what"], &file["manifest"]), (&json!("sha256"), &json!(sha)));
    let name = tensor["tensor"].as_str().unwrap();
    assert_eq!(tensor["manifest"], said["tensors"][name]["sha256"]);

    fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    let bytes = whole.len();
    says(&differs(dir), &[&format!("model.safetensors: bytes {}, in the manifest {bytes}\n", bytes - 1)]);
    fs::remove_file(&weights).unwrap();
    says(&differs(dir), &[&format!("model.safetensors: missing, in the manifest {bytes} bytes\n")]);
}

/// What a reader would take for a part of the model is one, whoever put it there.
#[test]
fn files_that_the_manifest_does_not_name() {
    let (_temp, dir) = &written();
    fs::write(dir.join("notes.txt"), "not read").unwrap();
    run(&["verify", dir.to_str().unwrap()]);
    fs::write(dir.join("generation_config.json"), "{}").unwrap();
    says(&differs(dir), &["generation_config.json: there, and read, in the manifest no such file\n"]);
    fs::remove_file(dir.join("generation_config.json")).unwrap();

    let mut header = r#"{"extra":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#.to_owned();
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let shard = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat();
    fs::write(dir.join("extra.safetensors"), shard).unwrap();
    let tensors = manifest(dir)["tensors"].as_object().unwrap().clone();
    let mut map: Map<String, Value> = tensors.keys().map(|name| (name.clone(), json!("model.safetensors"))).collect();
    map.insert("extra".to_owned(), json!("extra.safetensors"));
    let index = dir.join("model.safetensors.index.json");
    fs::write(&index, json!({ "weight_map": map }).to_string()).unwrap();
    let text = differs(dir);
    let unnamed = ": there, and read, in the manifest no such file\n";
    says(&text, &[&format!("extra.safetensors{unnamed}"), &format!("model.safetensors.index.json{unnamed}")]);
    assert_eq!(text.lines().count(), 3, "{text}");
    // An index that cannot be followed is in the way, too.
    fs::remove_file(dir.join("extra.safetensors")).unwrap();
    says(&differs(dir), &["model.safetensors.index.json: ", "extra.safetensors", "missing"]);
}

/// One difference does not hide another, and a manifest from anybody is no danger.
#[test]
fn differences_beside_each_other() {
    let (_temp, dir) = &written();
    fs::write(dir.join("stray.safetensors"), "x").unwrap();
    says(&differs(dir), &["stray.safetensors: there, in the manifest no such file\n", ": 1 not as "]);
    fs::remove_file(dir.join("stray.safetensors")).unwrap();
    let path = dir.join("wgquant_manifest.json");
    let mut said = manifest(dir);
    said["tool"] = json!("\u{1b}[31mwgquant\nall good");
    let names = ["config.json/x", "a\0b"];
    names.iter().for_each(|name| said["files"][*name] = json!({ "bytes": u64::MAX, "sha256": "" }));
    fs::write(&path, said.to_string()).unwrap();
    fs::write(dir.join("model.safetensors.index.json"), r#"{"weight_map":{}}"#).unwrap();
    let text = differs(dir);
    says(
        &text,
        &["config.json/x: ", "a\u{fffd}b: ", "model.safetensors.index.json: lists no tensors", "not compared\n"],
    );
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn what_cannot_be_checked() {
    let refused = |dir: &Path| refusal(wgquant().arg("verify").arg(dir));
    says(&refused(&nano()), &["holds no wgquant_manifest.json", "not written by wgquant"]);
    says(&refused(Path::new("/nonexistent")), &["/nonexistent", "is no directory"]);
    let (_temp, dir) = &written();
    let path = dir.join("wgquant_manifest.json");
    for (text, words) in [(r#"{"format": 1}"#, "is no manifest"), ("{", "is not JSON")] {
        fs::write(&path, text).unwrap();
        says(&refused(dir), &["wgquant_manifest.json", words]);
    }
    fs::write(&path, r#"{"format": 2}"#).unwrap();
    says(&refused(dir), &["is of format 2", "reads 1"]);
    // Names of a manifest that lead out of the directory are no files of it.
    fs::write(&path, r#"{"format": 1, "tool": "", "files": {"../x": {"bytes": 1, "sha256": ""}}, "tensors": {}}"#)
        .unwrap();
    fs::write(dir.join("../x"), "x").unwrap();
    says(&differs(dir), &["../x: ", "lies outside the model directory"]);
}
