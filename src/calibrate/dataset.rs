//! Windows of token ids from text, JSON lines or a NumPy array.

use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// Token windows: each starts from a fresh state, and every token after the first is a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(pub Vec<Vec<u32>>);

impl Windows {
    /// Reads `.npy` (`[windows, length]` of u16 or u32), or tokenizes `.jsonl` (field `text`) or plain text and
    /// cuts it into windows of `length` targets. At most `limit` windows.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] naming the file and what is wrong with it.
    pub fn read(
        path: &Path,
        tokenizer: Option<&Tokenizer>,
        bos: Option<u32>,
        length: usize,
        limit: Option<usize>,
    ) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let mut windows = match extension {
            "npy" => parse_npy(path, &std::fs::read(path).map_err(|e| Error::io(path, e))?)?,
            _ => {
                let tokenizer = tokenizer.ok_or_else(|| {
                    Error::bad(path, "is text, and the model has no tokenizer.json; pass an .npy of token ids")
                })?;
                cut(&tokenize(path, extension == "jsonl", tokenizer, bos)?, length)
            }
        };
        windows.truncate(limit.unwrap_or(usize::MAX));
        Self::new(path, windows)
    }

    /// As [`Windows::read`], of the bytes of an `.npy`; `name` is what messages call it.
    ///
    /// # Errors
    /// As [`Windows::read`].
    pub fn from_npy(name: &str, bytes: &[u8], limit: Option<usize>) -> Result<Self> {
        let mut windows = parse_npy(Path::new(name), bytes)?;
        windows.truncate(limit.unwrap_or(usize::MAX));
        Self::new(Path::new(name), windows)
    }

    fn new(path: &Path, mut windows: Vec<Vec<u32>>) -> Result<Self> {
        if windows.iter().all(|w| w.len() < 2) {
            return Err(Error::bad(path, "holds no window of at least two tokens"));
        }
        windows.retain(|w| w.len() >= 2);
        Ok(Self(windows))
    }

    /// Tokens in the longest window.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Predicted tokens in all.
    #[must_use]
    pub fn targets(&self) -> usize {
        self.0.iter().map(|w| w.len() - 1).sum()
    }
}

/// Which texts calibrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Calibration {
    /// Sequences, drawn from the file.
    pub sequences: usize,
    /// Tokens a sequence.
    pub length: usize,
    /// Seed of the draw.
    pub seed: u64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { sequences: 128, length: 1024, seed: 0 }
    }
}

/// Sequences of `settings.length` tokens drawn from a text (`.txt`, `.jsonl`, `.npy`), the same for the same seed.
///
/// # Errors
/// [`Error::BadCheckpoint`] naming the file and what is wrong with it; [`Error::Argument`] when it holds no sequence
/// of that length.
pub fn sample(path: &Path, tokenizer: Option<&Tokenizer>, bos: Option<u32>, settings: &Calibration) -> Result<Windows> {
    if settings.sequences == 0 || settings.length == 0 {
        return Err(Error::argument("calibration", "sequences and length must be at least 1"));
    }
    // Windows hold one token more than they predict.
    let Windows(mut all) = Windows::read(path, tokenizer, bos, settings.length - 1, None)?;
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    all.retain(|w| w.len() >= settings.length);
    all.iter_mut().for_each(|w| w.truncate(settings.length));
    if all.is_empty() {
        let what = format!("holds no sequence of {} tokens; its longest has {longest}", settings.length);
        return Err(Error::argument(format!("{}", path.display()), what));
    }
    if all.len() < settings.sequences {
        let (have, wanted) = (all.len(), settings.sequences);
        log::warn!("{}: holds {have} sequences of {} tokens, {wanted} were asked for", path.display(), settings.length);
    }
    all.shuffle(&mut ChaCha8Rng::seed_from_u64(settings.seed));
    all.truncate(settings.sequences);
    Ok(Windows(all))
}

fn cut(tokens: &[u32], length: usize) -> Vec<Vec<u32>> {
    // The last target of a window is also the context of none: windows share no target.
    tokens.chunks(length + 1).map(<[u32]>::to_vec).collect()
}

fn tokenize(path: &Path, json_lines: bool, tokenizer: &Tokenizer, bos: Option<u32>) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let documents: Vec<String> = if json_lines {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(i, line)| {
                let value: serde_json::Value =
                    serde_json::from_str(line).map_err(|e| Error::bad(path, format!("line {}: {e}", i + 1)))?;
                let text = value.get("text").and_then(|t| t.as_str());
                text.map(str::to_owned).ok_or_else(|| Error::bad(path, format!("line {} has no string `text`", i + 1)))
            })
            .collect::<Result<_>>()?
    } else {
        vec![text]
    };
    let mut tokens = Vec::new();
    for document in documents {
        let encoded = tokenizer.encode(document, false).map_err(|e| Error::bad(path, format!("tokenizer: {e}")))?;
        tokens.extend(bos);
        tokens.extend_from_slice(encoded.get_ids());
    }
    Ok(tokens)
}

fn parse_npy(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u32>>> {
    let bad = |e: &dyn std::fmt::Display| Error::bad(path, format!("not a [windows, length] array of u16 or u32: {e}"));
    let file = npyz::NpyFile::new(bytes).map_err(|e| bad(&e))?;
    let &[_, length] = file.shape() else { return Err(bad(&format!("its shape is {:?}", file.shape()))) };
    if file.order() != npyz::Order::C || length == 0 {
        return Err(bad(&"its rows are not contiguous"));
    }
    let kind = file.dtype().descr();
    let ids: Vec<u32> = match kind.trim_matches('\'') {
        "<u2" => file.into_vec::<u16>().map_err(|e| bad(&e))?.into_iter().map(u32::from).collect(),
        "<u4" => file.into_vec().map_err(|e| bad(&e))?,
        other => return Err(bad(&format!("its type is {other}"))),
    };
    Ok(ids.chunks(length as usize).map(<[u32]>::to_vec).collect())
}
