//! Where two runs of one prompt part: each op's own error, and the first that is too large.
//!
//! Errors add up over a model's layers, and int8 rounding may make small ones large. So an op is judged on the inputs of
//! the reference run ([`crate::runtime::Engine::trace_on`]): its error is its own, whatever came before it.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::kernels::check;
use crate::model::{Block, ModelConfig};
use crate::runtime::{Engine, Tap};
use crate::transform::Transform;

/// Prefix of what the decode step behind the prompt gives.
pub const DECODE: &str = "decode.";

/// A rotated embedding has an NMSE near 2; nothing that is the same comes near this.
const OTHER_BASIS: f64 = 0.5;

/// What differs between the runs, which decides what is tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Between<'a> {
    /// Devices or shader variants: rounding only.
    Devices,
    /// Models, such as a quantized one and its original, with the rewrites in their weights. Where these are not known
    /// (`None`), only what no rewrite changes is compared.
    Models {
        /// Of the run.
        run: Option<&'a Transform>,
        /// Of the reference.
        reference: Option<&'a Transform>,
    },
}

/// How an op was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Within its tolerance.
    Ok,
    /// Its own error passes its tolerance.
    Failed,
    /// The two models hold it in different bases (folded norms, a rotated stream, smoothed units), or may, so it cannot be
    /// compared.
    OtherBasis,
}

/// One op's error.
#[derive(Clone, Debug, Serialize)]
pub struct OpError {
    /// `prefill` or `decode`.
    pub step: &'static str,
    /// Its block; `None` for the embedding, the final norm and the head.
    pub layer: Option<usize>,
    /// `mamba2`, `attention`, `mlp`, or `model` outside of blocks.
    pub block: &'static str,
    /// The op; `block` where the reference holds nothing from within the block.
    pub op: String,
    /// Its own error on the reference's inputs: Σ(a−b)² / Σa², f64. The stream's is relative to what the block adds.
    pub nmse: f64,
    /// Largest difference on the reference's inputs.
    pub max_abs: f64,
    /// Error of the run left alone: what all ops up to here add up to.
    pub carried_nmse: f64,
    /// Largest own error tolerated.
    pub limit: f64,
    /// Whether it was.
    pub verdict: Judgement,
}

/// The names of an op's tap, taken apart.
struct Place {
    step: &'static str,
    layer: Option<usize>,
    op: String,
}

/// Runs `tokens` as one pass and one decode step of `next`, or of the most likely token; gives what every op gave
/// (decode with [`DECODE`] before the names) and the token. `inputs` as in [`Engine::trace_on`].
///
/// # Errors
/// As [`Engine::trace_on`].
pub async fn record(engine: &mut Engine, tokens: &[u32], next: Option<u32>, inputs: &[Tap]) -> Result<(Vec<Tap>, u32)> {
    engine.reset()?;
    let mut taps = engine.trace_on(tokens, inputs).await?;
    let vocab = engine.config().vocab_size;
    let last = taps.last().map_or(&[][..], |logits| &logits.values[logits.values.len() - vocab..]);
    let best = (0..last.len()).fold(0, |best, i| if last[i] > last[best] { i } else { best });
    let next = next.unwrap_or(best as u32);
    let decode = |tap: &Tap| tap.name.strip_prefix(DECODE).map(|name| Tap { name: name.to_owned(), ..tap.clone() });
    let inputs: Vec<Tap> = inputs.iter().filter_map(decode).collect();
    let step = engine.trace_on(&[next], &inputs).await?;
    taps.extend(step.into_iter().map(|tap| Tap { name: format!("{DECODE}{}", tap.name), ..tap }));
    Ok((taps, next))
}

/// Runs `engine` on the prompt and judges each op that `reference` holds too. `tolerance` replaces all limits. Codes and
/// their scales are a model's own way to write an input, and no ops between models.
///
/// # Errors
/// As [`Engine::trace_on`]; [`Error::Argument`] when a shape differs or `reference` and model have no op in common.
pub async fn diff(
    engine: &mut Engine,
    tokens: &[u32],
    next: u32,
    reference: &[Tap],
    between: Between<'_>,
    tolerance: Option<f64>,
) -> Result<Vec<OpError>> {
    let (alone, _) = record(engine, tokens, Some(next), &[]).await?;
    let of_op = |name: &str| between == Between::Devices || !(name.ends_with(".codes") || name.ends_with(".scales"));
    let find = |taps: &[Tap], name: &str| taps.iter().position(|t| t.name == name && of_op(name));
    for tap in &alone {
        if let Some(i) = find(reference, &tap.name).filter(|i| reference[*i].values.len() != tap.values.len()) {
            let reason = format!("has shape {} in the reference, {} here", reference[i].shape, tap.shape);
            return Err(Error::argument(format!("activation `{}`", tap.name), reason));
        }
    }
    let embedding = |taps: &[Tap]| find(taps, "hidden.0").map(|i| taps[i].values.clone());
    let turned = embedding(&alone).zip(embedding(reference)).is_none_or(|(a, b)| check::error(&a, &b).0 > OTHER_BASIS);
    let comparable = |name: &str| match (between, op(name)) {
        (Between::Devices, _) => true,
        // What is not known of the stream its first values tell.
        (Between::Models { run, reference }, "hidden") if run.is_none() || reference.is_none() => !turned,
        (Between::Models { run, reference }, op) => Transform::same_basis(run, reference, op),
    };
    let inputs: Vec<Tap> = reference.iter().filter(|t| of_op(&t.name) && comparable(&t.name)).cloned().collect();
    let (own, _) = record(engine, tokens, Some(next), &inputs).await?;

    let mut ops = Vec::new();
    for (own, alone) in own.iter().zip(&alone) {
        let Some(want) = find(reference, &own.name).map(|i| &reference[i]) else { continue };
        let place = place(&own.name, reference);
        let before = stream_before(&own.name).and_then(|name| find(reference, &name)).map(|i| &reference[i]);
        let (nmse, max_abs) = error(own, want, before.filter(|_| comparable(&own.name)));
        let limit = tolerance.unwrap_or_else(|| limit(&place.op, between).0);
        let verdict = match comparable(&own.name) {
            false => Judgement::OtherBasis,
            // Written so that NaN fails.
            true if nmse <= limit => Judgement::Ok,
            true => Judgement::Failed,
        };
        let block = block(engine.config(), place.layer);
        let carried_nmse = check::error(&alone.values, &want.values).0;
        let Place { step, layer, op } = place;
        ops.push(OpError { step, layer, block, op, nmse, max_abs, carried_nmse, limit, verdict });
    }
    if ops.is_empty() {
        let reason = "has no name in common with this model; names are hidden.0, layer.0.in_proj, norm_f, logits";
        return Err(Error::argument("the reference", reason));
    }
    Ok(ops)
}

