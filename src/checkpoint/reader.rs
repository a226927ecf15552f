//! Reads a Hugging Face model directory without trusting it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hub;
use super::json::{parse_json, read_json};
use super::shards::{self, Data, Entry, Shard, StoredType, TensorInfo};
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Tensor};

/// Files beside the weights that a copy of the model needs.
const SIBLINGS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    GENERATION_CONFIG,
];

/// How text is made of the model: of it, where sequences end.
pub const GENERATION_CONFIG: &str = "generation_config.json";

/// Elements looked at together for NaN and infinity: enough to vectorise, small enough to stay in cache.
const SCAN: usize = 4096;
/// So many of those a task, at least.
const MIN_SCANS: usize = 64;

/// A model directory: its `config.json` and its tensors, memory-mapped. Or the same in memory.
///
/// Everything the files claim is checked on opening: that shards are there, whole, inside the directory as all other
/// files are, and hold each tensor once. Values are checked when read.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    config: Value,
    siblings: Vec<PathBuf>,
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
}

impl Checkpoint {
    /// Opens a model directory.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] or [`Error::Io`], naming the file.
    pub fn open(dir: &Path) -> Result<Self> {
        let what = match dir.metadata() {
            Ok(found) if found.is_dir() => None,
            Ok(_) => Some("is not a directory"),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Some("does not exist"),
            Err(e) => return Err(Error::io(dir, e)),
        };
        if let Some(what) = what {
            let need = "a model is a directory with config.json and model.safetensors";
            return Err(Error::bad(dir, format!("{what}; {need}")));
        }
        if !shards::has(dir, "config.json")? {
            return Err(Error::bad(dir, "holds no config.json; is it a model directory in Hugging Face layout?"));
        }
        let config = read_json(&shards::own(dir, "config.json")?)?;
        let siblings = siblings(dir, &config)?;
        let (shards, entries) = shards::open_all(dir)?;
        Ok(Self { dir: dir.to_owned(), config, siblings, shards, entries })
    }

    /// A model that is in memory: the text of its `config.json` and the bytes of its one `model.safetensors`,
    /// fetched by a page for instance. `name` stands for the directory in messages. There is no file, so
    /// [`Checkpoint::sibling_files`] gives none and [`Checkpoint::fingerprint`] fails.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] naming the part.
    pub fn from_bytes(name: &str, config: &str, weights: Vec<u8>) -> Result<Self> {
        let dir = PathBuf::from(name);
        let config = parse_json(&dir.join("config.json"), config)?;
        let (mut shards, mut entries) = (Vec::new(), BTreeMap::new());
        let shard = Shard { path: dir.join("model.safetensors"), data: Data::Held(weights) };
        shards::add(shard, &mut shards, &mut entries)?;
        Ok(Self { dir, config, siblings: Vec::new(), shards, entries })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is called: `owner/name` in a Hugging Face cache, else as its directory is.
    #[must_use]
    pub fn name(&self) -> String {
        let named = |dir: &Path| dir.file_name().map(|name| name.to_string_lossy().into_owned());
        let real = || named(&self.dir.canonicalize().ok()?);
        self.repository().or_else(|| named(&self.dir)).or_else(real).unwrap_or_default()
    }

    /// `owner/name`, where it is a snapshot in a Hugging Face cache.
    pub(crate) fn repository(&self) -> Option<String> {
        hub::repository(&self.dir)
    }

    /// The beginning of a text that lies beside the weights, if it does and can be read.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        use std::io::Read as _;
        const MOST: u64 = 1 << 16;
        let mut text = Vec::new();
        std::fs::File::open(shards::own(&self.dir, name).ok()?).ok()?.take(MOST).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// `config.json`.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// Puts `value` in the place of what `config.json` says of `key`, for all who ask [`Checkpoint::config`].
    pub(crate) fn amend(&mut self, key: &str, value: Value) {
        if let Some(config) = self.config.as_object_mut() {
            config.insert(key.to_owned(), value);
        }
    }

    /// Path of `config.json`, for messages.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Type and shape of a tensor, if there is one of that name.
    #[must_use]
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.entries.get(name).map(|e| &e.info)
    }

    /// The file that holds a tensor, or the directory when none does; for messages.
    #[must_use]
    pub fn file_of(&self, name: &str) -> &Path {
        self.entries.get(name).and_then(|e| self.shards.get(e.shard)).map_or(&self.dir, |s| &s.path)
    }

