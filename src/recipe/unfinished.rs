//! Blocks that a run has finished, kept beside its output until that is there: a run that was interrupted goes on behind them.
//!
//! They lie in `NAME.unfinished` beside the output `NAME`: what decides the output in `run.json`, and a directory for each block, which
//! appears whole or not at all ([`write_weights`]), with hashes. The next blocks' calibration needs the streams behind them, which are run
//! through again: that takes a fraction of what choosing codes did. `run.json` is written before the first block and removed before any:
//! blocks without it are of no run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::{fs, io};

use serde_json::{Value, json};

use crate::checkpoint::{CheckpointWriter, verify};
use crate::error::{Error, Result};
use crate::files::{self, Claim};
use crate::model::{Layer, Linear, Names, Role, StoredWeights, write_weights};
use crate::quantize::ModuleLoss;

/// What decides the output: blocks of another run are of no use.
const RUN: &str = "run.json";

/// The finished blocks of one output.
pub(crate) struct Unfinished {
    dir: PathBuf,
    run: Value,
    _claim: Claim,
    /// The block kept last, which is written while the next one is worked on.
    writing: Option<JoinHandle<Result<()>>>,
}

/// Where blocks that are done are kept until `out` is there.
///
/// # Errors
/// [`Error::Argument`] for a path that ends in no name.
pub fn unfinished_dir(out: &Path) -> Result<PathBuf> {
    let mut name = CheckpointWriter::name_of(out)?.to_owned();
    name.push(".unfinished");
    Ok(out.with_file_name(name))
}

impl Unfinished {
    /// What there is of `out`, whose model has so many blocks and is decided by `run`.
    ///
    /// # Errors
    /// [`Error::Argument`] naming what differs where the blocks there are of another run; [`Error::Io`].
    pub(crate) fn of(out: &Path, blocks: usize, run: Value) -> Result<Self> {
        let dir = unfinished_dir(out)?;
        let parent = files::folder(&dir);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        let claim = files::claim(&dir).map_err(|e| Error::io(&dir, e))?;
        match begun(&dir)? {
            Some(there) => {
                if let Some((key, there, here)) = difference("", &there, &run) {
                    let what = format!(
                        "its blocks are of a run with {} as {key}, this one has {}; pass --restart to begin anew, or choose another output",
                        brief(there),
                        brief(here)
                    );
                    return Err(Error::argument(dir.display().to_string(), what));
                }
            }
            None => discard(&dir)?,
        }
        let this = Self { dir, run, _claim: claim, writing: None };
        let done = (0..blocks).take_while(|index| this.block(*index).exists()).count();
        if done > 0 {
            log::info!("{}: has {done} of {blocks} blocks; going on behind them", this.dir.display());
        }
        Ok(this)
    }

    fn block(&self, index: usize) -> PathBuf {
        self.dir.join(format!("block-{index}"))
    }

    /// Puts what was kept of block `index`, if it was, in the place of the weights of `layer`. Gives what its modules lost. What is not
    /// as it was written is removed, to be made anew.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be removed.
    pub(crate) fn restore(&self, index: usize, layer: &mut Layer) -> Result<Option<Vec<ModuleLoss>>> {
        let dir = self.block(index);
        if !dir.exists() {
            return Ok(None);
        }
        match kept(&dir, index, layer) {
            Ok((whole, losses)) => {
                *layer = whole;
                Ok(Some(losses))
            }
            Err(e) => {
                log::warn!("{e}; this block is made anew");
                removed(&dir)?;
                Ok(None)
            }
        }
    }

