//! A planted fault is named exactly; what is right passes.

use std::collections::BTreeSet;
use std::path::Path;

use pollster::block_on;
use wgquant::eval::{Activations, Between, Judgement, OpError, diff, record};
use wgquant::gpu::Device;
use wgquant::model::{Group, Linear, Mixer, Model, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe, quantize, rewrites};
use wgquant::runtime::{Engine, EngineOptions, Tap};
use wgquant::tensor::{DType, Tensor};
use wgquant::transform::{Exponent, Inputs, Permutation, Rotation, Smooth, Transform, Transformed};

use crate::common;
use crate::transform::statistics;

const TOKENS: [u32; 9] = [1, 20, 300, 7, 1900, 5, 64, 20, 33];

fn nano() -> Model {
    Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap()
}

fn engine(device: &Device, model: &dyn ModelSource) -> Engine {
    Engine::new(device, model, EngineOptions { context: 64, ..Default::default() }).unwrap()
}

fn against(device: &Device, model: &Model, reference: &Model) -> Vec<OpError> {
    let (taps, next) = block_on(record(&mut engine(&Device::Cpu, reference), &TOKENS, None, &[])).unwrap();
    block_on(diff(&mut engine(device, model), &TOKENS, next, &taps, Between::Devices, None)).unwrap()
}

fn failed(ops: &[OpError]) -> Vec<(&'static str, Option<usize>, &str)> {
    let wrong = ops.iter().filter(|op| op.verdict == Judgement::Failed);
    wrong.map(|op| (op.step, op.layer, op.op.as_str())).collect()
}

fn scaled(linear: &mut Linear, by: f32) {
    let Linear::Float(tensor) = linear else { panic!("nano is not quantized") };
    let values: Vec<f32> = tensor.to_f32().unwrap().iter().map(|v| v * by).collect();
    *tensor = Tensor::from_f32(tensor.shape, &values);
}

#[test]
fn gpu_agrees_with_the_reference_op_by_op() {
    let model = nano();
    let ops = against(&common::gpu(), &model, &model);
    assert_eq!(failed(&ops), []);
    for op in ["embed", "norm", "in_proj", "conv", "scan", "gated_norm", "out_proj", "q_proj", "attention", "up_proj"] {
        for step in ["prefill", "decode"] {
            assert!(ops.iter().any(|o| o.op == op && o.step == step), "{step} {op}");
        }
    }
}

/// Everything behind a fault carries it, but only the faulty op is named.
#[test]
fn one_heads_d_is_named_as_the_scan_of_its_layer() {
    let (good, mut bad) = (nano(), nano());
    let Mixer::Mamba2(m) = &mut bad.layers[2].mixer else { panic!("layer 2 is Mamba-2") };
    m.d[5] += 0.05;
    let ops = against(&Device::Cpu, &bad, &good);
    assert_eq!(failed(&ops), [("prefill", Some(2), "scan"), ("decode", Some(2), "scan")]);
    let logits = ops.iter().find(|op| op.op == "logits").unwrap();
    assert!(logits.carried_nmse > 1e-8 && logits.nmse < 1e-12, "{logits:?}");
}

#[test]
fn scaled_weights_are_named() {
    type Plant = fn(&mut Model);
    let faults: [(Plant, usize, &str); 5] = [
        (
            |m| {
                if let Mixer::Mamba2(x) = &mut m.layers[0].mixer {
                    scaled(&mut x.out_proj, 1.001)
                }
            },
            0,
            "out_proj",
        ),
        (
            |m| {
                if let Mixer::Mamba2(x) = &mut m.layers[5].mixer {
                    x.conv_bias[7] += 0.1
                }
            },
            5,
            "conv",
        ),
        (
            |m| {
                if let Mixer::Attention(x) = &mut m.layers[3].mixer {
                    scaled(&mut x.k_proj, 1.001)
                }
            },
            3,
            "k_proj",
        ),
        (
            |m| {
                if let Mixer::Mlp(x) = &mut m.layers[8].mixer {
                    scaled(&mut x.down_proj, 1.001)
                }
            },
            8,
            "down_proj",
        ),
        (|m| m.layers[4].norm[9] *= 1.01, 4, "norm"),
    ];
    let good = nano();
    for (plant, layer, op) in faults {
        let mut bad = nano();
        plant(&mut bad);
        let ops = against(&Device::Cpu, &bad, &good);
        assert_eq!(failed(&ops), [("prefill", Some(layer), op), ("decode", Some(layer), op)]);
    }
}

