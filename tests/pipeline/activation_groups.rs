//! int8 activations with a scale for each group of a token's inputs: quantize, write, read back, run.

use std::path::Path;

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::compare;
use wgquant::gpu::Device;
use wgquant::kernels::StateRounding;
use wgquant::model::{Activations, Block, Group, ModelConfig, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe, Rule, quantize};
use wgquant::runtime::{Engine, EngineOptions, StateFormat};
use wgquant::synth::{self, Synth};
use wgquant::tensor::DType;
use wgquant::transform::Transform;

use crate::common;

/// nano with rotation, and activations of `groups` where `modules` says.
fn write(bits: Bits, groups: &[(&str, Group)], out: &Path) -> ModelFile {
    let file = ModelFile::open(&common::nano()).unwrap();
    let transform = Transform::hadamard(file.config(), 0).unwrap();
    let mut recipe = Recipe::uniform(file.config(), bits, Group::Size(32), true, DType::BF16, transform);
    for (modules, group) in groups {
        let linear = recipe.rules[0].clone();
        let modules = vec![(*modules).to_owned()];
        recipe.rules.push(Rule { modules, activations: Activations::Int8(*group), ..linear });
    }
    quantize(&file, &recipe, &common::gpu(), None, out, &|_| {}).unwrap();
    ModelFile::open(out).unwrap()
}

fn logits(device: &Device, model: &dyn ModelSource, pass_tokens: usize) -> Vec<f32> {
    logits_of(device, model, pass_tokens, StateFormat::F32)
}

fn logits_of(device: &Device, model: &dyn ModelSource, pass_tokens: usize, state: StateFormat) -> Vec<f32> {
    let options = EngineOptions { context: 64, pass_tokens, state, ..Default::default() };
    let mut engine = Engine::new(device, model, options).unwrap();
    engine.feed(&(0..60).map(|i| 3 + (i * 31) % 2000).collect::<Vec<u32>>()).unwrap();
    block_on(engine.logits()).unwrap()
}

#[test]
fn finer_groups_are_closer_to_the_original() {
    let temp = tempfile::tempdir().unwrap();
    let windows = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, Some(2)).unwrap();
    let options = EngineOptions { context: 1024, ..Default::default() };
    let device = common::gpu();
    let mut kls = Vec::new();
    for group in [Group::Channel, Group::Size(32)] {
        let model = write(Bits::W8A8, &[("Linear", group)], &temp.path().join(format!("{group:?}")));
        let mut base = Engine::new(&device, &ModelFile::open(&common::nano()).unwrap(), options).unwrap();
        let mut model = Engine::new(&device, &model, options).unwrap();
        kls.push(block_on(compare(&mut base, &mut model, &windows, &mut |_, _| {})).unwrap().mean_kl);
    }
    eprintln!("nano W8A8: KL {:.5} by token, {:.5} by groups of 32", kls[0], kls[1]);
    assert!(kls[1] > 0.0 && kls[1] < 0.95 * kls[0], "{kls:?}");
}

/// The product kernels on one side and the one-token kernels on the other, on the GPU and in the reference; groups of
/// weights and activations differ both ways.
#[test]
fn prefill_and_decode_agree_on_reference_and_gpu() {
    let temp = tempfile::tempdir().unwrap();
    let groups = [("Linear", Group::Size(64)), (r"re:.*\.up_proj$", Group::Size(16)), ("lm_head", Group::Channel)];
    let model = write(Bits::W4A8, &groups, &temp.path().join("w4a8"));
    let want = logits(&Device::Cpu, &model, 64);
    for (device, pass_tokens) in [(common::gpu(), 64), (common::gpu(), 1), (Device::Cpu, 1)] {
        let (nmse, _) = wgquant::kernels::check::error(&logits(&device, &model, pass_tokens), &want);
        // As for activations by token: codes that fall to the other side of a tie, far below a wrong scale.
        assert!(nmse < 1e-3, "NMSE {nmse:.3e} in passes of {pass_tokens} on {}", device.name());
    }
}

/// nano with int8 activations by groups of 32 channels everywhere, rotated in blocks of as many.
fn in_groups_of_32(bits: Bits, out: &Path) -> ModelFile {
    let file = ModelFile::open(&common::nano()).unwrap();
    let transform = Transform::hadamard(file.config(), 0).unwrap().in_blocks(file.config(), 32);
    let mut recipe = Recipe::uniform(file.config(), bits, Group::Size(32), true, DType::BF16, transform);
    recipe.rules[0].activations = Activations::Int8(Group::Size(32));
    quantize(&file, &recipe, &common::gpu(), None, out, &|_| {}).unwrap();
    ModelFile::open(out).unwrap()
}

