//! Tensors larger than the staging ring arrive whole, memory is planned to the byte, and what does not fit is refused
//! by name.

use std::ops::ControlFlow;

use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{
    Activations, Group, Linear, Mixer, Model, ModelFile, ModelSource, QuantizedLinear, Scales, WriteOptions,
    write_model,
};
use wgquant::quantize::{Format, ScaleFormat};
use wgquant::recipe::{Bits, Recipe, Rule};
use wgquant::runtime::{Engine, EngineOptions, Memory, Next, Slot};
use wgquant::synth::{self, Synth};
use wgquant::tensor::{DType, Shape, Tensor};
use wgquant::transform::{Transform, Transformed};

use crate::common;

/// A device of its own: a limit is for all that a device holds.
fn limited(bytes: u64) -> Device {
    let device = common::open(None);
    device.gpu().expect("a GPU").set_memory_limit(bytes);
    device
}

#[test]
fn tensors_beyond_the_staging_ring_arrive_whole() {
    let device = common::gpu();
    // 72 MiB: more than all slots, and no whole number of them.
    let words: Vec<u32> = (0..18 << 20).map(|i: u32| i.wrapping_mul(0x9e37_79b9)).collect();
    let tensor = device.upload_words(DType::U32, [words.len() / 1024, 1024], &words).unwrap();
    assert!(block_on(device.read(&tensor)).unwrap() == words);
    let flat: Vec<u32> = words.iter().rev().copied().collect();
    device.write(&tensor, &flat).unwrap();
    assert!(block_on(device.read(&tensor)).unwrap() == flat, "overwritten");
}

#[test]
fn codes_and_short_floats_arrive_row_by_row() {
    let device = common::gpu();
    // Rows that are no whole words, in more than one piece.
    let (rows, cols) = (6000, 4099);
    let codes: Vec<i8> = (0..rows * cols).map(|i| ((i * 7 + i / cols) % 15) as i8 - 7).collect();
    let tensor = device.upload_codes(8, [rows, cols], &codes).unwrap();
    assert!(block_on(device.read_codes(&tensor)).unwrap() == codes);
    let (few, odd) = (&codes[..3 * 1001], Device::Cpu);
    let half =
        Tensor::from_f32_as(DType::F16, Shape::from([3, 1001]), &few.iter().map(|c| f32::from(*c)).collect::<Vec<_>>());
    let half = half.unwrap();
    let words = |d: &Device| block_on(d.read(&d.upload(&half).unwrap())).unwrap();
    assert_eq!(words(&device), words(&odd));
}

#[test]
fn the_plan_is_what_the_engine_holds() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let model = Model::load(&file).unwrap();
    let options = EngineOptions { context: 300, pass_tokens: 512, ..Default::default() };
    for source in [&file as &dyn ModelSource, &model] {
        let engine = Engine::new(&common::gpu(), source, options).unwrap();
        assert_eq!(Memory::of(source, options).unwrap(), Some(engine.memory()));
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_before_anything_is_allocated() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let options = EngineOptions::default();
    let need = Memory::of(&file, options).unwrap().unwrap().total();
    let device = limited(0);
    let gpu = device.gpu().unwrap();
    // wgpu holds a little from the start.
    let before = gpu.held_bytes();
    gpu.set_memory_limit(before + need - 1);
    match Engine::new(&device, &file, options).err() {
        Some(Error::TooLarge { need: n, have, .. }) => assert_eq!((n, have), (need, need - 1)),
        other => panic!("{other:?}"),
    }
    assert_eq!(gpu.held_bytes(), before);
    // A context too long for any machine is a number, not an allocation.
    let endless = EngineOptions { context: 1 << 40, ..options };
    assert!(matches!(Engine::new(&device, &file, endless).err(), Some(Error::TooLarge { .. })));
}

