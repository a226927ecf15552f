//! Keys and values of the tokens so far, as f32, f16 or codes.

use super::attention::AttentionDims;
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor};
use crate::reference::kv::KvCodes;
use crate::tensor::DType;

/// What a key/value cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvFormat {
    /// f32.
    #[default]
    F32,
    /// f16, as most runtimes keep them.
    F16,
    /// int8, a scale for each token and kv head.
    Int8,
    /// int4, a scale for each token and 32 elements of a kv head.
    Int4,
}

/// The caches of one attention block for a number of sequences, and what they hold. A token's codes depend on its own key and value only, so
/// they are the same however calls are cut.
#[derive(Clone, Debug)]
pub struct KvCache {
    /// `[sequences · max, kv_heads · head_dim]` f32; or u32 `[sequences · max, kv_heads · (words of codes + scales)]`: the
    /// codes of all, then the scales of all ([`KvCodes`]; f16 are codes without scales).
    pub key: DeviceTensor,
    /// Likewise.
    pub value: DeviceTensor,
    /// Sequences, whose rows are one behind the other.
    pub sequences: usize,
    /// What they hold.
    pub format: KvFormat,
}

impl KvFormat {
    /// Layout of the codes, where there are any.
    #[must_use]
    pub fn codes(self, head_dim: usize) -> Option<KvCodes> {
        match self {
            Self::F32 => None,
            Self::F16 => Some(KvCodes { bits: 16, head_dim }),
            Self::Int8 => Some(KvCodes { bits: 8, head_dim }),
            Self::Int4 => Some(KvCodes { bits: 4, head_dim }),
        }
    }

    /// Element type and words of one token's keys (or values).
    pub(super) fn row(self, dims: AttentionDims) -> (DType, usize) {
        match self.codes(dims.head_dim) {
            None => (DType::F32, dims.kv_heads * dims.head_dim),
            Some(codes) => (DType::U32, dims.kv_heads * (codes.words() + codes.groups())),
        }
    }
}

impl KvCache {
    /// Room for `max` tokens of one sequence.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn new(device: &Device, dims: AttentionDims, max: usize, format: KvFormat) -> Result<Self> {
        Self::of_sequences(device, dims, 1, max, format)
    }

    /// The caches of the first `sequences`, in the same memory; none where scales lie behind the codes of all.
    ///
    /// # Errors
    /// [`Error::Argument`] for more than there are.
    pub fn first(&self, sequences: usize) -> Result<Option<Self>> {
        if !matches!(self.format, KvFormat::F32 | KvFormat::F16) {
            return Ok(None);
        }
        let rows = |cache: &DeviceTensor| cache.rows(0, sequences.saturating_mul(self.max()));
        Ok(Some(Self { key: rows(&self.key)?, value: rows(&self.value)?, sequences, format: self.format }))
    }

    /// Room for `max` tokens of each of `sequences`.
    ///
    /// # Errors
    /// As [`Device::alloc`].
    pub fn of_sequences(
        device: &Device,
        dims: AttentionDims,
        sequences: usize,
        max: usize,
        format: KvFormat,
    ) -> Result<Self> {
        let (dtype, row) = format.row(dims);
        let cache = || device.alloc(dtype, [sequences.saturating_mul(max), row]);
        Ok(Self { key: cache()?, value: cache()?, sequences, format })
    }

    /// Tokens they have room for, of each sequence.
    #[must_use]
    pub fn max(&self) -> usize {
        self.key.shape.rows() / self.sequences.max(1)
    }

    /// Bytes on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.bytes() + self.value.bytes()
    }

    /// Refuses what does not fit `dims`; gives the tokens of each sequence where all of them have `rows`.
    pub(super) fn check(&self, kernel: &'static str, dims: AttentionDims, rows: usize) -> Result<usize> {
        let (dtype, row) = self.format.row(dims);
        let cached = self.sequences * self.max();
        if self.sequences == 0 || !rows.is_multiple_of(self.sequences) {
            let what = format!("{rows} tokens of {} sequences", self.sequences);
            return Err(Error::argument(format!("{kernel}: `cache`"), what));
        }
        for (name, cache) in [("k_cache", &self.key), ("v_cache", &self.value)] {
            expect_dtype(kernel, name, cache, dtype, if dtype == DType::F32 { "f32" } else { "u32" })?;
            expect(kernel, name, cache, [cached, row])?;
        }
        Ok(rows / self.sequences)
    }

    /// Keys and values of the first `tokens` of a sequence, `[tokens, kv_heads · head_dim]` each, read back.
    ///
    /// # Errors
    /// [`Error::Argument`] for rows that are not there; as [`Device::read`].
    pub async fn read(
        &self,
        device: &Device,
        dims: AttentionDims,
        sequence: usize,
        tokens: usize,
    ) -> Result<[Vec<f32>; 2]> {
        if sequence >= self.sequences || tokens > self.max() || self.key.shape != self.value.shape {
            let what = format!("{tokens} tokens of sequence {sequence}, of {} of {}", self.sequences, self.max());
            return Err(Error::argument("cache", what));
        }
        let first = sequence * self.max();
        let mut both = [Vec::new(), Vec::new()];
        for (cache, values) in [&self.key, &self.value].into_iter().zip(&mut both) {
            *values = match self.format.codes(dims.head_dim) {
                None => device.read_f32(&cache.rows(first, tokens)?).await?,
                Some(codes) => {
                    let rows = |tokens| tokens * dims.kv_heads;
                    let seen = codes.values(&device.read(cache).await?, rows(cache.shape.rows()), rows(first + tokens));
                    seen[rows(first) * dims.head_dim..].to_vec()
                }
            };
        }
        Ok(both)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_there_are_refused() {
        let dims = AttentionDims { heads: 2, kv_heads: 1, head_dim: 4 };
        for format in [KvFormat::F32, KvFormat::F16, KvFormat::Int8] {
            let cache = KvCache::of_sequences(&Device::Cpu, dims, 2, 8, format).unwrap();
            let read = |sequence, tokens| pollster::block_on(cache.read(&Device::Cpu, dims, sequence, tokens));
            assert_eq!(read(1, 8).unwrap().map(|v| v.len()), [32; 2]);
            for (sequence, tokens) in [(0, 9), (1, 20), (2, 1), (usize::MAX, 1)] {
                let error = read(sequence, tokens).unwrap_err().to_string();
                assert!(error.contains("cache") && error.contains("of 2 of 8"), "{format:?}: {error}");
            }
        }
    }
}
