//! Words to a GPU through a ring of staging buffers of fixed size: the host holds no second copy of a model, and goes on
//! to the next rows while those before are still being copied. The ring takes what memory there is, and is given up, as
//! wgpu's own staging of small writes is, when a model is loaded and when something else finds no memory: no plan need
//! count them.

use std::borrow::Cow;

#[cfg(not(target_arch = "wasm32"))]
use rayon::prelude::*;

use super::buffer::{DeviceTensor, Storage, row_words};
use super::device::{Device, Gpu};
#[cfg(not(target_arch = "wasm32"))]
use crate::error::Error;
use crate::error::Result;
use crate::tensor::{DType, Shape};

/// Bytes of a staging buffer.
const SLOT: usize = 16 << 20;
/// Bytes that a core copies into one.
#[cfg(not(target_arch = "wasm32"))]
const PIECE: usize = 2 << 20;
/// Staging buffers: one is filled while the others are being copied.
#[cfg(not(target_arch = "wasm32"))]
const SLOTS: usize = 3;
/// Smaller writes go through wgpu's own staging, which lasts until the next submission.
#[cfg(not(target_arch = "wasm32"))]
const SMALL: usize = 256 << 10;

impl Device {
    /// A tensor whose rows `first .. first + count` are `words(first, count)`, piece by piece.
    pub(super) fn upload_rows<'a>(
        &self,
        dtype: DType,
        shape: Shape,
        words: impl Fn(usize, usize) -> Cow<'a, [u32]>,
    ) -> Result<DeviceTensor> {
        let Self::Gpu(gpu) = self else { return self.upload_words(dtype, shape, &words(0, shape.rows())) };
        let tensor = self.alloc(dtype, shape)?;
        let Storage::Gpu(buffer) = &tensor.storage else { return Ok(tensor) };
        let (rows, row_bytes) = (shape.rows(), row_words(dtype, shape) * 4);
        let step = (SLOT / row_bytes.max(1)).max(1);
        for first in (0..rows).step_by(step) {
            let piece = words(first, step.min(rows - first));
            gpu.write(buffer, first * row_bytes, bytemuck::cast_slice(&piece))?;
        }
        Ok(tensor)
    }

    /// Gives up what is staged, the buffers too, which the next upload makes anew.
    ///
    /// # Errors
    /// As waiting for the GPU.
    pub(crate) fn uploaded(&self) -> Result<()> {
        self.gpu().map_or(Ok(()), Gpu::drop_staging)
    }
}

/// A staging buffer, and the submission that copies out of it.
#[cfg(not(target_arch = "wasm32"))]
struct Slot {
    buffer: wgpu::Buffer,
    copied: wgpu::SubmissionIndex,
    mapped: flume::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
}

/// Staging buffers in the order they come free.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Default)]
pub(super) struct Ring(std::sync::Mutex<std::collections::VecDeque<Slot>>);

/// Bytes that a browser stages since the last submission.
#[cfg(target_arch = "wasm32")]
#[derive(Default)]
pub(super) struct Ring(std::sync::atomic::AtomicUsize);

