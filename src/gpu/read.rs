//! Reading back. A read that is asked for now and awaited later leaves the device free for what comes between.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rayon::prelude::*;

use super::buffer::DeviceTensor;
use super::device::{Device, Gpu, lock_read, wait_on};
use super::errors::Late;
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
            self.checked("submitting", || self.queue.submit([encoder.finish()]))?;
            return Ok(Reading(From::Host(Vec::new())));
        }
        let spare = (bytes <= SMALL).then(|| self.spare.take()).flatten();
        let staging = spare.map_or_else(|| self.staging(bytes.max(SMALL)), Ok)?;
        let submission = self.checked("submitting", || {
            encoder.copy_buffer_to_buffer(buffer, offset as u64, &staging, 0, bytes as u64);
            self.queue.submit([encoder.finish()])
        })?;
        let (sender, mapped) = flume::bounded(1);
        self.checked("read-back", || {
            staging.map_async(wgpu::MapMode::Read, ..bytes as u64, move |result| {
                // The receiver is gone only if the reading was dropped.
                let _ = sender.send(result);
            });
        })?;
        let (device, late, spare) = (self.device.clone(), self.late.clone(), self.spare.clone());
        Ok(Reading(From::Gpu { device, late, staging, bytes, spare, submission, mapped }))
    }

    fn staging(&self, bytes: usize) -> Result<wgpu::Buffer> {
        self.allocated("a read-back buffer", bytes as u64, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes as u64,
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
        let (device, late, staging, bytes, spare, submission, mapped) = match self.0 {
            From::Host(words) => return Ok(words),
            From::Gpu { device, late, staging, bytes, spare, submission, mapped } => {
                (device, late, staging, bytes, spare, submission, mapped)
            }
        };
        wait_on(&device, Some(submission))?;
        let failed = |message: String| Error::Gpu { what: "read-back".to_owned(), message };
        let mapped = mapped.recv_async().await.map_err(|e| failed(e.to_string()))?;
        late.reported()?;
        mapped.map_err(|e| failed(e.to_string()))?;
        let words = {
            let view = staging.get_mapped_range(..bytes as u64).map_err(|e| failed(e.to_string()))?;
            words_of(&view)
        };
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