/// What is made as it is read has no plan: there the allocation is refused, by name.
#[test]
fn an_allocation_that_fails_says_what_it_was_for() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let source = Transformed::new(&file, Transform::NONE).unwrap();
    let options = EngineOptions { context: 64, pass_tokens: 64, ..Default::default() };
    assert_eq!(Memory::of(&source, options).unwrap(), None);
    let device = limited(2 << 20);
    let Some(Error::OutOfMemory { what, need, held, .. }) = Engine::new(&device, &source, options).err() else {
        panic!("no refusal");
    };
    assert!(what.contains("layer") || what.contains("embedding"), "{what}");
    assert!(need > 0 && held + need > 2 << 20, "{need} beside {held}");
    // Nothing is left of it: what fits still loads.
    device.gpu().unwrap().set_memory_limit(1 << 30);
    Engine::new(&device, &source, options).unwrap();
}

/// Of an embedding a token moves one row: how many scales the others have makes no difference.
#[test]
fn a_token_moves_one_row_of_the_embedding() {
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(common::nano().join("config.json")).unwrap()).unwrap();
    let config = ModelFile::open(&common::nano()).unwrap().config().clone();
    let bytes = [32, 128].map(|size| {
        let mut recipe = synth::recipe("preset-w4a8", &config).unwrap();
        let table = recipe.rules.iter_mut().find(|rule| rule.modules == ["Embedding"]).unwrap();
        table.weights.as_mut().unwrap().group = Group::Size(size);
        let model = Synth::new(json.clone(), recipe, 0).unwrap();
        Engine::new(&Device::Cpu, &model, EngineOptions { context: 8, ..Default::default() }).unwrap().token_bytes(0, 1)
    });
    assert!(bytes[0].abs_diff(bytes[1]) < config.hidden_size as u64, "{bytes:?}");
}

/// Staging takes what memory there is, and gives it up to tensors.
#[test]
fn a_tensor_that_just_fits_is_uploaded() {
    const SIZE: usize = 40 << 20;
    let device = common::open(None);
    let gpu = device.gpu().unwrap();
    let words: Vec<u32> = (0..SIZE as u32 / 4).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let upload = || device.upload_words(DType::U32, [words.len()], &words);
    // What the driver's alignment and small writes take beside it.
    let beside = 1 << 20;
    gpu.set_memory_limit(gpu.held_bytes() + (SIZE + beside) as u64);
    let first = upload().unwrap();
    assert!(
        block_on(device.read(&first.view(DType::U32, [16]).unwrap())).unwrap() == words[..16],
        "without a staging buffer"
    );
    gpu.set_memory_limit(u64::MAX);
    device.write(&first, &words).unwrap();
    if gpu.held_bytes() > 0 {
        gpu.set_memory_limit(gpu.held_bytes() + (SIZE - (16 << 20)) as u64);
    }
    let second = upload().unwrap();
    gpu.set_memory_limit(u64::MAX);
    for tensor in [first, second] {
        assert!(block_on(device.read(&tensor)).unwrap() == words);
    }
}

/// Of small weights, wgpu stages a copy each until something is submitted: a plan that fits is not refused for them.
#[test]
fn a_model_that_just_fits_is_loaded() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let options = EngineOptions { context: 16, pass_tokens: 16, ..Default::default() };
    let need = Memory::of(&file, options).unwrap().unwrap().total();
    let device = common::open(None);
    let gpu = device.gpu().unwrap();
    if gpu.held_bytes() == 0 {
        return eprintln!("wgpu does not count what it holds with {}", gpu.adapter.backend);
    }
    // What the driver's alignment, parameters and reads take beside it.
    let beside = 600 << 10;
    gpu.set_memory_limit(gpu.held_bytes() + need + beside);
    let mut engine = Engine::new(&device, &file, options).unwrap();
    let made = block_on(engine.generate(&[3, 4, 5], 3, Next::Greedy, |_| ControlFlow::Continue(()))).unwrap();
    drop(engine);
    // And one that is refused says what would help.
    gpu.set_memory_limit(1);
    let error = device.alloc(DType::U32, [64]).unwrap_err().to_string();
    assert!(error.contains("--memory-limit") && !error.contains("other programs"), "{error}");
    let mut engine = Engine::new(&Device::Cpu, &file, options).unwrap();
    let want = block_on(engine.generate(&[3, 4, 5], 3, Next::Greedy, |_| ControlFlow::Continue(()))).unwrap();
    assert_eq!(made, want);
}

