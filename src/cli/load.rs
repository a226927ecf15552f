//! Opening models, engines and tokenizers.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use tokenizers::Tokenizer;
use wgquant::calibrate::{ChatTemplate, TextEncoder};
use wgquant::gpu::{Device, Gpu};
use wgquant::kernels::StateRounding;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::bytes;
use wgquant::runtime::{Engine, EngineOptions, KvFormat, Memory, ScanFormat, StateFormat};

use super::args::{GpuArgs, refuse};

/// Tokens a pass at most; what is measured does not depend on it.
const PASS: usize = 256;

/// Words of `--state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StateWord {
    F32,
    /// int8 codes, and what the last rounding lost in 4 bits, for the next
    Int8,
    /// int8 codes rounded to the nearest
    Int8Nearest,
    /// int8 codes rounded at random, right in the mean; the sequences of a batch share one clock, so draws depend on the batch
    Int8Stochastic,
}

/// Words of `--kv`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KvWord {
    F32,
    F16,
    Int8,
    Int4,
}

impl KvWord {
    /// As the engine takes it.
    pub(super) fn format(self) -> KvFormat {
        match self {
            Self::F32 => KvFormat::F32,
            Self::F16 => KvFormat::F16,
            Self::Int8 => KvFormat::Int8,
            Self::Int4 => KvFormat::Int4,
        }
    }
}

/// Words of `--scan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScanWord {
    F32,
    F16,
}

/// The name of a text, without its folders, as results record it.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// How the state is kept between calls, and keys and values; what the scan reads.
#[derive(Clone, Debug, Args)]
pub(super) struct StateArgs {
    /// Keep the states of Mamba-2 blocks in this format between calls; within a call of several tokens they are f32
    #[arg(long, value_enum, default_value = "f32")]
    state: StateWord,
    /// Round an int8 state once in N single tokens, and keep the tokens since exactly [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    state_window: Option<u32>,
    /// Do not turn an int8 state by Hadamard's matrix
    #[arg(long)]
    no_state_rotation: bool,
    /// Seed of stochastic rounding [default: 0]
    #[arg(long, value_name = "N")]
    state_seed: Option<u32>,
    /// Keep keys and values in this format: f16, int8 with a scale a token and head, int4 with one for 32 elements of it
    #[arg(long, value_enum, default_value = "f32")]
    kv: KvWord,
    /// Let the scan of Mamba-2 blocks over several tokens read x, B, C and the states that enter chunks in this format
    #[arg(long, value_enum, default_value = "f32")]
    scan: ScanWord,
}

/// Single tokens between two roundings of an int8 state, unless given.
const WINDOW: u32 = 8;

impl StateArgs {
    /// Refuses what would do nothing to a state of this format.
    pub(super) fn check(&self) -> Result<()> {
        let state = self.state.to_possible_value().map_or_else(String::new, |word| word.get_name().to_owned());
        let because = format!("with --state {state}");
        if self.state == StateWord::F32 {
            let rotation = self.no_state_rotation.then(|| "--no-state-rotation".to_owned());
            refuse([self.state_window.map(|n| format!("--state-window {n}")), rotation], &because)?;
        }
        let seed = self.state_seed.filter(|_| self.state != StateWord::Int8Stochastic);
        refuse([seed.map(|n| format!("--state-seed {n}"))], &because)
    }

    /// Settings of an engine that has it so, and says what memory it takes.
    pub(super) fn settings(&self) -> Settings {
        Settings { state: self.format(), kv: self.kv(), scan: self.scan(), announce: true, ..Default::default() }
    }

    /// As the engine takes it.
    pub(super) fn format(&self) -> StateFormat {
        let rounding = match self.state {
            StateWord::F32 => return StateFormat::F32,
            StateWord::Int8 => StateRounding::Feedback,
            StateWord::Int8Nearest => StateRounding::Nearest,
            StateWord::Int8Stochastic => StateRounding::Stochastic(self.state_seed.unwrap_or(0)),
        };
        let window = self.state_window.unwrap_or(WINDOW) as usize;
        StateFormat::Int8 { rounding, rotate: !self.no_state_rotation, window }
    }

    /// As the engine takes it.
    pub(super) fn kv(&self) -> KvFormat {
        self.kv.format()
    }

    /// As the engine takes it.
    pub(super) fn scan(&self) -> ScanFormat {
        match self.scan {
            ScanWord::F32 => ScanFormat::F32,
            ScanWord::F16 => ScanFormat::F16,
        }
    }
}

/// How a model is run that is measured.
#[derive(Clone, Debug, Args)]
pub(super) struct MeasureArgs {
    /// Clamp dt in prefill as transformers (wrongly) does of nemotron_h, to compare with its numbers
    #[arg(long)]
    transformers_dt_clamp: bool,
    #[command(flatten)]
    state: StateArgs,
}

impl MeasureArgs {
    /// As [`StateArgs::check`].
    pub(super) fn check(&self) -> Result<()> {
        self.state.check()
    }

    /// As [`StateArgs::settings`].
    pub(super) fn settings(&self) -> Settings {
        Settings { transformers_dt_clamp: self.transformers_dt_clamp, ..self.state.settings() }
    }
}

