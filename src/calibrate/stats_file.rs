//! Statistics in a safetensors file: `{site}.{field}` tensors, and what they are of as JSON in the metadata.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::stats::{SiteStats, Stats, StatsMeta, VERSION};
use crate::error::{Error, Result};
use crate::kernels::MAGNITUDE_BINS;

/// Key of the metadata.
const KEY: &str = "wgquant.stats";

/// A tensor to write: name, type, shape, bytes.
type Field<'a> = (String, Dtype, Vec<usize>, Cow<'a, [u8]>);

impl Stats {
    /// Writes a file that [`Stats::load`] reads; what was there is replaced as a whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| Error::bad(path, format!("cannot be written: {e}"));
        let mut tensors: Vec<Field<'_>> = Vec::new();
        for (name, site) in &self.sites {
            let n = site.channels();
            let powers: Vec<f64> = site.powers.iter().flatten().copied().collect();
            let mut add = |field: &str, dtype, shape: Vec<usize>, bytes| {
                tensors.push((format!("{name}.{field}"), dtype, shape, bytes));
            };
            add("samples", Dtype::U64, vec![1], Cow::Owned(site.samples.to_le_bytes().to_vec()));
            add("min", Dtype::F32, vec![n], Cow::Borrowed(bytemuck::cast_slice(&site.min)));
            add("max", Dtype::F32, vec![n], Cow::Borrowed(bytemuck::cast_slice(&site.max)));
            add("powers", Dtype::F64, vec![4, n], Cow::Owned(bytemuck::cast_slice(&powers).to_vec()));
            let counts = Cow::Borrowed(bytemuck::cast_slice(&site.magnitudes));
            add("magnitudes", Dtype::U64, vec![MAGNITUDE_BINS], counts);
            if let Some(products) = &site.products {
                add("products", Dtype::F64, vec![n, n], Cow::Borrowed(bytemuck::cast_slice(products)));
            }
        }
        // Large elements first, so that all are aligned.
        tensors.sort_by_key(|(_, dtype, ..)| std::cmp::Reverse(dtype.bitsize()));
        let meta = serde_json::to_string(&self.meta).map_err(|e| failed(&e))?;
        let header = header(&tensors, HashMap::from([(KEY.to_owned(), meta)])).map_err(|e| failed(&e))?;
        // Piece by piece into our own file: `safetensors::serialize` holds a second copy of products that take gigabytes, and
        // `serialize_to_file` puts another file in the place of the one that is to be on disk before it is renamed.
        let write = |temp: &mut std::fs::File| {
            let mut to = BufWriter::new(temp);
            to.write_all(&(header.len() as u64).to_le_bytes())?;
            to.write_all(&header)?;
            tensors.iter().try_for_each(|(.., bytes)| to.write_all(bytes))?;
            to.flush()
        };
        crate::files::replace(path, write).map_err(|e| Error::io(path, e))
    }

    /// Reads a file that [`Stats::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadCheckpoint`] naming the file and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let bad = |e: &dyn std::fmt::Display| Error::bad(path, format!("is no file of statistics: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad(&e))?;
        let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = text.ok_or_else(|| bad(&format!("its metadata has no `{KEY}`; `wgquant calibrate` writes one")))?;
        let version = serde_json::from_str::<serde_json::Value>(text).map_err(|e| bad(&e))?["version"].as_u64();
        if version != Some(u64::from(VERSION)) {
            let is = version.map_or_else(|| "no version".to_owned(), |v| format!("version {v}"));
            return Err(Error::bad(path, format!("has {is}; this program reads version {VERSION}")));
        }
        let meta: StatsMeta = serde_json::from_str(text).map_err(|e| bad(&e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(&e))?;
        let mut sites = BTreeMap::new();
        for name in file.names().into_iter().filter_map(|n| n.strip_suffix(".samples")) {
            let site = site(&file, name).map_err(|e| bad(&format!("`{name}`: {e}")))?;
            sites.insert(name.to_owned(), site);
        }
        let products = sites.values().any(|site| site.products.is_some());
        if products != meta.covariance && !sites.is_empty() {
            let have = if products { "has" } else { "has no" };
            return Err(bad(&format!("{have} products of channels, and says covariance: {}", meta.covariance)));
        }
        Ok(Self { meta, sites })
    }
}

