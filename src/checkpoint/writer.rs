//! Writes a Hugging Face model directory, whole or not at all.
//!
//! Everything goes into a hidden sibling of the destination ([`crate::files`]), which is renamed when it is complete and
//! on disk. Dropping the writer before that, on any error, removes the sibling.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::hex;
use super::reader::not_finite;
use super::shards::StoredType;
use crate::error::{Error, Result};
use crate::files::{self, Partial};
use crate::tensor::{DType, Tensor};

/// Bytes of tensors a shard holds unless told otherwise.
pub const DEFAULT_SHARD_BYTES: u64 = 2 << 30;

/// File with the size and hash of every other file.
pub const MANIFEST: &str = "wgquant_manifest.json";

/// Name and version of this program, as manifests have it.
pub const TOOL: &str = concat!("wgquant ", env!("CARGO_PKG_VERSION"));

/// Version of its layout.
pub(super) const FORMAT: u64 = 1;

/// A tensor written to the current shard's data file.
struct Stored {
    name: String,
    dtype: StoredType,
    shape: Vec<usize>,
    offset: u64,
    bytes: u64,
    sha256: String,
}

/// A shard being filled: tensors in the order they came, without a header.
struct Open {
    path: PathBuf,
    file: BufWriter<File>,
    tensors: Vec<Stored>,
    bytes: u64,
}

/// What a finished checkpoint consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The directory.
    pub dir: PathBuf,
    /// Bytes of all tensors.
    pub tensor_bytes: u64,
    /// Bytes of all files.
    pub file_bytes: u64,
    /// Number of weight files.
    pub shards: usize,
}

/// Streams tensors into a new model directory.
pub struct CheckpointWriter {
    out: PathBuf,
    temp: Partial,
    max_shard_bytes: u64,
    open: Option<Open>,
    /// Header and data of each finished shard are one file, `shard-N`, until the number of shards is known.
    shards: Vec<Vec<Stored>>,
    names: BTreeMap<String, usize>,
    files: Map<String, Value>,
    made: Value,
}

impl CheckpointWriter {
    /// Can a checkpoint be made at `out`? To be asked before the work whose result it is to hold. Removes what
    /// interrupted runs have left of it.
    ///
    /// # Errors
    /// [`Error::Argument`] when `out` exists, or another process is writing it.
    pub fn check(out: &Path) -> Result<()> {
        refuse_existing(out)?;
        let Some(partial) = Partial::sweep(out) else { return Ok(()) };
        let reason = format!(
            "another run is writing {} (in {}); choose another, or end that run",
            out.display(),
            partial.display()
        );
        Err(Error::argument("output directory", reason))
    }

    /// What the directory `out` is called.
    ///
    /// # Errors
    /// [`Error::Argument`] for a path that ends in no name.
    pub(crate) fn name_of(out: &Path) -> Result<&OsStr> {
        let none = || Error::argument("output directory", format!("{} does not end in a name", out.display()));
        out.file_name().ok_or_else(none)
    }

    /// Starts a checkpoint that will be at `out`, which must not exist.
    ///
    /// # Errors
    /// As [`CheckpointWriter::check`]; [`Error::Io`] when its parent cannot be written to.
    pub fn create(out: &Path) -> Result<Self> {
        Self::name_of(out)?;
        Self::check(out)?;
        let parent = files::folder(out);
        fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        let temp = Partial::directory(out).map_err(|e| Error::io(parent, e))?;
        Ok(Self {
            out: out.to_owned(),
            temp,
            max_shard_bytes: DEFAULT_SHARD_BYTES,
            open: None,
            shards: Vec::new(),
            names: BTreeMap::new(),
            files: Map::new(),
            made: Value::Null,
        })
    }

    /// Records in the manifest how the checkpoint is made.
    #[must_use]
    pub fn made(mut self, how: Value) -> Self {
        self.made = how;
        self
    }

    /// Bytes of tensors a shard may hold; a larger tensor has a shard to itself.
    #[must_use]
    pub fn max_shard_bytes(mut self, bytes: u64) -> Self {
        self.max_shard_bytes = bytes;
        self
    }

    /// Appends a tensor. Words are stored as I32, as PyTorch knows no unsigned ones.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`]; [`Error::Argument`] for a name used before and for I4, which has no
    /// stored form of its own.
    pub fn add(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let dtype = match tensor.dtype {
            DType::F32 => StoredType::F32,
            DType::F16 => StoredType::F16,
            DType::BF16 => StoredType::BF16,
            DType::U32 => StoredType::I32,
            DType::I8 => StoredType::I8,
            DType::I4 => return Err(Error::argument(format!("tensor `{name}`"), "i4 must be packed to be stored")),
        };
        self.append(name, dtype, tensor.shape.dims(), &tensor.bytes)
    }

