//! Did the device do what was submitted? A driver that ends a command buffer says so, but on Metal wgpu takes it for done (wgpu #9545):
//! reads then give what was there before. So there each submission leaves its number behind its last command, and a read looks whether all
//! numbers before its own are there.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::device::Gpu;
use crate::error::{Error, Result};

/// Submissions whose numbers are kept: more never lie between two reads.
const KEPT: u32 = 1024;
/// Bytes of as many.
const BYTES: u64 = 4 * KEPT as u64;

/// The numbers of submissions that are done, on adapters whose driver does not tell.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    buffers: OnceLock<Buffers>,
    /// Submissions so far.
    signed: AtomicU32,
    /// Those that a read has seen.
    seen: AtomicU32,
    /// Held from a number to its submission: they come in one order.
    order: Mutex<()>,
}

#[derive(Debug)]
struct Buffers {
    /// The number of each of the last submissions.
    numbers: wgpu::Buffer,
    /// As the submission left it.
    done: wgpu::Buffer,
}

impl Receipts {
    /// For a device of `backend`.
    pub(super) fn of(device: &wgpu::Device, backend: wgpu::Backend) -> Self {
        let receipts = Self::default();
        if backend == wgpu::Backend::Metal {
            receipts.ask(device);
        }
        receipts
    }

    /// From now on submissions leave their numbers.
    fn ask(&self, device: &wgpu::Device) {
        let buffer = |label| {
            let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        self.buffers.get_or_init(|| Buffers { numbers: buffer("submissions"), done: buffer("submissions done") });
    }

    /// Bytes of what a read copies along.
    pub(super) fn bytes(&self) -> u64 {
        if self.buffers.get().is_some() { BYTES } else { 0 }
    }
}

impl Gpu {
    /// Submits what `encoder` has.
    pub(super) fn send(&self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.send_and(encoder, |_, _| ()).0
    }

    /// Submits what `encoder` has, then its number, then what `last` adds, which may copy from the buffer that numbers are in. Gives the number, too.
    pub(super) fn send_and(
        &self,
        mut encoder: wgpu::CommandEncoder,
        last: impl FnOnce(&mut wgpu::CommandEncoder, &wgpu::Buffer),
    ) -> (wgpu::SubmissionIndex, u32) {
        let Some(Buffers { done, .. }) = self.receipts.buffers.get() else {
            return (self.queue.submit([encoder.finish()]), 0);
        };
        let _order = self.receipts.order.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.sign(&mut encoder);
        last(&mut encoder, done);
        (self.queue.submit([encoder.finish()]), number)
    }

    fn sign(&self, encoder: &mut wgpu::CommandEncoder) -> u32 {
        let Some(Buffers { numbers, done }) = self.receipts.buffers.get() else { return 0 };
        let number = self.receipts.signed.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let at = u64::from(number % KEPT) * 4;
        self.queue.write_buffer(numbers, at, &number.to_le_bytes());
        encoder.copy_buffer_to_buffer(numbers, at, done, at, 4);
        number
    }
}

impl Receipts {
    /// Are all submissions up to `last` done, by what was copied in the last of them?
    ///
    /// # Errors
    /// [`Error::Gpu`] where one is not.
    pub(super) fn look(&self, last: u32, done: &[u32]) -> Result<()> {
        let first = self.seen.load(Ordering::Relaxed).max(last.saturating_sub(KEPT));
        if (first..last).any(|before| done.get(((before + 1) % KEPT) as usize) != Some(&(before + 1))) {
            let message =
                "the driver ended commands before they were done (a watchdog, or a lack of memory)".to_owned();
            return Err(Error::Gpu { what: "a submission".to_owned(), message });
        }
        self.seen.fetch_max(last, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::gpu::{Device, DeviceChoice, Plan};
    use crate::tensor::DType;

    #[test]
    fn a_submission_that_is_not_done_is_seen() {
        let device = block_on(Device::open(&DeviceChoice::Best, None)).unwrap();
        let gpu = device.gpu().unwrap();
        gpu.receipts.ask(&gpu.device);
        let (from, to) = (device.upload_f32([8], &[2.0; 8]).unwrap(), device.alloc(DType::F32, [8]).unwrap());
        let copy = |times: u32| {
            for _ in 0..times {
                let mut plan = Plan::new(&device);
                plan.copy(&from, &to).unwrap();
                plan.record().unwrap().run().unwrap();
            }
        };
        copy(3);
        assert_eq!(block_on(device.read_f32(&to)).unwrap(), [2.0; 8]);
        // More than are kept, and a read that is awaited behind others.
        copy(KEPT + 5);
        let early = device.begin_read(&to).unwrap();
        copy(2);
        assert_eq!(block_on(device.read_f32(&to)).unwrap(), [2.0; 8]);
        assert_eq!(block_on(early.words()).unwrap().len(), 8);
        // Commands that a driver ends leave nothing, as these, which nobody submits.
        gpu.sign(&mut gpu.device.create_command_encoder(&Default::default()));
        copy(2);
        for _ in 0..2 {
            let error = block_on(device.read_f32(&to)).unwrap_err().to_string();
            assert!(error.contains("ended commands before they were done"), "{error}");
        }
    }
}
