//! Prompts whose scan reads f16.

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::compare;
use wgquant::gpu::Device;
use wgquant::kernels::{StateRounding, check::error};
use wgquant::model::{ModelFile, ModelSource};
use wgquant::runtime::{Engine, EngineOptions, Memory, ScanFormat, StateFormat};

use crate::common;

fn options(scan: ScanFormat) -> EngineOptions {
    EngineOptions { context: 512, pass_tokens: 256, scan, ..Default::default() }
}

fn engine(device: &Device, options: EngineOptions) -> Engine {
    Engine::new(device, &ModelFile::open(&common::nano()).unwrap(), options).unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + (i * i * 7 + i * 13) % 2000).collect()
}

/// Logits of the last token after calls of `parts` tokens.
fn logits(device: &Device, options: EngineOptions, parts: &[usize]) -> Vec<f32> {
    let tokens = tokens(parts.iter().sum());
    let mut engine = engine(device, options);
    let mut rest = &tokens[..];
    for n in parts {
        engine.feed(&rest[..*n]).unwrap();
        rest = &rest[*n..];
    }
    block_on(engine.logits()).unwrap()
}

/// KL of nano's first held-out tokens between nano and nano in f16, outputs included: something, but a thirtieth of what int8 keys and
/// values give (6.8e-6).
#[test]
fn f16_stays_near_f32() {
    let Windows(mut windows) = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 0, Some(1)).unwrap();
    windows[0].truncate(385);
    for device in [Device::Cpu, common::gpu()] {
        let of = |scan| engine(&device, options(scan));
        let windows = Windows(windows.clone());
        let (mut base, mut halves) = (of(ScanFormat::F32), of(ScanFormat::F16));
        let kl = block_on(compare(&mut base, &mut halves, &windows, &mut |_, _| {})).unwrap().mean_kl;
        assert!(kl > 1e-12 && kl < 2.2e-7, "{kl:.2e}");
    }
}

/// Between calls the state is f32, and one token is decoded in f32: cuts move no more than rounding does.
#[test]
fn calls_may_be_cut_anywhere() {
    for device in [Device::Cpu, common::gpu()] {
        let want = logits(&device, options(ScanFormat::F32), &[200]);
        for parts in [&[200][..], &[127, 73], &[100, 1, 99]] {
            let (nmse, _) = error(&logits(&device, options(ScanFormat::F16), parts), &want);
            assert!(nmse > 1e-14 && nmse < 1e-6, "{parts:?}: {nmse:.2e}");
        }
    }
}

/// With an int8 state between calls.
#[test]
fn int8_states_go_with_it() {
    let state = StateFormat::Int8 { rounding: StateRounding::Nearest, rotate: true, window: 8 };
    let device = common::gpu();
    let of = |scan| logits(&device, EngineOptions { state, ..options(scan) }, &[130, 70]);
    let (nmse, _) = error(&of(ScanFormat::F16), &of(ScanFormat::F32));
    assert!(nmse > 1e-14 && nmse < 1e-3, "{nmse:.2e}");
}

/// A trace has them as numbers, and takes them back.
#[test]
fn traces_show_halves_as_numbers() {
    let device = common::gpu();
    let tokens = tokens(150); // two chunks
    let taps = block_on(engine(&device, options(ScanFormat::F16)).trace_on(&tokens, &[])).unwrap();
    let again = block_on(engine(&device, options(ScanFormat::F16)).trace_on(&tokens, &taps)).unwrap();
    assert_eq!(taps, again);
    let in_f32 = block_on(engine(&device, options(ScanFormat::F32)).trace(&tokens)).unwrap();
    let mut seen = 0;
    for tap in taps.iter().filter(|t| [".conv", ".state_passing"].iter().any(|op| t.name.ends_with(op))) {
        let (_, want) = in_f32.iter().find(|(name, _)| *name == tap.name).unwrap();
        let (nmse, _) = error(&tap.values, want);
        assert!(nmse > 1e-14 && nmse < 1e-6, "{}: {nmse:.2e}", tap.name);
        seen += 1;
    }
    assert!(seen > 2, "{seen} ops of f16");
}

/// What is said to be needed is what is held, and less than in f32.
#[test]
fn memory_is_planned() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let planned = |scan| Memory::of(&file as &dyn ModelSource, options(scan)).unwrap().unwrap();
    let (f32, f16) = (planned(ScanFormat::F32), planned(ScanFormat::F16));
    assert!(f16.scratch < f32.scratch, "{} and {}", f16.scratch, f32.scratch);
    let held = engine(&common::gpu(), options(ScanFormat::F16)).working_bytes();
    assert_eq!(held, f16.kv + f16.state + f16.scratch);
}
