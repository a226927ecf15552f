//! However a sequence is cut into calls, states and logits are the same.

use std::ops::ControlFlow::Continue;

use pollster::block_on;
use wgquant::eval::{DECODE, record};
use wgquant::gpu::Device;
use wgquant::kernels::{Sampling, check::error};
use wgquant::model::{Block, Model, ModelFile, ModelSource, OnlineRotation};
use wgquant::runtime::{Engine, EngineOptions, Next, Stage, Stream};
use wgquant::tensor::DType;

use crate::common;

fn engine(device: &Device, pass_tokens: usize) -> Engine {
    let file = ModelFile::open(&common::nano()).unwrap();
    Engine::new(device, &file, EngineOptions { context: 512, pass_tokens, ..Default::default() }).unwrap()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 3 + (i * i * 7 + i * 13) % 2000).collect()
}

/// Logits of the last token, and all states.
fn outcome(engine: &Engine) -> Vec<Vec<f32>> {
    let mut all = vec![block_on(engine.logits()).unwrap()];
    for i in 0..engine.config().blocks.len() {
        all.extend(block_on(engine.state().read(engine.device(), i)).unwrap().into_iter().map(|(_, v)| v));
    }
    all
}

#[track_caller]
fn same(a: &[Vec<f32>], b: &[Vec<f32>], limit: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let (nmse, _) = error(a, b);
        assert!(nmse <= limit, "part {i}: NMSE {nmse:.3e} above {limit:.0e}");
    }
}

fn any_split_is_the_same(device: &Device, limit: f64) {
    // chunk_size is 128: 300 tokens are two chunks and a part.
    let tokens = tokens(300);
    let mut whole = engine(device, 512);
    whole.feed(&tokens).unwrap();
    let want = outcome(&whole);
    for cuts in [vec![1, 299], vec![127, 173], vec![128, 172], vec![129, 171], vec![3, 1, 1, 200, 95]] {
        let mut split = engine(device, 512);
        let mut rest = &tokens[..];
        for n in cuts {
            split.feed(&rest[..n]).unwrap();
            rest = &rest[n..];
        }
        same(&outcome(&split), &want, limit);
    }
    let mut short_passes = engine(device, 77);
    short_passes.feed(&tokens).unwrap();
    same(&outcome(&short_passes), &want, limit);
}

#[test]
fn any_split_is_the_same_on_the_reference() {
    any_split_is_the_same(&Device::Cpu, 1e-10);
}

#[test]
fn any_split_is_the_same_on_the_gpu() {
    any_split_is_the_same(&common::gpu(), 1e-9);
}

#[test]
fn prefill_then_decode_is_decode_only() {
    let tokens = tokens(140);
    for (device, limit) in [(Device::Cpu, 1e-10), (common::gpu(), 1e-9)] {
        let mut prefill = engine(&device, 512);
        prefill.feed(&tokens[..130]).unwrap();
        tokens[130..].iter().for_each(|t| prefill.feed(&[*t]).unwrap());
        let mut decode = engine(&device, 512);
        tokens.iter().for_each(|t| decode.feed(&[*t]).unwrap());
        same(&outcome(&prefill), &outcome(&decode), limit);
    }
}

/// However a sequence is fed, what is chosen next follows its last token.
#[test]
fn logits_are_of_the_last_token_fed() {
    let tokens = tokens(40);
    for (device, limit) in [(Device::Cpu, 1e-10), (common::gpu(), 1e-9)] {
        let [mut fed, mut all, mut traced] = [(); 3].map(|()| engine(&device, 16));
        fed.feed(&tokens).unwrap();
        let vocab = fed.config().vocab_size;
        let mut last = Vec::new();
        let sink = |_, logits: &[f32]| {
            last = logits[logits.len() - vocab..].to_vec();
            Ok(())
        };
        block_on(all.feed_all(&tokens, sink)).unwrap();
        assert!(block_on(all.logits()).unwrap() == last, "{}: feed_all", device.name());
        traced.feed(&tokens[..32]).unwrap();
        let (name, values) = block_on(traced.trace(&tokens[32..])).unwrap().pop().unwrap();
        assert_eq!(name, "logits");
        assert!(block_on(traced.logits()).unwrap() == values[7 * vocab..], "{}: trace", device.name());
        let want = block_on(fed.choose(Next::Greedy)).unwrap();
        for engine in [&mut all, &mut traced] {
            same(&outcome(engine), &outcome(&fed), limit);
            assert_eq!(block_on(engine.choose(Next::Greedy)).unwrap(), want, "{}", device.name());
        }
    }
}

