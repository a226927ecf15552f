//! Reading back. A read that is asked for now and awaited later leaves the device free for what comes between.

use rayon::prelude::*;

use super::buffer::{DeviceTensor, Storage};
use super::device::{Device, Gpu, lock_read, wait_on};
use super::errors::Late;
use crate::error::{Error, Result};

/// Words a core copies at a time.
const TASK: usize = 1 << 18;

/// What a tensor holds when all work submitted so far is done, whatever comes after.
#[must_use = "the words come from `words`"]
pub struct Reading(From);

enum From {
    Host(Vec<u32>),
    Gpu {
        device: wgpu::Device,
        late: Late,
        staging: wgpu::Buffer,
        submission: wgpu::SubmissionIndex,
        mapped: flume::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    },
}

impl Device {
    /// Begins to read a tensor.
    ///
    /// # Errors
    /// [`Error::Gpu`] when there is no memory for it; [`Error::Argument`] for a tensor of another device.
    pub fn begin_read(&self, tensor: &DeviceTensor) -> Result<Reading> {
        match (&tensor.storage, self) {
            (Storage::Cpu(data), Self::Cpu) => {
                let start = tensor.offset / 4;
                Ok(Reading(From::Host(lock_read(data)[start..start + tensor.words()].to_vec())))
            }
            (Storage::Gpu(buffer), Self::Gpu(gpu)) => gpu.begin_read(buffer, tensor.offset, tensor.bytes()),
            _ => Err(Error::argument("read", "the tensor is on another device")),
        }
    }
}

impl Gpu {
    pub(crate) fn begin_read(&self, buffer: &wgpu::Buffer, offset: usize, bytes: usize) -> Result<Reading> {
        if bytes == 0 {
            return Ok(Reading(From::Host(Vec::new())));
        }
        let staging = self.allocated("a read-back buffer", bytes as u64, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes as u64,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset as u64, &staging, 0, bytes as u64);
        let submission = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = flume::bounded(1);
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only if the reading was dropped.
            let _ = sender.send(result);
        });
        Ok(Reading(From::Gpu { device: self.device.clone(), late: self.late.clone(), staging, submission, mapped }))
    }
}

impl Reading {
    /// The words, once they are there.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the device is lost or hangs.
    pub async fn words(self) -> Result<Vec<u32>> {
        let (device, late, staging, submission, mapped) = match self.0 {
            From::Host(words) => return Ok(words),
            From::Gpu { device, late, staging, submission, mapped } => (device, late, staging, submission, mapped),
        };
        wait_on(&device, Some(submission))?;
        let failed = |message: String| Error::Gpu { what: "read-back".to_owned(), message };
        let mapped = mapped.recv_async().await.map_err(|e| failed(e.to_string()))?;
        late.reported()?;
        mapped.map_err(|e| failed(e.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
        let bytes: &[u8] = &view;
        // Memory that was never used before: the system makes it as it is written, on all cores.
        let mut words = vec![0; bytes.len() / 4];
        words.par_chunks_mut(TASK).zip(bytes.par_chunks(4 * TASK)).for_each(|(words, bytes)| {
            let all = words.iter_mut().zip(bytes.chunks_exact(4));
            all.for_each(|(word, b)| *word = u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        });
        Ok(words)
    }
}