#[test]
fn nan_is_a_fault() {
    let (good, mut bad) = (nano(), nano());
    let Mixer::Mlp(mlp) = &mut bad.layers[8].mixer else { panic!("layer 8 is an MLP") };
    scaled(&mut mlp.down_proj, f32::NAN);
    assert_eq!(failed(&against(&Device::Cpu, &bad, &good))[0], ("prefill", Some(8), "down_proj"));
}

const RELU2_AND_VALUES: Smooth =
    Smooth { relu2: Some(Exponent::Fixed(0.5)), values: Some(Exponent::Fixed(0.5)), ..Smooth::NONE };

/// Ops on the CPU, as between models with these rewrites.
fn between(
    model: &dyn ModelSource,
    original: &dyn ModelSource,
    [run, reference]: [Option<&Transform>; 2],
    tolerance: Option<f64>,
) -> Vec<OpError> {
    let (taps, next) = block_on(record(&mut engine(&Device::Cpu, original), &TOKENS, None, &[])).unwrap();
    let between = Between::Models { run, reference };
    block_on(diff(&mut engine(&Device::Cpu, model), &TOKENS, next, &taps, between, tolerance)).unwrap()
}

fn uncompared(ops: &[OpError]) -> BTreeSet<&str> {
    ops.iter().filter(|op| op.verdict == Judgement::OtherBasis).map(|op| op.op.as_str()).collect()
}

/// Each op that a rewrite changes is left aside, and no other: what is left agrees to rounding. Of two copies by the
/// same rewrite nothing is, unless calibration decided it.
#[test]
fn exact_copies_have_nothing_to_name() {
    let (model, none, by) = (nano(), Transform::NONE, Some(Exponent::Fixed(0.5)));
    let inputs = statistics(&model);
    let scan = ["in_proj", "conv", "dt", "da_cumsum", "chunk_state", "state_passing", "scan", "gated_norm", "up_proj"];
    let stream = ["norm", "norm_f", "embed", "out_proj", "o_proj", "down_proj"];
    let copies: [(Transform, &[&str]); 7] = [
        (none, &[]),
        (Transform { fold_norms: true, ..none }, &["norm", "norm_f"]),
        (Transform { smooth: RELU2_AND_VALUES, ..none }, &["up_proj", "v_proj", "attention"]),
        (
            Transform { smooth: Smooth { norms: by, gated_norm: by, conv: by, ..Smooth::NONE }, ..none },
            &["norm", "gated_norm", "in_proj"],
        ),
        (
            Transform { values: Some(Rotation::Hadamard), keys: Some(Rotation::Hadamard), ..none },
            &["q_proj", "k_proj", "v_proj", "attention"],
        ),
        (Transform { permute: Some(Permutation::Sort), ..none }, &scan),
        (Transform::hadamard(model.config(), 0).unwrap(), &stream),
    ];
    for (transform, changed) in copies {
        let copy = Transformed::with(&model, transform, &inputs).unwrap();
        let ops = between(&copy, &model, [Some(&transform), Some(&none)], Some(1e-6));
        assert_eq!(failed(&ops), [], "{transform:?}");
        assert_eq!(uncompared(&ops), changed.iter().copied().collect(), "{transform:?}");
        if !transform.needs_stats() {
            let ops = between(&copy, &copy, [Some(&transform); 2], Some(0.0));
            assert_eq!((failed(&ops), uncompared(&ops)), (vec![], BTreeSet::new()), "{transform:?}");
        }
    }
}

