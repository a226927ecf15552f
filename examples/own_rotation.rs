//! Quantizes a model under a rotation of your own: `cargo run --release --example own_rotation`.
//!
//! The rotation is any orthogonal matrix; wgquant folds it into every weight around the residual stream, in f64.

use std::path::Path;

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::compare;
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::model::{Group, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Quantized, Recipe};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::tensor::DType;
use wgquant::transform::{Inputs, Matrix, Rotation, Transform, Transformed};

/// Put yours here: this is the discrete cosine transform, `[n, n]`.
fn rotation(n: usize) -> wgquant::Result<Matrix> {
    let angle = |i: usize| std::f64::consts::PI / n as f64 * (i / n) as f64 * ((i % n) as f64 + 0.5);
    Matrix::new(n, n, (0..n * n).map(|i| angle(i).cos()).collect())?.orthonormalized()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = block_on(Device::open(&DeviceChoice::Best, None))?;
    let original = ModelFile::open(Path::new("assets/nano"))?;
    let mut inputs = Inputs::default();
    inputs.given.insert("residual".to_owned(), rotation(original.config().hidden_size)?);
    let own = Transform { fold_norms: true, residual: Some(Rotation::Given), ..Transform::NONE };
    let rotated = Transformed::with(&original, own, &inputs)?;
    // The rest as any recipe does it, on top.
    let online = Transform { online: Transform::hadamard(original.config(), 0)?.online, ..Transform::NONE };
    let recipe = Recipe::uniform(rotated.config(), Bits::W4A8, Group::Size(32), true, DType::BF16, online);
    let quantized = Quantized::new(&rotated, &recipe, &device, None, &|_| ())?;

    let options = EngineOptions { context: 1024, ..Default::default() };
    let windows = Windows::read(Path::new("assets/nano/val_ids_u16.npy"), None, None, 1024, Some(1))?;
    let mut base = Engine::new(&device, &original, options)?;
    for (name, model) in [("rotated", &rotated as &dyn ModelSource), ("rotated and quantized", &quantized)] {
        let mut engine = Engine::new(&device, model, options)?;
        let result = block_on(compare(&mut base, &mut engine, &windows, &mut |_, _| {}))?;
        println!("{name}: KL {:.6} nats, perplexity ratio {:.5}", result.mean_kl, result.perplexity_ratio);
    }
    Ok(())
}
