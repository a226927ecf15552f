//! States kept as int8 between calls.

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::{StateRounding, check::error};
use wgquant::model::{Block, Model, ModelConfig, ModelFile};
use wgquant::runtime::{Engine, EngineOptions, Next, StateFormat};

use crate::common;

const NEAREST: StateFormat = StateFormat::Int8 { rounding: StateRounding::Nearest, rotate: true, window: 8 };

fn engine(device: &Device, state: StateFormat) -> Engine {
    let file = ModelFile::open(&common::nano()).unwrap();
    Engine::new(device, &file, EngineOptions { context: 256, pass_tokens: 256, state, ..Default::default() }).unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + (i * i * 7 + i * 13) % 2000).collect()
}

/// The states of all Mamba-2 blocks.
fn states(engine: &Engine) -> Vec<f32> {
    let blocks = engine.config().blocks.iter().enumerate().filter(|(_, b)| **b == Block::Mamba2);
    let read = |i| block_on(engine.state().read(engine.device(), i)).unwrap();
    blocks.flat_map(|(i, _)| read(i).into_iter().filter(|(name, _)| *name == "ssm").flat_map(|(_, v)| v)).collect()
}

/// NMSE of the states and of the last logits after `parts` calls, against an f32 state.
fn errors(device: &Device, state: StateFormat, parts: &[usize]) -> (f64, f64) {
    let tokens = tokens(parts.iter().sum());
    let run = |state| {
        let mut engine = engine(device, state);
        let mut rest = &tokens[..];
        for n in parts {
            engine.feed(&rest[..*n]).unwrap();
            rest = &rest[*n..];
        }
        (states(&engine), block_on(engine.logits()).unwrap())
    };
    let ((s, l), (want_s, want_l)) = (run(state), run(StateFormat::F32));
    (error(&s, &want_s).0, error(&l, &want_l).0)
}

/// One rounding of a row of n values to steps of max / 127 has NMSE of at most n / 12 (max / 127)² / Σv², and as
/// Σv² >= max², of n / 12 / 127² = 1.7e-4 for nano's 32; logits of that call saw an f32 state.
#[test]
fn a_call_rounds_once() {
    for device in [Device::Cpu, common::gpu()] {
        let (state, logits) = errors(&device, NEAREST, &[200]);
        assert!(state > 1e-7 && state < 1.7e-4, "{state:.2e}");
        assert!(logits < 1e-9, "{logits:.2e}");
    }
}

/// Seven single tokens on a new state: nothing is rounded yet.
#[test]
fn recent_tokens_are_exact() {
    for device in [Device::Cpu, common::gpu()] {
        let (state, logits) = errors(&device, NEAREST, &[1; 7]);
        assert!(state < 1e-9 && logits < 1e-9, "{state:.2e} {logits:.2e}");
        assert!(errors(&device, NEAREST, &[1; 8]).0 > 1e-7, "the eighth rounds");
    }
}

/// Decoding is prefilling but for roundings, whatever the order of long and short calls.
#[test]
fn decode_is_close_to_prefill() {
    let device = Device::Cpu;
    let cut = [&[100][..], &[1; 30], &[40], &[1; 3], &[2]].concat();
    let (state, logits) = errors(&device, NEAREST, &cut);
    // A handful of roundings of 1e-5 each, and what they do to the blocks above.
    assert!(state < 1e-3 && logits < 1e-3, "{state:.2e} {logits:.2e}");
    let stochastic = StateFormat::Int8 { rounding: StateRounding::Stochastic(1), rotate: true, window: 8 };
    let (state, logits) = errors(&device, stochastic, &cut);
    assert!(state < 2e-3 && logits < 2e-3, "{state:.2e} {logits:.2e}");
}

/// What a rounding loses comes back with the next: errors neither add up nor leave a bias.
#[test]
fn errors_that_are_kept_do_not_add_up() {
    for (device, tokens) in [(Device::Cpu, 250), (common::gpu(), 60)] {
        let of = |rounding, tokens| {
            errors(&device, StateFormat::Int8 { rounding, rotate: true, window: 2 }, &vec![1; tokens])
        };
        let (kept, lost) = (of(StateRounding::Feedback, tokens), of(StateRounding::Nearest, tokens));
        assert!(kept.0 > 0.0 && kept.0 < lost.0 / 50.0, "states: {:.2e} kept, {:.2e} lost", kept.0, lost.0);
        assert!(kept.1 < lost.1, "logits: {:.2e} kept, {:.2e} lost", kept.1, lost.1);
    }
}

/// Fewer roundings, smaller errors; and turning the rows helps.
#[test]
fn a_window_and_a_rotation_help() {
    let device = Device::Cpu;
    let of = |rotate, window| {
        errors(&device, StateFormat::Int8 { rounding: StateRounding::Nearest, rotate, window }, &[1; 160]).0
    };
    let (each, eighth, plain) = (of(true, 1), of(true, 8), of(false, 8));
    assert!(eighth < each, "{eighth:.2e} with a window of 8, {each:.2e} with 1");
    assert!(eighth < plain, "{eighth:.2e} turned, {plain:.2e} as it is");
}

#[test]
fn a_reset_forgets_and_stochastic_rounding_repeats() {
    let stochastic = |seed| StateFormat::Int8 { rounding: StateRounding::Stochastic(seed), rotate: true, window: 3 };
    let device = common::gpu();
    let run = |engine: &mut Engine| {
        engine.feed(&tokens(20)).unwrap();
        tokens(10).iter().for_each(|t| engine.feed(&[*t]).unwrap());
        states(engine)
    };
    let mut used = engine(&device, stochastic(1));
    let first = run(&mut used);
    used.reset().unwrap();
    assert_eq!(run(&mut used), first);
    assert_ne!(run(&mut engine(&device, stochastic(2))), first);
}

