//! Checkpoint in, quantized checkpoint out, read back, run and compared.

use std::path::Path;

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::{Comparison, compare};
use wgquant::gpu::Device;
use wgquant::model::{Activations, Group, Linear, Mixer, Model, ModelFile, ModelSource, OnlineRotation};
use wgquant::quantize::GptqOptions;
use wgquant::recipe::{Bits, Preset, Quantized, Recipe, Rule, quantize, transformed};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::tensor::DType;
use wgquant::transform::Transform;

use crate::common;
use crate::unfinished::same;

fn recipe(file: &ModelFile, bits: Bits, group: Group, rotate: bool) -> Recipe {
    let transform = if rotate { Transform::hadamard(file.config(), 0).unwrap() } else { Transform::NONE };
    Recipe::uniform(file.config(), bits, group, true, DType::BF16, transform)
}

fn write(bits: Bits, rotate: bool, out: &Path) {
    let file = ModelFile::open(&common::nano()).unwrap();
    quantize(&file, &recipe(&file, bits, Group::Size(128), rotate), &common::gpu(), None, out, &|_| {}).unwrap();
}

fn against_original(device: &Device, dir: &Path, windows: usize) -> Comparison {
    let base = ModelFile::open(&common::nano()).unwrap();
    let model = ModelFile::open(dir).unwrap();
    let windows = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, Some(windows)).unwrap();
    let options = EngineOptions { context: 1024, ..Default::default() };
    let mut base = Engine::new(device, &base, options).unwrap();
    let mut model = Engine::new(device, &model, options).unwrap();
    block_on(compare(&mut base, &mut model, &windows, &mut |_, _| {})).unwrap()
}

#[test]
fn every_scheme_writes_reads_back_and_stays_close() {
    let temp = tempfile::tempdir().unwrap();
    // The limits are about twice what is measured, half as much again of W8A8 rotated: less than without rotation, so one that does
    // nothing shows. A wrong scale or group mapping is off by far more.
    for (bits, rotate, kl) in [
        (Bits::W8A8, false, 0.003),
        (Bits::W8A8, true, 0.0014),
        (Bits::W4A8, false, 0.25),
        (Bits::W4A8, true, 0.25),
        (Bits::W4A16, true, 0.25),
    ] {
        let dir = temp.path().join(format!("{bits}-{rotate}"));
        write(bits, rotate, &dir);
        let result = against_original(&common::gpu(), &dir, 2);
        eprintln!("nano {bits} rotate {rotate}: KL {:.5}, top-1 {:.4}", result.mean_kl, result.top1_agreement);
        assert!(result.mean_kl > 0.0 && result.mean_kl < kl, "{bits} rotate {rotate}: KL {}", result.mean_kl);
    }
}

/// A rotation at run time alone: what is written stops other readers, and this crate runs it as before.
#[test]
fn floats_rotated_at_run_time_are_no_floats_to_others() {
    let transform = "[transform]\nfold_norms = true\nresidual = 0\n[transform.online]\nout_proj = 32\ndown_proj = 32\n";
    let recipe = format!("float = \"bf16\"\n{transform}[[rule]]\nmodules = [\"Linear\"]\n");
    let recipe = Recipe::parse("r.toml", &recipe).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (file, dir) = (ModelFile::open(&common::nano()).unwrap(), temp.path().join("q"));
    quantize(&file, &recipe, &common::gpu(), None, &dir, &|_| {}).unwrap();
    let written = ModelFile::open(&dir).unwrap();
    let config = &written.checkpoint().config()["quantization_config"];
    assert!(config["wgquant_method"] == "wgquant" && config["quant_method"].is_null(), "{config}");
    assert!(!written.is_quantized());
    let kl = against_original(&common::gpu(), &dir, 1).mean_kl;
    assert!(kl < 0.0005, "KL {kl}");
}

#[test]
fn the_file_is_what_was_quantized() {
    let temp = tempfile::tempdir().unwrap();
    let file = ModelFile::open(&common::nano()).unwrap();
    for (bits, group) in [(Bits::W8A8, Group::Channel), (Bits::W4A8, Group::Size(32)), (Bits::W4A16, Group::Channel)] {
        let recipe = recipe(&file, bits, group, true);
        let dir = temp.path().join(bits.to_string());
        quantize(&file, &recipe, &common::gpu(), None, &dir, &|_| {}).unwrap();
        let progress = |_| {};
        let memory = Model::load(&Quantized::new(&file, &recipe, &common::gpu(), None, &progress).unwrap()).unwrap();
        let read = Model::load(&ModelFile::open(&dir).unwrap()).unwrap();
        assert_eq!(read, memory, "{bits}");
        let awaited = block_on(recipe.apply(&file, &common::gpu(), progress)).unwrap();
        assert_eq!(awaited, memory, "{bits}");
    }
}

