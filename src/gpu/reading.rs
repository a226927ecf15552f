//! Reading tensors back, at once or while later work runs.

use super::buffer::{DeviceTensor, Storage};
use super::device::{Device, Gpu, lock_read};
use crate::error::{Error, Result};

/// A tensor on its way to the host: as it is after what was submitted before, whatever is submitted since.
#[must_use = "nothing is read until `Device::end_read`"]
pub struct Reading(On);

enum On {
    Host(Vec<u32>),
    Gpu(Mapping),
}

pub(super) struct Mapping {
    staging: wgpu::Buffer,
    copied: wgpu::SubmissionIndex,
    mapped: flume::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Device {
    /// A tensor's words.
    ///
    /// # Errors
    /// [`Error::Gpu`] when there is no memory for it, or the device is lost or hangs; [`Error::Argument`] for a tensor of
    /// another device.
    pub async fn read(&self, tensor: &DeviceTensor) -> Result<Vec<u32>> {
        self.end_read(self.begin_read(tensor)?).await
    }

    /// Begins to read a tensor back.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn begin_read(&self, tensor: &DeviceTensor) -> Result<Reading> {
        match (&tensor.storage, self) {
            (Storage::Cpu(data), Self::Cpu) => {
                let start = tensor.offset / 4;
                Ok(Reading(On::Host(lock_read(data)[start..start + tensor.words()].to_vec())))
            }
            (Storage::Gpu(_), Self::Gpu(_)) if tensor.words() == 0 => Ok(Reading(On::Host(Vec::new()))),
            (Storage::Gpu(buffer), Self::Gpu(gpu)) => {
                Ok(Reading(On::Gpu(gpu.begin_read(buffer, tensor.offset as u64, tensor.bytes() as u64)?)))
            }
            _ => Err(Error::argument("read", "the tensor is on another device")),
        }
    }

    /// The words of a tensor that this device began to read, when they are there.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub async fn end_read(&self, reading: Reading) -> Result<Vec<u32>> {
        match (reading.0, self) {
            (On::Host(words), _) => Ok(words),
            (On::Gpu(mapping), Self::Gpu(gpu)) => gpu.end_read(mapping).await,
            (On::Gpu(_), Self::Cpu) => Err(Error::argument("read", "the tensor is on another device")),
        }
    }
}

impl Gpu {
    pub(super) fn begin_read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Mapping> {
        let staging = self.checked("allocating a read-back buffer", || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("read-back"),
                size: bytes,
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        let copied = self.queue.submit([encoder.finish()]);
        let (sender, mapped) = flume::bounded(1);
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver is gone only if the reading was dropped.
            let _ = sender.send(result);
        });
        Ok(Mapping { staging, copied, mapped })
    }

    pub(super) async fn end_read(&self, mapping: Mapping) -> Result<Vec<u32>> {
        let Mapping { staging, copied, mapped } = mapping;
        self.wait_for(Some(copied))?;
        let failed = |message: String| Error::Gpu { what: "read-back".to_owned(), message };
        let result = mapped.recv_async().await.map_err(|e| failed(e.to_string()))?;
        self.reported()?;
        result.map_err(|e| failed(e.to_string()))?;
        let view = staging.get_mapped_range(..).map_err(|e| failed(e.to_string()))?;
        Ok(view.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
