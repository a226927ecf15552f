//! Quantizing goes on where it was interrupted, to the same bytes, and only what is the same run.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;
use wgquant::calibrate::Windows;
use wgquant::gpu::Device;
use wgquant::model::{Group, ModelFile, ModelSource};
use wgquant::quantize::ModuleLoss;
use wgquant::recipe::{Preset, Recipe, discard_unfinished, quantize, unfinished_dir};
use wgquant::tensor::DType;
use wgquant::transform::{Rotation, Transform};

use crate::common;

/// Enough for targets that the original model moves (`asymmetric`).
fn texts() -> Windows {
    Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 513, Some(2)).unwrap()
}

fn preset(file: &ModelFile) -> Recipe {
    let transform = Transform::hadamard(file.config(), 0).unwrap();
    Recipe::preset(Preset::W4A8, file.config(), DType::BF16, transform, true)
}

type Made = wgquant::Result<(wgquant::model::Summary, Vec<ModuleLoss>)>;

fn make(recipe: &Recipe, device: &Device, out: &Path, progress: &(dyn Fn(usize) + Sync)) -> Made {
    let file = ModelFile::open(&common::nano()).unwrap();
    quantize(&file, recipe, device, Some(("val_ids_u16.npy", &texts())), out, progress)
}

/// Ends behind so many blocks, of which the last may not be written yet.
fn interrupt(recipe: &Recipe, device: &Device, out: &Path, blocks: usize) -> PathBuf {
    let end = |done: usize| assert!(done < blocks, "the interruption of this test");
    assert!(catch_unwind(AssertUnwindSafe(|| make(recipe, device, out, &end))).is_err());
    assert!(!out.exists());
    let dir = unfinished_dir(out).unwrap();
    assert!((0..blocks - 1).all(|i| block(&dir, i).is_dir()), "{:?}", files(&dir).keys());
    dir
}

fn block(dir: &Path, index: usize) -> PathBuf {
    dir.join(format!("block-{index}"))
}

/// Everything below a directory.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    all.flat_map(
        |path| if path.is_dir() { files(&path) } else { BTreeMap::from([(path.clone(), fs::read(&path).unwrap())]) },
    )
    .collect()
}

/// The same files with the same bytes.
pub(crate) fn same(a: &Path, b: &Path) {
    let [a, b] = [a, b].map(|dir| -> BTreeMap<_, _> {
        files(dir).into_iter().map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes)).collect()
    });
    assert!(a.keys().eq(b.keys()), "{:?} and {:?}", a.keys(), b.keys());
    a.iter().for_each(|(path, bytes)| assert!(*bytes == b[path], "{} differs", path.display()));
}

#[test]
fn goes_on_to_the_same_bytes() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut fixed = preset(&file);
    fixed.transform.residual = Some(Rotation::KltHadamard);
    fixed.fix_activations(Group::Channel, Some(99.9));
    for (name, recipe, device) in [("preset", preset(&file), common::gpu()), ("fixed", fixed, Device::Cpu)] {
        let temp = tempfile::tempdir().unwrap();
        let [whole, halved] = ["whole", "halved"].map(|name| temp.path().join(name));
        make(&recipe, &device, &whole, &|_| {}).unwrap();
        let dir = interrupt(&recipe, &device, &halved, 5);
        let note: Value = serde_json::from_slice(&fs::read(block(&dir, 0).join("config.json")).unwrap()).unwrap();
        let (_, losses) = make(&recipe, &device, &halved, &|_| {}).unwrap();
        same(&whole, &halved);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "{name}: something is left");
        // As it took the first time: codes were not chosen again.
        let kept: Vec<ModuleLoss> = serde_json::from_value(note["wgquant_note"].clone()).unwrap();
        assert!(!kept.is_empty() && losses[..kept.len()] == kept[..], "{name}");
    }
}