/// The device moves cursor and clock on by itself there, and rounds in the same submit: 19 tokens are two roundings and three recent ones.
#[test]
fn following_is_feeding_the_ids() {
    for device in [Device::Cpu, common::gpu()] {
        for state in [StateFormat::F32, NEAREST] {
            let (mut follows, mut feeds) = (engine(&device, state), engine(&device, state));
            follows.feed(&tokens(9)).unwrap();
            feeds.feed(&tokens(9)).unwrap();
            let mut ids = vec![follows.pick(Next::Greedy).unwrap()];
            ids.extend((0..19).map(|_| follows.follow(Next::Greedy).unwrap()));
            for id in ids.into_iter().take(19) {
                feeds.feed(&block_on(id.words()).unwrap()).unwrap();
            }
            let name = device.name();
            assert_eq!((follows.tokens(), feeds.tokens()), (28, 28), "{name}");
            assert_eq!(states(&follows), states(&feeds), "{state:?} on {name}");
            assert_eq!(block_on(follows.logits()).unwrap(), block_on(feeds.logits()).unwrap(), "{state:?} on {name}");
        }
    }
}

#[test]
fn a_window_out_of_range_is_refused() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let state = StateFormat::Int8 { rounding: StateRounding::Nearest, rotate: true, window: 65 };
    let options = EngineOptions { state, ..Default::default() };
    let error = Engine::new(&Device::Cpu, &file, options).err().unwrap().to_string();
    assert!(error.contains("window") && error.contains("65"), "{error}");
}

/// Two Mamba-2 layers of 8 heads in so many groups.
pub(crate) fn mamba(groups: usize) -> Model {
    let json = serde_json::json!({
        "model_type": "mamba2", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8,
        "head_dim": 8, "expand": 2, "n_groups": groups, "state_size": 16, "conv_kernel": 4, "chunk_size": 16,
        "rms_norm": true, "use_bias": false, "use_conv_bias": true, "hidden_act": "silu", "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": true, "time_step_limit": [0.0, 1e30], "time_step_min": 0.001, "residual_in_fp32": true,
    });
    Model::random(ModelConfig::from_json(std::path::Path::new("config.json"), &json).unwrap(), 5)
}

/// Where a workgroup has all heads of a group, convolution and update are one launch, of the same tokens.
#[test]
fn convolution_and_update_are_one_dispatch_of_whole_groups() {
    let tokens: Vec<u32> = (0..13).map(|i| (i * i * 7 + i * 13) % 64).collect();
    let engine = |device: &Device, groups, state| {
        let options = EngineOptions { context: 16, pass_tokens: 16, state, ..Default::default() };
        Engine::new(device, &mamba(groups), options).unwrap()
    };
    let run = |device: &Device, groups, state| {
        let mut engine = engine(device, groups, state);
        tokens.iter().for_each(|t| engine.feed(&[*t]).unwrap());
        (block_on(engine.logits()).unwrap(), states(&engine))
    };
    let window = StateFormat::Int8 { rounding: StateRounding::Nearest, rotate: true, window: 16 };
    for device in [Device::Cpu, common::gpu()] {
        let dispatches = |groups| engine(&device, groups, window).dispatches(1).unwrap();
        assert_eq!(dispatches(8) + 2, dispatches(4), "one fewer in each of two layers");
        let (got, want) = (run(&device, 8, window), run(&device, 8, StateFormat::F32));
        // Nothing is rounded within a window.
        assert!(error(&got.0, &want.0).0 < 1e-9, "{:.2e}", error(&got.0, &want.0).0);
        assert!(error(&got.1, &want.1).0 < 1e-9, "{:.2e}", error(&got.1, &want.1).0);
    }
}

/// Through the kernels of several tokens, which take in the recent ones and round: none is recent afterwards.
#[test]
fn an_observed_token_leaves_none_recent() {
    for device in [Device::Cpu, common::gpu()] {
        let run = |state| {
            let (mut engine, ids) = (engine(&device, state), tokens(43));
            engine.feed(&ids[..40]).unwrap();
            engine.feed(&ids[40..41]).unwrap();
            let pass = engine.record_observed(1, &mut |_, _, _| Ok(())).unwrap();
            engine.observe(&pass, &ids[41..42]).unwrap();
            engine.feed(&ids[42..]).unwrap();
            (states(&engine), block_on(engine.logits()).unwrap())
        };
        let ((s, l), (want_s, want_l)) = (run(NEAREST), run(StateFormat::F32));
        let (state, logits) = (error(&s, &want_s).0, error(&l, &want_l).0);
        assert!(state < 4.0 * 1.7e-4 && logits < 1e-3, "{state:.2e}, {logits:.2e}");
    }
}

/// Taking a sequence rounds its state; where it stands in the caches does not change.
#[test]
fn a_batch_of_one_goes_on_after_it_was_taken() {
    for device in [Device::Cpu, common::gpu()] {
        let run = |state, taken| {
            let (mut engine, ids) = (engine(&device, state), tokens(14));
            engine.set_sequences(1).unwrap();
            engine.feed(&ids[..10]).unwrap();
            engine.put(0).unwrap();
            ids[10..13].iter().for_each(|id| engine.feed_each(&[*id]).unwrap());
            if taken {
                engine.take(0).unwrap();
            }
            ids[13..].iter().for_each(|id| engine.feed_each(&[*id]).unwrap());
            block_on(engine.logits_each()).unwrap()
        };
        let want = run(StateFormat::F32, false);
        assert_eq!(run(StateFormat::F32, true), want);
        let (nmse, _) = error(&run(NEAREST, true), &want);
        assert!(nmse < 1e-5, "{nmse:.2e}");
    }
}