#[cfg(not(target_arch = "wasm32"))]
impl Gpu {
    /// Overwrites a part of `buffer`, before anything submitted later; returns while the copy may be under way.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, offset: usize, bytes: &[u8]) -> Result<()> {
        if bytes.len() <= SMALL {
            let write = || self.checked("writing", || self.queue.write_buffer(buffer, offset as u64, bytes));
            return self.without_staging(write);
        }
        for (i, piece) in bytes.chunks(SLOT).enumerate() {
            self.staged(buffer, offset + i * SLOT, piece)?;
        }
        Ok(())
    }

    /// Copies up to a slot's bytes.
    fn staged(&self, buffer: &wgpu::Buffer, offset: usize, bytes: &[u8]) -> Result<()> {
        let mut ring = self.ring.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new = if ring.len() < SLOTS { self.slot()? } else { None };
        let staging = if let Some(new) = new {
            new
        } else {
            let Some(oldest) = ring.pop_front() else { return self.unstaged(buffer, offset, bytes) };
            self.wait_for(oldest)?
        };
        let size = bytes.len() as u64;
        // One core copies half as fast as a bus takes it.
        let views = bytes.chunks(PIECE).enumerate().map(|(i, piece)| {
            let first = (i * PIECE) as u64;
            staging.get_mapped_range_mut(first..first + piece.len() as u64).map_err(|e| failed(e.to_string()))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        views.into_par_iter().zip(bytes.par_chunks(PIECE)).for_each(|(mut view, piece)| view.copy_from_slice(piece));
        staging.unmap();
        let copied = self.checked("uploading", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&staging, 0, buffer, offset as u64, size);
            self.send(encoder)
        })?;
        let (sender, mapped) = flume::bounded(1);
        self.checked("uploading", || {
            staging.map_async(wgpu::MapMode::Write, .., move |result| {
                // The receiver is gone only if the device is being dropped.
                let _ = sender.send(result);
            });
        })?;
        ring.push_back(Slot { buffer: staging, copied, mapped });
        Ok(())
    }

    /// Without memory for a staging buffer: a small piece after the other.
    fn unstaged(&self, buffer: &wgpu::Buffer, offset: usize, bytes: &[u8]) -> Result<()> {
        for (i, piece) in bytes.chunks(SMALL).enumerate() {
            let at = (offset + i * SMALL) as u64;
            self.wait_until(self.checked("uploading", || {
                self.queue.write_buffer(buffer, at, piece);
                self.queue.submit([])
            })?)?;
        }
        Ok(())
    }

    /// Drops what is staged once it is copied: small writes, which without a submission last, and the staging buffers, unless
    /// one is being filled.
    pub(super) fn drop_staging(&self) -> Result<()> {
        self.wait_until(self.checked("uploading", || self.queue.submit([]))?)?;
        let Ok(mut ring) = self.ring.0.try_lock() else { return Ok(()) };
        ring.drain(..).try_for_each(|slot| self.wait_for(slot).map(drop))
    }

    /// A new staging buffer, mapped; `None` where there is no memory for it, which is not worth waiting for.
    fn slot(&self) -> Result<Option<wgpu::Buffer>> {
        let made = self.allocated_once("a staging buffer", SLOT as u64, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: SLOT as u64,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            })
        });
        match made {
            Err(Error::OutOfMemory { .. }) => Ok(None),
            made => made.map(Some),
        }
    }

    /// The buffer of a slot, once it is copied and mapped again.
    fn wait_for(&self, Slot { buffer, copied, mapped }: Slot) -> Result<wgpu::Buffer> {
        self.wait_until(copied)?;
        let result = mapped.recv_timeout(super::device::TIMEOUT).map_err(|e| failed(e.to_string()))?;
        result.map_err(|e| failed(e.to_string()))?;
        Ok(buffer)
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn failed(message: String) -> Error {
    Error::Gpu { what: "uploading".to_owned(), message }
}

#[cfg(target_arch = "wasm32")]
impl Gpu {
    /// Overwrites a part of `buffer`, before anything submitted later. A browser stages on its own, and submitting now and then lets it give that up.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, offset: usize, bytes: &[u8]) -> Result<()> {
        self.queue.write_buffer(buffer, offset as u64, bytes);
        let staged = self.ring.0.fetch_add(bytes.len(), std::sync::atomic::Ordering::Relaxed) + bytes.len();
        if staged >= SLOT {
            self.ring.0.store(0, std::sync::atomic::Ordering::Relaxed);
            self.queue.submit([]);
        }
        Ok(())
    }

    /// There is nothing staged of our own, and no waiting for what a browser does.
    #[allow(clippy::unnecessary_wraps, reason = "as natively")]
    pub(super) fn drop_staging(&self) -> Result<()> {
        Ok(())
    }
}
