//! Which files make up a checkpoint, and which tensors each file holds. No tensor data is touched here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::ops::{Deref, Range};
use std::path::{Component, Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::json::read_json;
use crate::error::{Error, Result};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    BF16,
    /// Signed byte: a quantized code.
    I8,
    /// Signed word: packed codes.
    I32,
    /// Signed double word: shapes.
    I64,
    /// Another: such tensors may be there, and are refused when they are asked for.
    Other(Dtype),
}

impl StoredType {
    /// Its name in a safetensors header.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::F32 => "F32".to_owned(),
            Self::F16 => "F16".to_owned(),
            Self::BF16 => "BF16".to_owned(),
            Self::I8 => "I8".to_owned(),
            Self::I32 => "I32".to_owned(),
            Self::I64 => "I64".to_owned(),
            Self::Other(dtype) => dtype.to_string(),
        }
    }

    /// Bytes of an element, rounded up.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::I8 => 1,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
            Self::Other(dtype) => dtype.bitsize().div_ceil(8),
        }
    }

    /// Is this a floating-point type?
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::I8 => Self::I8,
            Dtype::I32 => Self::I32,
            Dtype::I64 => Self::I64,
            other => Self::Other(other),
        }
    }
}

/// What a checkpoint says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: StoredType,
    /// Sizes of the axes, slowest first. A tensor of more than four, or of no elements, may be there, and is refused when
    /// it is asked for.
    pub shape: Vec<usize>,
}

/// One tensor's place.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) info: TensorInfo,
    pub(super) shard: usize,
    pub(super) range: Range<usize>,
}

/// One weight file.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) data: Data,
}

/// Its bytes.
#[derive(Debug)]
pub(super) enum Data {
    /// Mapped from the disk.
    #[cfg(not(target_arch = "wasm32"))]
    Mapped(memmap2::Mmap),
    /// Read or fetched whole.
    Held(Vec<u8>),
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Mapped(map) => map,
            Self::Held(bytes) => bytes,
        }
    }
}

/// Says which file holds which tensor, where there are several.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The index's promise: which file holds which tensor. `None` for a single-file model.
type WeightMap = Option<(PathBuf, BTreeMap<String, String>)>;

/// Maps every shard of `dir` and lists the tensors in them.
pub(super) fn open_all(dir: &Path) -> Result<(Vec<Shard>, BTreeMap<String, Entry>)> {
    let (files, weight_map) = list(dir)?;
    let mut shards: Vec<Shard> = Vec::with_capacity(files.len());
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for path in files {
        let data = map(&path)?;
        add(Shard { path, data }, &mut shards, &mut entries)?;
    }
    if let Some((index, map)) = weight_map {
        check_index(&index, &map, &shards, &entries)?;
    }
    Ok((shards, entries))
}

/// Lists the tensors of one more shard.
pub(super) fn add(shard: Shard, shards: &mut Vec<Shard>, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
    let path = &shard.path;
    for (name, info, range) in header(path, &shard.data)? {
        let entry = Entry { info, shard: shards.len(), range };
        if let Some(other) = entries.insert(name.clone(), entry) {
            let first = shards.get(other.shard).map_or(path.as_path(), |s| &s.path).display();
            return Err(Error::bad(path, format!("tensor `{name}` is also in {first}; delete one of the two")));
        }
    }
    shards.push(shard);
    Ok(())
}

/// The model files of `dir`.
fn list(dir: &Path) -> Result<(Vec<PathBuf>, WeightMap)> {
    let index = dir.join(INDEX);
    if !has(dir, INDEX)? {
        if !has(dir, "model.safetensors")? {
            let pickled = dir.join("pytorch_model.bin").exists() || dir.join("pytorch_model.bin.index.json").exists();
            let others = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
            let shard = others.into_iter().any(|p| p.extension().is_some_and(|e| e == "safetensors"));
            let hint = match (pickled, shard) {
                (true, _) => "; convert pytorch_model.bin to safetensors first",
                (_, true) => "; the index says which of its other .safetensors hold what: download it too",
                _ => "",
            };
            return Err(Error::bad(
                dir,
                format!("holds neither model.safetensors nor model.safetensors.index.json{hint}"),
            ));
        }
        return Ok((vec![own(dir, "model.safetensors")?], None));
    }
    let json = read_json(&own(dir, INDEX)?)?;
    let map =
        json.get("weight_map").and_then(|m| m.as_object()).ok_or_else(|| Error::bad(&index, "has no `weight_map`"))?;
    let mut weights = BTreeMap::new();
    for (name, file) in map {
        let file =
            file.as_str().ok_or_else(|| Error::bad(&index, format!("file of `{name}` is {file}, not a string")))?;
        // What Python opens as `./a` is `a`.
        let plain = file.split('/').filter(|part| *part != ".").collect::<Vec<_>>().join("/");
        if plain.is_empty() {
            let what = if file.is_empty() { "an empty name" } else { "the directory itself" };
            return Err(Error::bad(&index, format!("file of `{name}` is `{file}`, {what}")));
        }
        weights.insert(name.clone(), plain);
    }
    let names: BTreeSet<&str> = weights.values().map(String::as_str).collect();
    if names.is_empty() {
        return Err(Error::bad(&index, "lists no tensors"));
    }
    let files = names.into_iter().map(|name| inside(dir, name, &index)).collect::<Result<_>>()?;
    Ok((files, Some((index, weights))))
}