/// Codes are rounded on the device; the reference and the GPU may differ at ties only, and here do not.
#[test]
fn gpu_and_reference_quantize_alike() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let recipe = recipe(&file, Bits::W4A8, Group::Size(32), true);
    let progress = |_| {};
    let load =
        |device: &Device| Model::load(&Quantized::new(&file, &recipe, device, None, &progress).unwrap()).unwrap();
    let (gpu, cpu) = (load(&common::gpu()), load(&Device::Cpu));
    let (mut codes, mut different) = (0, 0);
    for (a, b) in gpu.layers.iter().zip(&cpu.layers) {
        let pair = match (&a.mixer, &b.mixer) {
            (Mixer::Mamba2(a), Mixer::Mamba2(b)) => (&a.in_proj, &b.in_proj),
            (Mixer::Mlp(a), Mixer::Mlp(b)) => (&a.down_proj, &b.down_proj),
            (Mixer::Attention(a), Mixer::Attention(b)) => (&a.o_proj, &b.o_proj),
            _ => panic!("kinds differ"),
        };
        let (Linear::Quantized(a), Linear::Quantized(b)) = pair else { panic!("not quantized") };
        assert_eq!(a.scales, b.scales);
        codes += a.codes.bytes.len();
        different += a.codes.bytes.iter().zip(&b.codes.bytes).filter(|(a, b)| a != b).count();
    }
    assert!(different <= codes.div_ceil(5000), "{different} of {codes} codes differ");
}

#[test]
fn a_quantized_model_runs_alike_on_reference_and_gpu() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("w4a8");
    write(Bits::W4A8, true, &dir);
    let file = ModelFile::open(&dir).unwrap();
    let tokens: Vec<u32> = (0..60).map(|i| 3 + (i * 31) % 2000).collect();
    let run = |device: &Device| {
        let mut engine = Engine::new(device, &file, EngineOptions { context: 64, ..Default::default() }).unwrap();
        engine.feed(&tokens).unwrap();
        block_on(engine.logits()).unwrap()
    };
    let (nmse, _) = wgquant::kernels::check::error(&run(&common::gpu()), &run(&Device::Cpu));
    // A code that falls to the other side of a tie moves an activation by a whole step: far above rounding,
    // far below what a wrong scale would do.
    assert!(nmse < 1e-3, "NMSE {nmse:.3e}");
}

#[test]
fn refuses_to_quantize_twice() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("w8a8");
    write(Bits::W8A8, false, &dir);
    let file = ModelFile::open(&dir).unwrap();
    let again = temp.path().join("again");
    let error = quantize(&file, &recipe(&file, Bits::W4A8, Group::Channel, false), &Device::Cpu, None, &again, &|_| {});
    assert!(error.unwrap_err().to_string().contains("quantized already"));
    assert!(!again.exists());
}

#[test]
fn same_recipe_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a"), temp.path().join("b"));
    write(Bits::W4A8, true, &a);
    write(Bits::W4A8, true, &b);
    same(&a, &b);
    assert_eq!(ModelFile::open(&a).unwrap().config().blocks.len(), 9);
}

/// Calibration's streams stay on the device where they take a small part of its memory, else they go through a file. What comes out
/// is the same, also of a sequence of several passes.
#[test]
fn streams_on_the_device_change_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let file = ModelFile::open(&common::nano()).unwrap();
    let gptq = GptqOptions { scale_steps: 4, sweeps: 0, asymmetric: false, ..Default::default() };
    let mut recipe = Recipe { gptq: Some(gptq), ..recipe(&file, Bits::W8A8, Group::Channel, false) };
    // Those of the statistics, too.
    recipe.transform.smooth.relu2 = Some(0.5.into());
    let ids = |tokens: u32, step: u32| (0..tokens).map(|i| 3 + (i * step) % 2000).collect();
    let windows = Windows(vec![ids(530, 31), ids(40, 17)]);
    // A software driver says nothing of its memory, so streams go through a file there, unless a limit says what there is.
    let made = [("file", None), ("device", Some(4 << 30))].map(|(name, limit)| {
        let device = common::open(None);
        if let Some(limit) = limit {
            device.gpu().unwrap().set_memory_limit(limit);
        }
        let out = temp.path().join(name);
        quantize(&file, &recipe, &device, Some(("text", &windows)), &out, &|_| {}).unwrap();
        std::fs::read(out.join("model.safetensors")).unwrap()
    });
    assert!(made[0] == made[1]);
}

