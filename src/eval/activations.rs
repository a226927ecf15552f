//! Activations in a safetensors file: to compare two machines, or with another implementation.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use crate::error::{Error, Result};
use crate::runtime::Tap;
use crate::tensor::Shape;
use crate::transform::Transform;

/// Activations of one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Activations {
    /// The prompt, where the file says.
    pub tokens: Option<Vec<u32>>,
    /// The token of the decode step behind it.
    pub next: Option<u32>,
    /// Of which model they are ([`crate::calibrate::StatsMeta::sha256_of`]), where the file says.
    pub model_sha256: Option<String>,
    /// The rewrites in that model's weights ([`crate::recipe::rewrites`]), where they are known.
    pub transform: Option<Transform>,
    /// What ops gave, named as in [`Tap::name`].
    pub taps: Vec<Tap>,
}

/// Keys of the file's metadata.
const MODEL: &str = "model_sha256";
const TRANSFORM: &str = "transform";

impl Activations {
    /// Reads a file. A file of several prompts names them `p0.hidden.0`, `p1.hidden.0` and so on: the one whose
    /// `input_ids` are `tokens` is taken, or the first.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadCheckpoint`] when it is no safetensors file, its prompts are others, a tensor is
    /// neither F32 nor of rank 1 to 4, or its transform is none.
    pub fn read(path: &Path, tokens: Option<&[u32]>) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| Error::bad(path, format!("is no safetensors file of activations: {e}")))?;
        let prefix = prefix(&file, tokens).map_err(|e| Error::bad(path, e))?;
        let mut taps = Vec::new();
        for name in file.names() {
            let Some(plain) = name.strip_prefix(&prefix).filter(|n| is_tap(n)) else { continue };
            let view = file.tensor(name).map_err(|e| Error::bad(path, e.to_string()))?;
            if view.dtype() != Dtype::F32 || !(1..=4).contains(&view.shape().len()) {
                let reason =
                    format!("tensor `{name}` is {:?} {:?}, expected F32 [tokens, width]", view.dtype(), view.shape());
                return Err(Error::bad(path, reason));
            }
            taps.push(Tap { name: plain.to_owned(), shape: Shape::new(view.shape()), values: floats(view.data()) });
        }
        if taps.is_empty() {
            let reason = "holds no activations; names are hidden.0, layer.0.in_proj, norm_f, logits, or p0.hidden.0";
            return Err(Error::bad(path, reason));
        }
        let next = ids(&file, &format!("{prefix}next_id")).and_then(|ids| ids.first().copied());
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| Error::bad(path, e.to_string()))?;
        let word = |key: &str| header.metadata().as_ref()?.get(key).cloned();
        let transform = word(TRANSFORM).map(|text| {
            let wrong = |e| Error::bad(path, format!("`{TRANSFORM}` in its metadata, `{text}`: {e}"));
            serde_json::from_str(&text).map_err(wrong)
        });
        let (tokens, transform) = (ids(&file, &format!("{prefix}input_ids")), transform.transpose()?);
        Ok(Self { tokens, next, model_sha256: word(MODEL), transform, taps })
    }

    /// Writes a file that [`Activations::read`] reads.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut data: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for tap in &self.taps {
            let bytes = bytemuck::cast_slice(&tap.values).to_vec();
            data.push((tap.name.clone(), Dtype::F32, tap.shape.dims().to_vec(), bytes));
        }
        let mut words = |name: &str, words: &[u32]| {
            data.push((name.to_owned(), Dtype::U32, vec![words.len()], bytemuck::cast_slice(words).to_vec()));
        };
        if let Some(tokens) = &self.tokens {
            words("input_ids", tokens);
        }
        if let Some(next) = self.next {
            words("next_id", &[next]);
        }
        let failed = |e: safetensors::SafeTensorError| Error::bad(path, format!("cannot be written: {e}"));
        let views: Vec<(&str, TensorView<'_>)> = data
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        let mut words = HashMap::from([("wgquant".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        words.extend(self.model_sha256.clone().map(|model| (MODEL.to_owned(), model)));
        if let Some(transform) = &self.transform {
            let text = serde_json::to_string(transform).map_err(|e| Error::bad(path, e.to_string()))?;
            words.insert(TRANSFORM.to_owned(), text);
        }
        let bytes = serialize(views, Some(words)).map_err(failed)?;
        crate::files::replace(path, |to| to.write_all(&bytes)).map_err(|e| Error::io(path, e))
    }
}

fn is_tap(name: &str) -> bool {
    let name = name.strip_prefix("decode.").unwrap_or(name);
    name.starts_with("hidden.")
        || name.starts_with("layer.")
        || name.starts_with("norm_f")
        || name.starts_with("logits")
}

/// What stands before the names of the prompt `tokens`.
fn prefix(file: &SafeTensors<'_>, tokens: Option<&[u32]>) -> Result<String, String> {
    let has = |prefix: &str| file.names().iter().any(|n| n.strip_prefix(prefix).is_some_and(is_tap));
    let numbered = (0..).map(|i| format!("p{i}.")).take_while(|p| has(p));
    let found: Vec<String> = Some(String::new()).filter(|p| has(p)).into_iter().chain(numbered).collect();
    let of = |p: &String| ids(file, &format!("{p}input_ids"));
    let fits = |p: &&String| tokens.is_none_or(|t| of(p).is_none_or(|ids| ids == t));
    match found.iter().find(fits) {
        Some(prefix) => Ok(prefix.clone()),
        None if found.is_empty() => Ok(String::new()),
        None => {
            let lengths: Vec<String> = found.iter().filter_map(of).map(|ids| ids.len().to_string()).collect();
            let given = tokens.map_or(0, <[u32]>::len);
            Err(format!(
                "is of another prompt: its input_ids are {} tokens, the prompt's {given} differ; leave out --prompt",
                lengths.join(" and ")
            ))
        }
    }
}

fn ids(file: &SafeTensors<'_>, name: &str) -> Option<Vec<u32>> {
    let view = file.tensor(name).ok()?;
    let chunk = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    match view.dtype() {
        Dtype::I32 | Dtype::U32 => Some(view.data().chunks_exact(4).map(chunk).collect()),
        Dtype::I64 | Dtype::U64 => Some(view.data().chunks_exact(8).map(chunk).collect()),
        _ => None,
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
