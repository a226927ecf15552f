//! Is a directory still what [`super::CheckpointWriter`] made of it?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::json::read_json;
use super::writer::{FORMAT, MANIFEST};
use super::{Checkpoint, hex, shards};
use crate::error::{Error, Result};

/// What a manifest says, but for what the model was made of.
#[derive(Deserialize)]
struct Manifest {
    tool: String,
    files: BTreeMap<String, FileEntry>,
    tensors: BTreeMap<String, TensorEntry>,
}

#[derive(Deserialize)]
struct FileEntry {
    bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
struct TensorEntry {
    file: String,
    dtype: String,
    shape: Vec<usize>,
    sha256: String,
}

/// What a directory is against its manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The directory.
    pub model: String,
    /// Name and version of the program that wrote it.
    pub tool: String,
    /// Files that the manifest names.
    pub files: usize,
    /// Tensors that it names.
    pub tensors: usize,
    /// Bytes of the files, by the manifest.
    pub bytes: u64,
    /// Could the model be opened? Else tensors were not compared.
    pub opened: bool,
    /// What is not as it says: none of a directory that is as it was written.
    pub differences: Vec<Difference>,
}

/// One thing that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The file, below the directory.
    pub file: String,
    /// The tensor in it; `None`: the file itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<String>,
    /// What of it: `presence`, `bytes`, `sha256`, `file`, `dtype` or `shape`.
    pub what: &'static str,
    /// What is there.
    pub found: String,
    /// What the manifest says.
    pub manifest: String,
}

impl Difference {
    fn new(file: &str, what: &'static str, found: impl ToString, manifest: impl ToString) -> Self {
        Self { file: file.to_owned(), tensor: None, what, found: found.to_string(), manifest: manifest.to_string() }
    }

    fn of(self, tensor: &str) -> Self {
        Self { tensor: Some(tensor.to_owned()), ..self }
    }
}

/// Compares a directory that this program wrote with its manifest: every file, every tensor, and what opening the model reads
/// that the manifest does not name.
///
/// # Errors
/// [`Error::BadCheckpoint`] where there is no manifest or it is none; [`Error::Io`] for what cannot be read.
pub fn verify(dir: &Path) -> Result<Verified> {
    if !shards::has(dir, MANIFEST)? {
        let what = match dir.is_dir() {
            true => format!("holds no {MANIFEST}: it was not written by wgquant"),
            false => "is no directory".to_owned(),
        };
        return Err(Error::bad(dir, what));
    }
    let path = shards::own(dir, MANIFEST)?;
    let json = read_json(&path)?;
    if let Some(format) = json.get("format").filter(|format| **format != FORMAT) {
        return Err(Error::bad(&path, format!("is of format {format}; this version reads {FORMAT}")));
    }
    let manifest: Manifest =
        serde_json::from_value(json).map_err(|e| Error::bad(&path, format!("is no manifest: {e}")))?;
    let files: Vec<_> = manifest.files.iter().collect();
    let found: Vec<_> = files.into_par_iter().map(|(name, entry)| file(dir, name, entry)).collect::<Result<_>>()?;
    let mut differences: Vec<Difference> = found.into_iter().flatten().collect();
    let opened = match Checkpoint::open(dir) {
        Ok(checkpoint) => {
            differences.extend(tensors(&checkpoint, &manifest)?);
            true
        }
        Err(Error::BadCheckpoint { path, reason }) => {
            let file = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
            // Of what is damaged or missing that is no news; else something else is in the way.
            let told = differences.iter().any(|d| d.file == file) || (path == dir && !differences.is_empty());
            let said = if manifest.files.contains_key(&file) { "one that opens" } else { "no such file" };
            differences.extend((!told).then(|| Difference::new(&file, "presence", reason, said)));
            false
        }
        Err(e) => return Err(e),
    };
    differences.extend(strangers(dir, &manifest, &differences)?);
    Ok(Verified {
        model: dir.display().to_string(),
        tool: manifest.tool,
        files: manifest.files.len(),
        tensors: manifest.tensors.len(),
        bytes: manifest.files.values().fold(0, |sum, file| sum.saturating_add(file.bytes)),
        opened,
        differences,
    })
}

