//! From file to file, one layer in memory at a time. Blocks on the device.

use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Mutex;

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::card::{CARD_FILE, Card};
use super::sequential::{Sequential, moments_fit, warn_of_little_text};
use super::statistics::transformed;
use super::unfinished::Unfinished;
use super::{Forms, RECIPE_FILE, Recipe, has_static};
use crate::calibrate::{Windows, chain};
use crate::checkpoint::{MANIFEST, TOOL};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{
    Finished, Layer, Linear, ModelConfig, ModelFile, ModelSource, Names, OnlineRotation, Summary, WriteOptions,
    write_model_with,
};
use crate::quantize::{LOSSES_FILE, ModuleLoss, timed};
use crate::transform::{Transform, Transformed};

/// A model quantized layer by layer as it is read. Blocks on the device; a browser must not, and has
/// [`Recipe::apply`]. With GPTQ or static activations its parts must be read once and in order: embedding, layers, head.
pub struct Quantized<'a> {
    source: Transformed<'a>,
    device: Device,
    method: Method,
    /// The source's layer after the last one, made while that was on the device.
    ahead: Mutex<Option<(usize, Result<Layer>)>>,
    progress: &'a (dyn Fn(usize) + Sync),
}

impl fmt::Debug for Quantized<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quantized({:?} on {:?})", self.source, self.device)
    }
}

enum Method {
    Nearest(Forms),
    Sequential(Box<Mutex<Sequential>>),
}

impl<'a> Quantized<'a> {
    /// Prepares; `calibration` are the sequences to calibrate on, and `progress` is called with the number of
    /// layers done.
    ///
    /// # Errors
    /// As [`Transformed::new`] and [`super::resolve`]; [`Error::Argument`] for GPTQ or static
    /// activations without calibration, for sequences of which there are none, or one has no token, and ids beyond the vocabulary.
    pub fn new(
        source: &'a dyn ModelSource,
        recipe: &Recipe,
        device: &Device,
        calibration: Option<&Windows>,
        progress: &'a (dyn Fn(usize) + Sync),
    ) -> Result<Self> {
        Self::going_on(source, recipe, device, calibration, progress, None)
    }

    /// As [`Quantized::new`], behind the blocks that are kept where calibration goes through them in order.
    fn going_on(
        source: &'a dyn ModelSource,
        recipe: &Recipe,
        device: &Device,
        calibration: Option<&Windows>,
        progress: &'a (dyn Fn(usize) + Sync),
        unfinished: Option<Unfinished>,
    ) -> Result<Self> {
        if let Some(windows) = calibration {
            windows.check(1, source.config().vocab_size)?;
        }
        let modules = recipe.modules(source.config())?;
        if recipe.gptq.is_some() {
            moments_fit(device, &modules)?;
            calibration.iter().for_each(|Windows(sequences)| warn_of_little_text(&modules, sequences));
        }
        let source = transformed(source, recipe, device, calibration)?;
        let forms = Forms::new(recipe, &source)?;
        let method = match (recipe.calibrates(&modules), calibration) {
            _ if recipe.gptq.is_none() && !has_static(&modules) => Method::Nearest(forms),
            (what, None) => {
                return Err(Error::argument("recipe", format!("{} needs calibration text", what.unwrap_or("it"))));
            }
            (_, Some(Windows(sequences))) => {
                let sequential = Sequential::new(device, &source, forms, recipe.gptq, sequences, unfinished)?;
                Method::Sequential(Box::new(Mutex::new(sequential)))
            }
        };
        Ok(Self { source, device: device.clone(), method, ahead: Mutex::default(), progress })
    }

    /// What GPTQ lost in each module quantized so far; nothing when rounding to nearest.
    #[must_use]
    pub fn losses(&self) -> Vec<ModuleLoss> {
        match &self.method {
            Method::Nearest(_) => Vec::new(),
            Method::Sequential(s) => lock(s).losses().to_vec(),
        }
    }

    /// The output is there.
    fn finished(&self) {
        match &self.method {
            Method::Nearest(_) => {}
            Method::Sequential(s) => lock(s).finished(),
        }
    }
}

impl Quantized<'_> {
    /// The source's layer, which may be there already.
    fn read(&self, index: usize) -> Result<Layer> {
        match lock(&self.ahead).take() {
            Some((at, layer)) if at == index => layer,
            _ => self.source.layer(index),
        }
    }

    /// Runs `work` while the source's layer `index` is read, looked at by calibration and rewritten, which takes the host
    /// seconds and the device little.
    fn reading<T>(&self, index: usize, work: impl FnOnce() -> T) -> T {
        if index >= self.config().blocks.len() {
            return work();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let layer = timed(|| format!("layer {index}: read and rewritten"), || self.source.layer(index));
                *lock(&self.ahead) = Some((index, layer));
            });
            work()
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic within would have ended the program's work with it.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl ModelSource for Quantized<'_> {
    fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    fn rotation(&self) -> OnlineRotation {
        self.source.rotation()
    }

    fn embedding(&self) -> Result<Linear> {
        match &self.method {
            Method::Nearest(forms) => {
                let name = Names::default().embedding();
                pollster::block_on(forms.nearest(&self.device, &name, self.source.embedding()?))
            }
            Method::Sequential(s) => Ok(lock(s).embedding()),
        }
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let layer = self.read(index)?;
        let layer = match &self.method {
            Method::Nearest(forms) => pollster::block_on(forms.layer(&self.device, index, layer))?,
            Method::Sequential(s) => self.reading(index + 1, || lock(s).layer(index, layer))?,
        };
        (self.progress)(index + 1);
        Ok(layer)
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        self.source.norm_f()
    }

    fn head(&self) -> Result<Option<Linear>> {
        let Some(head) = self.source.head()? else { return Ok(None) };
        match &self.method {
            Method::Nearest(forms) => {
                pollster::block_on(forms.nearest(&self.device, Names::default().head(), head)).map(Some)
            }
            Method::Sequential(s) => lock(s).head(&head, &self.source.norm_f()?).map(Some),
        }
    }
}