/// A device still holds the logits of the sequence before, or zeros.
#[test]
fn logits_of_no_token_are_refused() {
    let mut engine = engine(&Device::Cpu, 16);
    let refused = |engine: &mut Engine| {
        let errors = [
            block_on(engine.logits()).err(),
            block_on(engine.choose(Next::Greedy)).err(),
            engine.follow(Next::Greedy).err(),
        ];
        for error in errors {
            let error = error.unwrap().to_string();
            assert!(error.contains("no token was fed"), "{error}");
        }
        assert_eq!(engine.tokens(), 0);
    };
    refused(&mut engine);
    engine.feed(&tokens(2)).unwrap();
    block_on(engine.choose(Next::Greedy)).unwrap();
    block_on(engine.follow(Next::Greedy).unwrap().words()).unwrap();
    engine.reset().unwrap();
    refused(&mut engine);
}

/// A token whose read finds no memory was not processed; it is when it is asked for again.
#[test]
fn a_token_that_fails_may_be_asked_for_again() {
    let device = common::open(None);
    let gpu = device.gpu().unwrap();
    let [mut whole, mut fails] = [(); 2].map(|()| engine(&device, 16));
    let follow = |engine: &mut Engine| block_on(engine.follow(Next::Greedy).unwrap().words()).unwrap()[0];
    for engine in [&mut whole, &mut fails] {
        engine.feed(&tokens(9)).unwrap();
        block_on(engine.choose(Next::Greedy)).unwrap();
        follow(engine);
    }
    // Reads that are under way have the buffers there are to read to.
    let under_way = [(); 3].map(|()| fails.pick(Next::Greedy).unwrap());
    device.wait().unwrap();
    gpu.set_memory_limit(gpu.held_bytes() + 1);
    if gpu.room().is_none_or(|room| room.free > 1) {
        return eprintln!("{} does not count what it holds", gpu.adapter.backend);
    }
    let error = fails.follow(Next::Greedy).err().unwrap();
    assert!(matches!(error, wgquant::Error::OutOfMemory { .. }), "{error}");
    gpu.set_memory_limit(u64::MAX);
    drop(under_way);
    assert_eq!(fails.tokens(), 10);
    let [want, got] = [&mut whole, &mut fails].map(|engine| [(); 3].map(|()| follow(engine)));
    assert_eq!((got, fails.tokens()), (want, 13));
    assert!(outcome(&fails) == outcome(&whole));
}

/// Ops that a token fuses run apart where somebody looks: the states they leave are the same.
#[test]
fn a_token_looked_at_leaves_the_same_states() {
    let device = common::gpu();
    let (mut alone, mut seen) = (engine(&device, 64), engine(&device, 64));
    for token in tokens(6) {
        alone.feed(&[token]).unwrap();
        let taps = block_on(seen.trace(&[token])).unwrap();
        assert!(taps.iter().any(|(name, _)| name == "layer.0.conv"), "no convolution to look at");
    }
    same(&outcome(&alone)[1..], &outcome(&seen)[1..], 1e-10);
}

#[test]
fn reset_forgets() {
    let device = common::gpu();
    let mut used = engine(&device, 512);
    used.feed(&tokens(50)).unwrap();
    used.reset().unwrap();
    used.feed(&tokens(9)).unwrap();
    let mut fresh = engine(&device, 512);
    fresh.feed(&tokens(9)).unwrap();
    assert_eq!(outcome(&used), outcome(&fresh));
}

#[test]
fn gpu_states_follow_the_reference() {
    let mut cpu = engine(&Device::Cpu, 512);
    let mut gpu = engine(&common::gpu(), 512);
    assert!(cpu.config().blocks.contains(&Block::Attention));
    for part in [&tokens(200)[..], &[5], &[9]] {
        cpu.feed(part).unwrap();
        gpu.feed(part).unwrap();
        same(&outcome(&gpu), &outcome(&cpu), 1e-8);
    }
}

#[test]
fn a_seed_reproduces_a_sample() {
    let next = Next::Sample(Sampling { temperature: 0.9, top_k: 50, top_p: 0.95 });
    let sample = |device: &Device, seed: u32| {
        let mut engine = engine(device, 512);
        engine.seed(seed).unwrap();
        let go_on = |_| std::ops::ControlFlow::Continue(());
        block_on(engine.generate(&[1, 20, 30], 20, next, go_on)).unwrap()
    };
    let gpu = common::gpu();
    assert_eq!(sample(&gpu, 1), sample(&gpu, 1));
    assert_ne!(sample(&gpu, 1), sample(&gpu, 2));
    assert_eq!(sample(&gpu, 3), sample(&Device::Cpu, 3), "the reference draws the same tokens");
}