/// What was dropped again counts, until somebody begins anew.
#[test]
fn the_most_that_was_held_is_watched() {
    const SIZE: u64 = 32 << 20;
    let device = common::open(None);
    let gpu = device.gpu().unwrap();
    if gpu.held_bytes() == 0 {
        return eprintln!("wgpu does not count what it holds with {}", gpu.adapter.backend);
    }
    assert_eq!(gpu.most_held_bytes(), None, "nobody watches");
    gpu.watch_held_bytes();
    let before = gpu.most_held_bytes().unwrap();
    let tensor = device.alloc(DType::U32, [SIZE as usize / 4]).unwrap();
    drop(tensor);
    device.wait().unwrap();
    assert!(gpu.held_bytes() < before + SIZE, "it is given back");
    assert!(gpu.most_held_bytes().unwrap() >= before + SIZE);
    gpu.watch_held_bytes();
    assert!(gpu.most_held_bytes().unwrap() < before + SIZE);
}

/// As a file of the wrong shape is refused, so is a weight; and what is refused changes nothing.
#[test]
fn a_weight_that_does_not_fit_its_place_is_refused() {
    let model = Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap();
    let options = EngineOptions { context: 8, pass_tokens: 8, ..Default::default() };
    let mut engine = Engine::new(&Device::Cpu, &model, options).unwrap();
    let logits = |engine: &mut Engine| {
        engine.reset().unwrap();
        engine.feed(&[3, 4]).unwrap();
        block_on(engine.logits()).unwrap()
    };
    let before = logits(&mut engine);
    let float = |shape: [usize; 2]| Linear::Float(Tensor::from_f32(shape, &vec![1.0; shape[0] * shape[1]]));
    let codes = Tensor::new(DType::I8, [2048, 128], vec![1; 2048 * 128]).unwrap();
    let mut broken = QuantizedLinear {
        bits: 8,
        group: Group::Size(32),
        codes: codes.clone(),
        scales: Scales::Plain(Tensor::from_f32([2048, 1], &[1.0; 2048])),
        activations: Activations::Float,
        input_scales: Vec::new(),
    };
    let mut refused = |slot: Slot<'_>, linear: Linear, parts: &[&str]| {
        let error = engine.replace(slot, &linear).unwrap_err().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "`{part}` is not in: {error}"));
    };
    refused(Slot::Head, float([2048, 127]), &["the head", "[2048, 127]", "[2048, 128]"]);
    refused(Slot::Embedding, float([2047, 128]), &["the embedding", "[2047, 128]", "[2048, 128]"]);
    refused(Slot::Layer(1, "up_proj"), float([128, 672]), &["up_proj of layer 1", "[128, 672]", "[672, 128]"]);
    refused(Slot::Layer(1, "in_proj"), float([128, 672]), &["no `in_proj` in block 1"]);
    refused(Slot::Head, Linear::Float(codes), &["the head", "i8", "f32, f16 or bf16"]);
    refused(Slot::Head, Linear::Quantized(broken.clone()), &["the head", "scales", "[2048, 1]", "[2048, 4]"]);
    (broken.group, broken.bits) = (Group::Channel, 9);
    refused(Slot::Head, Linear::Quantized(broken), &["the head", "9 bits"]);
    assert_eq!(logits(&mut engine), before);
}

