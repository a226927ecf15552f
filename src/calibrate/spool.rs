//! Residual streams of all sequences: on the device where they take a small part of its memory, else in a temporary file,
//! so that memory does not grow with the number or length of sequences.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Gpu};
use crate::model::Linear;
use crate::runtime::Stream;

/// Of the device's free memory, the part that streams may take, one in so many: those of a quantizer, and those of statistics that are
/// gathered beside one. 8B's shape takes 19 GB without the latter, 4.3 GB, which a device of 24 GB then leaves to the file.
pub(super) const PART: u64 = 4;
pub(super) const PART_BESIDE: u64 = 16;

/// `[tokens, width]` f32 for each sequence.
pub(crate) struct Spool {
    kept: Kept,
    lengths: Vec<usize>,
    width: usize,
}

enum Kept {
    File(File),
    Device(Vec<DeviceTensor>),
}

impl Spool {
    /// The embedded tokens of every sequence. `part`: one in so many of free memory that they may take.
    pub(crate) fn embed(device: &Device, sequences: &[Vec<u32>], embedding: &Linear, part: u64) -> Result<Self> {
        let (vocab, width) = embedding.dims();
        let table = match embedding {
            Linear::Float(t) => t.to_f32()?,
            Linear::Quantized(q) => q.dequantize()?,
        };
        let bytes = 4 * width as u64 * sequences.iter().map(|s| s.len() as u64).sum::<u64>();
        let longest = 4 * width as u64 * sequences.iter().map(|s| s.len() as u64).max().unwrap_or(0);
        // A sequence is one tensor there.
        let fits = |gpu: &Gpu| longest <= gpu.max_binding_bytes() && gpu.room().is_some_and(|r| bytes <= r.free / part);
        let kept = match device.gpu().is_some_and(fits) {
            true => Kept::Device(Vec::new()),
            false => Kept::File(tempfile::tempfile().map_err(|e| failed(&e))?),
        };
        let mut spool = Self { kept, lengths: sequences.iter().map(Vec::len).collect(), width };
        for (i, sequence) in sequences.iter().enumerate() {
            let mut stream = vec![0f32; sequence.len() * width];
            let rows = stream.par_chunks_exact_mut(width).zip(sequence);
            rows.try_for_each(|(to, id)| {
                let row = table.get(*id as usize * width..).and_then(|rest| rest.get(..width));
                row.map(|row| to.copy_from_slice(row))
                    .ok_or_else(|| Error::argument("calibration", format!("token id {id} in a vocabulary of {vocab}")))
            })?;
            match &mut spool.kept {
                Kept::File(_) => spool.write(i, &Stream::Host(stream))?,
                Kept::Device(tensors) => tensors.push(device.upload_f32([sequence.len(), width], &stream)?),
            }
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

    /// Of a sequence, so many tokens.
    pub(crate) fn length(&self, sequence: usize) -> usize {
        self.lengths[sequence]
    }

    pub(crate) fn read(&mut self, sequence: usize) -> Result<Stream> {
        let (at, length) = (self.place(sequence), self.lengths[sequence] * self.width);
        match &mut self.kept {
            Kept::File(file) => {
                let mut stream = vec![0f32; length];
                let read = file.seek(at).and_then(|_| file.read_exact(bytemuck::cast_slice_mut(&mut stream)));
                read.map(|()| Stream::Host(stream)).map_err(|e| failed(&e))
            }
            Kept::Device(tensors) => Ok(Stream::Device(tensors[sequence].clone())),
        }
    }

    /// What was read of a sequence, changed. On the device it is in its place.
    pub(crate) fn write(&mut self, sequence: usize, stream: &Stream) -> Result<()> {
        let at = self.place(sequence);
        match (&mut self.kept, stream) {
            (Kept::File(file), Stream::Host(values)) => {
                file.seek(at).and_then(|_| file.write_all(bytemuck::cast_slice(values))).map_err(|e| failed(&e))
            }
            _ => Ok(()),
        }
    }

    fn place(&self, sequence: usize) -> SeekFrom {
        let before: usize = self.lengths[..sequence].iter().sum();
        SeekFrom::Start(before as u64 * self.width as u64 * 4)
    }
}

fn failed(e: &std::io::Error) -> Error {
    Error::io(Path::new("the temporary file of calibration's streams"), std::io::Error::new(e.kind(), e.to_string()))
}