/// Weights that the manifest does not name: some readers take all that lie there.
fn strangers(dir: &Path, manifest: &Manifest, told: &[Difference]) -> Result<Vec<Difference>> {
    let io = |e| Error::io(dir, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
        let known = manifest.files.contains_key(&name) || told.iter().any(|d| d.file == name);
        names.extend((!known && name.ends_with(".safetensors")).then_some(name));
    }
    names.sort();
    Ok(names.iter().map(|name| Difference::new(name, "presence", "there", "no such file")).collect())
}

/// One file, if it is not as it was. Of another size, its hash is no news.
fn file(dir: &Path, name: &str, entry: &FileEntry) -> Result<Option<Difference>> {
    let there = format!("{} bytes", entry.bytes);
    match shards::has(dir, name) {
        Ok(true) => {}
        Ok(false) => return Ok(Some(Difference::new(name, "presence", "missing", there))),
        // A name that is none here.
        Err(e) => return Ok(Some(Difference::new(name, "presence", e, there))),
    }
    let path = match shards::own(dir, name) {
        Ok(path) => path,
        Err(Error::BadCheckpoint { reason, .. }) => {
            return Ok(Some(Difference::new(name, "presence", reason, there)));
        }
        Err(e) => return Err(e),
    };
    let io = |e| Error::io(&path, e);
    let mut file = File::open(&path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    if bytes != entry.bytes {
        return Ok(Some(Difference::new(name, "bytes", bytes, entry.bytes)));
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let found = hex(&hash.finalize());
    Ok((found != entry.sha256).then(|| Difference::new(name, "sha256", found, &entry.sha256)))
}

/// The tensors that a reader of the directory has, and the files it has them from.
fn tensors(checkpoint: &Checkpoint, manifest: &Manifest) -> Result<Vec<Difference>> {
    let all: Vec<_> = manifest.tensors.iter().collect();
    let found = all.into_par_iter().map(|(name, entry)| tensor(checkpoint, name, entry));
    let mut differences: Vec<Difference> = found.collect::<Vec<_>>().concat();
    for file in checkpoint.files()?.iter().filter(|file| !manifest.files.contains_key(*file)) {
        differences.push(Difference::new(file, "presence", "there, and read", "no such file"));
    }
    for name in checkpoint.names().filter(|name| !manifest.tensors.contains_key(*name)) {
        let file = checkpoint.below(checkpoint.file_of(name));
        // Of a file that is none of the model's, that one line is enough.
        if manifest.files.contains_key(&file) {
            differences.push(Difference::new(&file, "presence", "there", "no such tensor").of(name));
        }
    }
    Ok(differences)
}

/// What of a tensor is not as it was.
fn tensor(checkpoint: &Checkpoint, name: &str, entry: &TensorEntry) -> Vec<Difference> {
    let (Some(info), Some(bytes)) = (checkpoint.info(name), checkpoint.data(name)) else {
        let there = format!("{} {:?}", entry.dtype, entry.shape);
        return vec![Difference::new(&entry.file, "presence", "missing", there).of(name)];
    };
    let file = checkpoint.below(checkpoint.file_of(name));
    let [found, said] = [&info.shape, &entry.shape].map(|shape| format!("{shape:?}"));
    let pairs = [
        ("file", file.clone(), entry.file.clone()),
        ("dtype", info.dtype.name(), entry.dtype.clone()),
        ("shape", found, said),
        ("sha256", hex(&Sha256::digest(bytes)), entry.sha256.clone()),
    ];
    let differ = pairs.into_iter().filter(|(_, found, said)| found != said);
    differ.map(|(what, found, said)| Difference::new(&file, what, found, said).of(name)).collect()
}