/// Is there anything by this name in `dir`, be it a link to nowhere? Where nobody may look is no answer.
pub(super) fn has(dir: &Path, name: &str) -> Result<bool> {
    let path = dir.join(name);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        // A name can be too long to be any file's.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidFilename) => Ok(false),
        Err(e) => Err(Error::io(path, e)),
    }
}

/// `dir/name`, a file that a model directory has by this name, if it is of this very directory: as [`inside`].
pub(super) fn own(dir: &Path, name: &str) -> Result<PathBuf> {
    inside(dir, name, &dir.join(name))
}

/// `dir/name`, if that is a file of this very directory; `source` is the file that named it, or itself.
///
/// Links are followed. They must end inside the directory, or in the `blobs` of a Hugging Face cache
/// (`models--x/snapshots/<hash>/model.safetensors -> ../../blobs/<hash>`).
fn inside(dir: &Path, name: &str, source: &Path) -> Result<PathBuf> {
    let plain = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    let path = dir.join(name);
    let is = match path == source {
        true if path.is_symlink() => "is a link to what ".to_owned(),
        true => String::new(),
        false => format!("names `{name}`, which "),
    };
    let outside = || Error::bad(source, format!("{is}lies outside the model directory"));
    // A backslash separates folders on Windows only; no shard is called so.
    if !plain || name.contains('\\') {
        return Err(outside());
    }
    let real = fs::canonicalize(&path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => Error::bad(source, format!("{is}is missing; download it again")),
        _ => Error::io(&path, e),
    })?;
    let home = fs::canonicalize(dir).map_err(|e| Error::io(dir, e))?;
    let snapshots = home.parent().filter(|p| p.ends_with("snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|cache| cache.join("blobs"));
    if !real.starts_with(&home) && !blobs.is_some_and(|b| real.starts_with(b)) {
        return Err(outside());
    }
    // To open a pipe is to wait for who writes it.
    if !fs::metadata(&real).map_err(|e| Error::io(&path, e))?.is_file() {
        return Err(Error::bad(source, format!("{is}is no regular file")));
    }
    Ok(path)
}

#[cfg(not(target_arch = "wasm32"))]
fn map(path: &Path) -> Result<Data> {
    let file = fs::File::open(path).map_err(|e| Error::io(path, e))?;
    // SAFETY: the mapping is read-only and private to this process. Should another process truncate the file while
    // it is mapped, reads fault; every memory-mapping reader of model files accepts that, and a copy of a model may
    // not fit in memory.
    #[allow(unsafe_code, reason = "mapping a file is unsafe because another process may change it")]
    unsafe { memmap2::Mmap::map(&file) }.map(Data::Mapped).map_err(|e| Error::io(path, e))
}

#[cfg(target_arch = "wasm32")]
fn map(path: &Path) -> Result<Data> {
    fs::read(path).map(Data::Held).map_err(|e| Error::io(path, e))
}

/// What stands in the place of a large file where a repository was cloned without Git LFS.
const LFS: &[u8] = b"version https://git-lfs";

/// Names, types, shapes and byte ranges of a shard's tensors, checked against the file's length.
fn header(path: &Path, bytes: &[u8]) -> Result<Vec<(String, TensorInfo, Range<usize>)>> {
    if bytes.starts_with(LFS) {
        return Err(Error::bad(path, "is Git LFS's note of a file, not the file; run `git lfs pull` in its directory"));
    }
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| {
        let bytes = bytes.len();
        Error::bad(path, format!("is truncated or damaged ({bytes} bytes; {e}); download it again"))
    })?;
    let base = 8 + header;
    let tensor = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (start, end) = info.data_offsets;
        let info = TensorInfo { dtype: StoredType::of(info.dtype), shape: info.shape.clone() };
        (name, info, base + start..base + end)
    };
    Ok(metadata.tensors().into_iter().map(tensor).collect())
}

/// Is every tensor of the index in the file the index says?
fn check_index(
    index: &Path,
    map: &BTreeMap<String, String>,
    shards: &[Shard],
    entries: &BTreeMap<String, Entry>,
) -> Result<()> {
    for (name, file) in map {
        let found = entries.get(name).and_then(|e| shards.get(e.shard)).is_some_and(|s| s.path.ends_with(file));
        if !found {
            return Err(Error::bad(index, format!("says tensor `{name}` is in `{file}`, which does not hold it")));
        }
    }
    Ok(())
}
