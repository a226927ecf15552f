//! Which pieces of a text calibrate.

use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokenizers::Tokenizer;

use crate::error::{Error, Result};
use crate::eval::Windows;
use crate::recipe::Calibration;

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