    /// Bytes of all tensors together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.entries.values().map(|e| e.range.len() as u64).sum()
    }

    /// Have these tensors the same bytes, of the same type and shape? Both are read.
    pub(crate) fn same(&self, one: &str, other: &str) -> bool {
        const PART: usize = 1 << 20;
        match (self.info(one), self.info(other), self.data(one), self.data(other)) {
            (Some(info), Some(its), Some(a), Some(b)) if info == its => {
                a.par_chunks(PART).zip(b.par_chunks(PART)).all(|(a, b)| a == b)
            }
            _ => false,
        }
    }

    /// A copy of a tensor. 32-bit integers come as the words they are.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::BadCheckpoint`] for 64-bit integers, for more than four axes or no elements, and
    /// for NaN or infinite values.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let (info, bytes) = self.raw(name)?;
        let dtype = match info.dtype {
            StoredType::F32 => DType::F32,
            StoredType::F16 => DType::F16,
            StoredType::BF16 => DType::BF16,
            StoredType::I8 => DType::I8,
            StoredType::I32 => DType::U32,
            StoredType::I64 => return Err(self.bad(name, "is I64; weights are floats, bytes or words")),
            StoredType::Other(_) => return Err(self.foreign(name, info.dtype)),
        };
        if let Some((index, what)) = not_finite(info.dtype, bytes) {
            let advice = "the file is damaged or the training diverged; download it again";
            return Err(self.bad(name, &format!("holds {what} at index {index}; {advice}")));
        }
        Tensor::new(dtype, Shape::new(&info.shape), copied(bytes))
    }

    /// A float tensor of the given shape as f32.
    ///
    /// # Errors
    /// As for [`Checkpoint::tensor`], and [`Error::BadCheckpoint`] for another shape or type.
    pub fn float_vec(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (info, _) = self.raw(name)?;
        if info.shape != shape {
            return Err(self.bad(name, &format!("has shape {:?}, expected {shape:?}", info.shape)));
        }
        if !info.dtype.is_float() {
            return Err(self.bad(name, &format!("is {}, expected F32, F16 or BF16", info.dtype.name())));
        }
        self.tensor(name)?.to_f32()
    }

    /// The values of a 64-bit integer tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::BadCheckpoint`] for another type.
    pub fn i64s(&self, name: &str) -> Result<Vec<i64>> {
        let (info, bytes) = self.raw(name)?;
        if info.dtype != StoredType::I64 {
            return Err(self.bad(name, &format!("is {}, expected I64", info.dtype.name())));
        }
        Ok(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect())
    }

    /// Tokenizer and generation files there were beside the weights on opening, and the Python files that `auto_map` of `config.json` names:
    /// transformers' `trust_remote_code` looks for them where the configuration is.
    #[must_use]
    pub fn sibling_files(&self) -> Vec<PathBuf> {
        self.siblings.clone()
    }

    /// Path below the directory, size and SHA-256 of each weight file and of `config.json`, to record what a result was made from.
    ///
    /// # Errors
    /// [`Error::Io`] when `config.json` has gone.
    pub fn fingerprint(&self) -> Result<Value> {
        let config = self.config_path();
        let text = std::fs::read(&config).map_err(|e| Error::io(&config, e))?;
        let entry = |path: &Path, bytes: &[u8]| {
            (self.below(path), json!({ "bytes": bytes.len(), "sha256": super::hex(&Sha256::digest(bytes)) }))
        };
        let mut files = vec![entry(&config, &text)];
        files.par_extend(self.shards.par_iter().map(|s| entry(&s.path, &s.data)));
        Ok(Value::Object(files.into_iter().collect()))
    }

    /// A file's path below the directory: shards may lie in folders, where two may have one name.
    pub(super) fn below(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.dir).unwrap_or(path).components();
        below.map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// What the model is read from, below the directory.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn files(&self) -> Result<Vec<String>> {
        let index = shards::has(&self.dir, shards::INDEX)?.then(|| self.dir.join(shards::INDEX));
        let shards = self.shards.iter().map(|s| &s.path);
        let all = [self.config_path()].into_iter().chain(index).chain(shards.chain(&self.siblings).cloned());
        Ok(all.map(|path| self.below(&path)).collect())
    }

    /// The bytes of a tensor as they are.
    pub(super) fn data(&self, name: &str) -> Option<&[u8]> {
        let entry = self.entries.get(name)?;
        self.shards.get(entry.shard)?.data.get(entry.range.clone())
    }

    /// A [`Error::BadCheckpoint`] about one tensor.
    pub(crate) fn bad(&self, name: &str, what: &str) -> Error {
        Error::bad(self.file_of(name), format!("tensor `{name}` {what}"))
    }

    /// A [`Error::BadCheckpoint`] about a tensor of a type that is not read.
    pub(crate) fn foreign(&self, name: &str, dtype: StoredType) -> Error {
        let advice = "a model that another tool quantized has to be started from its original";
        let supported = "supported are F32, F16, BF16, I8, I32 and I64";
        self.bad(name, &format!("is {}; {supported}: {advice}", dtype.name()))
    }

    fn raw(&self, name: &str) -> Result<(&TensorInfo, &[u8])> {
        let missing = || Error::MissingTensor { name: name.to_owned(), file: self.dir.clone() };
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let shard = self.shards.get(entry.shard).ok_or_else(missing)?;
        let shape = &entry.info.shape;
        if shape.len() > 4 || shape.contains(&0) {
            return Err(self.bad(name, &format!("has shape {shape:?}; up to 4 axes above 0 are supported")));
        }
        let bytes = self.data(name).ok_or_else(|| Error::bad(&shard.path, "shrank while in use"))?;
        Ok((&entry.info, bytes))
    }
}

