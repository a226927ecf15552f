//! Weights larger than a binding are split by rows, and nothing that comes out of the model changes.

use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Group, Linear, Model, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe};
use wgquant::runtime::{Engine, EngineOptions, Memory, Next, Slot};
use wgquant::tensor::{DType, Tensor};
use wgquant::transform::Transform;

use crate::common;

/// 64 rows of nano's down_proj in int8; in bf16 32, so that no part's outputs of a token begin where a binding may.
const NARROW: u64 = 64 * 672;
/// 64 rows in bf16.
const WIDE: u64 = 2 * NARROW;

/// Passes so short that no activation is larger than [`NARROW`], room for four slices of each product included.
fn options() -> EngineOptions {
    EngineOptions { context: 64, pass_tokens: 4, sequences: 3, ..Default::default() }
}

/// A device of its own: the limit is for all that is allocated.
fn limited(bytes: u64) -> Device {
    let device = common::open(std::env::var("WGQUANT_CAPS").ok().as_deref());
    device.gpu().expect("a GPU").set_binding_limit(bytes);
    device
}

fn nano() -> Model {
    Model::load(&ModelFile::open(&common::nano()).unwrap()).unwrap()
}

/// Logits of a prompt, of tokens after it, and of steps of three sequences together.
fn logits(engine: &mut Engine) -> [Vec<f32>; 3] {
    let prompt: Vec<u32> = (0..38).map(|t| (t * t * 7 + t * 131) % 2048).collect();
    engine.feed(&prompt).unwrap();
    let prefill = block_on(engine.logits()).unwrap();
    let mut decode = Vec::new();
    for (slot, id) in [2047, 0, 640].into_iter().enumerate() {
        engine.feed(&[id]).unwrap();
        decode.extend(block_on(engine.logits()).unwrap());
        engine.put(slot).unwrap();
    }
    let mut together = Vec::new();
    for ids in [[1, 700, 2046], [320, 319, 640]] {
        engine.feed_each(&ids).unwrap();
        together.extend(block_on(engine.logits_each()).unwrap());
    }
    [prefill, decode, together]
}

/// Launches of a token.
fn launches(engine: &Engine) -> usize {
    engine.record_profile(1, Next::Greedy).unwrap().launches().count()
}

/// With weights of up to `limit` bytes. States of three sequences are larger, and allocated without it.
fn in_parts(model: &Model, limit: u64) -> Engine {
    let device = limited(limit);
    let mut engine = Engine::new(&device, model, EngineOptions { sequences: 1, ..options() }).unwrap();
    device.gpu().unwrap().set_binding_limit(u64::MAX);
    engine.set_sequences(3).unwrap();
    engine
}

/// The model whole, and in parts of up to `limit` bytes.
#[track_caller]
fn both(model: &Model, limit: u64) -> [[Vec<f32>; 3]; 2] {
    let mut whole = Engine::new(&common::gpu(), model, options()).unwrap();
    let mut parts = in_parts(model, limit);
    assert_eq!(parts.memory(), whole.memory());
    assert_eq!(Memory::of(model, options()).unwrap(), Some(parts.memory()));
    assert_eq!(parts.token_bytes(9, 3), whole.token_bytes(9, 3));
    assert_eq!(parts.linear_ops(), whole.linear_ops());
    // The head and the embedding alone are several.
    assert!(launches(&parts) >= launches(&whole) + 5, "{} and {}", launches(&parts), launches(&whole));
    [logits(&mut whole), logits(&mut parts)]
}

#[track_caller]
fn same(model: &Model, limit: u64) {
    let [whole, parts] = both(model, limit);
    // On matrix units fewer rows may have other tiles, and their sums another order, which rounds to another code now and then.
    let matrices = common::gpu().gpu().unwrap().caps.coop_matrix;
    for (what, (whole, parts)) in ["prefill", "decode", "together"].into_iter().zip(whole.into_iter().zip(parts)) {
        let (nmse, _) = error(&parts, &whole);
        let same = whole == parts || (matrices && nmse < 1e-6);
        assert!(whole.iter().any(|v| *v != 0.0) && same, "{what}: NMSE {nmse:.2e}");
    }
}

fn quantized(bits: Bits) -> Model {
    let file = ModelFile::open(&common::nano()).unwrap();
    let transform = Transform::hadamard(file.config(), 0).unwrap();
    let recipe = Recipe::uniform(file.config(), bits, Group::Size(32), true, DType::BF16, transform);
    block_on(recipe.apply(&file, &common::gpu(), |_| {})).unwrap()
}

#[test]
fn int8_weights_in_parts() {
    same(&quantized(Bits::W8A8), NARROW);
}

#[test]
fn int4_weights_in_parts() {
    same(&quantized(Bits::W4A8), NARROW);
    same(&quantized(Bits::W4A16), NARROW);
}

#[test]
fn floats_in_parts() {
    same(&nano(), WIDE);
}

#[test]
fn f16_and_tied_weights_in_parts() {
    let mut model = nano();
    let Linear::Float(table) = &model.embedding else { panic!("nano is of floats") };
    let table = Tensor::from_f32_as(DType::F16, table.shape, &table.to_f32().unwrap()).unwrap();
    model.embedding = Linear::Float(table);
    (model.config.tied, model.head) = (true, None);
    same(&model, WIDE);
}

/// Parts of fewer rows than an offset takes: a token then goes through the kernels of several rows, whose sums are in
/// another order. q_proj, k_proj and v_proj as one are too large.
#[test]
fn short_parts_agree() {
    let [whole, parts] = both(&nano(), NARROW);
    assert!(whole[0] == parts[0], "prefill");
    for i in [1, 2] {
        let (nmse, _) = error(&parts[i], &whole[i]);
        assert!(nmse < 1e-10, "{i}: NMSE {nmse:.2e}");
    }
}

#[test]
fn a_row_larger_than_a_binding_is_refused() {
    let model = nano();
    let mut engine = in_parts(&model, WIDE);
    engine.device().gpu().unwrap().set_binding_limit(255);
    match engine.replace(Slot::Head, &model.embedding) {
        Err(Error::LimitExceeded { what, need: 256, have: 255, .. }) => assert!(what.contains("the head"), "{what}"),
        other => panic!("{other:?}"),
    }
}

/// As perplexity asks for them, of passes of which a binding does not hold all.
#[test]
fn logits_of_all_tokens_come_in_pieces_that_fit() {
    const VOCAB: usize = 2048;
    let (device, tokens) = (limited(u64::MAX), (0..20).map(|t| (t * t * 7 + t * 131) % 2048).collect::<Vec<u32>>());
    let all = |limit: u64| {
        let mut engine = Engine::new(&device, &nano(), EngineOptions { pass_tokens: 16, ..options() }).unwrap();
        engine.device().gpu().unwrap().set_binding_limit(limit);
        let (mut pieces, mut logits) = (Vec::new(), Vec::new());
        let sink = |_, piece: &[f32]| {
            pieces.push(piece.len() / VOCAB);
            logits.extend_from_slice(piece);
            Ok(())
        };
        block_on(engine.feed_all(&tokens, sink)).unwrap();
        engine.device().gpu().unwrap().set_binding_limit(u64::MAX);
        (pieces, logits)
    };
    let (whole, parts) = (all(u64::MAX), all(7 * VOCAB as u64 * 4 + 3));
    assert_eq!((whole.0, parts.0), (vec![16, 4], vec![7, 7, 6]));
    let (nmse, _) = error(&parts.1, &whole.1);
    assert!(nmse <= 1e-10, "NMSE {nmse:.3e}");
}
