//! What a device can do at best: bytes copied, multiply-adds, packed products.

use pollster::block_on;
use serde::Serialize;

use super::Warmer;
use crate::error::Result;
use crate::gpu::{Device, Gpu, Plan, Recording};
use crate::kernels;
use crate::tensor::DType;

/// Bytes of the copied buffer, where there is room: beyond any cache, and long enough that submitting costs nothing beside it.
const COPY_BYTES: u64 = 1 << 30;
/// On a software driver or the reference, whose memory is the host's.
const SMALL_COPY_BYTES: u64 = 32 << 20;
/// Copies of one measurement.
const COPIES: usize = 4;
/// Elements of the arithmetic kernels: enough to fill the largest GPU.
const COUNT: usize = 1 << 18;
/// Measurements, of which the best counts.
const RUNS: usize = 5;
/// A measurement shorter than this is mostly overhead.
const LONG_ENOUGH: f64 = 0.02;

/// Rates of a device, the best of several measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peaks {
    /// Bytes a second of a large copy, reads and writes counted.
    pub copy_bytes_per_s: f64,
    /// Operations a second of f32 multiply-adds in registers, two each.
    pub fma_ops_per_s: f64,
    /// Operations a second of packed int8 products with sums, as the adapter's best form does them; two a product.
    pub dot_ops_per_s: f64,
}

/// Measures everything.
///
/// # Errors
/// As building and running a plan; the same for the others here.
pub fn measure_peaks(device: &Device, warmer: &Warmer) -> Result<Peaks> {
    Ok(Peaks {
        copy_bytes_per_s: copy_peak(device, warmer)?,
        fma_ops_per_s: fma_peak(device, warmer)?,
        dot_ops_per_s: dot_peak(device, warmer)?,
    })
}

/// Bytes a second of the faster of a kernel and the driver's copy command.
///
/// # Errors
/// As building and running a plan.
pub fn copy_peak(device: &Device, warmer: &Warmer) -> Result<f64> {
    let hardware = device.gpu().is_some_and(|g| !g.adapter.is_software());
    let most = if hardware { COPY_BYTES } else { SMALL_COPY_BYTES };
    // Of little room a quarter each leaves half to others: a small copy is better than none.
    let room = device.gpu().and_then(Gpu::room).map_or(u64::MAX, |room| room.free / 4);
    let words = (most.min(device.max_binding_bytes()).min(room) / 16 * 4).max(4) as usize;
    let (from, to) = (device.alloc(DType::U32, [words])?, device.alloc(DType::U32, [words])?);
    let (mut by_kernel, mut by_command) = (Plan::new(device), Plan::new(device));
    for _ in 0..COPIES {
        kernels::copy_peak(&mut by_kernel, &from, &to)?;
        by_command.copy(&from, &to)?;
    }
    let seconds = best(device, warmer, &by_kernel.record()?, true)?;
    // No timestamps around copies: the clock, which 1 GiB makes good enough.
    let seconds = seconds.min(best(device, warmer, &by_command.record()?, false)?);
    Ok((2 * COPIES * 4 * words) as f64 / seconds)
}

/// Operations a second of f32 multiply-adds.
///
/// # Errors
/// As building and running a plan.
pub fn fma_peak(device: &Device, warmer: &Warmer) -> Result<f64> {
    let count = count(device);
    let x = device.upload_f32([count], &vec![1.0; count])?;
    let out = device.alloc(DType::F32, [count])?;
    let ops = 2 * count * kernels::FMAS_PER_ROUND;
    arithmetic(device, warmer, ops, |plan, rounds| kernels::fma_peak(plan, &x, &out, rounds))
}

fn dot_peak(device: &Device, warmer: &Warmer) -> Result<f64> {
    let count = count(device);
    let x = device.upload_words(DType::U32, [count], &vec![0x0102_0304; count])?;
    let out = device.alloc(DType::U32, [count])?;
    let ops = 2 * count * kernels::DOTS_PER_ROUND;
    arithmetic(device, warmer, ops, |plan, rounds| kernels::dot_peak(plan, &x, &out, rounds))
}

/// The reference does not go by rounds of hardware; a little will do.
fn count(device: &Device) -> usize {
    if device.gpu().is_some() { COUNT } else { 1024 }
}

/// Operations a second of a kernel that does `ops` a round, of as many rounds as make a measurement long enough.
fn arithmetic(
    device: &Device,
    warmer: &Warmer,
    ops: usize,
    launch: impl Fn(&mut Plan, usize) -> Result<()>,
) -> Result<f64> {
    let mut rounds = 1;
    loop {
        let mut plan = Plan::new(device);
        launch(&mut plan, rounds)?;
        let recording = plan.record()?;
        block_on(recording.run_timed())?; // compiles
        if block_on(recording.run_timed())? >= LONG_ENOUGH || rounds >= 1 << 16 {
            return Ok((ops * rounds) as f64 / best(device, warmer, &recording, true)?);
        }
        rounds *= 2;
    }
}

/// Seconds of the fastest of several runs on a warm device.
fn best(device: &Device, warmer: &Warmer, recording: &Recording, timestamps: bool) -> Result<f64> {
    recording.run()?; // compiles and pages in
    warmer.run()?;
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let seconds = if timestamps {
            block_on(recording.run_timed())?
        } else {
            let start = std::time::Instant::now();
            recording.run()?;
            device.wait()?;
            start.elapsed().as_secs_f64()
        };
        // A timestamp query may see no time at all.
        best = best.min(seconds.max(1e-9));
    }
    Ok(best)
}
