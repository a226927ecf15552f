//! How prompts of quantized models are launched changes nothing but rounding.

use pollster::block_on;
use wgquant::gpu::{Device, Specialise};
use wgquant::kernels::check::error;
use wgquant::model::{Activations, Block, Group, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe, Rule, quantize};
use wgquant::runtime::{Engine, EngineOptions, Next};
use wgquant::tensor::DType;
use wgquant::transform::Transform;

use crate::common;

/// nano W4A8 with a scale for each token, or for each 32 columns of it, which then are turned in blocks of as many.
fn model(group: Option<Group>) -> (tempfile::TempDir, ModelFile) {
    let temp = tempfile::tempdir().unwrap();
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut transform = Transform::hadamard(file.config(), 0).unwrap();
    if group.is_some() {
        transform = transform.in_blocks(file.config(), 32);
    }
    let mut recipe = Recipe::uniform(file.config(), Bits::W4A8, Group::Size(32), true, DType::BF16, transform);
    if let Some(group) = group {
        let (modules, linear) = (vec!["Linear".to_owned()], recipe.rules[0].clone());
        recipe.rules.push(Rule { modules, activations: Activations::Int8(group), ..linear });
    }
    let out = temp.path().join("model");
    quantize(&file, &recipe, &common::gpu(), None, &out, &|_| {}).unwrap();
    let model = ModelFile::open(&out).unwrap();
    (temp, model)
}

fn engine(device: &Device, model: &ModelFile, split_k: Option<usize>) -> Engine {
    // Room for two slices of 150 tokens, whatever the product.
    let options = EngineOptions { context: 512, pass_tokens: 450, split_k, ..Default::default() };
    Engine::new(device, model, options).unwrap()
}

/// Logits after a prompt.
fn logits(engine: &mut Engine, tokens: u32) -> Vec<f32> {
    engine.reset().unwrap();
    engine.feed(&(0..tokens).map(|i| 3 + (i * 31) % 2000).collect::<Vec<u32>>()).unwrap();
    block_on(engine.logits()).unwrap()
}

#[track_caller]
fn near(got: &[f32], want: &[f32], limit: f64) {
    let (nmse, _) = error(got, want);
    assert!(nmse < limit, "NMSE {nmse:.3e}");
}

/// Scratch that the sums of slices share with what a block wrote before is free by then, whatever the block.
#[test]
fn slices_give_what_whole_products_give() {
    for group in [None, Some(Group::Size(32))] {
        let (_temp, model) = model(group);
        for device in [common::gpu(), Device::Cpu] {
            let [mut whole, mut slices] = [1, 2].map(|n| engine(&device, &model, Some(n)));
            let adds = |engine: &Engine| {
                let pass = engine.record_profile(150, Next::Greedy).unwrap();
                pass.launches().filter(|launch| launch.kernel.name == "split_k_reduce").count()
            };
            // Those into the stream the next block's norm adds up, and up_proj's the transform of groups.
            let blocks = &model.config().blocks;
            let along = if group.is_some() { blocks.iter().filter(|b| **b == Block::Mlp).count() } else { 0 };
            assert_eq!([adds(&whole), adds(&slices)], [0, 1 + blocks.len() - along], "on {}", device.name());
            near(&logits(&mut slices, 150), &logits(&mut whole, 150), 1e-3);
        }
    }
}

/// What is compiled for one length serves others.
#[test]
fn what_does_not_depend_on_the_length_may_be_compiled_in() {
    for group in [None, Some(Group::Size(32))] {
        let (_temp, model) = model(group);
        let [mut uniform, mut compiled] = [Specialise::Never, Specialise::Often].map(|specialise| {
            let device = common::open(std::env::var("WGQUANT_CAPS").ok().as_deref());
            device.gpu().unwrap().set_specialise(specialise);
            engine(&device, &model, None)
        });
        let pipelines = |engine: &Engine| engine.device().gpu().unwrap().compiled();
        let mut first = 0;
        // 146 are as many tiles as 150, whatever the tiles, and half of them as half of those.
        for tokens in [150, 146, 41, 2] {
            near(&logits(&mut compiled, tokens), &logits(&mut uniform, tokens), 1e-3);
            match tokens {
                150 => {
                    first = pipelines(&compiled);
                    assert!(first > pipelines(&uniform), "no numbers are compiled in: {first} pipelines");
                }
                146 => assert_eq!(pipelines(&compiled), first, "what is compiled depends on the length"),
                _ => {}
            }
        }
    }
}
