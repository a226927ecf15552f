//! Sequences drawn from a text, with the token ids in a temporary file: memory grows with neither their number nor
//! their length.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::dataset::{Calibration, TextEncoder, Windows, missing_bos, no_tokenizer, parse_npy};
use super::documents::{documents, extension};
use crate::checkpoint::hex;
use crate::error::{Error, Result};

/// Sequences of one length in the order of the draw.
pub struct Sequences {
    file: File,
    /// First token of each.
    starts: Vec<u64>,
    length: usize,
}

/// Token ids on their way into a file.
struct Ids {
    file: BufWriter<File>,
    count: u64,
}

impl Ids {
    fn add(&mut self, ids: &[u32]) -> Result<()> {
        self.count += ids.len() as u64;
        self.file.write_all(bytemuck::cast_slice(ids)).map_err(failed)
    }
}

impl Sequences {
    /// Draws `settings.sequences` of `settings.length` tokens from a text (`.txt`, `.jsonl`, `.parquet`) or token
    /// windows (`.npy`), the same for the same seed. Documents are put end to end and cut; those of fewer than
    /// `settings.min_tokens` are left out. There may be fewer sequences than asked for.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] naming the file and what is wrong with it; [`Error::Argument`] when it holds no
    /// sequence of that length.
    pub fn draw(path: &Path, encoder: Option<&TextEncoder>, bos: Option<u32>, settings: &Calibration) -> Result<Self> {
        let Calibration { sequences, length, seed, min_tokens } = *settings;
        settings.check()?;
        if min_tokens > 0 && extension(path) == "npy" {
            log::warn!(
                "{}: holds no documents, of which those below {min_tokens} tokens could be left out",
                path.display()
            );
        }
        let mut ids = Ids { file: BufWriter::new(tempfile::tempfile().map_err(failed)?), count: 0 };
        let (mut starts, longest) = match extension(path).as_str() {
            "npy" => windows(path, length, &mut ids)?,
            _ => text(path, encoder.ok_or_else(|| no_tokenizer(path))?, bos, (length, min_tokens), &mut ids)?,
        };
        if starts.is_empty() {
            let of = if min_tokens > 0 { format!(" in documents of {min_tokens} or more") } else { String::new() };
            let what = format!("holds no sequence of {length} tokens{of}; its longest has {longest}");
            return Err(Error::argument(format!("{}", path.display()), what));
        }
        starts.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        starts.truncate(sequences);
        let file = ids.file.into_inner().map_err(|e| failed(e.into_error()))?;
        Ok(Self { file, starts, length })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Tokens of each.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The hash of the first `count`, as [`chain`] makes it.
    ///
    /// # Errors
    /// As [`Sequences::get`].
    pub fn hash(&mut self, count: usize) -> Result<String> {
        (0..count).try_fold(String::new(), |hash, index| Ok(chain(&hash, &self.get(index)?)))
    }

    /// The token ids of one.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is none; [`Error::Io`] for the temporary file.
    pub fn get(&mut self, index: usize) -> Result<Vec<u32>> {
        let start = self.starts.get(index);
        let start = start.ok_or_else(|| Error::argument("calibration", format!("no sequence {index}")))?;
        self.file.seek(SeekFrom::Start(start * 4)).map_err(failed)?;
        let mut ids = vec![0u32; self.length];
        self.file.read_exact(bytemuck::cast_slice_mut(&mut ids)).map_err(failed)?;
        Ok(ids)
    }

    /// The first token id that is not in a vocabulary of so many.
    ///
    /// # Errors
    /// As [`Sequences::get`].
    pub fn beyond(&mut self, vocab: usize) -> Result<Option<u32>> {
        for index in 0..self.count() {
            if let Some(id) = self.get(index)?.into_iter().find(|id| *id as usize >= vocab) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// All of them in memory.
    ///
    /// # Errors
    /// As [`Sequences::get`].
    pub fn windows(mut self) -> Result<Windows> {
        Ok(Windows((0..self.count()).map(|i| self.get(i)).collect::<Result<_>>()?))
    }
}

/// Warns where a text holds fewer sequences than were asked for: `have`.
pub fn warn_of_fewer(path: &Path, settings: &Calibration, have: usize) {
    let Calibration { sequences, length, .. } = settings;
    if have < *sequences {
        log::warn!("{}: holds {have} sequences of {length} tokens, {sequences} were asked for", path.display());
    }
}

/// As [`Sequences::draw`], in memory. Warns where there are fewer sequences than asked for.
///
/// # Errors
/// As [`Sequences::draw`].
pub fn sample(path: &Path, encoder: Option<&TextEncoder>, bos: Option<u32>, settings: &Calibration) -> Result<Windows> {
    let sequences = Sequences::draw(path, encoder, bos, settings)?;
    warn_of_fewer(path, settings, sequences.count());
    sequences.windows()
}

/// The hash of sequences, given that of those before: SHA-256 of both and the number of tokens. `before` is empty at
/// first.
#[must_use]
pub fn chain(before: &str, ids: &[u32]) -> String {
    let mut hash = Sha256::new();
    hash.update(before.as_bytes());
    hash.update((ids.len() as u64).to_le_bytes());
    ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    hex(&hash.finalize())
}

/// Where the sequences of a NumPy array of windows start, and the length of the longest window.
fn windows(path: &Path, length: usize, ids: &mut Ids) -> Result<(Vec<u64>, u64)> {
    let all = parse_npy(path, &std::fs::read(path).map_err(|e| Error::io(path, e))?)?;
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    let mut starts = Vec::new();
    for window in all.iter().filter(|w| w.len() >= length) {
        starts.push(ids.count);
        ids.add(&window[..length])?;
    }
    Ok((starts, longest as u64))
}

/// Where the sequences of a text start, and how many tokens it has.
fn text(
    path: &Path,
    encoder: &TextEncoder,
    bos: Option<u32>,
    (length, min_tokens): (usize, usize),
    ids: &mut Ids,
) -> Result<(Vec<u64>, u64)> {
    let (mut taken, mut short) = (0usize, 0usize);
    documents(path, encoder.template.as_ref(), &mut |document| {
        let tokens = encoder.encode(path, document)?;
        if tokens.len() < min_tokens {
            short += 1;
            return Ok(());
        }
        taken += 1;
        ids.add(missing_bos(bos, &tokens).as_slice())?;
        ids.add(&tokens)
    })?;
    if short > 0 {
        log::info!("{}: {taken} documents, {short} of fewer than {min_tokens} tokens left out", path.display());
    }
    Ok(((0..ids.count / length as u64).map(|i| i * length as u64).collect(), ids.count))
}

fn failed(e: std::io::Error) -> Error {
    Error::io("the temporary file of calibration's tokens", e)
}
