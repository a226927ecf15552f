//! `analyze` predicts the bytes that `quantize` writes, to the byte.

use serde_json::json;
use wgquant::analyze::predict;
use wgquant::calibrate::Windows;
use wgquant::gpu::Device;
use wgquant::kernels::StateRounding;
use wgquant::model::{Group, Linear, Mixer, Model, ModelFile, ModelSource, WriteOptions, write_model};
use wgquant::recipe::{Bits, Recipe, quantize};
use wgquant::runtime::{Engine, EngineOptions, KvFormat, Memory, StateFormat};
use wgquant::tensor::{DType, Tensor};
use wgquant::transform::Transform;

use crate::common::{edit, nano, refusal, run, run_json, says, tiny, wgquant};

fn check(file: &ModelFile, recipe: &Recipe) {
    check_calibrated(file, recipe, None);
}

fn check_calibrated(file: &ModelFile, recipe: &Recipe, calibration: Option<&Windows>) {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let predicted = predict(file, "x", recipe, EngineOptions::default()).unwrap();
    quantize(file, recipe, &Device::Cpu, calibration.map(|windows| ("text", windows)), &out, &|_| ()).unwrap();
    let made = ModelFile::open(&out).unwrap();
    assert_eq!(predicted.bytes, made.bytes(), "{recipe:?}");
    let engine = Engine::new(&Device::Cpu, &made, EngineOptions::default()).unwrap();
    assert_eq!(predicted.device_bytes, engine.weight_bytes(), "on the device: {recipe:?}");
    assert_eq!(predicted.peak_bytes, engine.weight_bytes() + engine.working_bytes(), "peak: {recipe:?}");
    let state = StateFormat::Int8 { rounding: StateRounding::Feedback, rotate: true, window: 8 };
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

#[test]
fn hybrid() {
    check_all(&tiny(json!({})).1);
}

#[test]
fn tied() {
    let (_temp, file) = tiny(json!({ "tie_word_embeddings": true }));
    check_all(&file);
}

/// A configuration that ties a head of its own says nothing of the model's size.
#[test]
fn tied_with_a_head_of_its_own() {
    let (_temp, file) = tiny(json!({}));
    edit(&file.checkpoint().dir().join("config.json"), |config| config["tie_word_embeddings"] = json!(true));
    let file = ModelFile::open(file.checkpoint().dir()).unwrap();
    for transform in [Transform::NONE, Transform::hadamard(file.config(), 0).unwrap()] {
        let group = Group::Size(32);
        check(&file, &Recipe::uniform(file.config(), Bits::W4A8, group, true, file.float_dtype(), transform));
    }
}

/// Smoothing leaves norms as numbers of bf16, whatever they were in the original.
#[test]
fn norms_of_f32_that_are_smoothed() {
    let (temp, file) = tiny(json!({}));
    let mut model = Model::load(&file).unwrap();
    let narrow = |linear: &mut Linear| {
        let Linear::Float(t) = linear else { panic!("codes") };
        *t = Tensor::from_f32_as(DType::BF16, t.shape, &t.to_f32().unwrap()).unwrap();
    };
    narrow(&mut model.embedding);
    model.layers.iter_mut().flat_map(|layer| layer.linears_mut()).for_each(|(_, linear)| narrow(linear));
    model.head.iter_mut().for_each(narrow);
    let dir = temp.path().join("bf16");
    write_model(file.checkpoint().config(), &model, &dir, &WriteOptions::default()).unwrap();
    let file = ModelFile::open(&dir).unwrap();
    assert_eq!(file.float_dtype(), DType::BF16);
    let Mixer::Mamba2(m) = file.layer(0).unwrap().mixer else { panic!("no Mamba-2") };
    assert!(m.norm.iter().any(|w| w.to_bits() & 0xffff != 0), "norms of bf16 already");

    let windows = Windows(vec![(0..40).map(|i| (i * 37 + 5) % 50).collect()]);
    for transform in [Transform::NONE, Transform::hadamard(file.config(), 0).unwrap()] {
        let transform = transform.smoothed();
        let recipe = Recipe::uniform(file.config(), Bits::W8A8, Group::Channel, true, DType::BF16, transform);
        check_calibrated(&file, &recipe, Some(&windows));
    }
}

#[test]
fn nano_in_the_library() {
    let file = ModelFile::open(&nano()).unwrap();
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

/// Neither what cannot be made nor what must be asked for otherwise keeps the rest from being shown.
#[test]
fn schemes_that_cannot_be_made_say_why() {
    let (temp, file) = tiny(json!({ "intermediate_size": 130 }));
    let (model, at) = (file.checkpoint().dir().to_str().unwrap(), |name: &str| temp.path().join(name));
    let (page, out) = (at("page.html"), at("out"));
    let shown = run_json(&["analyze", model, "--json"]);
    let [w8a8] = &shown["predictions"].as_array().unwrap()[..] else { panic!("{shown}") };
    assert_eq!(w8a8["scheme"], "w8a8");
    let note = ["--rotate none", "intermediate_size 130 has no Hadamard matrix"];
    says(w8a8["note"].as_str().unwrap(), &note);
    let schemes: Vec<&str> =
        shown["refused"].as_array().unwrap().iter().map(|r| r["scheme"].as_str().unwrap()).collect();
    assert_eq!(schemes, ["w4a8", "w4a16"]);
    let why = "`backbone.layers.1.mixer.down_proj`: no group of up to 128 divides its rows of 130";
    says(shown["refused"][0]["reason"].as_str().unwrap(), &[why]);
    let tensors = shown["details"]["tensors"].as_array().unwrap();
    assert!(tensors.iter().all(|t| t["predicted"].as_array().unwrap().len() == 1), "{tensors:?}");

    let refused = format!("w4a16 cannot be made: {why}");
    let text = run(&["analyze", model, "--html", page.to_str().unwrap()]);
    says(&text, &[&note[..], &["Largest outliers", "Memory, tokens", refused.as_str()]].concat());
    assert!(!text.contains("with its defaults.\n"), "{text}");
    says(&std::fs::read_to_string(page).unwrap(), &["Every weight", note[1], refused.as_str()]);
    let made = ["quantize", model, "--scheme", "w8a8", "--rotate", "none", "--device", "cpu", "--json", "-o"];
    let made = run_json(&[&made[..], &[out.to_str().unwrap()]].concat());
    assert_eq!(w8a8["bytes"], made["output"]["bytes"]);
    // What was asked for by name is an error.
    let mut asked = wgquant();
    asked.env("RUST_LOG", "error").args(["analyze", model, "--recipe", "w4a8"]);
    says(&refusal(&mut asked), &["--recipe w4a8: `backbone.layers.1.mixer.down_proj`", "rows of 130"]);
}