/// The JSON in front of `tensors`, which follow each other; whole words long.
fn header(tensors: &[Field<'_>], meta: HashMap<String, String>) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut end = 0;
    let info = |(name, dtype, shape, bytes): &Field<'_>| {
        let start = end;
        end += bytes.len();
        (name.clone(), TensorInfo { dtype: *dtype, shape: shape.clone(), data_offsets: (start, end) })
    };
    let infos = tensors.iter().map(info).collect();
    let mut text = serde_json::to_vec(&Metadata::new(Some(meta), infos)?)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}

/// One site's tensors, checked against each other.
fn site(file: &SafeTensors<'_>, name: &str) -> Result<SiteStats, String> {
    let n = file.tensor(&format!("{name}.min")).map_err(|e| e.to_string())?.shape().iter().product();
    let floats =
        |field| Ok::<_, String>(numbers(file, name, field, Dtype::F32, &[n])?.map(f32::from_le_bytes).collect());
    let counts = |field, len| {
        Ok::<Vec<u64>, String>(numbers(file, name, field, Dtype::U64, &[len])?.map(u64::from_le_bytes).collect())
    };
    let doubles = |field, shape: &[usize]| {
        Ok::<Vec<f64>, String>(numbers(file, name, field, Dtype::F64, shape)?.map(f64::from_le_bytes).collect())
    };
    let powers = doubles("powers", &[4, n])?;
    let products = match file.tensor(&format!("{name}.products")) {
        Ok(_) => Some(doubles("products", &[n, n])?),
        Err(_) => None,
    };
    Ok(SiteStats {
        samples: counts("samples", 1)?.first().copied().unwrap_or(0),
        min: floats("min")?,
        max: floats("max")?,
        powers: std::array::from_fn(|p| powers[p * n..][..n].to_vec()),
        magnitudes: counts("magnitudes", MAGNITUDE_BINS)?,
        products,
    })
}

/// The bytes of each number of a tensor, which must be of this type and shape.
fn numbers<'a, const N: usize>(
    file: &SafeTensors<'a>,
    site: &str,
    field: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<impl Iterator<Item = [u8; N]> + use<'a, N>, String> {
    let view = file.tensor(&format!("{site}.{field}")).map_err(|e| e.to_string())?;
    if view.dtype() != dtype || view.shape() != shape {
        return Err(format!("{field} is {:?} {:?}, expected {dtype:?} {shape:?}", view.dtype(), view.shape()));
    }
    Ok(view.data().as_chunks().0.iter().copied())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// Sums that only some texts have would be of some texts only.
    #[test]
    fn products_are_where_the_file_says() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (says, has) in [(true, true), (false, false), (true, false), (false, true)] {
            let mut stats = Stats::of_one_text(says);
            stats.sites.insert("a".to_owned(), SiteStats::empty(2, has));
            stats.save(file.path()).unwrap();
            let error = Stats::load(file.path()).err().map(|e| e.to_string());
            assert_eq!(error.is_some(), says != has, "{error:?}");
            assert!(error.is_none_or(|e| e.contains(&format!("covariance: {says}"))));
            let (mut with, mut without) = (Stats::of_one_text(says), Stats::of_one_text(says));
            without.meta.parts.clear();
            with.sites.insert("a".to_owned(), SiteStats::empty(2, true));
            without.sites.insert("a".to_owned(), SiteStats::empty(2, false));
            assert!(with.merge(&without).unwrap_err().to_string().contains("with products"));
        }
    }
}
