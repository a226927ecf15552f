//! Products of prompts in slices of their columns.

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Activations, Group, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe, Rule, quantize};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::tensor::DType;
use wgquant::transform::Transform;

use crate::common;

/// Logits after a prompt, and how many launches add slices up.
fn outcome(device: &Device, model: &ModelFile, split_k: Option<usize>) -> (Vec<f32>, usize) {
    let options = EngineOptions { context: 256, pass_tokens: 150, split_k, ..Default::default() };
    let mut engine = Engine::new(device, model, options).unwrap();
    engine.feed(&(0..150).map(|i| 3 + (i * 31) % 2000).collect::<Vec<u32>>()).unwrap();
    let labels: Vec<String> =
        engine.plans().unwrap().iter().flat_map(|plan| plan.labels().collect::<Vec<_>>()).collect();
    let adds = labels.iter().filter(|label| label.starts_with("split_k_reduce")).count();
    (block_on(engine.logits()).unwrap(), adds)
}

/// Scratch that the sums of slices share with what a block wrote before is free by then, whatever the block.
#[test]
fn slices_give_what_whole_products_give() {
    let temp = tempfile::tempdir().unwrap();
    let file = ModelFile::open(&common::nano()).unwrap();
    for (name, group) in [("by_token", None), ("by_groups", Some(Group::Size(32)))] {
        let transform = Transform::hadamard(file.config(), 0).unwrap();
        let mut recipe = Recipe::uniform(file.config(), Bits::W4A8, Group::Size(32), true, DType::BF16, transform);
        if let Some(group) = group {
            let (modules, linear) = (vec!["Linear".to_owned()], recipe.rules[0].clone());
            recipe.rules.push(Rule { modules, activations: Activations::Int8(group), ..linear });
        }
        let out = temp.path().join(name);
        quantize(&file, &recipe, &common::gpu(), None, &out, &|_| {}).unwrap();
        let model = ModelFile::open(&out).unwrap();
        for device in [common::gpu(), Device::Cpu] {
            let (whole, none) = outcome(&device, &model, Some(1));
            let (slices, adds) = outcome(&device, &model, Some(3));
            assert_eq!((none, adds), (0, file.config().blocks.len()), "{name} on {}", device.name());
            let (nmse, _) = error(&slices, &whole);
            assert!(nmse < 1e-3, "{name} on {}: NMSE {nmse:.3e}", device.name());
        }
    }
}