/// What [`Checkpoint::sibling_files`] gives. A link out of the directory would put a stranger's file into copies of the model;
/// what is there and cannot be read would be missing in them, and where sequences end with it.
fn siblings(dir: &Path, config: &Value) -> Result<Vec<PathBuf>> {
    let classes = config.get("auto_map").and_then(Value::as_object).into_iter().flat_map(|map| map.values());
    let modules: BTreeSet<&str> = classes.filter_map(|c| c.as_str()?.split_once('.')).map(|(m, _)| m).collect();
    // `repository--module` is elsewhere.
    let plain = |m: &&str| m.chars().all(|c| c.is_alphanumeric() || c == '_');
    let code = modules.into_iter().filter(plain).map(|m| format!("{m}.py"));
    let names = SIBLINGS.iter().map(|f| (*f).to_owned()).chain(code);
    let found = |f: String| match shards::has(dir, &f) {
        Ok(false) => None,
        Ok(true) => Some(shards::own(dir, &f)),
        Err(e) => Some(Err(e)),
    };
    names.filter_map(found).collect()
}

/// A copy; of what is large, by all cores, so that a disk has several pages to read at once.
fn copied(bytes: &[u8]) -> Vec<u8> {
    const PIECE: usize = 4 << 20;
    let mut copy = vec![0; bytes.len()];
    copy.par_chunks_mut(PIECE).zip(bytes.par_chunks(PIECE)).for_each(|(to, from)| to.copy_from_slice(from));
    copy
}

/// Index and kind of the first value that is no number.
pub(super) fn not_finite(dtype: StoredType, bytes: &[u8]) -> Option<(usize, &'static str)> {
    // A value is finite unless its exponent bits are all ones; NaN if there is a fraction besides.
    match dtype {
        StoredType::F32 => scan(bytes, |b: &[u8; 4]| u32::from_le_bytes(*b) & 0x7fff_ffff, 0x7f80_0000),
        StoredType::F16 => scan(bytes, |b: &[u8; 2]| u32::from(u16::from_le_bytes(*b) & 0x7fff), 0x7c00),
        StoredType::BF16 => scan(bytes, |b: &[u8; 2]| u32::from(u16::from_le_bytes(*b) & 0x7fff), 0x7f80),
        StoredType::I8 | StoredType::I32 | StoredType::I64 | StoredType::Other(_) => None,
    }
}

fn scan<const N: usize>(
    bytes: &[u8],
    magnitude: impl Fn(&[u8; N]) -> u32 + Sync,
    infinity: u32,
) -> Option<(usize, &'static str)> {
    let (values, _) = bytes.as_chunks::<N>();
    // By all cores: of a file it is this that waits for the disk.
    values.par_chunks(SCAN).with_min_len(MIN_SCANS).enumerate().find_map_first(|(i, chunk)| {
        if chunk.iter().map(&magnitude).max() < Some(infinity) {
            return None;
        }
        let at = chunk.iter().position(|v| magnitude(v) >= infinity)?;
        Some((i * SCAN + at, if magnitude(&chunk[at]) == infinity { "infinity" } else { "NaN" }))
    })
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn finds_the_first_value_that_is_no_number() {
        let mut values = vec![1.0f32; 5000];
        assert_eq!(not_finite(StoredType::F32, bytemuck::cast_slice(&values)), None);
        values[4999] = f32::NEG_INFINITY;
        values[4998] = -f32::NAN;
        assert_eq!(not_finite(StoredType::F32, bytemuck::cast_slice(&values)), Some((4998, "NaN")));
        // Of several tasks, each with one.
        let mut values = vec![1.0f32; 3 * MIN_SCANS * SCAN];
        values[600_000] = f32::INFINITY;
        values[700_000] = f32::NAN;
        assert_eq!(not_finite(StoredType::F32, bytemuck::cast_slice(&values)), Some((600_000, "infinity")));
        let halves = [f16::MAX, f16::NEG_INFINITY];
        assert_eq!(not_finite(StoredType::F16, bytemuck::cast_slice(&halves)), Some((1, "infinity")));
        let halves = [bf16::MIN, bf16::NAN];
        assert_eq!(not_finite(StoredType::BF16, bytemuck::cast_slice(&halves)), Some((1, "NaN")));
    }
}
