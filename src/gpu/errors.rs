//! Waiting for a GPU, and wgpu's errors as ours. Natively they are known at once. A browser tells them later, so
//! there they wait for the next read, which is the first to need what went wrong before.

use super::device::{Device, Gpu};
use crate::error::{Error, Result};

/// The first error that a browser reported after the call that caused it; always empty natively.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late(#[cfg(target_arch = "wasm32")] std::sync::Arc<std::sync::Mutex<Option<String>>>);

impl Late {
    /// Listens to a device that was just opened.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn listen(device: &wgpu::Device) -> Self {
        let late = Self::default();
        let keep = late.0.clone();
        device.on_uncaptured_error(std::sync::Arc::new(move |error: wgpu::Error| {
            let mut first = keep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            first.get_or_insert_with(|| error.to_string());
        }));
        late
    }

    /// Nothing to listen to: [`Gpu::checked`] has all errors.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn listen(_: &wgpu::Device) -> Self {
        Self()
    }

    /// Fails with the error that was reported since the last call, if any.
    pub(super) fn reported(&self) -> Result<()> {
        match self.take() {
            None => Ok(()),
            Some(message) => Err(Error::Gpu { what: "since the last read".to_owned(), message }),
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn take(&self) -> Option<String> {
        None
    }
}

/// What the driver said when the device was lost, if it was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lost(std::sync::Arc<std::sync::OnceLock<String>>);

impl Lost {
    /// Listens to a device that was just opened.
    pub(crate) fn listen(device: &wgpu::Device) -> Self {
        let lost = Self::default();
        let keep = lost.0.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Only the first tells the cause.
            let _ = keep.set(format!("device lost ({reason:?}): {message}"));
        });
        lost
    }
}

impl Device {
    /// As [`Device::wait`], everywhere.
    ///
    /// # Errors
    /// As [`Device::wait`].
    pub async fn finished(&self) -> Result<()> {
        let Some(gpu) = self.gpu() else { return Ok(()) };
        let (sender, receiver) = flume::bounded(1);
        gpu.queue.on_submitted_work_done(move || {
            // The receiver is gone only if this future was dropped.
            let _ = sender.send(());
        });
        gpu.wait()?;
        let lost = |e: flume::RecvError| Error::Gpu { what: "waiting for the GPU".to_owned(), message: e.to_string() };
        receiver.recv_async().await.map_err(lost)?;
        gpu.reported()
    }
}

impl Gpu {
    /// How the device was lost, if it was: nothing that follows is right.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        // The driver's word comes with a poll, which fails when the device is lost.
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.lost.0.get().cloned()
    }

    /// Gives the device up, as a driver's reset would: all that follows fails. For fault injection.
    pub fn lose(&self) {
        self.device.destroy();
        let _ = self.device.poll(wgpu::PollType::Poll);
    }

    /// Runs `make` and turns a validation error or a lost device into [`Error::Gpu`], and a lack of memory for small things that nobody counts into
    /// [`Error::OutOfMemory`]; in a browser the next read does.
    pub(crate) fn checked<T>(&self, what: &str, make: impl FnOnce() -> T) -> Result<T> {
        self.scoped(make).map_err(|failure| self.error(failure, what, 0))
    }

    /// What a scope caught, of `what` that needed so many bytes, 0 where that is not known.
    fn error(&self, failure: Failure, what: &str, need: u64) -> Error {
        let what = what.to_owned();
        let (message, limit) = match failure {
            Failure::Memory(message) => (message, None),
            Failure::Limit(limit) => (format!("the memory limit is {limit} bytes"), Some(limit)),
            Failure::Other(message) => return Error::Gpu { what, message },
        };
        Error::OutOfMemory { adapter: self.adapter.name.clone(), what, need, held: self.held_bytes(), limit, message }
    }

    /// As [`Gpu::checked`], for an allocation of `need` bytes: [`Error::OutOfMemory`] when there is no memory for it, with
    /// nothing staged either.
    pub(crate) fn allocated<T>(&self, what: &str, need: u64, make: impl Fn() -> T) -> Result<T> {
        self.without_staging(|| self.allocated_once(what, need, &make))
    }

    /// Runs `make`, and once more where it found no memory, after what is staged was given up for it.
    pub(super) fn without_staging<T>(&self, make: impl Fn() -> Result<T>) -> Result<T> {
        match make() {
            Err(Error::OutOfMemory { .. }) => {
                self.drop_staging()?;
                make()
            }
            made => made,
        }
    }

    /// As [`Gpu::allocated`], beside whatever is staged.
    pub(super) fn allocated_once<T>(&self, what: &str, need: u64, make: impl FnOnce() -> T) -> Result<T> {
        if let Some(limit) = self.beyond_limit(need) {
            return Err(self.error(Failure::Limit(limit), what, need));
        }
        let made = self.scoped(make).map_err(|failure| self.error(failure, what, need))?;
        // What is dropped soon after counts, too.
        let _ = self.most_held_bytes();
        Ok(made)
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn scoped<T>(&self, make: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
        // Scopes do not tell of a lost device; what is made on one is invalid, and using it panics.
        if let Some(lost) = self.lost.0.get() {
            return Err(Failure::Other(lost.clone()));
        }
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = make();
        let (memory, validation) = (now(memory.pop()), now(validation.pop()));
        match (memory, validation) {
            (None, None) => Ok(made),
            // It may have been lost just now: then that is the cause, whatever the scopes say.
            _ if self.lost().is_some() => Err(Failure::Other(self.lost().unwrap_or_default())),
            (Some(e), _) => Err(Failure::Memory(causes(&e))),
            (None, Some(e)) => Err(Failure::Other(e.to_string())),
        }
    }

    /// Runs `make`. A scope's result would come too late to return; without a scope the error reaches [`Late`].
    #[cfg(target_arch = "wasm32")]
    fn scoped<T>(&self, make: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
        Ok(make())
    }

    /// Fails with the error that was reported since the last call, if any.
    pub(crate) fn reported(&self) -> Result<()> {
        self.late.reported()
    }
}

/// What a scope caught, in wgpu's words, or a limit kept from it.
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser tells later"))]
enum Failure {
    Memory(String),
    /// What a user set, in bytes.
    Limit(u64),
    Other(String),
}

/// An error with its causes, in one line.
#[cfg(not(target_arch = "wasm32"))]
fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string);
    all.collect::<Vec<_>>().join(": ")
}

/// The result of an error scope, which native wgpu has at once.
#[cfg(not(target_arch = "wasm32"))]
fn now(future: impl Future<Output = Option<wgpu::Error>>) -> Option<wgpu::Error> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(error) => error,
        std::task::Poll::Pending => None,
    }
}
