//! Static activation scales: what calibration finds, what saturates, and that runtime and reference agree.

use std::path::Path;

use pollster::block_on;
use wgquant::calibrate::{Calibrator, Stats, Windows};
use wgquant::eval::compare;
use wgquant::gpu::Device;
use wgquant::model::{Activations, Group, Layer, Linear, Model, ModelFile, ModelSource};
use wgquant::quantize::GptqOptions;
use wgquant::recipe::{Bits, Quantized, Recipe, Rule, quantize};
use wgquant::reference::quantize_tokens::group_scale;
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::tensor::DType;
use wgquant::transform::{Transform, Transformed};

use crate::common;

fn nano() -> ModelFile {
    ModelFile::open(&common::nano()).unwrap()
}

/// Texts to calibrate on: others than those that perplexity is measured on.
fn texts(sequences: usize, tokens: usize) -> Windows {
    let all = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, None).unwrap();
    Windows(all.0.iter().rev().take(sequences).map(|ids| ids[..tokens].to_vec()).collect())
}

/// W8A8 with fixed scales.
fn recipe(file: &ModelFile, rotate: bool, group: Group, percentile: Option<f64>) -> Recipe {
    let transform = if rotate { Transform::hadamard(file.config(), 0).unwrap() } else { Transform::NONE };
    let mut recipe = Recipe::uniform(file.config(), Bits::W8A8, Group::Channel, false, DType::F32, transform);
    recipe.fix_activations(group, percentile);
    recipe
}

/// Fixed scales of a part of a block.
fn scales(layer: &Layer, part: &str) -> Vec<f64> {
    let (_, linear) = layer.linears().into_iter().find(|(name, _)| *name == part).unwrap();
    let Linear::Quantized(q) = linear else { panic!("{part} is float") };
    q.input_scales.iter().map(|s| f64::from(*s)).collect()
}

/// Statistics of the float model under the recipe's transform.
fn stats(file: &ModelFile, transform: Transform, texts: &Windows) -> Stats {
    let source = Transformed::new(file, transform).unwrap();
    let options = EngineOptions { context: texts.longest(), ..Default::default() };
    let engine = Engine::new(&Device::Cpu, &source, options).unwrap();
    let mut calibrator = Calibrator::new(engine, source.rotation(), Stats::of_one_text(false)).unwrap();
    texts.0.iter().for_each(|ids| block_on(calibrator.sequence(ids)).unwrap());
    calibrator.stats().clone()
}

/// The embedding stays float, so the first block's input is that of the float model.
#[test]
fn scales_are_percentiles_of_the_calibrated_input() {
    let (file, texts) = (nano(), texts(2, 100));
    let stats = stats(&file, Transform::NONE, &texts);
    let site = stats.input("backbone.layers.0.mixer.in_proj").unwrap();
    for (group, percentile) in
        [(Group::Channel, None), (Group::Channel, Some(99.0)), (Group::Size(32), None), (Group::Size(16), Some(100.0))]
    {
        let recipe = recipe(&file, false, group, percentile);
        let model = Quantized::new(&file, &recipe, &Device::Cpu, Some(&texts), &|_| {}).unwrap();
        model.embedding().unwrap();
        let found = scales(&model.layer(0).unwrap(), "in_proj");
        let largest = site.absmax();
        let want: Vec<f64> = match percentile {
            Some(99.0) => vec![site.percentile(0.99) / 127.0],
            _ => largest
                .chunks(group.len(largest.len()))
                .map(|g| f64::from(g.iter().fold(0f32, |m, v| m.max(*v))) / 127.0)
                .collect(),
        };
        // Several scales are rounded up to four bits.
        let short = |s: f64| if want.len() > 1 { f64::from(group_scale(s as f32)) } else { s };
        assert_eq!(found.len(), want.len());
        for (found, want) in found.iter().zip(want.iter().map(|s| short(*s))) {
            assert!((found / want - 1.0).abs() < 1e-6, "{group:?} {percentile:?}: {found} for {want}");
        }
    }
}