/// What no rewrite changes, and the stream where its first values are the same.
#[test]
fn of_unknown_rewrites_only_what_is_always_the_same_is_compared() {
    let (model, none) = (nano(), Transform::NONE);
    let compared = |copy: &dyn ModelSource, known: [Option<&Transform>; 2]| {
        let ops = between(copy, &model, known, Some(1e-6));
        assert_eq!(failed(&ops), []);
        let judged = ops.into_iter().filter(|op| op.verdict == Judgement::Ok);
        judged.map(|op| op.op).collect::<BTreeSet<String>>()
    };
    let set = |ops: &[&str]| ops.iter().map(|op| (*op).to_owned()).collect::<BTreeSet<String>>();
    let smooth = Transform { smooth: RELU2_AND_VALUES, ..none };
    let smoothed = Transformed::with(&model, smooth, statistics(&model)).unwrap();
    let stream = set(&["embed", "out_proj", "o_proj", "down_proj", "chunk_products", "logits"]);
    assert_eq!(compared(&smoothed, [None, Some(&none)]), stream);
    assert_eq!(compared(&smoothed, [Some(&smooth), None]), stream);
    let rotated = Transformed::new(&model, Transform::hadamard(model.config(), 0).unwrap()).unwrap();
    assert_eq!(compared(&rotated, [None, Some(&none)]), set(&["chunk_products", "logits"]));
}

/// What a model was made from may have been rewritten before: that is in its weights, too.
#[test]
fn rewrites_are_those_of_the_source_and_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let made = |from: &Path, name: &str, transform: &str| {
        let recipe = Recipe::parse(name, &format!("float = \"f32\"\n[transform]\n{transform}\n")).unwrap();
        let out = temp.path().join(name);
        quantize(&ModelFile::open(from).unwrap(), &recipe, &Device::Cpu, None, &out, &|_| {}).unwrap();
        out
    };
    let of = |dir: &Path| rewrites(&ModelFile::open(dir).unwrap());
    let once = made(&common::nano(), "once", "keys = \"hadamard\"");
    let (keys, none) = (Transform { keys: Some(Rotation::Hadamard), ..Transform::NONE }, Transform::NONE);
    assert_eq!((of(&common::nano()).unwrap(), of(&once).unwrap()), (Some(none), Some(keys)));
    assert_eq!(of(&made(&once, "as_it_is", "")).unwrap(), Some(keys));
    let values = Transform { values: Some(Rotation::Hadamard), ..keys };
    let both = made(&once, "values", "values = \"hadamard\"");
    assert_eq!(of(&both).unwrap(), Some(values));
    // Keys that were turned twice are nobody else's; all else is what it was.
    let twice = of(&made(&both, "twice", "keys = \"hadamard\"")).unwrap();
    for (op, same) in [("q_proj", false), ("k_proj", false), ("v_proj", true), ("in_proj", true), ("hidden", true)] {
        assert_eq!(Transform::same_basis(twice.as_ref(), Some(&values), op), same, "{op}");
    }
    // One that says nothing of its source, as those from before, may be of any.
    let manifest = once.join("wgquant_manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    assert_eq!(text.matches("source_transform").count(), 1);
    std::fs::write(&manifest, text.replace("source_transform", "else")).unwrap();
    assert_eq!(of(&once).unwrap(), None);
    assert_eq!(of(&made(&once, "of_unknown", "")).unwrap(), None);
    std::fs::write(&manifest, "{").unwrap();
    assert!(of(&once).unwrap_err().to_string().contains("wgquant_manifest.json"));
}

/// A weight that changed after the rewrite is named where it is or, where that has another basis, by what reads it.
#[test]
fn a_broken_unit_of_an_exact_copy_is_named() {
    let none = Transform::NONE;
    let keys = Transform { keys: Some(Rotation::Hadamard), ..none };
    let smooth = Transform { smooth: RELU2_AND_VALUES, ..none };
    let source = nano();
    for (transform, named) in [(none, "up_proj"), (keys, "up_proj"), (smooth, "down_proj")] {
        let inputs = if transform == smooth { statistics(&source) } else { Inputs::default() };
        let mut bad = Model::load(&Transformed::with(&source, transform, inputs).unwrap()).unwrap();
        let Mixer::Mlp(m) = &mut bad.layers[4].mixer else { panic!("layer 4 is an MLP") };
        let Linear::Float(tensor) = &mut m.up_proj else { panic!("nano is not quantized") };
        let mut values = tensor.to_f32().unwrap();
        values[3] += 300.0;
        *tensor = Tensor::from_f32(tensor.shape, &values);
        let ops = between(&bad, &source, [Some(&transform), Some(&none)], None);
        assert_eq!(failed(&ops)[0], ("prefill", Some(4), named), "{transform:?}");
    }
}

