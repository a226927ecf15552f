//! Prompts cut into short submits: the same launches, so the same bits.

use std::time::Duration;

use pollster::block_on;
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

fn engine(budget: Option<Duration>) -> Engine {
    let device = common::open(None);
    device.gpu().expect("a GPU").set_submit_budget(budget);
    let file = ModelFile::open(&common::nano()).unwrap();
    let options = EngineOptions { context: 2000, pass_tokens: 256, ..Default::default() };
    Engine::new(&device, &file, options).unwrap()
}

fn tokens() -> Vec<u32> {
    (0..700u32).map(|i| 3 + (i * i * 7 + i * 13) % 2000).collect()
}

fn logits(budget: Option<Duration>) -> (Vec<Vec<f32>>, f64) {
    let mut engine = engine(budget);
    let mut all = Vec::new();
    // The first run of a pass learns, the second is cut by what was learned.
    for _ in 0..2 {
        engine.reset().unwrap();
        engine.feed(&tokens()).unwrap();
        all.push(block_on(engine.logits()).unwrap());
    }
    (all, engine.device().gpu().expect("a GPU").longest_submit())
}

/// The first token of each pass.
fn passes(budget: Option<Duration>) -> Vec<usize> {
    let mut starts = Vec::new();
    let look = |first: usize, _: &[f32]| {
        starts.push(first);
        Ok(())
    };
    block_on(engine(budget).feed_all(&tokens(), look)).unwrap();
    starts
}

#[test]
fn short_submits_change_no_bit() {
    let (want, unmeasured) = logits(None);
    assert_eq!(want[0], want[1]);
    assert_eq!(unmeasured, 0.0);
    // A launch would have to take five of the shorter for passes to shrink.
    for budget in [Duration::from_millis(20), Duration::from_secs(10)] {
        let (got, longest) = logits(Some(budget));
        assert!(longest > 0.0, "nothing was measured");
        assert!(got == want, "{budget:?}");
    }
}

/// Where even a launch is too long, passes are shorter, and end where chunks do: the states carried are the same.
#[test]
fn passes_too_long_shrink_to_chunks() {
    assert_eq!(passes(None), [0, 256, 512]);
    assert_eq!(passes(Some(Duration::from_nanos(1))), [0, 256, 384, 512, 640]);
    let (want, _) = logits(None);
    let (got, _) = logits(Some(Duration::from_nanos(1)));
    for (a, b) in want.iter().zip(&got) {
        let (nmse, _) = wgquant::kernels::check::error(b, a);
        assert!(nmse < 1e-10, "NMSE {nmse:.3e}");
    }
}
