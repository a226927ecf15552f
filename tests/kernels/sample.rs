use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Sampling};
use wgquant::reference::sample::margin;
use wgquant::shaders::sample::Params;
use wgquant::tensor::DType;

use super::common::gpu;

const ALL: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 };

#[test]
fn matches_reference() {
    super::common::check_all("sample");
}

/// Consecutive draws of one recording.
fn draws(d: &Device, logits: &[f32], sampling: Sampling, seed: u32, count: usize) -> Vec<u32> {
    let logits = d.upload_f32([1, logits.len()], logits).unwrap();
    let rng = d.upload_words(DType::U32, [2], &[seed, 0]).unwrap();
    let out = d.alloc(DType::U32, [1]).unwrap();
    let mut plan = Plan::new(d);
    kernels::sample(&mut plan, &logits, &rng, &out, sampling).unwrap();
    let recording = plan.record().unwrap();
    let tokens = (0..count).map(|_| {
        recording.run().unwrap();
        block_on(d.read(&out)).unwrap()[0]
    });
    let tokens = tokens.collect();
    assert_eq!(block_on(d.read(&rng)).unwrap(), [seed, count as u32], "the counter counts draws");
    tokens
}

const LOGITS: [f32; 12] = [1.0, -2.0, 0.5, 2.5, -0.7, 0.0, 1.7, -1.0, 0.5, 2.0, -3.0, 1.2];

/// Pearson's chi-squared of 2000 draws against the probabilities; tokens of probability 0 must not be drawn.
fn chi_squared(tokens: &[u32], probabilities: &[f64]) -> f64 {
    let mut seen = vec![0.0; probabilities.len()];
    tokens.iter().for_each(|t| seen[*t as usize] += 1.0);
    let terms = seen.iter().zip(probabilities).map(|(seen, p)| {
        let want = p * tokens.len() as f64;
        if *p > 0.0 {
            return (seen - want).powi(2) / want;
        }
        assert!(*seen == 0.0, "a token of probability 0 was drawn");
        0.0
    });
    terms.sum()
}

/// softmax(logits / temperature) over the tokens of `kept`.
fn probabilities(temperature: f64, kept: &[usize]) -> Vec<f64> {
    let mass = |i: usize| if kept.contains(&i) { (f64::from(LOGITS[i]) / temperature).exp() } else { 0.0 };
    let all: f64 = (0..LOGITS.len()).map(mass).sum();
    (0..LOGITS.len()).map(|i| mass(i) / all).collect()
}

/// Bounds: 1e-4 quantiles of chi-squared with one degree of freedom less than tokens (11, 6 and 4).
#[test]
fn draws_follow_the_probabilities() {
    let cases: [(Sampling, &[usize], f64); 4] = [
        (ALL, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 37.4),
        // The sixth and seventh largest are both 0.5: top 6 keeps seven.
        (Sampling { top_k: 6, ..ALL }, &[0, 2, 3, 6, 8, 9, 11], 27.9),
        // At temperature 0.5: 2.5, 2.0, 1.7 and 1.2 hold 0.945, and 1.0 takes it over 0.95.
        (Sampling { temperature: 0.5, top_p: 0.95, ..ALL }, &[0, 3, 6, 9, 11], 23.5),
        (Sampling { temperature: 2.0, ..ALL }, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 37.4),
    ];
    for (sampling, kept, bound) in cases {
        let tokens = draws(&Device::Cpu, &LOGITS, sampling, 42, 2000);
        let chi = chi_squared(&tokens, &probabilities(f64::from(sampling.temperature), kept));
        assert!(chi < bound, "{sampling:?}: {chi}");
    }
}

#[test]
fn seeds_reproduce() {
    let run = |seed| draws(&Device::Cpu, &LOGITS, ALL, seed, 50);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// Draw for draw, but for those that hang on rounding.
#[test]
fn gpu_draws_as_the_reference() {
    let sampling = Sampling { temperature: 0.9, top_k: 9, top_p: 0.95 };
    let (got, want) = (draws(&gpu(), &LOGITS, sampling, 3, 40), draws(&Device::Cpu, &LOGITS, sampling, 3, 40));
    let params = Params { rows: 1, vocab: 12, inv_temperature: 1.0 / 0.9, top_k: 9, top_p: 0.95 };
    let sure = |i: usize| margin(&params, &LOGITS, &[3, i as u32]) > 1e-4;
    assert!((0..40).filter(|i| sure(*i)).count() >= 38);
    assert!((0..40).all(|i| got[i] == want[i] || !sure(i)), "{got:?} for {want:?}");
}

/// A filter that keeps one token more or less shows in the set of tokens drawn.
#[test]
fn filters_keep_exactly_theirs() {
    let flat = Sampling { temperature: 4.0, ..ALL };
    let cases: [(Sampling, &[u32]); 6] = [
        (Sampling { top_k: 5, ..flat }, &[0, 3, 6, 9, 11]),
        (Sampling { top_k: 6, ..flat }, &[0, 2, 3, 6, 8, 9, 11]),
        // The four largest hold 0.469 of the mass, the fifth takes it to 0.563.
        (Sampling { top_p: 0.475, ..flat }, &[0, 3, 6, 9, 11]),
        (Sampling { top_p: 0.555, ..flat }, &[0, 3, 6, 9, 11]),
        (Sampling { top_k: 1, ..flat }, &[3]),
        // Transformers keep at least one token however small top_p is.
        (Sampling { top_p: 1e-6, ..flat }, &[3]),
    ];
    for d in [Device::Cpu, gpu()] {
        for (sampling, kept) in cases {
            let mut tokens = draws(&d, &LOGITS, sampling, 9, 60);
            tokens.sort_unstable();
            tokens.dedup();
            assert_eq!(tokens, kept, "{sampling:?} on {}", d.name());
        }
    }
}

fn error(logits: [usize; 2], rng: usize, out: DType, sampling: Sampling) -> Error {
    let d = Device::Cpu;
    let logits = d.alloc(DType::F32, logits).unwrap();
    let (rng, out) = (d.alloc(DType::U32, [rng]).unwrap(), d.alloc(out, [1]).unwrap());
    kernels::sample(&mut Plan::new(&d), &logits, &rng, &out, sampling).unwrap_err()
}

#[test]
fn rejects_wrong_tensors() {
    assert!(matches!(error([2, 8], 2, DType::U32, ALL), Error::Shape { arg: "logits", .. }));
    assert!(matches!(error([1, 8], 1, DType::U32, ALL), Error::Shape { arg: "rng", .. }));
    assert!(matches!(error([1, 8], 2, DType::F32, ALL), Error::DType { arg: "out", .. }));
}

#[test]
fn rejects_empty_vocabulary() {
    let error = error([1, 0], 2, DType::U32, ALL);
    assert_eq!(error.to_string(), "sample: `logits`: a vocabulary of 0, expected 1 to 16777216");
}

#[test]
fn rejects_parameters_out_of_range() {
    let text = |sampling| error([1, 8], 2, DType::U32, sampling).to_string();
    for temperature in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(text(Sampling { temperature, ..ALL }).starts_with("sample: `temperature`: "));
    }
    for top_p in [0.0, 1.5, f32::NAN] {
        assert!(text(Sampling { top_p, ..ALL }).starts_with("sample: `top_p`: "));
    }
}
