//! What a model says of tokens, made on the device, is what its logits say.

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, EngineOptions, LogProbs, Next};

use crate::common;

fn engine(device: &Device) -> Engine {
    let model = ModelFile::open(&common::nano()).unwrap();
    let options = EngineOptions { context: 64, pass_tokens: 16, sequences: 2, ..Default::default() };
    Engine::new(device, &model, options).unwrap()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count).map(|t| 3 + ((t * t * 11 + t * 17) % 2000) as u32).collect()
}

/// ln p of a token after a row of logits, and the likeliest with its own, in f64.
pub(super) fn by_hand(row: &[f32], id: u32) -> (f64, (u32, f64)) {
    let first = (0..row.len()).rev().max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
    let largest = f64::from(row[first]);
    let log_sum = row.iter().map(|v| (f64::from(*v) - largest).exp()).sum::<f64>().ln();
    let of = |id: usize| f64::from(row[id]) - largest - log_sum;
    (of(id as usize), (first as u32, of(first)))
}

#[track_caller]
fn agree(said: &[LogProbs], rows: &[f32], targets: &[u32], most: usize) {
    let vocab = rows.len() / targets.len();
    assert_eq!(said.len(), targets.len());
    for ((said, row), id) in said.iter().zip(rows.chunks(vocab)).zip(targets) {
        let (value, top) = by_hand(row, *id);
        assert!(said.token.id == *id && (said.token.value - value).abs() < 2e-6, "{said:?}: {id} {value}");
        assert_eq!(said.top.len(), most);
        assert!(said.top.is_sorted_by(|a, b| a.value >= b.value), "{said:?}");
        assert!(said.top.iter().take(1).all(|t| t.id == top.0 && (t.value - top.1).abs() < 2e-6), "{said:?}: {top:?}");
        assert_eq!(said.is_greedy(), most > 0 && top.0 == *id);
    }
}

/// Of a prompt of several passes and a token; for other numbers of the likeliest in turn; and of what may come next.
#[test]
fn scores_are_those_of_the_logits() {
    let (all, vocab) = (tokens(50), 2048);
    for device in [Device::Cpu, common::gpu()] {
        let mut plain = engine(&device);
        let mut rows = Vec::new();
        for piece in [0..40, 40..41, 41..49] {
            let sink = |_, logits: &[f32]| {
                rows.extend_from_slice(logits);
                Ok(())
            };
            block_on(plain.feed_all(&all[piece], sink)).unwrap();
        }
        let mut engine = engine(&device);
        for most in [2, 0, 5, 2] {
            engine.reset().unwrap();
            let mut said = block_on(engine.score(&all[..40], &all[1..41], most)).unwrap();
            said.extend(block_on(engine.score(&all[40..41], &all[41..42], most)).unwrap());
            said.extend(block_on(engine.score(&all[41..49], &all[42..], most)).unwrap());
            agree(&said, &rows, &all[1..], most);
        }
        // The last token's logits are there as after any pass.
        let last = &rows[48 * vocab..];
        assert!(block_on(engine.logits()).unwrap() == last, "{}", device.name());
        let ids = [0, 7, 2047];
        let said = block_on(engine.score_next(&ids)).unwrap();
        agree(&said, &last.repeat(3), &ids, 1);
        let top = by_hand(last, 0).1.0;
        assert!(block_on(engine.score_next(&[top])).unwrap()[0].is_greedy());
    }
}

/// Tokens that are chosen one after the other, and what is said of them, whether or not somebody asks.
#[test]
fn chosen_tokens_have_scores() {
    for device in [Device::Cpu, common::gpu()] {
        let (mut plain, mut scored) = (engine(&device), engine(&device));
        let prompt = tokens(20);
        plain.feed(&prompt).unwrap();
        scored.feed(&prompt).unwrap();
        let row = block_on(plain.logits()).unwrap();
        let id = block_on(plain.choose(Next::Greedy)).unwrap();
        let mut said = block_on(scored.pick_scored(Next::Greedy, 3).unwrap().rows()).unwrap();
        agree(&said, &row, &[id], 3);
        for most in [3, 3, 1, 4] {
            let id = block_on(plain.follow(Next::Greedy).unwrap().words()).unwrap()[0];
            let row = block_on(plain.logits()).unwrap();
            said = block_on(scored.follow_scored(Next::Greedy, most).unwrap().rows()).unwrap();
            agree(&said, &row, &[id], most);
        }
        // And of several together.
        for engine in [&mut plain, &mut scored] {
            engine.put(0).unwrap();
            engine.reset().unwrap();
            engine.feed(&prompt[..9]).unwrap();
            block_on(engine.choose(Next::Greedy)).unwrap();
            engine.put(1).unwrap();
        }
        for most in [2, 2, 0] {
            let ids = block_on(plain.follow_each(Next::Greedy).unwrap().words()).unwrap();
            let rows = block_on(plain.logits_each()).unwrap();
            said = block_on(scored.follow_by_scored(&[Next::Greedy; 2], most).unwrap().rows()).unwrap();
            agree(&said, &rows, &ids, most);
        }
    }
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let mut engine = engine(&Device::Cpu);
    let mut refused =
        |tokens: &[u32], targets: &[u32]| block_on(engine.score(tokens, targets, 1)).unwrap_err().to_string();
    assert!(refused(&[], &[]).contains("no tokens"));
    assert!(refused(&[1, 2], &[3]).contains("1 targets of 2 tokens"));
    assert!(refused(&[1, 2], &[3, 2048]).contains("token id 2048 in a vocabulary of 2048"));
    assert!(refused(&[1; 65], &[1; 65]).contains("65 tokens in a context of 64"));
    assert!(block_on(engine.score_next(&[1])).unwrap_err().to_string().contains("no token was fed"));
    engine.feed(&[1]).unwrap();
    assert!(block_on(engine.score_next(&[5000])).unwrap_err().to_string().contains("token id 5000"));
}