#[test]
fn blocks_of_another_run_are_refused() {
    let (file, temp) = (ModelFile::open(&common::nano()).unwrap(), tempfile::tempdir().unwrap());
    let (recipe, out) = (preset(&file), temp.path().join("out"));
    let dir = interrupt(&recipe, &Device::Cpu, &out, 3);
    let before = files(&dir);
    let mut other = recipe.clone();
    other.gptq.as_mut().unwrap().damping = 0.01;
    let refused = |recipe: &Recipe, words: &[&str]| {
        let told = make(recipe, &Device::Cpu, &out, &|_| {}).unwrap_err().to_string();
        words.iter().for_each(|word| assert!(told.contains(word), "{word}: {told}"));
        assert!(!out.exists());
    };
    refused(&other, &["out.unfinished", "0.05 as recipe.gptq.damping", "0.01", "--restart"]);
    // To nearest nothing would be kept, and it is another run all the same.
    refused(&Recipe { gptq: None, ..recipe.clone() }, &["as recipe.gptq, this one has null"]);
    assert!(files(&dir) == before, "refusing changed what is there");

    let again = temp.path().join("again");
    let dir = interrupt(&recipe, &Device::Cpu, &again, 2);
    discard_unfinished(&again).unwrap();
    assert!(!dir.exists());
    make(&other, &Device::Cpu, &again, &|_| {}).unwrap();

    let (mine, theirs) = (temp.path().join("mine"), temp.path().join("mine.unfinished"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("thesis.txt"), "my own").unwrap();
    for told in [discard_unfinished(&mine), make(&recipe, &Device::Cpu, &mine, &|_| {}).map(|_| ())] {
        let told = told.unwrap_err().to_string();
        assert!(told.contains("mine.unfinished: holds thesis.txt, which no run left"), "{told}");
    }
    assert_eq!(fs::read(theirs.join("thesis.txt")).unwrap(), b"my own");
}

/// Whatever a crash or a disk left of them, the same call goes on and gives the same bytes.
#[test]
fn damaged_blocks_are_made_anew() {
    let (file, temp) = (ModelFile::open(&common::nano()).unwrap(), tempfile::tempdir().unwrap());
    let (recipe, whole) = (preset(&file), temp.path().join("whole"));
    make(&recipe, &Device::Cpu, &whole, &|_| {}).unwrap();
    type Damage = (&'static str, fn(&Path));
    let damage: [Damage; 5] = [
        ("a changed byte", |dir| {
            let weights = block(dir, 1).join("model.safetensors");
            let mut bytes = fs::read(&weights).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&weights, &bytes).unwrap();
        }),
        ("a missing file", |dir| fs::remove_file(block(dir, 0).join("model.safetensors")).unwrap()),
        ("a missing block", |dir| fs::remove_dir_all(block(dir, 0)).unwrap()),
        ("a run.json that was not written", |dir| {
            fs::rename(dir.join("run.json"), dir.join(".run.json.partial-aB3xYz")).unwrap();
        }),
        ("a removal that a crash ended", |dir| {
            fs::remove_file(dir.join("run.json")).unwrap();
            fs::remove_file(block(dir, 1).join("config.json")).unwrap();
        }),
    ];
    for (name, damage) in damage {
        let out = temp.path().join("out");
        let dir = interrupt(&recipe, &Device::Cpu, &out, 3);
        damage(&dir);
        make(&recipe, &Device::Cpu, &out, &|_| {}).unwrap_or_else(|e| panic!("{name}: {e}"));
        same(&whole, &out);
        assert!(!dir.exists(), "{name}: something is left");
        fs::remove_dir_all(&out).unwrap();
    }

    // What decides the output is not guessed.
    let out = temp.path().join("out");
    let dir = interrupt(&recipe, &Device::Cpu, &out, 2);
    fs::write(dir.join("run.json"), "{").unwrap();
    let told = make(&recipe, &Device::Cpu, &out, &|_| {}).unwrap_err().to_string();
    assert!(told.contains("run.json") && told.contains("--restart"), "{told}");
    fs::write(dir.join("notes.txt"), "my own").unwrap();
    assert!(discard_unfinished(&out).unwrap_err().to_string().contains("holds notes.txt"));
    assert!(block(&dir, 0).is_dir(), "refused, and removed all the same");
    fs::remove_file(dir.join("notes.txt")).unwrap();
    discard_unfinished(&out).unwrap();
    assert!(!dir.exists());
}
