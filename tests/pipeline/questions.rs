//! Questions, against transformers' log-likelihoods of every choice (f32, four digits after the point, BOS before every context).

use std::path::Path;

use pollster::block_on;
use wgquant::calibrate::TextEncoder;
use wgquant::eval::{Examples, Sample, Task, TaskResult, evaluate};
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::runtime::{Engine, EngineOptions};

use crate::common;

fn task(model: &ModelFile, questions: &Path, limit: Option<usize>) -> Task {
    let tokenizer = tokenizers::Tokenizer::from_file(model.checkpoint().dir().join("tokenizer.json")).unwrap();
    Task::read(questions, &TextEncoder { tokenizer, template: None }, model.config().bos, limit, &Examples::NONE)
        .unwrap()
}

fn answered(device: &Device, model: &Path, questions: &Path, limit: Option<usize>) -> (TaskResult, Vec<Sample>) {
    let file = ModelFile::open(model).unwrap();
    let task = task(&file, questions, limit);
    let options = EngineOptions { context: task.longest(), ..Default::default() };
    let mut engine = Engine::new(device, &file, options).unwrap();
    block_on(evaluate(&mut engine, None, &task, &mut |_, _| {})).unwrap()
}

/// Of files of one model's log-likelihoods, those of a task, a list of choices a question.
fn golden(file: &Path, task: &str) -> Vec<Vec<f64>> {
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    serde_json::from_value(all[task].clone()).unwrap()
}

/// Transformers rounded to four digits after the point; f32 sums of up to 300 nats differ by 1e-4 themselves.
#[track_caller]
fn agree(samples: &[Sample], golden: &[Vec<f64>]) {
    assert!(!samples.is_empty() && samples.len() <= golden.len());
    for (sample, want) in samples.iter().zip(golden) {
        let got = &sample.said.log_likelihoods;
        let near = got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g - w).abs() < 3e-4);
        assert!(near, "{} line {}: {got:?}, {want:?}", sample.task, sample.line);
    }
}

const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/questions");
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/questions.json");

/// Of likelihoods by transformers: which share of the largest, a choice or a character each, is the right one's.
fn share(golden: &[Vec<f64>], samples: &[Sample]) -> f64 {
    let first = |l: &[f64]| (0..l.len()).rev().max_by(|a, b| l[*a].total_cmp(&l[*b]));
    let right = golden.iter().zip(samples).filter(|(l, s)| first(l) == Some(s.answer)).count();
    right as f64 / samples.len() as f64
}

#[test]
fn nano_on_the_reference() {
    for name in ["verse", "continuation"] {
        let questions = Path::new(ASSETS).join(name).with_extension("jsonl");
        let (result, samples) = answered(&Device::Cpu, &common::nano(), &questions, None);
        let golden = golden(Path::new(GOLDEN), name);
        assert_eq!((result.questions, golden.len()), (30, 30));
        agree(&samples, &golden);
        assert!((result.scores.acc - share(&golden, &samples)).abs() < 1e-12, "{result:?}");
    }
}

/// States are kept beside and come back on a GPU, too.
#[test]
fn nano_on_the_gpu() {
    let questions = Path::new(ASSETS).join("continuation.jsonl");
    let (_, samples) = answered(&common::gpu(), &common::nano(), &questions, Some(4));
    assert_eq!(samples.len(), 4);
    agree(&samples, &golden(Path::new(GOLDEN), "continuation"));
}

/// All six kinds, as transformers answered them.
#[test]
fn every_kind_of_question() {
    for model in ["nano", "mamba2"] {
        let Some(dir) = common::shared::shared(model) else { continue };
        for (name, norm) in [
            ("arc_definition", true),
            ("arc_verse", true),
            ("hellaswag_continuation", true),
            ("lambada_lastword", false),
            ("piqa_next", true),
            ("winogrande_word", false),
        ] {
            let name = format!("heldout-{name}");
            let questions = dir.join("../../eval").join(&name).with_extension("jsonl");
            let (result, samples) = answered(&Device::Cpu, &dir, &questions, Some(12));
            assert_eq!((&result.task, result.questions, result.scores.acc_norm.is_some()), (&name, 12, norm));
            assert_eq!(result.scores.perplexity.is_some(), name.contains("lambada"));
            agree(&samples, &golden(&dir.join("heldout_loglikelihoods.json"), &name));
        }
    }
}

/// A choice needs something before it, and room in the engine's context.
#[test]
fn what_cannot_be_scored_is_named() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("q.jsonl");
    let read = |line: &str, bos: Option<u32>| {
        std::fs::write(&path, line).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_file(common::nano().join("tokenizer.json")).unwrap();
        Task::read(&path, &TextEncoder { tokenizer, template: None }, bos, None, &Examples::NONE)
    };
    let empty = r#"{"query":"","choices":["a","b"],"gold":0}"#;
    let error = read(empty, None).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(error.contains("line 1: nothing comes before a choice"), "{error}");
    // By the token that texts begin with, it can.
    let task = read(empty, file.config().bos).unwrap();
    assert_eq!((task.name(), task.count(), task.longest(), task.beyond(2048)), ("q", 1, 2, None));
    assert!(task.beyond(10).is_some());
    let mut engine = Engine::new(&Device::Cpu, &file, EngineOptions { context: 1, ..Default::default() }).unwrap();
    let error = |e: &mut Engine, task: &Task| block_on(evaluate(e, None, task, &mut |_, _| {})).map(|_| ());
    assert!(error(&mut engine, &task).is_ok());
    let longer = read(r#"{"query":"one two three","choices":["a","b"],"gold":0}"#, None).unwrap();
    assert!(error(&mut engine, &longer).unwrap_err().to_string().contains("context"));
}