/// Where there are no finite values is said by layer and tap.
#[test]
fn inputs_that_are_not_finite_are_named() {
    let file = nano();
    let mut model = Model::load(&file).unwrap();
    model.layers[0].norm[3] = f32::NAN;
    let (recipe, texts) = (recipe(&file, false, Group::Channel, None), texts(1, 20));
    let quantized = Quantized::new(&model, &recipe, &Device::Cpu, Some(&texts), &|_| {}).unwrap();
    quantized.embedding().unwrap();
    let error = quantized.layer(0).err().unwrap().to_string();
    assert!(error.contains("norm in layer 0") && error.contains("not finite"), "{error}");
}

/// Behind an online rotation it is the rotated input that counts.
#[test]
fn scales_are_of_rotated_inputs() {
    let (file, texts) = (nano(), texts(1, 100));
    let recipe = recipe(&file, true, Group::Channel, None);
    let model = Quantized::new(&file, &recipe, &Device::Cpu, Some(&texts), &|_| {}).unwrap();
    let (rotated, plain) = (stats(&file, recipe.transform, &texts), stats(&file, Transform::NONE, &texts));
    model.embedding().unwrap();
    let (mut apart, blocks) = (0, file.config().blocks.len());
    for index in 0..blocks {
        let layer = model.layer(index).unwrap();
        for part in ["out_proj", "down_proj"].iter().filter(|p| layer.linears().iter().any(|(name, _)| name == *p)) {
            let largest = |stats: &Stats| {
                f64::from(stats.input(&format!("backbone.layers.{index}.mixer.{part}")).unwrap().largest()) / 127.0
            };
            let found = scales(&layer, part)[0];
            // Blocks before are quantized here and float there.
            assert!((found / largest(&rotated) - 1.0).abs() < 0.1, "{part} of {index}: {found} {}", largest(&rotated));
            apart += usize::from((found / largest(&plain) - 1.0).abs() > 0.2);
        }
    }
    assert!(apart >= 4, "{apart} sites of {blocks} blocks tell rotated from plain inputs");
}

fn kl(group: Group, percentile: Option<f64>, out: &Path) -> f64 {
    let file = nano();
    let recipe = recipe(&file, true, group, percentile);
    quantize(&file, &recipe, &Device::Cpu, Some(("text", &texts(3, 300))), out, &|_| {}).unwrap();
    let windows = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, Some(1)).unwrap();
    let options = EngineOptions { context: 1024, ..Default::default() };
    let device = common::gpu();
    let mut base = Engine::new(&device, &file, options).unwrap();
    let mut model = Engine::new(&device, &ModelFile::open(out).unwrap(), options).unwrap();
    block_on(compare(&mut base, &mut model, &windows, &mut |_, _| {})).unwrap().mean_kl
}

#[test]
fn stay_close_unless_too_much_saturates() {
    let temp = tempfile::tempdir().unwrap();
    let [whole, groups, cut] = [(Group::Channel, None), (Group::Size(32), None), (Group::Channel, Some(90.0))]
        .map(|(group, p)| kl(group, p, &temp.path().join(format!("{group:?}{p:?}"))));
    eprintln!("nano W8A8: KL {whole:.5} fixed a tensor, {groups:.5} by groups of 32, {cut:.5} with a tenth saturated");
    // Twice what is measured.
    assert!(whole > 0.0 && whole < 0.0076, "{whole}");
    assert!(groups > 0.0 && groups < whole, "{groups}");
    assert!(cut > 5.0 * whole, "{cut} for {whole}");
}

