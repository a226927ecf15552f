//! Prompts cut into short submits: the same launches, so the same bits.

use std::time::Duration;

use pollster::block_on;
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

fn logits(budget: Option<Duration>, pass_tokens: usize) -> (Vec<Vec<f32>>, f64) {
    let device = common::open(None);
    let gpu = device.gpu().expect("a GPU");
    gpu.set_submit_budget(budget);
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut engine =
        Engine::new(&device, &file, EngineOptions { context: 2000, pass_tokens, ..Default::default() }).unwrap();
    let tokens: Vec<u32> = (0..700u32).map(|i| 3 + (i * i * 7 + i * 13) % 2000).collect();
    let mut all = Vec::new();
    // The first run of a pass learns, the second is cut by what was learned.
    for _ in 0..2 {
        engine.reset().unwrap();
        engine.feed(&tokens).unwrap();
        all.push(block_on(engine.logits()).unwrap());
    }
    (all, gpu.longest_submit())
}

#[test]
fn short_submits_change_no_bit() {
    let (want, unmeasured) = logits(None, 256);
    assert_eq!(want[0], want[1]);
    assert_eq!(unmeasured, 0.0);
    // A launch would have to take five of the shorter for passes to shrink.
    for budget in [Duration::from_millis(20), Duration::from_secs(10)] {
        let (got, longest) = logits(Some(budget), 256);
        assert!(longest > 0.0, "nothing was measured");
        assert!(got == want, "{budget:?}");
    }
}

/// Where even a launch is too long, passes are shorter, and end where chunks do: the states carried are the same.
#[test]
fn passes_too_long_shrink_to_chunks() {
    let (want, _) = logits(None, 256);
    let (got, _) = logits(Some(Duration::from_nanos(1)), 256);
    for (a, b) in want.iter().zip(&got) {
        let (nmse, _) = wgquant::kernels::check::error(b, a);
        assert!(nmse < 1e-10, "NMSE {nmse:.3e}");
    }
}
