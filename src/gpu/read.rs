//! Reading back. A read that is asked for now and awaited later leaves the device free for what comes between.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rayon::prelude::*;

use super::buffer::DeviceTensor;
use super::device::{Device, Gpu, lock_read, wait_on};
use super::errors::Late;
use super::receipts::Receipts;
use crate::error::{Error, Result};

/// Words a core copies at a time.
const TASK: usize = 1 << 18;
/// Bytes of a read-back buffer that is kept: those of the ids of many sequences.
const SMALL: usize = 1 << 10;

/// What a tensor holds when all work submitted so far is done, whatever comes after.
#[must_use = "the words come from `words`"]
pub struct Reading(From);

enum From {
    Host(Vec<u32>),
    Gpu {
        device: wgpu::Device,
        late: Late,
        staging: wgpu::Buffer,
        bytes: usize,
        spare: Spare,
        submission: wgpu::SubmissionIndex,
        mapped: flume::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
        /// Those of the submissions before, which this one's number is, and where they are.
        receipts: Option<(Arc<Receipts>, u32, std::ops::Range<u64>)>,
    },
}

/// Small read-back buffers that are free, so that a token needs no new one.
#[derive(Clone, Default)]
pub(super) struct Spare(Arc<Mutex<Vec<wgpu::Buffer>>>);

impl Spare {
    fn take(&self) -> Option<wgpu::Buffer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps an unmapped buffer of `SMALL` bytes.
    fn keep(&self, buffer: wgpu::Buffer) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Device {
    /// Begins to read a tensor.
    ///
    /// # Errors
    /// As [`super::Submission::read`].
    pub fn begin_read(&self, tensor: &DeviceTensor) -> Result<Reading> {
        self.submission().read(tensor)
    }
}

impl Gpu {
    pub(crate) fn begin_read(&self, buffer: &wgpu::Buffer, offset: usize, bytes: usize) -> Result<Reading> {
        self.read_after(self.device.create_command_encoder(&Default::default()), buffer, offset, bytes)
    }

    /// Submits the commands of `encoder`, and begins to read what `buffer` then holds.
    pub(super) fn read_after(
        &self,
        mut encoder: wgpu::CommandEncoder,
        buffer: &wgpu::Buffer,
        offset: usize,
        bytes: usize,
    ) -> Result<Reading> {
        if bytes == 0 {
            self.checked("submitting", || self.send(encoder))?;
            return Ok(Reading(From::Host(Vec::new())));
        }
        let spare = (bytes <= SMALL).then(|| self.spare.take()).flatten();
        // Behind what is read comes which submissions are done, where that must be asked.
        let (end, receipts) = (bytes.max(SMALL).next_multiple_of(8) as u64, self.receipts.bytes());
        let staging = spare.map_or_else(|| self.staging(end + receipts), Ok)?;
        let (submission, number) = self.checked("submitting", || {
            encoder.copy_buffer_to_buffer(buffer, offset as u64, &staging, 0, bytes as u64);
            self.send_and(encoder, |encoder, done| encoder.copy_buffer_to_buffer(done, 0, &staging, end, receipts))
        })?;
        let (sender, mapped) = flume::bounded(1);
        let used = if receipts > 0 { end + receipts } else { bytes as u64 };
        self.checked("read-back", || {
            staging.map_async(wgpu::MapMode::Read, ..used, move |result| {
                // The receiver is gone only if the reading was dropped.
                let _ = sender.send(result);
            });
        })?;
        let (device, late, spare) = (self.device.clone(), self.late.clone(), self.spare.clone());
        let receipts = (receipts > 0).then(|| (self.receipts.clone(), number, end..end + receipts));
        Ok(Reading(From::Gpu { device, late, staging, bytes, spare, submission, mapped, receipts }))
    }

    fn staging(&self, bytes: u64) -> Result<wgpu::Buffer> {
        self.allocated("a read-back buffer", bytes, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
    }
}

impl Reading {
    /// Of a tensor in host memory, which is `data`.
    pub(super) fn on_host(tensor: &DeviceTensor, data: &RwLock<Vec<u32>>) -> Self {
        let start = tensor.offset / 4;
        Self(From::Host(lock_read(data)[start..start + tensor.words()].to_vec()))
    }

    /// The words, once they are there.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the device is lost or hangs.
    pub async fn words(self) -> Result<Vec<u32>> {
        let (device, late, staging, bytes, spare, submission, mapped, receipts) = match self.0 {
            From::Host(words) => return Ok(words),
            From::Gpu { device, late, staging, bytes, spare, submission, mapped, receipts } => {
                (device, late, staging, bytes, spare, submission, mapped, receipts)
            }
        };
        wait_on(&device, Some(submission))?;
        let failed = |message: String| Error::Gpu { what: "read-back".to_owned(), message };
        let mapped = mapped.recv_async().await.map_err(|e| failed(e.to_string()))?;
        late.reported()?;
        mapped.map_err(|e| failed(e.to_string()))?;
        let words = |range: std::ops::Range<u64>| {
            let view = staging.get_mapped_range(range).map_err(|e| failed(e.to_string()))?;
            Ok::<_, Error>(words_of(&view))
        };
        if let Some((receipts, number, range)) = receipts {
            receipts.look(number, &words(range)?)?;
        }
        let words = words(0..bytes as u64)?;
        staging.unmap();
        if bytes <= SMALL {
            spare.keep(staging);
        }
        Ok(words)
    }
}

/// Little-endian words. Memory that was never used before: the system makes it as it is written, on all cores.
fn words_of(bytes: &[u8]) -> Vec<u32> {
    let mut words = vec![0; bytes.len() / 4];
    words.par_chunks_mut(TASK).zip(bytes.par_chunks(4 * TASK)).for_each(|(words, bytes)| {
        let all = words.iter_mut().zip(bytes.chunks_exact(4));
        all.for_each(|(word, b)| *word = u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    });
    words
}
