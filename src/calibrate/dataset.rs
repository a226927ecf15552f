//! Windows of token ids from text, JSON lines or a NumPy array.

use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use super::chat::ChatTemplate;
use super::documents::{documents, extension};
use crate::error::{Error, Result};

/// What makes token ids of texts.
pub struct TextEncoder {
    /// Text to ids.
    pub tokenizer: Tokenizer,
    /// Conversations to text; without, their contents are put one below the other.
    pub template: Option<ChatTemplate>,
}

/// Token windows: each starts from a fresh state, and every token after the first is a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows(pub Vec<Vec<u32>>);

impl Windows {
    /// Reads `.npy` (`[windows, length]` of u16 or u32), or tokenizes text (`.jsonl`, `.parquet` or plain) and cuts
    /// it into windows of `length` targets. At most `limit` windows.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] naming the file and what is wrong with it.
    pub fn read(
        path: &Path,
        encoder: Option<&TextEncoder>,
        bos: Option<u32>,
        length: usize,
        limit: Option<usize>,
    ) -> Result<Self> {
        let mut windows = match extension(path).as_str() {
            "npy" => parse_npy(path, &std::fs::read(path).map_err(|e| Error::io(path, e))?)?,
            _ => {
                let encoder = encoder.ok_or_else(|| no_tokenizer(path))?;
                cut(&tokenize(path, encoder, bos)?, length)
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
        self.0.iter().map(|w| w.len().saturating_sub(1)).sum()
    }

    /// The first token id that is not in a vocabulary of so many.
    #[must_use]
    pub fn beyond(&self, vocab: usize) -> Option<u32> {
        self.0.iter().flatten().copied().find(|id| *id as usize >= vocab)
    }

    /// Refuses no windows, one of fewer than `least` tokens, and ids beyond the vocabulary, before anything is done with the first.
    pub(crate) fn check(&self, least: usize, vocab: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::argument("windows", reason));
        if self.0.is_empty() {
            return refuse("there are none".to_owned());
        }
        for (i, window) in self.0.iter().enumerate() {
            if window.len() < least {
                return refuse(format!("window {i} has {} tokens, at least {least} are needed", window.len()));
            }
            if let Some(id) = window.iter().find(|id| **id as usize >= vocab) {
                return refuse(format!("token id {id} of window {i} in a vocabulary of {vocab}"));
            }
        }
        Ok(())
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
    /// Documents of fewer tokens are left out; token ids (`.npy`) have none.
    #[serde(skip_serializing_if = "is_zero")]
    pub min_tokens: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Calibration {
    /// # Errors
    /// [`Error::Argument`] for a draw of nothing.
    pub(crate) fn check(&self) -> Result<()> {
        for (what, n) in [("sequences", self.sequences), ("length", self.length)] {
            if n == 0 {
                return Err(Error::argument(format!("calibration.{what}"), "0, at least 1 is needed"));
            }
        }
        Ok(())
    }
}

impl Default for Calibration {
    fn default() -> Self {
        Self { sequences: 128, length: 1024, seed: 0, min_tokens: 0 }
    }
}

fn cut(tokens: &[u32], length: usize) -> Vec<Vec<u32>> {
    // The last target of a window is also the context of none: windows share no target.
    tokens.chunks(length.saturating_add(1)).map(<[u32]>::to_vec).collect()
}

fn tokenize(path: &Path, encoder: &TextEncoder, bos: Option<u32>) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    documents(path, encoder.template.as_ref(), &mut |text| {
        let ids = encoder.encode(path, text)?;
        tokens.extend(missing_bos(bos, &ids));
        tokens.extend(ids);
        Ok(())
    })?;
    Ok(tokens)
}

impl TextEncoder {
    /// The token ids of a document, without special tokens but those that its text names.
    pub(crate) fn encode(&self, path: &Path, text: &str) -> Result<Vec<u32>> {
        let encoded =
            self.tokenizer.encode_fast(text, false).map_err(|e| Error::bad(path, format!("tokenizer: {e}")))?;
        Ok(encoded.get_ids().to_vec())
    }
}

/// The token a text begins with, `bos`, unless `ids` do: templates write it themselves.
#[must_use]
pub fn missing_bos(bos: Option<u32>, ids: &[u32]) -> Option<u32> {
    bos.filter(|bos| ids.first() != Some(bos))
}

/// What to say where text is given and there is no tokenizer.
pub(super) fn no_tokenizer(path: &Path) -> Error {
    Error::bad(path, "is text, and the model has no tokenizer.json; pass an .npy of token ids")
}

/// Refuses an .npy whose header says of no shape, or of more elements than the file has bytes: npyz multiplies it without a look at
/// them. What is no .npy at all is for npyz to say.
fn check_shape(bytes: &[u8]) -> Result<(), String> {
    // Headers are up to 64 KiB, but for arrays of records.
    let Some(header) = bytes.strip_prefix(b"\x93NUMPY").map(|rest| &rest[..rest.len().min(1 << 16)]) else {
        return Ok(());
    };
    let header = String::from_utf8_lossy(header);
    let shapes = Regex::new(r#"['"]shape['"]\s*:\s*\(([^)]*)\)"#).map_err(|e| e.to_string())?;
    let mut found = shapes.captures_iter(&header).map(|c| c[1].to_owned()).peekable();
    if found.peek().is_none() {
        return Err("its header says no shape".to_owned());
    }
    let absurd = |shape: &String| {
        let axes = shape.split(',').map(str::trim).filter(|axis| !axis.is_empty());
        let count = axes.map(|axis| axis.parse().ok()).try_fold(1u64, |n, axis| n.checked_mul(axis?));
        count.is_none_or(|count| count > bytes.len() as u64)
    };
    match found.find(absurd) {
        Some(shape) => Err(format!("its shape is ({shape}), in {} bytes", bytes.len())),
        None => Ok(()),
    }
}

pub(super) fn parse_npy(path: &Path, bytes: &[u8]) -> Result<Vec<Vec<u32>>> {
    let bad = |e: &dyn std::fmt::Display| Error::bad(path, format!("not a [windows, length] array of u16 or u32: {e}"));
    check_shape(bytes).map_err(|e| bad(&e))?;
    let file = npyz::NpyFile::new(bytes).map_err(|e| bad(&e))?;
    let &[_, length @ 1..=u64::MAX] = file.shape() else {
        return Err(bad(&format!("its shape is {:?}", file.shape())));
    };
    if file.order() != npyz::Order::C {
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