/// Sources that are no files are asked as those are on opening: kernels take their sizes from the configuration.
#[test]
fn weights_that_are_not_the_configurations_are_refused() {
    let model = Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap();
    let options = EngineOptions { context: 8, pass_tokens: 8, ..Default::default() };
    let refused = |change: &dyn Fn(&mut Model), parts: &[&str]| {
        let mut model = model.clone();
        change(&mut model);
        let error = Engine::new(&Device::Cpu, &model, options).err().unwrap().to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "`{part}` is not in: {error}"));
    };
    let float = |shape: [usize; 2]| Linear::Float(Tensor::from_f32(shape, &vec![1.0; shape[0] * shape[1]]));
    refused(&|m| m.embedding = float([10, 128]), &["backbone.embeddings", "[10, 128]", "[2048, 128]"]);
    refused(&|m| m.head = Some(float([10, 128])), &["lm_head", "[10, 128]", "[2048, 128]"]);
    refused(&|m| m.norm_f.push(1.0), &["backbone.norm_f.weight", "129 values", "128"]);
    refused(&|m| m.layers[0].norm.truncate(1), &["backbone.layers.0.norm.weight", "1 values", "128"]);
    refused(&|m| m.norm_f[3] = f32::NAN, &["backbone.norm_f.weight", "NaN at index 3"]);
    refused(&|m| m.layers[0].norm[1] = f32::INFINITY, &["backbone.layers.0.norm.weight", "inf at index 1"]);
    refused(&|m| m.config.hidden_size = usize::MAX, &["hidden_size of 18446744073709551615, at most 1048576"]);
    refused(&|m| m.config.mamba_head_dim = usize::MAX / 2, &["mamba_head_dim of", "at most"]);
    refused(&|m| m.layers.swap(0, 1), &["backbone.layers.0.mixer.in_proj", "is not there"]);
    let short = |m: &mut Model| match &mut m.embedding {
        Linear::Float(table) => table.bytes.truncate(100),
        Linear::Quantized(_) => panic!("nano is of floats"),
    };
    refused(&short, &["backbone.embeddings", "bytes of floats", "got 100"]);
    let coded = |change: &dyn Fn(&mut QuantizedLinear), part: &str| {
        let of_codes = |m: &mut Model| {
            let mut q = QuantizedLinear {
                bits: 4,
                group: Group::Size(32),
                codes: Tensor::new(DType::I8, [672, 128], vec![1; 672 * 128]).unwrap(),
                scales: Scales::Plain(Tensor::from_f32([672, 4], &[1.0; 4 * 672])),
                activations: Activations::TOKEN,
                input_scales: Vec::new(),
            };
            change(&mut q);
            let Mixer::Mlp(mlp) = &mut m.layers[1].mixer else { panic!("block 1 of nano is an MLP") };
            mlp.up_proj = Linear::Quantized(q);
        };
        refused(&of_codes, &["backbone.layers.1.mixer.up_proj", part]);
    };
    coded(&|q| q.bits = 0, "0 bits");
    coded(&|q| q.codes.bytes[5] = 100, "codes beyond 4 bits");
    coded(&|q| q.codes.bytes.truncate(7), "bytes of codes");
    coded(&|q| q.group = Group::Size(0), "groups of 0 inputs");
    coded(&|q| q.activations = Activations::Static(Group::Channel), "0 input scales, expected 1");
}

/// A tied head is the embedding, also the one that takes its place.
#[test]
fn an_embedding_is_a_tied_head_too() {
    let mut model = Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap();
    (model.config.tied, model.head) = (true, None);
    let mut other = model.clone();
    let Linear::Float(table) = &model.embedding else { panic!("nano is of floats") };
    let rounded: Vec<f32> = table.to_f32().unwrap().iter().map(|v| (v * 16.0).round() / 16.0).collect();
    other.embedding = Linear::Float(Tensor::from_f32(table.shape, &rounded));
    let options = EngineOptions { context: 8, pass_tokens: 8, ..Default::default() };
    let engine = |model| Engine::new(&Device::Cpu, model, options).unwrap();
    let logits = |engine: &mut Engine| {
        engine.reset().unwrap();
        engine.feed(&[3, 4]).unwrap();
        block_on(engine.logits()).unwrap()
    };
    let mut replaced = engine(&model);
    let before = logits(&mut replaced);
    replaced.replace(Slot::Embedding, &other.embedding).unwrap();
    assert_eq!(logits(&mut replaced), logits(&mut engine(&other)));
    replaced.replace(Slot::Embedding, &model.embedding).unwrap();
    assert_eq!(logits(&mut replaced), before);
}