/// The reference decodes by products that make the codes of the next one, where codes lack a norm's factor when they are rounded; passes
/// of more than few tokens round behind it. Of 60 tokens the last pass of seven has four, in as many rows; the others have one more.
#[test]
fn a_chain_of_products_agrees_with_passes() {
    let temp = tempfile::tempdir().unwrap();
    for bits in [Bits::W8A8, Bits::W4A8] {
        let model = in_groups_of_32(bits, &temp.path().join(bits.to_string()));
        let want = logits(&Device::Cpu, &model, 64);
        let passes = [1, 2, 3, 7].map(|tokens| (Device::Cpu, tokens));
        for (device, pass_tokens) in passes.into_iter().chain([64, 1, 2, 7].map(|tokens| (common::gpu(), tokens))) {
            let (nmse, _) = wgquant::kernels::check::error(&logits(&device, &model, pass_tokens), &want);
            eprintln!("{bits}: NMSE {nmse:.3e} in passes of {pass_tokens} on {}", device.name());
            assert!(nmse < 1e-3, "{bits}: NMSE {nmse:.3e} in passes of {pass_tokens} on {}", device.name());
        }
    }
}

/// nano's shape by a scheme, `changed`.
fn synth_nano(scheme: &str, changed: &[(&str, usize)]) -> Synth {
    let text = std::fs::read_to_string(common::nano().join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    changed.iter().for_each(|(key, value)| json[*key] = (*value).into());
    let config = ModelConfig::from_json(Path::new("config.json"), &json).unwrap();
    Synth::new(json, synth::recipe(scheme, &config).unwrap(), 0).unwrap()
}

/// With heads of `channels` and so many state elements.
fn heads_of(channels: usize, state: usize) -> Synth {
    synth_nano("w4a8-g32-a32", &[("mamba_head_dim", channels), ("ssm_state_size", state)])
}

const INT8: StateFormat = StateFormat::Int8 { rounding: StateRounding::Nearest, rotate: true, window: 8 };

/// Where the token's launch cannot make out_proj's codes, the norm behind it does, and all else is as in the chain; passes of several tokens
/// see the states of one call, in f32.
#[test]
fn a_chain_with_norms_of_their_own_agrees_with_passes() {
    let temp = tempfile::tempdir().unwrap();
    let nano = in_groups_of_32(Bits::W4A8, &temp.path().join("nano"));
    let check = |name: &str, model: &dyn Fn(&Device, usize, StateFormat) -> Vec<f32>, state| {
        let want = model(&Device::Cpu, 64, StateFormat::F32);
        for (device, tokens) in [1, 7, 20].into_iter().flat_map(|n| [(Device::Cpu, n), (common::gpu(), n)]) {
            let (nmse, _) = wgquant::kernels::check::error(&model(&device, tokens, state), &want);
            eprintln!("{name}: NMSE {nmse:.3e} in passes of {tokens} on {}", device.name());
            assert!(nmse < 1e-3, "{name}: NMSE {nmse:.3e} in passes of {tokens} on {}", device.name());
        }
    };
    check("nano, int8 states", &|device, tokens, state| logits_of(device, &nano, tokens, state), INT8);
    // Nemotron-Nano-9B-v2's heads, of which only pairs are whole groups of 32, and states that no launch has room for beside the rest.
    for (channels, elements, state) in [(80, 32, StateFormat::F32), (80, 32, INT8), (32, 260, StateFormat::F32)] {
        let (name, model) = (format!("heads of {channels} x {elements}, {state:?}"), heads_of(channels, elements));
        check(&name, &|device, tokens, state| logits_of(device, &model, tokens, state), state);
    }
}

/// A recipe that does not is refused, and a file of another tool's when it runs.
#[test]
fn layers_of_one_input_must_agree() {
    let temp = tempfile::tempdir().unwrap();
    let config = ModelFile::open(&common::nano()).unwrap().config().clone();
    let mut recipe = Recipe::uniform(&config, Bits::W8A8, Group::Channel, true, DType::BF16, Transform::NONE);
    recipe.rules[0].activations = Activations::Int8(Group::Size(32));
    recipe.modules(&config).unwrap();
    let (modules, activations) = (vec![r"re:.*\.k_proj$".to_owned()], Activations::Int8(Group::Size(64)));
    recipe.rules.push(Rule { modules, activations, ..recipe.rules[0].clone() });
    let error = recipe.modules(&config).unwrap_err().to_string();
    assert!(error.contains("k_proj") && error.contains("q_proj") && error.contains("same input"), "{error}");

    let dir = temp.path().join("mixed");
    write(Bits::W8A8, &[("Linear", Group::Size(32))], &dir);
    let file = dir.join("config.json");
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let groups = json["quantization_config"]["config_groups"].as_object_mut().unwrap();
    let mut other = groups.values().find(|g| !g["input_activations"].is_null()).unwrap().clone();
    other["targets"] = [r"re:.*\.k_proj$"].as_slice().into();
    other["input_activations"]["group_size"] = 64.into();
    groups.insert("group_9".to_owned(), other);
    std::fs::write(&file, json.to_string()).unwrap();
    let model = ModelFile::open(&dir).unwrap();
    let mut engine = Engine::new(&Device::Cpu, &model, EngineOptions { context: 8, ..Default::default() }).unwrap();
    let error = engine.feed(&[3, 4]).unwrap_err().to_string();
    assert!(error.contains("qkv.codes") && error.contains("groups of 32 and in groups of 64"), "{error}");
}

/// Norms, rotations and rounding are one dispatch where their floats are not needed, and none where the product behind a norm makes it: of a
/// Mamba block in_proj, convolution with update, out_proj; of attention one product for queries, keys and values, appending, keys in
/// parts, their merging, codes, o_proj; of an MLP up_proj, the rotation, codes, down_proj. Where subgroups are not of 32 threads, norms are
/// dispatches of their own.
#[test]
fn a_decode_step_takes_few_dispatches() {
    let temp = tempfile::tempdir().unwrap();
    let model = write(Bits::W4A8, &[], &temp.path().join("few"));
    for device in [Device::Cpu, common::gpu()] {
        let norm = usize::from(device.gpu().is_some_and(|g| !g.caps.has("warps")));
        let engine = Engine::new(&device, &model, EngineOptions { context: 8, ..Default::default() }).unwrap();
        let most = |block: &Block| match block {
            Block::Mamba2 => 3 + 2 * norm,
            Block::Mlp => 4 + norm,
            Block::Attention => 6 + norm,
        };
        let most = 3 + norm + engine.config().blocks.iter().map(most).sum::<usize>();
        let dispatches = engine.dispatches(1).unwrap();
        eprintln!("nano W4A8 on {}: {dispatches} dispatches a token", device.name());
        assert!(dispatches <= most, "{dispatches} dispatches, at most {most} expected");
    }
}

/// Of a Mamba block in_proj, the token's update, out_proj; of an MLP its two products; of attention one for queries, keys and values,
/// appending, keys in parts, their merging with codes, o_proj.
#[test]
fn a_chain_of_products_takes_fewer() {
    let temp = tempfile::tempdir().unwrap();
    let model = in_groups_of_32(Bits::W4A8, &temp.path().join("chain"));
    let check = |engine: &Engine, mamba2| {
        let of = |block: &Block| match block {
            Block::Mamba2 => mamba2,
            Block::Mlp => 2,
            Block::Attention => 5,
        };
        // The embedding, its codes, the head.
        let want = 3 + engine.config().blocks.iter().map(of).sum::<usize>();
        assert_eq!(engine.dispatches(1).unwrap(), want);
    };
    let options = |state| EngineOptions { context: 8, state, ..Default::default() };
    let (f32, int8) = (options(StateFormat::F32), options(INT8));
    check(&Engine::new(&Device::Cpu, &model, f32).unwrap(), 3);
    // The convolution and the gated norm with codes besides, or the latter.
    check(&Engine::new(&Device::Cpu, &model, int8).unwrap(), 5);
    check(&Engine::new(&Device::Cpu, &heads_of(80, 32), f32).unwrap(), 3);
    // Queries, keys and values are one product with scales of scales, too.
    check(&Engine::new(&Device::Cpu, &synth_nano("preset-w4a8", &[]), f32).unwrap(), 3);
    // Convolution, recurrence and gated norm on their own.
    check(&Engine::new(&Device::Cpu, &heads_of(32, 260), f32).unwrap(), 5);

    // Few tokens of one sequence: attention in one launch and codes in one, and a norm before the head's product.
    let engine = Engine::new(&Device::Cpu, &model, f32).unwrap();
    let attention = engine.config().blocks.iter().filter(|block| **block == Block::Attention).count();
    let one = engine.dispatches(1).unwrap();
    assert!((2..=8).all(|tokens| engine.dispatches(tokens).unwrap() == one - attention + 1));
}