/// Two quantized models may round their inputs in groups of different sizes.
#[test]
fn codes_are_no_ops_between_models() {
    let (source, none) = (nano(), Transform::NONE);
    let mut recipe = Recipe::uniform(source.config(), Bits::W8A8, Group::Channel, false, DType::F32, none);
    let by_token = block_on(recipe.apply(&source, &Device::Cpu, |_| {})).unwrap();
    recipe.free_activations(Some(Group::Size(32)));
    let by_group = block_on(recipe.apply(&source, &Device::Cpu, |_| {})).unwrap();
    let ops = between(&by_group, &by_token, [Some(&none); 2], None);
    assert_eq!((failed(&ops), uncompared(&ops)), (vec![], BTreeSet::new()));
    assert!(ops.len() > 90 && ops.iter().all(|op| !op.op.contains('.')), "{} ops", ops.len());
}

#[test]
fn another_implementations_activations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nano_golden.safetensors");
    let golden = Activations::read(&path, None).unwrap();
    let tokens = golden.tokens.clone().unwrap();
    assert_eq!((tokens.len(), golden.taps.len()), (21, 12));
    let judge = |model: &Model| {
        block_on(diff(&mut engine(&common::gpu(), model), &tokens, 0, &golden.taps, Between::Devices, None)).unwrap()
    };
    let ops = judge(&nano());
    assert_eq!((ops.len(), failed(&ops)), (12, vec![]));
    let mut bad = nano();
    let Mixer::Mamba2(m) = &mut bad.layers[5].mixer else { panic!("layer 5 is Mamba-2") };
    m.d[0] += 0.5;
    assert_eq!(failed(&judge(&bad)), [("prefill", Some(5), "block")]);
    let second = Activations::read(&path, None).map(|_| ()).and_then(|()| Activations::read(&path, Some(&[1, 2])));
    assert!(second.unwrap_err().to_string().contains("another prompt"));
}

#[test]
fn written_activations_are_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.safetensors");
    let (mut taps, next) = block_on(record(&mut engine(&Device::Cpu, &nano()), &TOKENS, None, &[])).unwrap();
    let written = Activations {
        tokens: Some(TOKENS.to_vec()),
        next: Some(next),
        model_sha256: Some("ab12".to_owned()),
        transform: Some(Transform {
            smooth: RELU2_AND_VALUES,
            keys: Some(Rotation::RandomHadamard(u64::MAX)),
            ..Transform::NONE
        }),
        taps: taps.clone(),
    };
    written.write(&path).unwrap();
    let mut read = Activations::read(&path, Some(&TOKENS)).unwrap();
    read.taps.sort_by(|a, b| a.name.cmp(&b.name));
    taps.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!((read.tokens.as_deref(), read.next), (Some(&TOKENS[..]), Some(next)));
    assert_eq!((read.model_sha256, read.transform), (written.model_sha256, written.transform));
    assert_eq!(read.taps, taps);
}

#[test]
fn wrong_shapes_and_names_are_refused() {
    let tap = |name: &str, n: usize| Tap { name: name.to_owned(), shape: [1, n].into(), values: vec![0.5; n] };
    let judge = |taps: &[Tap]| {
        let model = nano();
        block_on(diff(&mut engine(&Device::Cpu, &model), &TOKENS, 1, taps, Between::Devices, None))
    };
    let wrong = judge(&[tap("hidden.3", 5)]).unwrap_err().to_string();
    assert!(wrong.contains("`hidden.3`") && wrong.contains("[1, 5]") && wrong.contains("[9, 128]"), "{wrong}");
    assert!(judge(&[tap("layer.0.nonsense", 5)]).unwrap_err().to_string().contains("no name in common"));
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("b.safetensors");
    std::fs::write(&path, b"not safetensors").unwrap();
    assert!(Activations::read(&path, None).unwrap_err().to_string().contains("no safetensors file"));
    let other =
        Activations { tokens: None, next: None, model_sha256: None, transform: None, taps: vec![tap("weights", 4)] };
    other.write(&path).unwrap();
    assert!(Activations::read(&path, None).unwrap_err().to_string().contains("holds no activations"));
}