/// Refuses a model that [`quantize`] does not take.
///
/// # Errors
/// [`Error::Argument`] for a model that is quantized already.
pub fn check_original(file: &ModelFile) -> Result<()> {
    if file.is_quantized() {
        let dir = file.checkpoint().dir().display().to_string();
        return Err(Error::argument(dir, "is quantized already; start from the original checkpoint"));
    }
    Ok(())
}

/// Quantizes the model in `file` into the new directory `out`, layer by layer. Gives what GPTQ lost in each module too,
/// which is also there as [`LOSSES_FILE`]. `calibration`: the sequences, and the name of the file they are from, for the
/// manifest.
///
/// Where blocks are calibrated one behind the other, those that are done are kept in [`super::unfinished_dir`] until all are: after an
/// interruption or an error the same call goes on behind them, to the same bytes.
///
/// # Errors
/// [`Error::Argument`] for a model that is quantized already, or blocks there that another call has begun; and whatever reading, the device
/// and writing give. Nothing is at `out` then.
pub fn quantize(
    file: &ModelFile,
    recipe: &Recipe,
    device: &Device,
    calibration: Option<(&str, &Windows)>,
    out: &Path,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<(Summary, Vec<ModuleLoss>)> {
    check_original(file)?;
    let before = rewrites(file)?;
    let modules = recipe.modules(file.config())?;
    let windows = calibration.map(|(_, windows)| windows);
    let calibration = calibration.filter(|_| recipe.calibrates(&modules).is_some());
    let mut options = WriteOptions::like(file)?;
    options.made = made(device, calibration, before);
    let run = json!({ "tool": TOOL, "source": options.source, "made": options.made, "recipe": recipe });
    let unfinished = Unfinished::of(out, file.config().blocks.len(), run)?;
    let model = Quantized::going_on(file, recipe, device, windows, progress, Some(unfinished))?;
    options.files.push((RECIPE_FILE.to_owned(), recipe.to_toml()?));
    let card = Card { file, source: &options.source, recipe, modules: &modules, calibration };
    let last = |made: &Finished<'_>| {
        let losses = Some(model.losses()).filter(|l| !l.is_empty());
        let table = losses.map(|l| (LOSSES_FILE.to_owned(), ModuleLoss::file(&l)));
        table.into_iter().chain([(CARD_FILE.to_owned(), card.text(made))]).collect()
    };
    let summary = write_model_with(file.checkpoint().config(), &model, out, &options, &last)?;
    model.finished();
    Ok((summary, model.losses()))
}

/// The rewrites in a model's weights, by the recipe that [`quantize`] left in its directory, after those of what it was made from;
/// [`Transform::NONE`] of a model as others publish it. `None` where nobody can tell: its recipe or manifest is gone or from before a
/// source's rewrites were recorded, or another program quantized the model, which may have rewritten it first.
///
/// # Errors
/// As [`Recipe::parse`]; [`Error::Io`] when a file is there and cannot be read, [`Error::BadCheckpoint`] when the manifest is none.
pub fn rewrites(file: &ModelFile) -> Result<Option<Transform>> {
    let checkpoint = file.checkpoint();
    let path = checkpoint.dir().join(RECIPE_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let own = Recipe::parse(&path.display().to_string(), &text)?.transform;
            Ok(of_source(checkpoint.dir())?.map(|before| before.then(own)))
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let ours = checkpoint.dir().join(MANIFEST).exists() || checkpoint.config().get("wgquant").is_some();
            Ok(Some(Transform::NONE).filter(|_| !ours && !file.is_quantized()))
        }
        Err(e) => Err(Error::io(&path, e)),
    }
}

/// The rewrites that there were before those of the recipe in `dir`, by [`made`] of its manifest. What was made from no model has none.
fn of_source(dir: &Path) -> Result<Option<Transform>> {
    let path = dir.join(MANIFEST);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(&path, e)),
    };
    let manifest: Value = serde_json::from_slice(&text).map_err(|e| Error::bad(&path, e.to_string()))?;
    match manifest.get("made") {
        Some(Value::Null) => Ok(Some(Transform::NONE)),
        made => {
            let before = made.and_then(|made| made.get(SOURCE_TRANSFORM)).unwrap_or(&Value::Null);
            Option::deserialize(before).map_err(|e| Error::bad(&path, format!("{SOURCE_TRANSFORM}: {e}")))
        }
    }
}

/// Key of [`made`].
const SOURCE_TRANSFORM: &str = "source_transform";

/// Beside the recipe what decides the bytes: where they were computed, and the tokens that calibrated, hashed as
/// [`crate::calibrate::StatsPart`] has it. And the name of the file these are from, by which it is found again, and the rewrites in the
/// source's weights, null where they cannot be known.
fn made(device: &Device, calibration: Option<(&str, &Windows)>, source: Option<Transform>) -> Value {
    let calibrated = calibration.map(|(file, Windows(sequences))| {
        let hash = sequences.iter().fold(String::new(), |before, ids| chain(&before, ids));
        json!({ "file": file, "sequences": sequences.len(), "tokens_sha256": hash })
    });
    json!({ "device": device.name(), "calibration": calibrated, SOURCE_TRANSFORM: source })
}
