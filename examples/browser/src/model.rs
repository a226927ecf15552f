//! A small model, quantized in memory and compared with its original.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use tokenizers::Tokenizer;
use wasm_bindgen::prelude::*;
use web_time::Instant;
use wgquant::calibrate::Windows;
use wgquant::checkpoint::Checkpoint;
use wgquant::eval::{Comparison, compare};
use wgquant::gpu::Device;
use wgquant::model::{Group, Linear, Model, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe};
use wgquant::report::test_ops::ModelRun;
use wgquant::runtime::{Engine, EngineOptions, Next};
use wgquant::tensor::DType;
use wgquant::transform::Transform;

/// Predicted tokens: enough to tell schemes apart, few enough for a software driver.
const TOKENS: usize = 512;
const PROMPT: &str = "The old man looked at the sea and said";
const NEW_TOKENS: usize = 24;

/// A fetched model directory.
pub(crate) struct Files {
    pub(crate) config: String,
    pub(crate) weights: Vec<u8>,
    pub(crate) tokenizer: Vec<u8>,
    pub(crate) windows: Vec<u8>,
}

/// Measures the original and each scheme; gives one row a model.
pub(crate) async fn measure(device: &Device, files: Files, each: impl Fn(Value)) -> Result<Vec<ModelRun>, JsError> {
    let tokenizer =
        Tokenizer::from_bytes(&files.tokenizer).map_err(|e| JsError::new(&format!("tokenizer.json: {e}")))?;
    let mut windows = Windows::from_npy("val_ids_u16.npy", &files.windows, Some(1))?;
    windows.0.iter_mut().for_each(|w| w.truncate(TOKENS + 1));
    let source = ModelFile::new(Checkpoint::from_bytes("nano", &files.config, files.weights)?)?;
    let original = Model::load(&source)?;
    let mut rows = Vec::new();
    for (name, bits, transform) in [
        ("W8A8", Bits::W8A8, Transform::NONE),
        ("W4A8 + hadamard", Bits::W4A8, Transform::hadamard(source.config(), 0)?),
    ] {
        let step = |text: String| each(json!({ "step": text }));
        let recipe = Recipe::uniform(source.config(), bits, Group::Size(128), true, DType::BF16, transform);
        let blocks = source.config().blocks.len();
        let progress = |done| step(format!("{name}: quantized block {done} of {blocks}"));
        let model = recipe.apply(&source, device, progress).await?;
        step(format!("{name}: comparing with the original on {} tokens", windows.targets()));
        let (mut base, mut engine) = (load(device, &original)?, load(device, &model)?);
        let result = compare(&mut base, &mut engine, &windows, &mut |_, _| {}).await?;
        if rows.is_empty() {
            step("original: continuing a prompt".to_owned());
            let said = speak(device, &original, &tokenizer).await?;
            rows.push(row("original", &original, &original_against_itself(&result), said));
            each(json!({ "model": rows.last() }));
        }
        step(format!("{name}: continuing a prompt"));
        let said = speak(device, &model, &tokenizer).await?;
        rows.push(row(name, &model, &result, said));
        each(json!({ "model": rows.last() }));
    }
    Ok(rows)
}

fn load(device: &Device, model: &Model) -> wgquant::Result<Engine> {
    Engine::new(device, model, EngineOptions { context: 1024, pass_tokens: 256, ..EngineOptions::default() })
}

/// Tokens a second after the first, and the text.
async fn speak(device: &Device, model: &Model, tokenizer: &Tokenizer) -> Result<(f64, String), JsError> {
    let words = |e: tokenizers::Error| JsError::new(&format!("tokenizer: {e}"));
    let encoded = tokenizer.encode(PROMPT, false).map_err(words)?;
    let prompt: Vec<u32> = model.config.bos.into_iter().chain(encoded.get_ids().iter().copied()).collect();
    let mut engine = load(device, model)?;
    let mut times = Vec::new();
    let start = Instant::now();
    let made = engine
        .generate(&prompt, NEW_TOKENS, Next::Greedy, |_| {
            times.push(start.elapsed().as_secs_f64());
            ControlFlow::Continue(())
        })
        .await?;
    let span = times.last().copied().unwrap_or(0.0) - times.first().copied().unwrap_or(0.0);
    let speed = if span > 0.0 { (times.len() - 1) as f64 / span } else { 0.0 };
    Ok((speed, tokenizer.decode(&made, true).map_err(words)?))
}

fn original_against_itself(result: &Comparison) -> Comparison {
    Comparison {
        model: result.base.clone(),
        perplexity_ratio: 1.0,
        mean_kl: 0.0,
        top1_agreement: 1.0,
        ..result.clone()
    }
}

fn row(name: &str, model: &Model, result: &Comparison, (speed, text): (f64, String)) -> ModelRun {
    ModelRun {
        name: name.to_owned(),
        weight_bytes: weight_bytes(model),
        tokens: result.model.tokens,
        perplexity: result.model.perplexity,
        perplexity_ratio: result.perplexity_ratio,
        mean_kl: result.mean_kl,
        top1_agreement: result.top1_agreement,
        tokens_per_second: speed,
        prompt: PROMPT.to_owned(),
        text,
    }
}

/// Bytes of embedding, head and linear layers with their scales: nearly all of the model.
fn weight_bytes(model: &Model) -> usize {
    let layers = model.layers.iter().flat_map(|layer| layer.linears().into_iter().map(|(_, linear)| linear));
    let bytes = |linear: &Linear| match linear {
        Linear::Float(t) => t.bytes.len(),
        Linear::Quantized(q) => q.codes.bytes.len() * q.bits / 8 + q.scales.bits() / 8,
    };
    layers.chain([&model.embedding]).chain(&model.head).map(bytes).sum()
}
