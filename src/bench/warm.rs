//! Bringing a GPU's clocks up.

use std::time::Instant;

use crate::error::Result;
use crate::gpu::{Device, Plan, Recording};
use crate::kernels::fma_peak;
use crate::tensor::DType;

/// Seconds that a GPU is kept busy before something is timed.
pub const WARM_UP: f64 = 0.3;
/// Elements of the work: enough to fill the largest GPU.
const COUNT: usize = 1 << 18;
/// A run of at least this long costs little to submit.
const LONG_ENOUGH: f64 = 0.004;

/// Work that keeps a GPU busy.
pub struct Warmer {
    device: Device,
    seconds: f64,
    work: Option<Recording>,
}

impl Warmer {
    /// Keeps `device` busy for `seconds` when asked to; a software driver and the reference have no clocks to bring up.
    ///
    /// # Errors
    /// As building and running a plan.
    pub fn new(device: &Device, seconds: f64) -> Result<Self> {
        let hardware = device.gpu().is_some_and(|g| !g.adapter.is_software());
        let mut warmer = Self { device: device.clone(), seconds, work: None };
        if !hardware || seconds <= 0.0 {
            return Ok(warmer);
        }
        let (x, out) = (device.alloc(DType::F32, [COUNT])?, device.alloc(DType::F32, [COUNT])?);
        let mut rounds = 64;
        loop {
            let mut plan = Plan::new(device);
            fma_peak(&mut plan, &x, &out, rounds)?;
            let work = plan.record()?;
            let once = || -> Result<f64> {
                let start = Instant::now();
                work.run()?;
                device.wait()?;
                Ok(start.elapsed().as_secs_f64())
            };
            once()?; // compiles
            let long = once()? >= LONG_ENOUGH || rounds >= 1 << 16;
            warmer.work = Some(work);
            if long {
                return Ok(warmer);
            }
            rounds *= 2;
        }
    }

    /// Keeps it busy, and returns when it is idle: time what matters right after.
    ///
    /// # Errors
    /// As [`Recording::run`].
    pub fn run(&self) -> Result<()> {
        self.device.wait()?;
        let Some(work) = &self.work else { return Ok(()) };
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < self.seconds {
            // Two at a time: the second is there when the first ends.
            work.run()?;
            work.run()?;
            self.device.wait()?;
        }
        Ok(())
    }
}