    /// Keeps block `index`, whose modules lost this; on a thread, which the next call waits for.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`], of the block before too.
    pub(crate) fn keep(&mut self, index: usize, layer: &Layer, losses: &[ModuleLoss]) -> Result<()> {
        self.written()?;
        fs::create_dir_all(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
        let (dir, note, run) = (self.block(index), json!(losses), self.dir.join(RUN));
        let named =
            |(part, linear): (&str, &Linear)| (Names::default().mixer(index, part), Role::Linear, linear.clone());
        let weights: Vec<_> = layer.linears().into_iter().map(named).collect();
        let begins = (!run.exists()).then(|| format!("{:#}\n", self.run));
        self.writing = Some(std::thread::spawn(move || {
            if let Some(text) = begins {
                let write = |file: &mut fs::File| io::Write::write_all(file, text.as_bytes());
                files::replace(&run, write).map_err(|e| Error::io(&run, e))?;
            }
            write_weights(&weights, note, &dir)
        }));
        Ok(())
    }

    /// Waits for the block kept last.
    fn written(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Removes all of it: the output is there, so that nothing that goes wrong here matters to it.
    pub(crate) fn remove(&mut self) {
        if let Err(e) = self.written().and_then(|()| discard(&self.dir)) {
            log::warn!("{}: of no more use, and not removed: {e}", self.dir.display());
        }
    }
}

impl Drop for Unfinished {
    /// Where the output is not there, the block kept last may still be on its way.
    fn drop(&mut self) {
        if let Some(writing) = self.writing.take() {
            let _ = writing.join();
        }
        if self.block(0).exists() {
            log::info!("{}: kept, with what was done", self.dir.display());
        }
    }
}

/// Forgets the blocks that an interrupted run has left of `out`.
///
/// # Errors
/// As [`unfinished_dir`]; [`Error::Io`].
pub fn discard_unfinished(out: &Path) -> Result<()> {
    let dir = unfinished_dir(out)?;
    if !dir.exists() {
        return Ok(());
    }
    let _claim = files::claim(&dir).map_err(|e| Error::io(&dir, e))?;
    discard(&dir)
}

/// The run that `dir` is of, if there is anything.
///
/// # Errors
/// [`Error::BadCheckpoint`] for what is no JSON; [`Error::Io`].
fn begun(dir: &Path) -> Result<Option<Value>> {
    let path = dir.join(RUN);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| Error::bad(&path, format!("{e}; pass --restart to begin anew, or choose another output"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(&path, e)),
    }
}

/// Block `index` as it was kept in `dir`, in the place of the weights of `layer`, and what its modules lost.
///
/// # Errors
/// [`Error::BadCheckpoint`] naming what is not as it was written.
fn kept(dir: &Path, index: usize, layer: &Layer) -> Result<(Layer, Vec<ModuleLoss>)> {
    let bad = |what: String| Error::bad(dir, what);
    if let Some(d) = verify(dir)?.differences.first() {
        return Err(bad(format!("{}: {} is {}, was written as {}", d.file, d.what, d.found, d.manifest)));
    }
    let (weights, note) = StoredWeights::open(dir)?;
    let mut layer = layer.clone();
    for (part, linear) in layer.linears_mut() {
        let name = Names::default().mixer(index, part);
        let kept = weights.linear(&name, Role::Linear)?;
        if kept.dims() != linear.dims() {
            let (there, here) = (kept.dims(), linear.dims());
            return Err(bad(format!("`{name}` is {there:?}, the model's {here:?}")));
        }
        *linear = kept;
    }
    let losses = serde_json::from_value(note).map_err(|e| bad(format!("what its modules lost: {e}")))?;
    Ok((layer, losses))
}

/// Removes what runs have left in `dir`, and `dir` itself.
///
/// # Errors
/// [`Error::Argument`] where it holds what no run has left, which is not removed, and nothing else then; [`Error::Io`].
fn discard(dir: &Path) -> Result<()> {
    let all = match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<Vec<OsString>>>(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => Err(e),
    };
    let mut all = all.map_err(|e| Error::io(dir, e))?;
    if let Some(name) = all.iter().find(|name| !name.to_str().is_some_and(is_ours)) {
        let what = format!("holds {}, which no run left; move it away or choose another output", name.display());
        return Err(Error::argument(dir.display().to_string(), what));
    }
    all.sort_by_key(|name| name != RUN);
    all.iter().try_for_each(|name| removed(&dir.join(name)))?;
    fs::remove_dir(dir).map_err(|e| Error::io(dir, e))
}

/// Is it a name that runs give in such a directory, at last or meanwhile?
fn is_ours(name: &str) -> bool {
    let name = files::destination(name).unwrap_or(name);
    let block = name.strip_prefix("block-").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    block || name == RUN
}

fn removed(path: &Path) -> Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.map_err(|e| Error::io(path, e))
}

/// A value as a message has it.
fn brief(value: &Value) -> String {
    const MOST: usize = 120;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The first place where two values differ, and both.
fn difference<'a>(key: &str, there: &'a Value, here: &'a Value) -> Option<(String, &'a Value, &'a Value)> {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (there, here) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            let of = |value: &'a serde_json::Map<String, Value>, name: &str| value.get(name).unwrap_or(&Value::Null);
            names.into_iter().find_map(|name| difference(&below(name), of(a, name), of(b, name)))
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|i| {
            let of = |values: &'a [Value]| values.get(i).unwrap_or(&Value::Null);
            difference(&below(&i.to_string()), of(a), of(b))
        }),
        _ => (there != here).then(|| (key.to_owned(), there, here)),
    }
}
