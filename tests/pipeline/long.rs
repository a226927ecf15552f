//! Thousands of tokens, with states that hardly decay: errors add up here first (mlx-lm #988, mamba #923).

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Block, Mixer, Model, ModelConfig};
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

const TOKENS: usize = 4096;

/// Two Mamba-2 layers of width 32 whose states keep half of a token for thousands more.
fn model(chunk: usize) -> Model {
    let json = serde_json::json!({
        "model_type": "mamba2", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8,
        "head_dim": 8, "expand": 2, "n_groups": 2, "state_size": 8, "conv_kernel": 4, "chunk_size": chunk,
        "rms_norm": true, "use_bias": false, "use_conv_bias": true, "hidden_act": "silu", "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": true, "time_step_limit": [0.0, 1e30], "time_step_min": 0.001, "residual_in_fp32": true,
    });
    let config = ModelConfig::from_json(std::path::Path::new("config.json"), &json).unwrap();
    assert_eq!(config.blocks, [Block::Mamba2; 2]);
    let mut model = Model::random(config, 5);
    for layer in &mut model.layers {
        if let Mixer::Mamba2(mixer) = &mut layer.mixer {
            // exp(-dt e^-6), dt about 0.05: a half-life of some 5000 tokens.
            mixer.a_log.fill(-6.0);
        }
    }
    model
}

fn run(device: &Device, model: &Model, parts: &[usize]) -> Vec<Vec<f32>> {
    let options = EngineOptions { context: TOKENS, pass_tokens: TOKENS, ..Default::default() };
    let mut engine = Engine::new(device, model, options).unwrap();
    let tokens: Vec<u32> = (0..parts.iter().sum::<usize>() as u32).map(|i| (i * i * 7 + i * 13) % 64).collect();
    let mut rest = &tokens[..];
    for n in parts {
        engine.feed(&rest[..*n]).unwrap();
        rest = &rest[*n..];
    }
    let mut all = vec![block_on(engine.logits()).unwrap()];
    for i in 0..model.layers.len() {
        all.extend(block_on(engine.state().read(device, i)).unwrap().into_iter().map(|(_, v)| v));
    }
    all
}

#[track_caller]
fn same(what: &str, got: &[Vec<f32>], want: &[Vec<f32>], limit: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let (nmse, _) = error(g, w);
        assert!(nmse <= limit, "{what}, part {i}: NMSE {nmse:.3e} above {limit:.0e}");
    }
}

#[test]
fn decode_is_prefill_over_4096_tokens_of_weak_decay() {
    let model = model(128);
    let want = run(&Device::Cpu, &model, &[TOKENS]);
    same("decode on the reference", &run(&Device::Cpu, &model, &[1; TOKENS]), &want, 1e-9);
    let gpu = common::gpu();
    same("prefill", &run(&gpu, &model, &[TOKENS]), &want, 1e-8);
    same("decode", &run(&gpu, &model, &[1; TOKENS]), &want, 1e-8);
}

/// Every way to cut two chunks and a part into two calls.
#[test]
fn every_chunk_offset_is_the_same() {
    let (model, total) = (model(8), 19);
    for (device, limit) in [(Device::Cpu, 1e-10), (common::gpu(), 1e-9)] {
        let want = run(&device, &model, &[total]);
        for cut in 1..total {
            same(&format!("cut at {cut}"), &run(&device, &model, &[cut, total - cut]), &want, limit);
        }
    }
}