/// Mixed with dynamic ones by rules, written, read back: prefill and decode on the GPU and in the reference agree.
#[test]
fn static_and_dynamic_layers_run_together() {
    let temp = tempfile::tempdir().unwrap();
    let file = nano();
    let mut recipe = recipe(&file, true, Group::Size(64), Some(99.9));
    let mut push = |pattern: &str, activations, activation_percentile| {
        let rule = recipe.rules[0].clone();
        recipe.rules.push(Rule { modules: vec![pattern.to_owned()], activations, activation_percentile, ..rule });
    };
    push(r"re:.*\.up_proj$", Activations::Int8(Group::Size(32)), None);
    push(r"re:.*\.(out|o)_proj$", Activations::Static(Group::Channel), None);
    push("lm_head", Activations::TOKEN, None);
    let recipe = Recipe::parse("again", &recipe.to_toml().unwrap()).unwrap();
    quantize(&file, &recipe, &Device::Cpu, Some(("text", &texts(1, 100))), &temp.path().join("q"), &|_| {}).unwrap();
    let model = ModelFile::open(&temp.path().join("q")).unwrap();
    let tokens: Vec<u32> = (0..60).map(|i| 3 + (i * 31) % 2000).collect();
    let logits = |device: &Device, pass_tokens| {
        let options = EngineOptions { context: 64, pass_tokens, ..Default::default() };
        let mut engine = Engine::new(device, &model, options).unwrap();
        engine.feed(&tokens).unwrap();
        block_on(engine.logits()).unwrap()
    };
    let want = logits(&Device::Cpu, 64);
    for (device, pass_tokens) in [(common::gpu(), 64), (common::gpu(), 1), (Device::Cpu, 1)] {
        let (nmse, _) = wgquant::kernels::check::error(&logits(&device, pass_tokens), &want);
        // Codes that fall to the other side of a tie; a wrong scale is far above.
        assert!(nmse < 1e-3, "NMSE {nmse:.3e} in passes of {pass_tokens} on {}", device.name());
    }
}

#[test]
fn gptq_takes_fixed_scales_and_the_size_is_predicted() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (nano(), temp.path().join("q"));
    let mut recipe = recipe(&file, false, Group::Size(64), None);
    recipe.gptq = Some(GptqOptions { sweeps: 0, scale_steps: 1, ..GptqOptions::default() });
    let (summary, losses) =
        quantize(&file, &recipe, &Device::Cpu, Some(("text", &texts(1, 64))), &out, &|_| {}).unwrap();
    assert_eq!(losses.len(), recipe.modules(file.config()).unwrap().iter().filter(|m| m.weights.is_some()).count());
    let model = ModelFile::open(&out).unwrap();
    for index in 0..model.config().blocks.len() {
        for (part, linear) in model.layer(index).unwrap().linears() {
            let Linear::Quantized(q) = linear else { panic!("{part} of {index} is float") };
            assert!(q.input_scales.len() >= linear.dims().1 / 64, "{part} of {index}: {}", q.input_scales.len());
        }
    }
    let options = EngineOptions::default();
    let predicted = wgquant::analyze::predict(&file, "static", &recipe, options).unwrap();
    assert_eq!(predicted.bytes, model.bytes(), "{summary:?}");
    assert_eq!(predicted.device_bytes, Engine::new(&Device::Cpu, &model, options).unwrap().weight_bytes());
}

#[test]
fn what_cannot_be_is_refused() {
    let (file, windows) = (nano(), texts(1, 32));
    let says = |recipe: &Recipe, texts: Option<&Windows>, parts: &[&str]| {
        let model = Quantized::new(&file, recipe, &Device::Cpu, texts, &|_| {});
        let error = model.and_then(|m| {
            m.embedding()?;
            (0..file.config().blocks.len()).try_for_each(|i| m.layer(i).map(|_| ()))
        });
        let error = error.unwrap_err().to_string();
        parts.iter().for_each(|p| assert!(error.contains(p), "`{p}` is not in: {error}"));
    };
    let fixed = recipe(&file, false, Group::Channel, None);
    says(&fixed, None, &["fixed scale", "needs calibration text"]);
    let error = block_on(fixed.apply(&file, &Device::Cpu, |_| {})).unwrap_err().to_string();
    assert!(error.contains("fixed scale") && error.contains("needs calibration text"), "{error}");
    for percentile in [0.0, 100.5, f64::NAN] {
        let p = Some(percentile);
        says(&recipe(&file, false, Group::Channel, p), Some(&windows), &["activation_percentile", "up to 100"]);
    }
    let mut dynamic = fixed.clone();
    dynamic.free_activations(None);
    dynamic.rules[0].activation_percentile = Some(99.0);
    says(&dynamic, Some(&windows), &["activation_percentile", "99", "static"]);
    let mut mixed = fixed.clone();
    let rule = Rule { modules: vec![r"re:.*\.k_proj$".to_owned()], ..fixed.rules[0].clone() };
    mixed.rules.push(Rule { activation_percentile: Some(99.0), ..rule });
    says(&mixed, Some(&windows), &["k_proj", "q_proj", "99.0", "100.0"]);
}
