//! Prompt in, text out.

use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};
use pollster::block_on;
use serde::Serialize;
use tokenizers::Tokenizer;
use wgquant::calibrate::missing_bos;
use wgquant::gpu::Device;
use wgquant::kernels::Sampling;
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
    pub(super) ended: Ended,
    /// From the prompt to the first new token, if there is one.
    pub(super) seconds_to_first_token: Option<f64>,
    /// Tokens after the first, over the time they took, if there are any.
    pub(super) tokens_per_second: Option<f64>,
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
    pub(super) ended: Ended,
}

/// Why there are no more tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// The model ended the sequence.
    EndOfSequence,
    /// There are as many as were asked for.
    Length,
}

impl Ended {
    fn of(made: usize, most: usize) -> Self {
        if made < most { Self::EndOfSequence } else { Self::Length }
    }
}

/// Tokens of a sequence that were made from when its first was seen to when its last was. The pass after a token starts before
/// that is seen. On the CPU it has ended by then: the second token is made before the clock starts, and what ended the
/// sequence before it stops.
fn timed(device: &Device, tokens: usize, ended: Ended) -> usize {
    match device {
        Device::Cpu => (tokens + usize::from(ended == Ended::EndOfSequence)).saturating_sub(2),
        Device::Gpu(_) | Device::Nowhere => tokens.saturating_sub(1),
    }
}

/// `made` tokens between the first and the last of `times`, a second.
pub(super) fn speed(times: &[f64], made: usize) -> Option<f64> {
    let (first, last) = (times.first()?, times.last()?);
    (made > 0 && last > first).then(|| made as f64 / (last - first))
}

/// How fast a text came, in words after others: tokens a second, and seconds to its first.
pub(super) fn pace(tokens_per_second: Option<f64>, seconds_to_first_token: Option<f64>) -> String {
    let speed = tokens_per_second.map(|speed| format!(", {speed:.1} tokens/s")).unwrap_or_default();
    let first = seconds_to_first_token.map(|s| format!(", first after {:.0} ms", s * 1e3)).unwrap_or_default();
    speed + &first
}

/// What is said of a sequence that the model ended itself.
pub(super) fn ended(ended: Ended) -> &'static str {
    if ended == Ended::EndOfSequence { "; the model ended it" } else { "" }
}

/// What was generated together, and how fast.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Generations {
    pub(super) sequences: Vec<Continued>,
    /// From the first prompt to the first new token, if there is one: all prompts are read before.
    pub(super) seconds_to_first_token: Option<f64>,
    /// Tokens of all after the first of each, over the time they took, if there are any.
    pub(super) tokens_per_second: Option<f64>,
    #[serde(flatten)]
    pub(super) device: DeviceInfo,
}

/// The prompt's tokens after the beginning-of-sequence token, if the model has one and the prompt does not begin with it.
pub(super) fn encode(tokenizer: &Tokenizer, file: &ModelFile, prompt: &str) -> Result<Vec<u32>> {
    let ids = encode_as_it_is(tokenizer, file, prompt)?;
    let bos = missing_bos(file.config().bos, &ids);
    let ids: Vec<u32> = bos.into_iter().chain(ids).collect();
    if ids.is_empty() {
        bail!("the prompt is empty, and the model has no beginning-of-sequence token");
    }
    Ok(ids)
}

/// The prompt's tokens, without special ones but those that it names.
pub(super) fn encode_as_it_is(tokenizer: &Tokenizer, file: &ModelFile, prompt: &str) -> Result<Vec<u32>> {
    let encoded = tokenizer.encode(prompt, false).map_err(|e| anyhow!("the prompt: {e}"))?;
    let vocab = file.config().vocab_size;
    if let Some(id) = encoded.get_ids().iter().find(|id| **id as usize >= vocab) {
        let dir = file.checkpoint().dir().display();
        bail!("{dir}: tokenizer.json is another model's: it gives token id {id}, and the vocabulary is of {vocab}");
    }
    Ok(encoded.get_ids().to_vec())
}

/// How tokens are chosen by a temperature, 0 for the likeliest, the likeliest of which others are not drawn, and their probability
/// together; `temp` and `top` are what the first and the last are called. An error is the name of one, and what is wrong with it.
pub(super) fn sampling(
    (temperature, top_k, top_p): (f32, u32, f32),
    [temp, top]: [&str; 2],
) -> Result<Next, (&str, String)> {
    if !temperature.is_finite() || temperature < 0.0 {
        return Err((temp, format!("{temperature} is no finite number of 0 or more")));
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err((top, format!("{top_p} is not above 0 and at most 1")));
    }
    if temperature == 0.0 {
        return Ok(Next::Greedy);
    }
    if !(1.0 / temperature).is_normal() {
        return Err((temp, format!("{temperature:e} is neither 0 nor a number to divide by")));
    }
    Ok(Next::Sample(Sampling { temperature, top_k, top_p }))
}

