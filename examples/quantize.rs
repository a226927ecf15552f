//! Quantizes a model to W8A8 and compares it with the original: `cargo run --release --example quantize`.

use std::path::Path;

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::compare;
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::model::{Group, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Quantized, Recipe};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::tensor::DType;
use wgquant::transform::Transform;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = block_on(Device::open(&DeviceChoice::Best, None))?;
    let original = ModelFile::open(Path::new("assets/nano"))?;
    let transform = Transform::hadamard(original.config(), 0)?;
    let recipe = Recipe::uniform(original.config(), Bits::W8A8, Group::Channel, true, DType::BF16, transform);
    // Nothing is written: the engine takes the layers as they are quantized.
    let layer_done = |n: usize| eprintln!("layer {n} quantized");
    let quantized = Quantized::new(&original, &recipe, &device, None, &layer_done)?;

    let options = EngineOptions { context: 1024, ..Default::default() };
    let mut base = Engine::new(&device, &original, options)?;
    let mut model = Engine::new(&device, &quantized, options)?;
    let windows = Windows::read(Path::new("assets/nano/val_ids_u16.npy"), None, None, 1024, Some(1))?;
    let result = block_on(compare(&mut base, &mut model, &windows, &mut |_, _| {}))?;
    println!("{}: KL {:.5} nats, perplexity ratio {:.5}", device.name(), result.mean_kl, result.perplexity_ratio);
    Ok(())
}
