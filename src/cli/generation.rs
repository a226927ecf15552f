//! Prompt in, text out.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use pollster::block_on;
use serde::Serialize;
use tokenizers::Tokenizer;
use wgquant::calibrate::missing_bos;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::DeviceInfo;
use wgquant::runtime::{Engine, Next};

use super::stream::TextStream;

/// What was generated, and how fast.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Generation {
    pub(super) prompt: String,
    pub(super) text: String,
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
    /// From the prompt to the first new token.
    pub(super) seconds_to_first_token: f64,
    /// Tokens after the first, over the time they took.
    pub(super) tokens_per_second: f64,
    #[serde(flatten)]
    pub(super) device: DeviceInfo,
}

/// What was generated of one of several prompts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Continued {
    pub(super) prompt: String,
    pub(super) text: String,
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
}

/// What was generated together, and how fast.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Generations {
    pub(super) sequences: Vec<Continued>,
    /// From the first prompt to the first new tokens: all prompts are read before.
    pub(super) seconds_to_first_token: f64,
    /// Tokens of all after the first of each, over the time they took.
    pub(super) tokens_per_second: f64,
    #[serde(flatten)]
    pub(super) device: DeviceInfo,
}

/// The prompt's tokens after the beginning-of-sequence token, if the model has one and the prompt does not begin with it.
pub(super) fn encode(tokenizer: &Tokenizer, file: &ModelFile, prompt: &str) -> Result<Vec<u32>> {
    let encoded = tokenizer.encode(prompt, false).map_err(|e| anyhow!("the prompt: {e}"))?;
    let bos = missing_bos(file.config().bos, encoded.get_ids());
    let ids: Vec<u32> = bos.into_iter().chain(encoded.get_ids().iter().copied()).collect();
    if ids.is_empty() {
        bail!("the prompt is empty, and the model has no beginning-of-sequence token");
    }
    let vocab = file.config().vocab_size;
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
        let dir = file.checkpoint().dir().display();
        bail!("{dir}: tokenizer.json is another model's: it gives token id {id}, and the vocabulary is of {vocab}");
    }
    Ok(ids)
}

/// Generates up to `most` tokens and gives each piece of text to `print`.
pub(super) fn generate(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    prompt: &str,
    ids: &[u32],
    most: usize,
    next: Next,
    print: impl Fn(&str) -> Result<()>,
) -> Result<Generation> {
    let start = Instant::now();
    let mut stream = TextStream::after(ids, tokenizer)?;
    let (mut text, mut times, mut failed) = (String::new(), Vec::new(), None);
    let tokens = block_on(engine.generate(ids, most, next, |id| {
        times.push(start.elapsed().as_secs_f64());
        let printed = stream.push(id).and_then(|piece| {
            text += &piece;
            print(&piece)
        });
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failed = Some(e);
                ControlFlow::Break(())
            }
        }
    }))?;
    if let Some(e) = failed {
        return Err(e);
    }
    let rest = stream.rest()?;
    if !rest.is_empty() {
        print(&rest)?;
        text += &rest;
    }
    let (first, last) = (times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(0.0));
    let speed = if last > first { (times.len() - 1) as f64 / (last - first) } else { 0.0 };
    Ok(Generation {
        prompt: prompt.to_owned(),
        text,
        prompt_tokens: ids.len(),
        tokens: tokens.len(),
        seconds_to_first_token: first,
        tokens_per_second: speed,
        device: DeviceInfo::from(engine.device()),
    })
}

/// Generates up to `most` tokens of each prompt, all together.
pub(super) fn generate_each(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    prompts: &[String],
    ids: &[Vec<u32>],
    most: usize,
    next: Next,
) -> Result<Generations> {
    let start = Instant::now();
    let mut times = Vec::new();
    let made = block_on(engine.generate_each(ids, most, next, |_, _| {
        times.push(start.elapsed().as_secs_f64());
        ControlFlow::Continue(())
    }))?;
    let (first, last) = (times.first().copied().unwrap_or(0.0), times.last().copied().unwrap_or(0.0));
    let after = times.len() - made.iter().filter(|m| !m.is_empty()).count();
    let text = |ids: &[u32], made: &[u32]| -> Result<String> {
        let mut stream = TextStream::after(ids, tokenizer)?;
        let text = made.iter().map(|id| stream.push(*id)).collect::<Result<String>>()?;
        Ok(text + &stream.rest()?)
    };
    let each = prompts.iter().zip(ids).zip(&made);
    let sequences = each.map(|((prompt, ids), made)| {
        Ok(Continued { prompt: prompt.clone(), text: text(ids, made)?, prompt_tokens: ids.len(), tokens: made.len() })
    });
    Ok(Generations {
        sequences: sequences.collect::<Result<_>>()?,
        seconds_to_first_token: first,
        tokens_per_second: if last > first { after as f64 / (last - first) } else { 0.0 },
        device: DeviceInfo::from(engine.device()),
    })
}
