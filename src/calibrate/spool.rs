//! Residual streams of all sequences, in a temporary file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::model::Linear;

/// `[tokens, width]` f32 for each sequence.
pub(crate) struct Spool {
    file: File,
    lengths: Vec<usize>,
    width: usize,
}

impl Spool {
    /// The embedded tokens of every sequence.
    pub(crate) fn embed(sequences: &[Vec<u32>], embedding: &Linear) -> Result<Self> {
        let (vocab, width) = embedding.dims();
        let table = match embedding {
            Linear::Float(t) => t.to_f32()?,
            Linear::Quantized(q) => q.dequantize()?,
        };
        let file = tempfile::tempfile().map_err(|e| failed(&e))?;
        let mut spool = Self { file, lengths: sequences.iter().map(Vec::len).collect(), width };
        for (i, sequence) in sequences.iter().enumerate() {
            let mut stream = Vec::with_capacity(sequence.len() * width);
            for id in sequence {
                let row = table.chunks_exact(width).nth(*id as usize);
                let row = row.ok_or_else(|| {
                    Error::argument("calibration", format!("token id {id} in a vocabulary of {vocab}"))
                })?;
                stream.extend_from_slice(row);
            }
            spool.write(i, &stream)?;
        }
        Ok(spool)
    }

    pub(crate) fn sequences(&self) -> usize {
        self.lengths.len()
    }

    /// Tokens in all.
    pub(crate) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    pub(crate) fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    pub(crate) fn read(&mut self, sequence: usize) -> Result<Vec<f32>> {
        let mut stream = vec![0f32; self.lengths[sequence] * self.width];
        self.seek(sequence)?;
        self.file.read_exact(bytemuck::cast_slice_mut(&mut stream)).map_err(|e| failed(&e))?;
        Ok(stream)
    }

    pub(crate) fn write(&mut self, sequence: usize, stream: &[f32]) -> Result<()> {
        self.seek(sequence)?;
        self.file.write_all(bytemuck::cast_slice(stream)).map_err(|e| failed(&e))
    }

    fn seek(&mut self, sequence: usize) -> Result<()> {
        let before: usize = self.lengths[..sequence].iter().sum();
        let at = before as u64 * self.width as u64 * 4;
        self.file.seek(SeekFrom::Start(at)).map(|_| ()).map_err(|e| failed(&e))
    }
}

fn failed(e: &std::io::Error) -> Error {
    Error::io(Path::new("the temporary file of calibration's streams"), std::io::Error::new(e.kind(), e.to_string()))
}
