//! Logits, residual streams and states against transformers in f32 (`golden.safetensors`).
//!
//! Two f32 implementations differ by up to 2.4e-5 in logits of magnitude 20, an NMSE near 1e-12.

use std::path::{Path, PathBuf};

use pollster::block_on;
use safetensors::SafeTensors;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Block, ModelFile, ModelSource};
use wgquant::runtime::{Engine, EngineOptions, Next};

use crate::common;

const CPU: f64 = 1e-10;
const GPU: f64 = 1e-8;

struct Golden<'a>(SafeTensors<'a>);

impl Golden<'_> {
    fn f32(&self, name: &str) -> Option<Vec<f32>> {
        let data = self.0.tensor(name).ok()?.data().to_vec();
        Some(data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let data = self.0.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

#[track_caller]
fn close(what: &str, got: &[f32], want: &[f32], limit: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let (nmse, worst) = error(got, want);
    assert!(
        nmse <= limit,
        "{what}: NMSE {nmse:.3e} above {limit:.0e}; worst at {worst}: {} for {}",
        got[worst],
        want[worst]
    );
}

/// transformers keeps keys as `[kv_heads, tokens, head_dim]`; here they are `[tokens, kv_heads * head_dim]`.
fn by_token(golden: &[f32], kv_heads: usize, head_dim: usize) -> Vec<f32> {
    let tokens = golden.len() / (kv_heads * head_dim);
    let at = |t: usize, h: usize, d: usize| golden[(h * tokens + t) * head_dim + d];
    let mut out = Vec::with_capacity(golden.len());
    for t in 0..tokens {
        for h in 0..kv_heads {
            out.extend((0..head_dim).map(|d| at(t, h, d)));
        }
    }
    out
}

/// How many of the file's states were compared.
fn check_states(engine: &Engine, golden: &Golden<'_>, prompt: usize, step: usize, limit: f64) -> usize {
    let (config, mut compared) = (engine.config().clone(), 0);
    for (layer, block) in config.blocks.iter().enumerate().filter(|(_, b)| **b != Block::Mlp) {
        for (name, got) in block_on(engine.state().read(engine.device(), layer)).unwrap() {
            let full = format!("p{prompt}.state{step}.layer{layer}.{name}");
            let Some(want) = golden.f32(&full) else { continue };
            let want = match block {
                Block::Attention => by_token(&want, config.kv_heads, config.head_dim),
                _ => want,
            };
            close(&full, &got, &want, limit);
            compared += 1;
        }
    }
    compared
}

fn check_model(dir: &Path, golden: &Path, device: &Device, limit: f64) {
    let bytes = std::fs::read(golden).unwrap();
    let golden = Golden(SafeTensors::deserialize(&bytes).unwrap());
    let file = ModelFile::open(dir).unwrap();
    let mut engine = Engine::new(device, &file, EngineOptions { context: 256, ..Default::default() }).unwrap();
    let vocab = file.config().vocab_size;
    for prompt in 0..2 {
        let ids = golden.ids(&format!("p{prompt}.input_ids"));
        engine.reset().unwrap();
        let mut compared = 0;
        for (name, got) in block_on(engine.trace(&ids)).unwrap() {
            let full = format!("p{prompt}.{name}");
            // The files of larger models hold every few streams only.
            let Some(want) = golden.f32(&full) else { continue };
            close(&full, &got, &want, limit);
            compared += 1;
        }
        let stored = |what: &str| {
            let names = golden.0.names();
            names.iter().filter(|n| n.starts_with(&format!("p{prompt}.{what}"))).count()
        };
        let (states, stored) = (stored("state"), stored("hidden."));
        assert!(stored >= 4, "{stored} streams in the golden file");
        assert_eq!(compared, stored + 2, "every stored stream, norm_f and the logits");
        let mut states_compared = check_states(&engine, &golden, prompt, 0, limit);
        let want = golden.f32(&format!("p{prompt}.decode_logits")).unwrap();
        for (step, id) in golden.ids(&format!("p{prompt}.decode_ids")).into_iter().enumerate() {
            engine.feed(&[id]).unwrap();
            let got = block_on(engine.logits()).unwrap();
            close(&format!("p{prompt}.decode_logits[{step}]"), &got, &want[step * vocab..(step + 1) * vocab], limit);
            states_compared += check_states(&engine, &golden, prompt, step + 1, limit);
        }
        assert!(states >= 4, "{states} states in the golden file");
        assert_eq!(states_compared, states, "every stored state");
        let greedy = golden.ids(&format!("p{prompt}.greedy_ids"));
        engine.reset().unwrap();
        let got = block_on(engine.generate(&ids, greedy.len(), Next::Greedy, |_| std::ops::ControlFlow::Continue(())));
        // transformers goes on behind the end-of-sequence token; generation here stops before it.
        let got = got.unwrap();
        assert_eq!(got, greedy[..got.len()], "greedy continuation of prompt {prompt}");
        let ended = file.config().eos.contains(greedy.get(got.len()).unwrap_or(&u32::MAX));
        assert!(got.len() == greedy.len() || ended, "stopped after {} tokens", got.len());
    }
}

fn check_shared(model: &str, device: &Device, limit: f64) {
    if let Some(dir) = common::shared::shared(model) {
        check_model(&dir, &dir.join("golden.safetensors"), device, limit);
    }
}

fn nano_golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nano_golden.safetensors")
}

#[test]
fn nano_on_the_reference() {
    check_model(&common::nano(), &nano_golden(), &Device::Cpu, CPU);
}

#[test]
fn nano_on_the_gpu() {
    check_model(&common::nano(), &nano_golden(), &common::gpu(), GPU);
}

#[test]
fn small_on_the_reference() {
    check_shared("small", &Device::Cpu, CPU);
}

#[test]
fn small_on_the_gpu() {
    check_shared("small", &common::gpu(), GPU);
}

#[test]
fn mamba2_on_the_reference() {
    check_shared("mamba2", &Device::Cpu, CPU);
}

#[test]
fn mamba2_on_the_gpu() {
    check_shared("mamba2", &common::gpu(), GPU);
}