/// Rows of a weight beyond a binding are quantized some at a time, embedding and head as well.
#[test]
fn small_bindings_change_nothing() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let plain = Recipe { gptq: None, ..recipe(&file, Bits::W8A8, Group::Channel, false) };
    let modules = vec!["Embedding".to_owned()];
    let table = Rule { modules, activations: Activations::Float, ..plain.rules[0].clone() };
    let plain = Recipe { rules: [plain.rules.clone(), vec![table]].concat(), ..plain };
    let made = [None, Some(100 << 10)].map(|limit| {
        let device = common::open(None);
        limit.inspect(|bytes| device.gpu().unwrap().set_binding_limit(*bytes));
        Model::load(&Quantized::new(&file, &plain, &device, None, &|_| {}).unwrap()).unwrap()
    });
    assert!(made[0] == made[1]);
}

/// What a block's rewrites need to know is gathered on the device while the block before is quantized there. Gathered and
/// rewritten before anything is quantized, the model comes out the same.
#[test]
fn statistics_gathered_beside_change_nothing() {
    let (file, device) = (ModelFile::open(&common::nano()).unwrap(), common::gpu());
    let online = OnlineRotation::default();
    let hadamard = Transform { online, ..Transform::hadamard(file.config(), 0).unwrap() };
    let recipe = Recipe::preset(Preset::W4A8, file.config(), DType::BF16, hadamard, true);
    assert!(recipe.transform.needs_stats() && recipe.gptq.is_some());
    let ids = |tokens: u32, step: u32| (0..tokens).map(|i| 3 + (i * step) % 2000).collect();
    let windows = Windows(vec![ids(530, 31), ids(40, 17)]);
    let made = |source: &dyn ModelSource, recipe: &Recipe| {
        Model::load(&Quantized::new(source, recipe, &device, Some(&windows), &|_| {}).unwrap()).unwrap()
    };
    let before = Model::load(&transformed(&file, &recipe, &device, Some(&windows)).unwrap()).unwrap();
    let wanted = made(&before, &Recipe { transform: Transform::NONE, ..recipe.clone() });
    assert!(made(&file, &recipe) == wanted);
    assert!(made(&file, &Recipe { transform: hadamard, ..recipe }) != wanted, "statistics change nothing at all");
}

fn windows() -> Windows {
    let ids = |tokens: u32, step: u32| (0..tokens).map(|i| 3 + (i * step) % 2000).collect();
    Windows(vec![ids(90, 31), ids(40, 17)])
}

fn quick() -> Option<GptqOptions> {
    Some(GptqOptions { scale_steps: 4, sweeps: 0, asymmetric: false, ..Default::default() })
}

/// From little text, too, the default is no worse than the quantized model's own inputs as targets: what inputs seem to be off from the
/// original model's is noise then.
#[test]
fn little_text_does_not_mislead_gptq() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let ids = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, None).unwrap().0;
    let cut =
        |from: usize, to: usize, tokens: usize| Windows(ids[from..to].iter().map(|w| w[..tokens].to_vec()).collect());
    let (little, held_out) = (cut(0, 8, 100), cut(56, 64, 300));
    let options = EngineOptions { context: 300, ..Default::default() };
    let kl = [true, false].map(|asymmetric| {
        let gptq = Some(GptqOptions { scale_steps: 12, sweeps: 1, asymmetric, ..Default::default() });
        let recipe = Recipe { gptq, ..recipe(&file, Bits::W4A8, Group::Size(32), true) };
        let model =
            Model::load(&Quantized::new(&file, &recipe, &Device::Cpu, Some(&little), &|_| {}).unwrap()).unwrap();
        let [mut base, mut model] =
            [&file as &dyn ModelSource, &model].map(|m| Engine::new(&Device::Cpu, m, options).unwrap());
        block_on(compare(&mut base, &mut model, &held_out, &mut |_, _| {})).unwrap().mean_kl
    });
    assert!(kl[0] <= 1.05 * kl[1], "KL {:.4}, without {:.4}", kl[0], kl[1]);
}

