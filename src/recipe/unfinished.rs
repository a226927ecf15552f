//! Blocks that a run has finished, kept beside its output until that is there: a run that was interrupted goes on behind them.
//!
//! They lie in `NAME.unfinished` beside the output `NAME`: what decides the output in `run.json`, and a directory for each block, which
//! appears whole or not at all ([`write_weights`]), with hashes. The next blocks' calibration needs the streams behind them, which are run
//! through again: that takes a fraction of what choosing codes did.

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
        if let Some((key, there, here)) = begun(&dir)?.as_ref().and_then(|there| difference("", there, &run)) {
            let what = format!(
                "its blocks are of a run with {there} as {key}, this one has {here}; pass --restart to begin anew, or choose another output"
            );
            return Err(Error::argument(dir.display().to_string(), what));
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

    /// Puts what was kept of block `index`, if it was, in the place of the weights of `layer`. Gives what its modules lost.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] naming what is not as it was written.
    pub(crate) fn restore(&self, index: usize, layer: &mut Layer) -> Result<Option<Vec<ModuleLoss>>> {
        let dir = self.block(index);
        if !dir.exists() {
            return Ok(None);
        }
        let bad = |what: String| Error::bad(&dir, format!("{what}; remove it to have this block made anew"));
        if let Some(d) = verify(&dir)?.differences.first() {
            return Err(bad(format!("{}: {} is {}, was written as {}", d.file, d.what, d.found, d.manifest)));
        }
        let (weights, note) = StoredWeights::open(&dir)?;
        for (part, linear) in layer.linears_mut() {
            let name = Names::default().mixer(index, part);
            let kept = weights.linear(&name, Role::Linear)?;
            if kept.dims() != linear.dims() {
                let (there, here) = (kept.dims(), linear.dims());
                return Err(bad(format!("`{name}` is {there:?}, the model's {here:?}")));
            }
            *linear = kept;
        }
        serde_json::from_value(note).map(Some).map_err(|e| bad(format!("what its modules lost: {e}")))
    }

    /// Keeps block `index`, whose modules lost this; on a thread, which the next call waits for.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`], of the block before too.
    pub(crate) fn keep(&mut self, index: usize, layer: &Layer, losses: &[ModuleLoss]) -> Result<()> {
        self.written()?;
        let run = self.dir.join(RUN);
        if !run.exists() {
            fs::create_dir_all(&self.dir).map_err(|e| Error::io(&self.dir, e))?;
            let text = format!("{:#}\n", self.run);
            files::replace(&run, |file| io::Write::write_all(file, text.as_bytes())).map_err(|e| Error::io(&run, e))?;
        }
        let (dir, note) = (self.block(index), json!(losses));
        let named =
            |(part, linear): (&str, &Linear)| (Names::default().mixer(index, part), Role::Linear, linear.clone());
        let weights: Vec<_> = layer.linears().into_iter().map(named).collect();
        self.writing = Some(std::thread::spawn(move || write_weights(&weights, note, &dir)));
        Ok(())
    }

    /// Waits for the block kept last.
    fn written(&mut self) -> Result<()> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Removes all of it: the output is there, so that nothing that goes wrong here matters to it.
    pub(crate) fn remove(&mut self) {
        if let Err(e) = self.written().and_then(|()| forget(&self.dir)) {
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
        if self.dir.exists() {
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
    begun(&dir)?;
    forget(&dir)
}

/// The run that `dir` is of, if there is anything.
///
/// # Errors
/// [`Error::Argument`] for what no run has left, which is not to be removed; [`Error::BadCheckpoint`], [`Error::Io`].
fn begun(dir: &Path) -> Result<Option<Value>> {
    let path = dir.join(RUN);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| Error::bad(&path, e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => match fs::read_dir(dir).map(|mut all| all.next().is_none()) {
            Ok(false) => {
                let what =
                    format!("has no {RUN}: no run of this program left it; move it away or choose another output");
                Err(Error::argument(dir.display().to_string(), what))
            }
            _ => Ok(None),
        },
        Err(e) => Err(Error::io(&path, e)),
    }
}

fn forget(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(dir, e)),
        _ => Ok(()),
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
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&below(&i.to_string()), a, b))
        }
        _ => (there != here).then(|| (key.to_owned(), there, here)),
    }
}