/// Settings of an engine that commands choose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    /// Sequences that decode together; 0 or 1: one.
    pub(super) sequences: usize,
    /// Sequences kept beside those.
    pub(super) kept: usize,
    pub(super) transformers_dt_clamp: bool,
    pub(super) state: StateFormat,
    pub(super) kv: KvFormat,
    pub(super) scan: ScanFormat,
    /// Tokens a pass at most; `None`: as many as are fast.
    pub(super) step: Option<usize>,
    /// Say what memory the model will take.
    pub(super) announce: bool,
}

impl Settings {
    /// Those of a base, which is the measure: whole passes, all of it in f32.
    pub(super) fn of_base(self) -> Self {
        let (state, kv, scan) = (StateFormat::F32, KvFormat::F32, ScanFormat::F32);
        Self { state, kv, scan, step: None, ..self }
    }
}

/// An engine for sequences of `context` tokens. The kernels it needs are checked first.
pub(super) fn engine(
    gpu: &GpuArgs,
    device: &Device,
    file: &ModelFile,
    context: usize,
    settings: Settings,
) -> Result<Engine> {
    let engine = unchecked(device, file, context, settings)?;
    gpu.check(device, &engine.needs()?)?;
    Ok(engine)
}

/// As [`engine`], but trusts the device: to look for what is wrong with it.
pub(super) fn unchecked(device: &Device, file: &ModelFile, context: usize, settings: Settings) -> Result<Engine> {
    let Settings { sequences, kept, transformers_dt_clamp, state, kv, scan, step, announce } = settings;
    let pass_tokens = step.unwrap_or(PASS);
    let sequences = sequences.max(1);
    let options =
        EngineOptions { context, pass_tokens, sequences, kept, transformers_dt_clamp, state, kv, scan, split_k: None };
    let model = file.checkpoint().dir().display();
    if announce {
        say_memory(device, file, options)?;
    }
    Engine::new(device, file, options).with_context(|| format!("loading {model}"))
}

/// Says what memory a model will take on a device, before anything is allocated.
pub(super) fn say_memory(device: &Device, source: &dyn ModelSource, options: EngineOptions) -> Result<()> {
    if let Some(plan) = Memory::of(source, options)? {
        let room = device.gpu().and_then(Gpu::room);
        let room = room.map_or_else(String::new, |r| format!("; {} free {}", bytes(r.free), r.why));
        log::info!("memory: {} in all ({plan}){room}", bytes(plan.total()));
    }
    Ok(())
}

/// What makes token ids of the text `file`, if there is a tokenizer beside the model; with its chat template, if there is one.
/// Ids that are made already need none.
pub(super) fn texts(model: &Path, file: &Path) -> Result<Option<TextEncoder>> {
    if is_ids(file) {
        return Ok(None);
    }
    let Some(tokenizer) = tokenizer(model)? else { return Ok(None) };
    Ok(Some(TextEncoder { tokenizer, template: ChatTemplate::beside(model) }))
}

/// Refuses, before any work, a text with a token id `beyond` the vocabulary of `model`; `maker` is whose tokenizer makes ids of texts.
pub(super) fn check_ids(text: &Path, maker: &Path, model: &ModelFile, beyond: Option<u32>) -> Result<()> {
    let Some(id) = beyond else { return Ok(()) };
    let (file, vocab, dir) = (text.display(), model.config().vocab_size, model.checkpoint().dir().display());
    if is_ids(text) {
        bail!(
            "{file}: holds token id {id}, and the vocabulary of {dir} is of {vocab}: its ids are another tokenizer's"
        );
    }
    bail!("{file}: {} makes token id {id} of it, and the vocabulary of {dir} is of {vocab}", maker.display())
}

/// Does a file hold token ids rather than text?
pub(super) fn is_ids(file: &Path) -> bool {
    file.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"))
}

/// The tokenizer beside a model, if there is one.
pub(super) fn tokenizer(model: &Path) -> Result<Option<Tokenizer>> {
    let path = model.join("tokenizer.json");
    if !path.is_file() {
        return Ok(None);
    }
    let named = |e| anyhow!("{}: {e}", path.display());
    let mut tokenizer = Tokenizer::from_file(&path).map_err(named)?;
    // Settings for batches of a trainer: they would cut texts and fill them up.
    tokenizer.with_truncation(None).map_err(named)?.with_padding(None);
    Ok(Some(tokenizer))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// What a trainer sets for its batches would cut texts, and fill them up with ids that no text has.
    #[test]
    fn a_tokenizer_neither_cuts_nor_fills() {
        let temp = tempfile::tempdir().unwrap();
        let nano = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/nano/tokenizer.json");
        let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(nano).unwrap()).unwrap();
        json["truncation"] =
            serde_json::json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
        json["padding"] = serde_json::json!({
            "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "<pad>",
        });
        std::fs::write(temp.path().join("tokenizer.json"), json.to_string()).unwrap();
        let text = "of several words, which make more than two tokens";
        let ids = |tokenizer: &Tokenizer| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        let as_it_is = Tokenizer::from_file(temp.path().join("tokenizer.json")).unwrap();
        assert_eq!(ids(&as_it_is).len(), 64);
        let got = ids(&tokenizer(temp.path()).unwrap().unwrap());
        assert_eq!(got, ids(&Tokenizer::from_file(nano).unwrap()));
        assert!(got.len() > 2 && !got.contains(&0));
    }
}