    /// As [`CheckpointWriter::add`], of a model's floats: reading gives none that is no number.
    ///
    /// # Errors
    /// As [`CheckpointWriter::add`]; [`Error::Argument`] for NaN or infinite values.
    pub(crate) fn add_finite(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let bad = match tensor.dtype {
            DType::F32 => not_finite(StoredType::F32, &tensor.bytes),
            DType::F16 => not_finite(StoredType::F16, &tensor.bytes),
            DType::BF16 => not_finite(StoredType::BF16, &tensor.bytes),
            DType::U32 | DType::I8 | DType::I4 => None,
        };
        match bad {
            Some((index, what)) => Err(Error::argument(format!("`{name}`"), format!("has {what} at index {index}"))),
            None => self.add(name, tensor),
        }
    }

    /// Appends a vector of 64-bit integers.
    ///
    /// # Errors
    /// As for [`CheckpointWriter::add`].
    pub fn add_i64s(&mut self, name: &str, values: &[i64]) -> Result<()> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.append(name, StoredType::I64, &[values.len()], &bytes)
    }

    /// Bytes of the tensors so far.
    pub(crate) fn tensor_bytes(&self) -> u64 {
        let open = self.open.iter().flat_map(|open| &open.tensors);
        self.shards.iter().flatten().chain(open).map(|t| t.bytes).sum()
    }

    /// Writes a small file (config.json, a recipe) beside the weights.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`]; [`Error::Argument`] for a name that is a path or in use.
    pub fn file(&mut self, name: &str, contents: &[u8]) -> Result<()> {
        let taken = self.files.contains_key(name) || name == MANIFEST || name.ends_with(".safetensors");
        if taken || Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(Error::argument(format!("file `{name}`"), "is in use or not a plain name; choose another"));
        }
        let path = self.temp.path().join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(contents)?;
            file.sync_all()
        };
        write().map_err(|e| self.failed(&path, e))?;
        self.record(name, contents.len() as u64, hex(&Sha256::digest(contents)));
        Ok(())
    }

    /// Copies a small file (a tokenizer) beside the weights.
    ///
    /// # Errors
    /// As for [`CheckpointWriter::file`].
    pub fn copy(&mut self, from: &Path) -> Result<()> {
        let contents = fs::read(from).map_err(|e| Error::io(from, e))?;
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        self.file(&name, &contents)
    }

    /// Names the shards, writes index and manifest, and moves the directory into place.
    ///
    /// `source` is recorded as it is: what the checkpoint was made from ([`super::Checkpoint::fingerprint`]).
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::DiskFull`]; [`Error::Argument`] when `out` has come to exist meanwhile.
    pub fn finish(mut self, source: Value) -> Result<Written> {
        self.close_shard()?;
        let (total, mut tensors, mut weight_map) = (self.shards.len(), Map::new(), Map::new());
        let mut tensor_bytes = 0;
        for (i, shard) in std::mem::take(&mut self.shards).into_iter().enumerate() {
            let name = shard_name(i, total);
            let path = self.temp.path().join(&name);
            fs::rename(self.shard_path(i), &path).map_err(|e| self.failed(&path, e))?;
            if let Some(entry) = self.files.remove(&part_name(i)) {
                self.files.insert(name.clone(), entry);
            }
            for t in shard {
                tensor_bytes += t.bytes;
                weight_map.insert(t.name.clone(), json!(name));
                let entry = json!({ "file": name, "dtype": t.dtype.name(), "shape": t.shape, "sha256": t.sha256 });
                tensors.insert(t.name, entry);
            }
        }
        if total > 1 {
            let index = json!({ "metadata": { "total_size": tensor_bytes }, "weight_map": weight_map });
            self.file("model.safetensors.index.json", pretty(&index).as_bytes())?;
        }
        let manifest = pretty(&json!({
            "format": FORMAT,
            "tool": TOOL,
            "source": source,
            "made": self.made,
            "files": self.files,
            "tensors": tensors,
        }));
        let path = self.temp.path().join(MANIFEST);
        let write =
            || File::create(&path).and_then(|mut f| f.write_all(manifest.as_bytes()).and_then(|()| f.sync_all()));
        write().map_err(|e| self.failed(&path, e))?;
        let listed: u64 = self.files.values().filter_map(|f| f.get("bytes").and_then(Value::as_u64)).sum();
        let Self { out, temp, .. } = self;
        publish(temp, &out)?;
        Ok(Written { dir: out, tensor_bytes, file_bytes: listed + manifest.len() as u64, shards: total })
    }

    fn append(&mut self, name: &str, dtype: StoredType, shape: &[usize], bytes: &[u8]) -> Result<()> {
        if self.names.insert(name.to_owned(), self.shards.len()).is_some() {
            return Err(Error::argument(format!("tensor `{name}`"), "was written before"));
        }
        let len = bytes.len() as u64;
        if self.open.as_ref().is_some_and(|o| o.bytes > 0 && o.bytes + len > self.max_shard_bytes) {
            self.close_shard()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let path = self.shard_path(self.shards.len()).with_extension("data");
                let file = File::create(&path).map_err(|e| self.failed(&path, e))?;
                Open { path, file: BufWriter::with_capacity(1 << 20, file), tensors: Vec::new(), bytes: 0 }
            }
        };
        open.file.write_all(bytes).map_err(|e| self.failed(&open.path, e))?;
        open.tensors.push(Stored {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
            offset: open.bytes,
            bytes: len,
            sha256: hex(&Sha256::digest(bytes)),
        });
        open.bytes += len;
        self.open = Some(open);
        Ok(())
    }

    /// Turns the current data file into a safetensors file.
    ///
    /// The header comes first and needs every offset, and PyTorch needs offsets aligned to the element, hence the
    /// second pass: tensors are copied in falling order of element size, which aligns them all.
    fn close_shard(&mut self) -> Result<()> {
        let Some(Open { path: data, file, mut tensors, .. }) = self.open.take() else { return Ok(()) };
        let file = file.into_inner().map_err(|e| self.failed(&data, e.into_error()))?;
        drop(file);
        tensors.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name)));
        let path = self.shard_path(self.shards.len());
        let (bytes, sha256) = assemble(&data, &path, &tensors).map_err(|e| self.failed(&path, e))?;
        fs::remove_file(&data).map_err(|e| Error::io(&data, e))?;
        self.record(&part_name(self.shards.len()), bytes, sha256);
        self.shards.push(tensors);
        Ok(())
    }

    fn record(&mut self, name: &str, bytes: u64, sha256: String) {
        self.files.insert(name.to_owned(), json!({ "bytes": bytes, "sha256": sha256 }));
    }

    fn shard_path(&self, index: usize) -> PathBuf {
        self.temp.path().join(part_name(index))
    }

    /// Names the file, and says what to do where the disk is full.
    fn failed(&self, path: &Path, source: std::io::Error) -> Error {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(source.kind(), StorageFull | QuotaExceeded) {
            return Error::DiskFull { file: path.to_owned(), out: self.out.clone() };
        }
        Error::io(path, source)
    }
}

fn part_name(index: usize) -> String {
    format!("shard-{index}")
}

/// Hugging Face's name of shard `index` of `total`.
fn shard_name(index: usize, total: usize) -> String {
    if total == 1 {
        return "model.safetensors".into();
    }
    format!("model-{:05}-of-{total:05}.safetensors", index + 1)
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn refuse_existing(out: &Path) -> Result<()> {
    // A dangling link is something, too.
    if out.symlink_metadata().is_ok() {
        let reason = format!("{} exists; choose another or remove it", out.display());
        return Err(Error::argument("output directory", reason));
    }
    Ok(())
}

/// Writes header and tensors to `path`; gives its length and hash.
fn assemble(data: &Path, path: &Path, tensors: &[Stored]) -> std::io::Result<(u64, String)> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut end = 0;
    for t in tensors {
        let start = end;
        end += t.bytes;
        let entry = json!({ "dtype": t.dtype.name(), "shape": t.shape, "data_offsets": [start, end] });
        header.insert(t.name.clone(), entry);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');

    let mut input = File::open(data)?;
    let mut output = BufWriter::new(File::create(path)?);
    let mut hash = Sha256::new();
    let mut put = |output: &mut BufWriter<File>, bytes: &[u8]| {
        hash.update(bytes);
        output.write_all(bytes)
    };
    put(&mut output, &(text.len() as u64).to_le_bytes())?;
    put(&mut output, &text)?;
    let mut buffer = vec![0; 1 << 20];
    for t in tensors {
        input.seek(SeekFrom::Start(t.offset))?;
        let mut left = t.bytes as usize;
        while left > 0 {
            let take = left.min(buffer.len());
            input.read_exact(&mut buffer[..take])?;
            put(&mut output, &buffer[..take])?;
            left -= take;
        }
    }
    let file = output.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok((8 + text.len() as u64 + end, hex(&hash.finalize())))
}

/// The commit point: until the rename there is nothing at `out`, after it everything.
fn publish(temp: Partial, out: &Path) -> Result<()> {
    sync_dir(temp.path()).map_err(|e| Error::io(temp.path(), e))?;
    refuse_existing(out)?;
    temp.keep(out).map_err(|e| refuse_existing(out).err().unwrap_or(Error::io(out, e)))?;
    let parent = files::folder(out);
    sync_dir(parent).map_err(|e| Error::io(parent, e))
}

/// Makes the names in a directory durable. Windows has no such call and needs none.
fn sync_dir(dir: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
