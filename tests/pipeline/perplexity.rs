//! f32 perplexity of nano over all 64 windows, which transformers puts at 14.3136.

use pollster::block_on;
use wgquant::calibrate::Windows;
use wgquant::eval::{Between, Perplexity, Task, compare, diff, evaluate, perplexity, record};
use wgquant::gpu::Device;
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

fn of_windows(device: &Device, count: Option<usize>) -> Perplexity {
    let file = ModelFile::open(&common::nano()).unwrap();
    let windows = Windows::read(&common::nano().join("val_ids_u16.npy"), None, None, 1024, count).unwrap();
    assert_eq!(windows.0.len(), count.unwrap_or(64));
    let mut engine = Engine::new(device, &file, EngineOptions { context: 1024, ..Default::default() }).unwrap();
    block_on(perplexity(&mut engine, &windows, &mut |_, _| {})).unwrap()
}

#[test]
fn nano_on_the_reference() {
    let got = of_windows(&Device::Cpu, None);
    assert_eq!(got.tokens, 65536);
    assert!((got.perplexity / 14.3136 - 1.0).abs() <= 1e-4, "perplexity {}", got.perplexity);
}

/// Of fewer windows, as a software driver takes minutes over all.
#[test]
fn nano_on_the_gpu_is_that_on_the_reference() {
    let [got, want] = [common::gpu(), Device::Cpu].map(|device| of_windows(&device, Some(12)));
    assert_eq!(got.tokens, 12 * 1024);
    assert!((got.perplexity / want.perplexity - 1.0).abs() <= 1e-5, "{} and {}", got.perplexity, want.perplexity);
}

/// A window's last token is never fed, only looked up.
#[test]
fn windows_of_which_nothing_can_be_measured() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let engine = || Engine::new(&Device::Cpu, &file, EngineOptions { context: 8, ..Default::default() }).unwrap();
    let (mut base, mut model) = (engine(), engine());
    for (windows, said) in [
        (vec![], "there are none"),
        (vec![vec![1, 2], vec![3]], "window 1 has 1 tokens, at least 2"),
        (vec![vec![]], "window 0 has 0 tokens"),
        (vec![vec![1, 2048]], "token id 2048 of window 0 in a vocabulary of 2048"),
        (vec![vec![u32::MAX, 1]], "token id 4294967295 of window 0"),
    ] {
        let windows = Windows(windows);
        let _ = (windows.targets(), windows.longest());
        let alone = block_on(perplexity(&mut model, &windows, &mut |_, _| {})).unwrap_err().to_string();
        let against = block_on(compare(&mut base, &mut model, &windows, &mut |_, _| {})).unwrap_err().to_string();
        assert!(alone.contains(said), "{alone}");
        assert_eq!(alone, against);
    }
}

/// Whoever serves several users awaits on several threads. That it compiles is the test.
#[allow(dead_code, reason = "never called")]
fn futures_may_go_to_other_threads(base: &mut Engine, model: &mut Engine, windows: &Windows, task: &Task) {
    fn sent(_: impl Send) {}
    sent(perplexity(model, windows, &mut |_, _| {}));
    sent(evaluate(model, None, task, &mut |_, _| {}));
    sent(compare(base, model, windows, &mut |_, _| {}));
    sent(model.trace(&[1]));
    sent(record(model, &[1], None, &[]));
    sent(diff(model, &[1], 1, &[], Between::Devices, None));
}