/// Fails where the `last` logits of a sequence are no numbers: the token that is chosen of such is the first of the vocabulary. What a
/// state has once it keeps, so they tell of all before; only then is the sequence read again, to say where that began.
fn check_logits(engine: &mut Engine, last: &[f32], sequences: &[(&[u32], &[u32])], most: usize) -> Result<()> {
    let rows = last.chunks(engine.config().vocab_size).zip(sequences).enumerate();
    for (i, (_, (prompt, made))) in rows.filter(|(_, (row, _))| row.iter().any(|logit| !logit.is_finite())) {
        let good = good_tokens(engine, prompt, made, most)?;
        if good.is_none() && made.len() < most {
            // It had ended before: what is no number came of a pass that nobody looked at.
            continue;
        }
        let whose =
            if sequences.len() > 1 { format!("prompt {} of {}: ", i + 1, sequences.len()) } else { String::new() };
        let good = good.map_or_else(|| "unknown".to_owned(), |good| good.to_string());
        bail!(
            "{whose}logits are no numbers (good new tokens before: {good}): the model's weights make values that overflow, and \
             what would follow means nothing"
        );
    }
    Ok(())
}

/// How many of the tokens that were `made` after `prompt` come of logits that are numbers; `None`: all, read together.
fn good_tokens(engine: &mut Engine, prompt: &[u32], made: &[u32], most: usize) -> Result<Option<usize>> {
    let Some((last, before)) = prompt.split_last() else { return Ok(None) };
    engine.reset()?;
    if !before.is_empty() {
        engine.feed(before)?;
    }
    // After the last of as many as were asked for nothing was chosen.
    let after: Vec<u32> = [*last].iter().chain(made).take(most).copied().collect();
    let said = block_on(engine.score(&after, &after, 0))?;
    Ok(said.iter().position(|said| !said.is_sound()))
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
    let last = block_on(engine.logits())?;
    if let Err(e) = check_logits(engine, &last, &[(ids, &tokens)], most) {
        print("\n")?;
        return Err(e);
    }
    let rest = stream.rest()?;
    if !rest.is_empty() {
        print(&rest)?;
        text += &rest;
    }
    let ended = Ended::of(tokens.len(), most);
    Ok(Generation {
        prompt: prompt.to_owned(),
        text,
        prompt_tokens: ids.len(),
        tokens: tokens.len(),
        ended,
        seconds_to_first_token: times.first().copied(),
        tokens_per_second: speed(&times, timed(engine.device(), tokens.len(), ended)),
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
    let last = block_on(engine.logits_each())?;
    let sequences: Vec<_> = ids.iter().zip(&made).map(|(ids, made)| (&ids[..], &made[..])).collect();
    check_logits(engine, &last, &sequences, most)?;
    let timed: usize = made.iter().map(|m| timed(engine.device(), m.len(), Ended::of(m.len(), most))).sum();
    let text = |ids: &[u32], made: &[u32]| -> Result<String> {
        let mut stream = TextStream::after(ids, tokenizer)?;
        let text = made.iter().map(|id| stream.push(*id)).collect::<Result<String>>()?;
        Ok(text + &stream.rest()?)
    };
    let each = prompts.iter().zip(ids).zip(&made);
    let sequences = each.map(|((prompt, ids), made)| {
        let (prompt, text, ended) = (prompt.clone(), text(ids, made)?, Ended::of(made.len(), most));
        Ok(Continued { prompt, text, prompt_tokens: ids.len(), tokens: made.len(), ended })
    });
    Ok(Generations {
        sequences: sequences.collect::<Result<_>>()?,
        seconds_to_first_token: times.first().copied(),
        tokens_per_second: speed(&times, timed),
        device: DeviceInfo::from(engine.device()),
    })
}

#[cfg(test)]
mod tests {
    use wgquant::gpu::Device;

    use super::Ended::{EndOfSequence, Length};
    use super::{speed, timed};

    /// A second a pass, and the token after is made before one is seen: of a, b, c and d the CPU shows a at 2 s, b at 3, c and d at 4.
    #[test]
    fn speeds_are_of_the_passes_in_their_time() {
        let seen = |tokens: usize| [2.0, 3.0, 4.0, 4.0].into_iter().skip(4 - tokens).collect::<Vec<f64>>();
        assert_eq!(timed(&Device::Cpu, 4, Length), 2);
        assert_eq!(speed(&seen(4), timed(&Device::Cpu, 4, Length)), Some(1.0));
        assert_eq!(speed(&seen(3), timed(&Device::Cpu, 3, Length)), Some(1.0));
        // The model ended it after three, in a pass of its own.
        assert_eq!(speed(&seen(4)[..3], timed(&Device::Cpu, 3, EndOfSequence)), Some(1.0));
        // Where nothing was made between, a last token that is seen a little later says nothing.
        assert_eq!(speed(&[2.0, 2.0001], timed(&Device::Cpu, 2, Length)), None);
        // What runs behind is seen as it is made.
        assert_eq!(speed(&[1.0, 2.0, 3.0], timed(&Device::Nowhere, 3, Length)), Some(1.0));
        for device in [Device::Cpu, Device::Nowhere] {
            assert_eq!([0, 1].map(|tokens| timed(&device, tokens, Length)), [0, 0]);
            assert_eq!(timed(&device, 0, EndOfSequence), 0);
        }
        assert_eq!((speed(&[], 0), speed(&[1.0], 0)), (None, None));
    }
}
