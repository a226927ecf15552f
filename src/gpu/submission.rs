//! What goes to the device in one submit: recordings, copies, and the read of what they leave. On a GPU each submit costs a pause between
//! it and the one before, so a token is one.

use super::buffer::{DeviceTensor, Storage};
use super::device::Device;
use super::plan::{self, Recording, Step, elsewhere};
use super::read::Reading;
use crate::error::Result;

/// Commands in the making. On a GPU they run when it is submitted; on the CPU each runs at once.
#[must_use = "it runs when submitted"]
pub struct Submission {
    device: Device,
    /// On a GPU.
    encoder: Option<wgpu::CommandEncoder>,
}

impl Device {
    /// One with nothing in it yet.
    pub fn submission(&self) -> Submission {
        let encoder = self.gpu().map(|gpu| gpu.device.create_command_encoder(&Default::default()));
        Submission { device: self.clone(), encoder }
    }
}

impl Submission {
    /// Adds all of a recording, which must be short: it is not cut, whatever watchdogs think of it.
    ///
    /// # Errors
    /// As [`Recording::run`].
    pub fn run(&mut self, recording: &Recording) -> Result<()> {
        match (self.device.gpu(), &mut self.encoder) {
            (Some(_), Some(_)) if recording.device.gpu().is_none() => Err(elsewhere()),
            (Some(gpu), Some(encoder)) => {
                gpu.checked("recording commands", || gpu.encode(encoder, &recording.commands, None))
            }
            _ => recording.run(),
        }
    }

    /// Adds a copy of `from` to `to`, which has as many words.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] for other words; [`crate::Error::Argument`] for a tensor of another device.
    pub fn copy(&mut self, from: &DeviceTensor, to: &DeviceTensor) -> Result<()> {
        let step = Step::copy(&self.device, from, to)?;
        match (self.device.gpu(), &mut self.encoder) {
            (Some(gpu), Some(encoder)) => {
                let command = plan::copy(from, to)?;
                gpu.checked("recording a copy", || gpu.encode(encoder, &[command], None))
            }
            _ if matches!(self.device, Device::Cpu) => {
                step.run_on_cpu();
                Ok(())
            }
            _ => Err(elsewhere()),
        }
    }

    /// Makes all words of `tensor` 0, without a word from the host.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] for a tensor of another device.
    pub fn clear(&mut self, tensor: &DeviceTensor) -> Result<()> {
        tensor.expect_on(&self.device)?;
        match (self.device.gpu(), &mut self.encoder, &tensor.storage) {
            (Some(gpu), Some(encoder), Storage::Gpu(buffer)) => {
                let (offset, bytes) = (tensor.offset as u64, tensor.bytes() as u64);
                gpu.checked("recording", || encoder.clear_buffer(buffer, offset, Some(bytes)))
            }
            (None, _, Storage::Cpu(_)) => self.device.write(tensor, &vec![0; tensor.words()]),
            _ => Err(elsewhere()),
        }
    }

    /// Sends it off; does not wait.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] when wgpu refuses the commands.
    pub fn submit(self) -> Result<()> {
        if let (Some(gpu), Some(encoder)) = (self.device.gpu(), self.encoder) {
            gpu.checked("submitting", || gpu.send(encoder))?;
        }
        Ok(())
    }

    /// Sends it off, and begins to read what `tensor` then holds, whatever is submitted later.
    ///
    /// # Errors
    /// As [`Submission::submit`]; [`crate::Error::Gpu`] when there is no memory for it; [`crate::Error::Argument`] for a tensor of another device.
    pub fn read(self, tensor: &DeviceTensor) -> Result<Reading> {
        tensor.expect_on(&self.device)?;
        match (&self.device, self.encoder, &tensor.storage) {
            (Device::Gpu(gpu), Some(encoder), Storage::Gpu(buffer)) => {
                gpu.read_after(encoder, buffer, tensor.offset, tensor.bytes())
            }
            (Device::Cpu, _, Storage::Cpu(data)) => Ok(Reading::on_host(tensor, data)),
            _ => Err(elsewhere()),
        }
    }
}
