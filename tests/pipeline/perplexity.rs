//! f32 perplexity of nano over all 64 windows, which transformers puts at 14.3136.

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::perplexity;
use wgquant::gpu::Device;
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

fn check(device: &Device) {
    let file = ModelFile::open(&common::nano()).unwrap();
    let windows = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, None).unwrap();
    assert_eq!(windows.0.len(), 64);
    let mut engine = Engine::new(device, &file, EngineOptions { context: 1024, ..Default::default() }).unwrap();
    let got = block_on(perplexity(&mut engine, &windows, &mut |_, _| {})).unwrap();
    assert_eq!(got.tokens, 65536);
    assert!((got.perplexity / 14.3136 - 1.0).abs() <= 1e-4, "perplexity {}", got.perplexity);
}

#[test]
fn nano_on_the_reference() {
    check(&Device::Cpu);
}

#[test]
fn nano_on_the_gpu() {
    check(&common::gpu());
}