/// What no rule quantizes is of the recipe's type also beside GPTQ and rotated: of attention all, of other blocks one side.
#[test]
fn floats_beside_gptq_are_of_the_recipes_type() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut recipe = Recipe { gptq: quick(), ..recipe(&file, Bits::W4A8, Group::Size(32), true) };
    let linear = recipe.rules[0].clone();
    for modules in [r"re:.*\.(q|k|v|o|out|up)_proj$", "lm_head"].map(|name| vec![name.to_owned()]) {
        recipe.rules.push(Rule { modules, weights: None, activations: Activations::Float, ..linear.clone() });
    }
    let quantized = Quantized::new(&file, &recipe, &common::gpu(), Some(&windows()), &|_| {}).unwrap();
    let model = Model::load(&quantized).unwrap();
    let dtype = |linear: &Linear| if let Linear::Float(t) = linear { Some(t.dtype) } else { None };
    for (i, layer) in model.layers.iter().enumerate() {
        let (floats, codes) = match &layer.mixer {
            Mixer::Mamba2(m) => (vec![&m.out_proj], vec![&m.in_proj]),
            Mixer::Mlp(m) => (vec![&m.up_proj], vec![&m.down_proj]),
            Mixer::Attention(a) => (vec![&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj], vec![]),
        };
        assert!(floats.into_iter().all(|l| dtype(l) == Some(DType::BF16)), "block {i}");
        assert!(codes.into_iter().all(|l| dtype(l).is_none()), "block {i}");
    }
    assert_eq!(model.head.as_ref().and_then(dtype), Some(DType::BF16));
}

/// GPTQ says at once that a device cannot hold a site's moments, not when it comes to the site.
#[test]
fn moments_that_no_binding_holds_are_refused_before_anything_is_done() {
    let (file, device) = (ModelFile::open(&common::nano()).unwrap(), common::open(None));
    device.gpu().unwrap().set_binding_limit(4 * 672 * 672 - 1);
    let recipe = Recipe { gptq: quick(), ..recipe(&file, Bits::W8A8, Group::Channel, false) };
    let error = Quantized::new(&file, &recipe, &device, Some(&windows()), &|_| {}).unwrap_err().to_string();
    assert!(error.contains("down_proj") && error.contains("1806336") && error.contains("1806335"), "{error}");
    device.gpu().unwrap().set_binding_limit(4 * 672 * 672);
    Quantized::new(&file, &recipe, &device, Some(&windows()), &|_| {}).unwrap();
}

/// Nor of sequences that say nothing, or that the model has no words for.
#[test]
fn sequences_that_cannot_calibrate_are_refused_before_anything_is_done() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let recipe = Recipe { gptq: quick(), ..recipe(&file, Bits::W8A8, Group::Channel, false) };
    for (windows, said) in [
        (vec![], "windows: there are none"),
        (vec![vec![]], "window 0 has 0 tokens, at least 1"),
        (vec![vec![1, 2, 3], vec![]], "window 1 has 0 tokens"),
        (vec![vec![1, 2048, 3]], "token id 2048 of window 0 in a vocabulary of 2048"),
    ] {
        let made = Quantized::new(&file, &recipe, &Device::Cpu, Some(&Windows(windows)), &|_| {});
        let error = made.err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
}

/// A smoothed convolution takes what calibration saw in front of it.
#[test]
fn convolutions_are_smoothed_by_what_was_calibrated() {
    let (file, device) = (ModelFile::open(&common::nano()).unwrap(), common::gpu());
    let mut recipe = recipe(&file, Bits::W8A8, Group::Channel, false);
    recipe.transform.smooth.conv = Some(0.5.into());
    let model = Model::load(&transformed(&file, &recipe, &device, Some(&windows())).unwrap()).unwrap();
    let plain = Model::load(&file).unwrap();
    let of = |model: &Model| match &model.layers[0].mixer {
        Mixer::Mamba2(m) => m.conv_weight.clone(),
        _ => panic!("nano begins with a Mamba block"),
    };
    assert!(of(&model) != of(&plain));
    let logits = |model: &Model| {
        let mut engine = Engine::new(&Device::Cpu, model, EngineOptions { context: 64, ..Default::default() }).unwrap();
        engine.feed(&windows().0[1]).unwrap();
        block_on(engine.logits()).unwrap()
    };
    let (nmse, _) = wgquant::kernels::check::error(&logits(&model), &logits(&plain));
    assert!(nmse < 1e-9, "{nmse:.2e}");
}
