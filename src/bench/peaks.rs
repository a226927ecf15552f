//! What a device can do at best: bytes copied, multiply-adds, packed products, products on matrix units.

use pollster::block_on;
use serde::Serialize;

use super::Warmer;
use crate::error::Result;
use crate::gpu::{Device, Gpu, Plan, Recording};
use crate::kernels::{self, Epilogue, ScaleBits, Scaled, ScaledWeight};
use crate::tensor::DType;

/// Bytes of the copied buffer, where there is room: beyond any cache, and long enough that submitting costs nothing beside it.
const COPY_BYTES: u64 = 1 << 30;
/// On a software driver or the reference, whose memory is the host's.
const SMALL_COPY_BYTES: u64 = 32 << 20;
/// Copies of one measurement.
const COPIES: usize = 4;
/// Elements of the arithmetic kernels: enough to fill the largest GPU.
const COUNT: usize = 1 << 18;
/// Sides of the square products, up to the first whose launch is long: a larger one gives no more, and on a slow GPU a launch
/// of the largest would take seconds, which watchdogs end.
const SIDES: [usize; 4] = [1024, 2048, 4096, 8192];
/// Seconds of a launch that is long.
const LONG_LAUNCH: f64 = 0.003;
/// Measurements, of which the best counts.
const RUNS: usize = 5;
/// A measurement shorter than this is mostly overhead.
const LONG_ENOUGH: f64 = 0.02;

/// Rates of a device, the best of several measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Peaks {
    /// Bytes a second of a large copy, reads and writes counted.
    pub copy_bytes_per_s: f64,
    /// Operations a second of f32 multiply-adds in registers, two each.
    pub fma_ops_per_s: f64,
    /// Operations a second of packed int8 products with sums, as the adapter's best form does them; two a product.
    pub dot_ops_per_s: f64,
    /// Operations a second of this library's own W8A8 product of up to 8192 x 8192 x 8192 by itself, where it runs on matrix units;
    /// two a multiply-add. A product that exists, not a loop in registers: its loads, staging and stores are in it.
    pub matrix_ops_per_s: Option<f64>,
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
        matrix_ops_per_s: matrix_peak(device, warmer)?,
    })
}

/// Bytes a second of the faster of a kernel and the driver's copy command.
///
/// # Errors
/// As building and running a plan.
pub fn copy_peak(device: &Device, warmer: &Warmer) -> Result<f64> {
    let hardware = device.gpu().is_some_and(|g| !g.adapter.is_software());
    let most = if hardware { COPY_BYTES } else { SMALL_COPY_BYTES };
    let words = (most.min(largest(device)) / 16 * 4).max(4) as usize;
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

/// `None` where the product does not run on matrix units: the adapter has none, they are masked, or their kernel is distrusted.
fn matrix_peak(device: &Device, warmer: &Warmer) -> Result<Option<f64>> {
    // Elsewhere nothing is made: a product of this size takes a software driver minutes.
    if !device.has_matrix_units() {
        return Ok(None);
    }
    let mut peak: Option<f64> = None;
    for side in SIDES.into_iter().filter(|side| (4 * side * side) as u64 <= largest(device)) {
        let product = square_product(device, side)?;
        if !product.launches().all(|l| l.needs("coop_matrix")) {
            continue;
        }
        let seconds = best(device, warmer, &product, true)?;
        let rate = 2.0 * (side as f64).powi(3) / seconds;
        peak = Some(peak.map_or(rate, |before| before.max(rate)));
        if seconds >= LONG_LAUNCH {
            break;
        }
    }
    Ok(peak)
}

/// A W8A8 product of matrices `[side, side]`.
fn square_product(device: &Device, side: usize) -> Result<Recording> {
    // A GPU that multiplies zeros draws less power, and keeps clocks that it does not keep with a model's codes.
    let codes = |salt: u32| -> Vec<u32> {
        (1..=side * side / 4).map(|i| (i as u32).wrapping_mul(salt).rotate_left(15).wrapping_mul(salt)).collect()
    };
    let x = device.upload_words(DType::I8, [side, side], &codes(0x9e37_79b1))?;
    let weight = device.upload_words(DType::I8, [side, side], &codes(0x85eb_ca77))?;
    let ones = vec![1.0; side];
    let x_scales = device.upload_f32([side, 1], &ones)?;
    let weight_scales = kernels::upload_scales(device, [side, 1], &ones)?;
    let out = device.alloc(DType::F32, [side, side])?;
    let x = Scaled { codes: &x, scales: &x_scales, group: side };
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: side };
    let mut plan = Plan::new(device);
    kernels::matmul_w8a8(&mut plan, x, weight, ScaleBits::Any, &out, Epilogue::Store, None)?;
    plan.record()
}

/// Bytes of the largest tensor to measure with. Of little room a quarter leaves half to others: a small copy is better than none.
fn largest(device: &Device) -> u64 {
    let room = device.gpu().and_then(Gpu::room).map_or(u64::MAX, |room| room.free / 4);
    device.max_binding_bytes().min(room)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// What is measured is a kernel of the many rows of prompts: of its variants that on matrix units is taken where there are any.
    #[test]
    fn the_square_product_is_that_of_prompts() {
        for side in SIDES {
            let product = square_product(&Device::Nowhere, side).unwrap();
            let launches: Vec<_> = product.launches().collect();
            assert_eq!(launches.len(), 1);
            let variants = launches[0].kernel.variants.iter();
            let rows: Vec<_> = variants.filter(|v| v.format == Some("rows")).map(|v| v.name).collect();
            assert!(rows.contains(&launches[0].variant) && rows.contains(&"rows_coop"), "{}", launches[0].variant);
        }
    }

    #[test]
    fn the_square_product_runs() {
        let warmer = Warmer::new(&Device::Cpu, 0.0).unwrap();
        let seconds = best(&Device::Cpu, &warmer, &square_product(&Device::Cpu, 128).unwrap(), true).unwrap();
        assert!(seconds > 0.0 && seconds.is_finite());
    }

    #[test]
    fn nothing_is_measured_without_matrix_units() {
        for device in [Device::Cpu, Device::Nowhere] {
            let warmer = Warmer::new(&device, 0.0).unwrap();
            assert_eq!(matrix_peak(&device, &warmer).unwrap(), None);
        }
    }
}