/// The head that an embedding of codes is, too, rounds its inputs where a rule says so, and only there.
#[test]
fn a_tied_head_of_codes_takes_floats_unless_told() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut model = Model::load(&file).unwrap();
    (model.config.tied, model.head) = (true, None);
    let weights = Some(Format { bits: 8, group: Group::Size(32), scales: ScaleFormat::Plain(DType::F32) });
    let made = |activations| {
        let rule = Rule { modules: vec!["Embedding".to_owned()], weights, activations, activation_percentile: None };
        let (calibration, transform) = (Default::default(), Transform::NONE);
        let recipe = Recipe { float: DType::F32, calibration, gptq: None, transform, rules: vec![rule] };
        block_on(recipe.apply(&model, &Device::Cpu, |_| {})).unwrap()
    };
    let (floats, int8) = (made(Activations::Float), made(Activations::TOKEN));
    let mut plain = floats.clone();
    let Linear::Quantized(q) = &floats.embedding else { panic!("quantized") };
    plain.embedding = Linear::Float(Tensor::from_f32(q.codes.shape, &q.dequantize().unwrap()));
    let options = EngineOptions { context: 8, pass_tokens: 8, ..Default::default() };
    for device in [Device::Cpu, common::gpu()] {
        let logits = |model: &Model| {
            let mut engine = Engine::new(&device, model, options).unwrap();
            assert_eq!(Memory::of(model, options).unwrap(), Some(engine.memory()));
            engine.feed(&[3, 4, 5]).unwrap();
            block_on(engine.logits()).unwrap()
        };
        let want = logits(&plain);
        let [floats, int8] = [&floats, &int8].map(|model| error(&logits(model), &want).0);
        assert!(floats < 1e-10 && int8 > 1e-7, "NMSE {floats:.2e} and {int8:.2e}");
    }
    // What a file says, too.
    let temp = tempfile::tempdir().unwrap();
    for (name, model) in [("floats", &floats), ("int8", &int8)] {
        let out = temp.path().join(name);
        write_model(file.checkpoint().config(), model, &out, &WriteOptions::default()).unwrap();
        let read = ModelFile::open(&out).unwrap();
        assert!(read.config().tied && read.embedding().unwrap() == model.embedding, "{name}");
    }
}

/// Also where no input had been rounded before, so that there was no room for scales.
#[test]
fn a_quantized_layer_takes_the_place_of_a_float_one() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let model = Model::load(&file).unwrap();
    let recipe = Recipe::uniform(file.config(), Bits::W8A8, Group::Channel, false, DType::BF16, Transform::NONE);
    let mut rounded = block_on(recipe.apply(&file, &Device::Cpu, |_| {})).unwrap();
    let Mixer::Mlp(mlp) = &mut rounded.layers[1].mixer else { panic!("block 1 of nano is an MLP") };
    let Linear::Quantized(up_proj) = &mut mlp.up_proj else { panic!("quantized") };
    up_proj.activations = Activations::Int8(Group::Size(32));
    let mut other = model.clone();
    let Mixer::Mlp(place) = &mut other.layers[1].mixer else { panic!("block 1 of nano is an MLP") };
    place.up_proj = mlp.up_proj.clone();
    let options = EngineOptions { context: 8, pass_tokens: 8, ..Default::default() };
    for device in [Device::Cpu, common::gpu()] {
        let logits = |mut engine: Engine| {
            engine.feed(&[3, 4, 5]).unwrap();
            block_on(engine.logits()).unwrap()
        };
        let mut engine = Engine::new(&device, &model, options).unwrap();
        engine.replace(Slot::Layer(1, "up_proj"), &mlp.up_proj).unwrap();
        assert_eq!(logits(engine), logits(Engine::new(&device, &other, options).unwrap()));
    }
}
