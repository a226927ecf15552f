//! Prompts and tokens a second, as a user gets them: choosing on the device and reading back the id included.

use std::time::Instant;

use pollster::block_on;
use serde::Serialize;

use super::Warmer;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Reading};
use crate::runtime::{Engine, Next};

/// What to time: after `depth` tokens, a prompt and tokens made one by one; of several sequences each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Test {
    /// Tokens of the prompt; 0: none.
    pub prompt: usize,
    /// Tokens made; 0: none.
    pub generate: usize,
    /// Tokens before, which are not timed.
    pub depth: usize,
    /// Sequences, whose prompts are read one by one and whose tokens are made together; 1: no batch.
    pub sequences: usize,
}

impl Test {
    /// Tokens that the context must hold.
    #[must_use]
    pub fn context(&self) -> usize {
        self.depth + self.prompt + self.generate
    }

    /// Tokens that count.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.sequences * (self.prompt + self.generate)
    }

    /// llama-bench's name: `pp512`, `tg128`, `pp512+tg128 @ d4096`; of several sequences `tg128 x 32`.
    #[must_use]
    pub fn name(&self) -> String {
        let parts = [("pp", self.prompt), ("tg", self.generate)];
        let parts: Vec<String> = parts.iter().filter(|(_, n)| *n > 0).map(|(p, n)| format!("{p}{n}")).collect();
        let depth = if self.depth > 0 { format!(" @ d{}", self.depth) } else { String::new() };
        let sequences = if self.sequences > 1 { format!(" x {}", self.sequences) } else { String::new() };
        parts.join("+") + &sequences + &depth
    }
}

/// Times of a test, one a repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Runs {
    /// Seconds of all that is timed.
    pub seconds: Vec<f64>,
    /// Seconds from the prompt to the first id; empty without a prompt.
    pub first_token: Vec<f64>,
    /// Seconds of the longest submit of a prompt that was measured.
    pub longest_submit: Option<f64>,
}

/// Runs `test` `repeat` times, each on a new sequence and a warm device, after one that is not counted unless
/// `warm_up` is false. The tokens are random but for those made.
///
/// # Errors
/// [`Error::Argument`] for a test of nothing; as [`Engine::feed`] and [`Engine::set_sequences`].
pub fn measure(engine: &mut Engine, warmer: &Warmer, test: Test, repeat: usize, warm_up: bool) -> Result<Runs> {
    if test.prompt + test.generate == 0 {
        return Err(Error::argument("bench", "neither a prompt nor tokens to make"));
    }
    let vocab = engine.config().vocab_size;
    let ids = |n: usize, salt: usize| -> Vec<u32> { (0..n).map(|i| id(i + salt, vocab)).collect() };
    let (before, prompt) = (ids(test.depth, 1 << 20), ids(test.prompt, 0));
    if warm_up {
        // Compiles and records everything; a few tokens tell as much as many.
        once(engine, warmer, Test { generate: test.generate.min(2), ..test }, &before, &prompt)?;
    }
    let submit = |engine: &Engine| engine.device().gpu().map(Gpu::longest_submit).filter(|s| *s > 0.0);
    let _ = submit(engine); // of the warm-up
    let mut runs = Runs::default();
    for _ in 0..repeat {
        let (seconds, first) = once(engine, warmer, test, &before, &prompt)?;
        runs.seconds.push(seconds);
        runs.first_token.extend(first);
    }
    runs.longest_submit = submit(engine);
    Ok(runs)
}

/// Any id, by a multiplicative hash.
fn id(i: usize, vocab: usize) -> u32 {
    ((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as u32 % vocab as u32
}

/// Makes room for sequences that decode together, where there are several; says whether there are.
pub(super) fn together(engine: &mut Engine, sequences: usize) -> Result<bool> {
    if sequences > 1 && engine.sequences() != sequences {
        engine.set_sequences(sequences)?;
    }
    Ok(sequences > 1)
}

/// Chooses the next token, or that of each sequence.
pub(super) fn pick(engine: &mut Engine, together: bool) -> Result<Reading> {
    if together { engine.pick_each(Next::Greedy) } else { engine.pick(Next::Greedy) }
}

/// Processes what was chosen, and chooses what comes next.
fn follow(engine: &mut Engine, together: bool) -> Result<Reading> {
    if together { engine.follow_each(Next::Greedy) } else { engine.follow(Next::Greedy) }
}

/// Seconds of the test, and to the first ids after a prompt. Several sequences have the same tokens, and are computed apart.
fn once(
    engine: &mut Engine,
    warmer: &Warmer,
    test: Test,
    before: &[u32],
    prompt: &[u32],
) -> Result<(f64, Option<f64>)> {
    let together = together(engine, test.sequences)?;
    engine.reset()?;
    if !before.is_empty() {
        engine.feed(before)?;
    }
    if together {
        (0..test.sequences).try_for_each(|slot| engine.put(slot))?;
    }
    warmer.run()?;
    let start = Instant::now();
    let elapsed = || start.elapsed().as_secs_f64();
    let (mut first, mut seconds) = (None, 0.0);
    let any = 1 % engine.config().vocab_size as u32;
    match (prompt.is_empty(), together) {
        (true, true) => engine.feed_each(&vec![any; test.sequences])?,
        (true, false) => engine.feed(&[any])?,
        (false, true) => (0..test.sequences).try_for_each(|slot| {
            engine.take(slot)?;
            engine.feed(prompt)?;
            engine.put(slot)
        })?,
        (false, false) => engine.feed(prompt)?,
    }
    if test.generate == 0 {
        engine.device().wait()?;
        seconds = elapsed();
    }
    // The token behind a prompt is not one of those to make.
    let mut left = test.generate - usize::from(prompt.is_empty());
    let mut coming = Some(pick(engine, together)?);
    while let Some(ids) = coming.take() {
        if left > 0 {
            coming = Some(follow(engine, together)?);
            left -= 1;
        }
        block_on(ids.words())?;
        if !prompt.is_empty() && first.is_none() {
            first = Some(elapsed());
        }
    }
    Ok((if test.generate > 0 { elapsed() } else { seconds }, first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_llama_bench() {
        let name = |prompt, generate, depth| Test { prompt, generate, depth, sequences: 1 }.name();
        assert_eq!(name(512, 0, 0), "pp512");
        assert_eq!(name(0, 128, 0), "tg128");
        assert_eq!(name(512, 128, 4096), "pp512+tg128 @ d4096");
        let together = Test { prompt: 0, generate: 128, depth: 9, sequences: 32 };
        assert_eq!(together.name(), "tg128 x 32 @ d9");
        assert_eq!(together.tokens(), 32 * 128);
    }
}