#[test]
fn rejects_tokens_it_cannot_take() {
    let mut engine = engine(&Device::Cpu, 512);
    assert!(engine.feed(&[]).unwrap_err().to_string().contains("no tokens"));
    assert!(engine.feed(&[2048]).unwrap_err().to_string().contains("vocabulary of 2048"));
    assert!(engine.feed(&tokens(513)).unwrap_err().to_string().contains("513 tokens in a context of 512"));
}

/// nano with a `time_step_min` that shows where dt is clamped to it.
fn floor() -> Model {
    let mut model = Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap();
    model.config.time_step_min = 0.5;
    model
}

fn clamping(model: &Model, transformers_dt_clamp: bool, pass_tokens: usize) -> Engine {
    let options = EngineOptions { context: 300, pass_tokens, transformers_dt_clamp, ..Default::default() };
    Engine::new(&Device::Cpu, model, options).unwrap()
}

/// Logits of the last token of calls of `parts` tokens.
fn clamped(model: &Model, transformers_dt_clamp: bool, parts: &[usize]) -> Vec<f32> {
    let mut engine = clamping(model, transformers_dt_clamp, 64);
    let tokens = tokens(parts.iter().sum::<usize>()).into_iter().map(|id| id % model.config.vocab_size as u32);
    let tokens: Vec<u32> = tokens.collect();
    let mut rest = &tokens[..];
    for n in parts {
        engine.feed(&rest[..*n]).unwrap();
        rest = &rest[*n..];
    }
    block_on(engine.logits()).unwrap()
}

/// However tokens are cut into calls: transformers takes them at once.
#[test]
fn transformers_clamp_of_dt_is_a_switch() {
    let model = floor();
    let want = clamped(&model, true, &[20]);
    assert!(error(&want, &clamped(&model, false, &[20])).0 > 1e-4, "the clamp changes prefill");
    for parts in [&[19, 1][..], &[1, 19], &[1; 20]] {
        let (nmse, _) = error(&clamped(&model, true, parts), &want);
        assert!(nmse < 1e-8, "{parts:?}: NMSE {nmse:.3e}");
    }
    // A window of two ids, of which one is fed.
    assert!(error(&clamped(&model, true, &[1]), &clamped(&model, false, &[1])).0 > 1e-6);
}

/// One token is left for the last pass of a window of 258 ids.
#[test]
fn the_last_token_of_a_window_is_clamped_too() {
    let model = floor();
    let last = |pass_tokens| {
        let mut last = Vec::new();
        let rows = |_, rows: &[f32]| {
            last = rows[rows.len() - model.config.vocab_size..].to_vec();
            Ok(())
        };
        block_on(clamping(&model, true, pass_tokens).feed_all(&tokens(257), rows)).unwrap();
        last
    };
    let (nmse, _) = error(&last(256), &last(257));
    assert!(nmse < 1e-8, "NMSE {nmse:.3e}");
}

/// Transformers decodes without.
#[test]
fn tokens_that_are_generated_are_not_clamped() {
    let model = floor();
    let next = |clamp| {
        let mut engine = clamping(&model, clamp, 64);
        engine.feed(&tokens(20)).unwrap();
        let id = block_on(engine.choose(Next::Greedy)).unwrap();
        let mut followed = clamping(&model, clamp, 64);
        followed.feed(&tokens(20)).unwrap();
        assert_eq!(block_on(followed.choose(Next::Greedy)).unwrap(), id);
        block_on(followed.follow(Next::Greedy).unwrap().words()).unwrap();
        engine.feed(&[id]).unwrap();
        error(&block_on(followed.logits()).unwrap(), &block_on(engine.logits()).unwrap()).0
    };
    assert_eq!(next(false), 0.0);
    assert!(next(true) > 1e-8, "{:.3e}", next(true));
}

/// Nor is a recorded token after a prompt.
#[test]
fn a_recorded_step_is_not_clamped() {
    let model = floor();
    let mut followed = clamping(&model, true, 64);
    followed.feed(&tokens(20)).unwrap();
    let id = block_on(followed.choose(Next::Greedy)).unwrap();
    block_on(followed.follow(Next::Greedy).unwrap().words()).unwrap();
    let want = block_on(followed.logits()).unwrap();
    let (taps, _) = block_on(record(&mut clamping(&model, true, 64), &tokens(20), Some(id), &[])).unwrap();
    let got = taps.iter().find(|tap| tap.name == format!("{DECODE}logits")).unwrap();
    let (nmse, _) = error(&got.values, &want);
    assert!(nmse < 1e-12, "{nmse:.2e}");
}