/// Largest own error tolerated of an op, and why.
#[must_use]
pub fn limit(op: &str, between: Between<'_>) -> (f64, &'static str) {
    if between != Between::Devices {
        return (0.1, "rounding to 4 bits in groups costs 0.01 to 0.02 an op; more than 0.1 is no rounding");
    }
    match op {
        op if op.ends_with(".codes") => {
            (1e-6, "2 of 10,000 codes may differ by a step: 2e-4 of 1/900 of a row's energy")
        }
        "block" => (1e-8, "two f32 implementations of all ops of a block"),
        "out_proj" | "o_proj" | "down_proj" => (1e-9, "an f32 stream up to 100 times what the block adds to it"),
        // Ten times the kernels' own tolerance: activations of a model cancel more than a case's.
        "conv" | "gated_norm" | "dt" | "da_cumsum" => (1e-9, "ten times the kernel's tolerance"),
        "chunk_state" | "state_passing" | "scan" | "attention" => (1e-8, "ten times the kernel's tolerance"),
        _ => (1e-10, "ten times the kernel's tolerance"),
    }
}

/// What a tap's name says without its step and block; `hidden` of the stream.
fn op(name: &str) -> &str {
    let name = name.strip_prefix(DECODE).unwrap_or(name);
    match name.strip_prefix("layer.") {
        Some(rest) => rest.split_once('.').map_or(rest, |(_, op)| op),
        None => name.split_once('.').map_or(name, |(first, _)| first),
    }
}

/// The stream that entered the block whose end `name` is.
fn stream_before(name: &str) -> Option<String> {
    let (prefix, plain) = name.strip_prefix(DECODE).map_or(("", name), |plain| (DECODE, plain));
    let layer: usize = plain.strip_prefix("hidden.")?.parse().ok()?;
    layer.checked_sub(1).map(|before| format!("{prefix}hidden.{before}"))
}

/// NMSE and largest difference; with `before`, relative to what was added to it.
fn error(got: &Tap, want: &Tap, before: Option<&Tap>) -> (f64, f64) {
    let (nmse, worst) = check::error(&got.values, &want.values);
    let max_abs = f64::from((got.values[worst] - want.values[worst]).abs());
    let Some(before) = before.filter(|b| b.values.len() == want.values.len()) else { return (nmse, max_abs) };
    let energy = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>();
    let pairs = || want.values.iter().zip(&before.values);
    let added = energy(&mut pairs().map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let whole = energy(&mut want.values.iter().map(|v| f64::from(*v)));
    (if nmse == 0.0 { 0.0 } else { nmse * whole / added }, max_abs)
}

fn place(name: &str, reference: &[Tap]) -> Place {
    let (step, prefix, plain) = match name.strip_prefix(DECODE) {
        Some(plain) => ("decode", DECODE, plain),
        None => ("prefill", "", name),
    };
    let at = |layer, op: &str| Place { step, layer, op: op.to_owned() };
    if let Some(rest) = plain.strip_prefix("layer.") {
        let (layer, op) = rest.split_once('.').unwrap_or((rest, ""));
        return at(layer.parse().ok(), op);
    }
    let Some(after) = plain.strip_prefix("hidden.").and_then(|n| n.parse::<usize>().ok()) else {
        return at(None, plain);
    };
    let Some(layer) = after.checked_sub(1) else { return at(None, "embed") };
    let within = format!("{prefix}layer.{layer}.");
    let has = |op: &str| reference.iter().any(|t| t.name.strip_prefix(&within) == Some(op));
    // The op that adds to the stream, known by what only its kind of block has.
    let last = [("scan", "out_proj"), ("attention", "o_proj"), ("up_proj", "down_proj")];
    at(Some(layer), last.into_iter().find(|(op, _)| has(op)).map_or("block", |(_, last)| last))
}

fn block(config: &ModelConfig, layer: Option<usize>) -> &'static str {
    match layer.and_then(|i| config.blocks.get(i)) {
        Some(Block::Mamba2) => "mamba2",
        Some(Block::Attention) => "attention",
        Some(Block::Mlp) => "mlp",
        None => "model",
    }
}