/// transformers 5.24 clamps dt of nemotron_h to (time_step_min, inf) and that of mamba2 to time_step_limit.
#[test]
fn each_family_has_the_bounds_of_transformers() {
    let with = |model: &Model, dt_limit, time_step_min| {
        let mut model = model.clone();
        (model.config.dt_limit, model.config.time_step_min) = (dt_limit, time_step_min);
        model
    };
    let none = (0.0, 1e30);
    for (model, limit, want) in
        [(floor(), (0.02, 0.03), (0.5, 1e30)), (crate::int8_state::mamba(2), (0.02, 0.03), (0.02, 0.03))]
    {
        let limited = with(&model, limit, 0.5);
        let got = clamped(&limited, true, &[20]);
        assert_eq!(got, clamped(&with(&model, want, 0.5), false, &[20]), "{:?}", model.config.model_type);
        assert!(error(&got, &clamped(&with(&model, none, 0.5), false, &[20])).0 > 1e-6);
        assert_eq!(got == clamped(&limited, false, &[20]), limit == want);
    }
}

#[test]
fn sizes_beyond_counting_are_refused() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let refused = |options| Engine::new(&Device::Cpu, &file, options).unwrap_err().to_string();
    let usual = EngineOptions::default();
    for (context, most) in [(1 << 33, 4_294_967_294u64), (usize::MAX, 1 << 48)] {
        let told = refused(EngineOptions { context, ..usual });
        assert!(told.contains(&format!("context of {context}, at most {most}")), "{told}");
    }
    let sequences = refused(EngineOptions { sequences: usize::MAX, ..usual });
    assert!(sequences.contains("sequences of 18446744073709551615"), "{sequences}");
    assert!(refused(EngineOptions { pass_tokens: 0, ..usual }).contains("at least 1"));
}

/// A server holds a device and moves engines to threads; that it can is part of the interface.
#[test]
fn devices_are_shared_and_engines_move() {
    fn shared<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    shared::<Device>();
    shared::<ModelFile>();
    moves::<Engine>();
    shared::<Box<dyn ModelSource>>();
    let mut engine = engine(&Device::Cpu, 8);
    let told = format!("{engine:?}");
    assert!(told.contains("9 blocks on Cpu, 0 of 512 tokens"), "{told}");
    std::thread::spawn(move || engine.feed(&[1, 2])).join().unwrap().unwrap();
}

/// Rows beyond the caches would be lost, and what comes behind them be wrong.
#[test]
fn a_stage_ends_with_its_context() {
    let model = Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap();
    let stage = Stage::new(&Device::Cpu, &model.config, OnlineRotation::default(), 8, 4).unwrap();
    let mut block = stage.load(3, &model.layers[3]).unwrap();
    let pass = stage.record(&block, 3, &mut |_, _, _| Ok(())).unwrap();
    let mut stream = Stream::Host(vec![0.5; 3 * model.config.hidden_size]);
    for _ in 0..2 {
        stage.run(&pass, Some(&mut block), &stream, 0).unwrap();
    }
    let told = stage.run(&pass, Some(&mut block), &stream, 0).unwrap_err().to_string();
    assert!(told.contains("3 tokens behind 6 in a context of 8"), "{told}");
    stage.reset(&mut block).unwrap();
    stage.run(&pass, Some(&mut block), &stream, 0).unwrap();
    for first in [1, usize::MAX] {
        assert!(stage.run(&pass, None, &stream, first).is_err(), "from {first}");
        assert!(block_on(stage.take(&pass, &mut stream, first)).is_err(), "from {first}");
    }
}

/// A driver's reset while a model is loaded: every call after it says so, and none panics.
#[test]
fn a_lost_device_is_an_error() {
    let device = common::open(None);
    let mut engine = engine(&device, 8);
    engine.feed(&tokens(5)).unwrap();
    let tensor = device.upload_f32([2, 64], &[0.0; 128]).unwrap();
    // A driver tells at once; a device that is given up tells when nothing is under way any more.
    device.wait().unwrap();
    device.gpu().unwrap().lose();
    let failures = [
        engine.feed(&[1]).and_then(|()| block_on(engine.logits()).map(|_| ())),
        engine.feed(&tokens(5)).and_then(|()| block_on(engine.logits()).map(|_| ())),
        engine.reset().and_then(|()| block_on(engine.generate(&[1], 4, Next::Greedy, |_| Continue(()))).map(|_| ())),
        device.write(&tensor, &[0; 128]).and_then(|()| block_on(device.read(&tensor)).map(|_| ())),
        device.upload_f32([1 << 20], &vec![0.0; 1 << 20]).map(|_| ()),
        device.alloc(DType::F32, [4]).map(|_| ()),
    ];
    for (i, failure) in failures.into_iter().enumerate() {
        let error = failure.expect_err(&format!("call {i}")).to_string();
        assert!(error.contains("device lost"), "call {i}: {error}");
    }
}
