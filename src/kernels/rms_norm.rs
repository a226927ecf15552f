//! Root-mean-square norm over the last axis.

use super::bindings::rms_norm::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::rms_norm::Params;
use crate::tensor::DType;

/// `out = x / sqrt(mean(x²) + eps) * weight`. Zhang & Sennrich 2019, arXiv:1910.07467.
///
/// `x`, `out`: `[rows, cols]` f32; `weight`: `[cols]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn rms_norm(plan: &mut Plan, x: &DeviceTensor, weight: &DeviceTensor, out: &DeviceTensor, eps: f32) -> Result<()> {
    f32_tensor("rms_norm", "x", x)?;
    f32_tensor("rms_norm", "weight", weight)?;
    f32_tensor("rms_norm", "out", out)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    expect("rms_norm", "weight", weight, [cols])?;
    expect("rms_norm", "out", out, [rows, cols])?;
    let params = Params { rows: rows as u32, cols: cols as u32, eps };
    launch(plan, params, Bindings { x, weight, out }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "rms_norm", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_hidden", args: &[("rows", 5.0), ("cols", 128.0)] },
    Case { name: "one_column", args: &[("rows", 3.0), ("cols", 1.0)] },
    Case { name: "odd_cols", args: &[("rows", 7.0), ("cols", 1757.0)] },
    Case { name: "nemotron_8b_token", args: &[("rows", 1.0), ("cols", 4096.0)] },
    Case { name: "small_rows_need_epsilon", args: &[("rows", 3.0), ("cols", 96.0), ("size", 1e-3)] },
    // docs/driver-faults.md: wgpu #4500, MoltenVK #2711 (a reduction's barriers), llama.cpp #18969 (f16 staging).
    Case { name: "metal_dropped_barrier_25", args: &[("rows", 33.0), ("cols", 25.0)] },
    Case { name: "metal_dropped_barrier_31", args: &[("rows", 33.0), ("cols", 31.0)] },
    Case { name: "metal_dropped_barrier_32", args: &[("rows", 33.0), ("cols", 32.0)] },
    Case { name: "metal_dropped_barrier_33", args: &[("rows", 33.0), ("cols", 33.0)] },
    Case { name: "metal_dropped_barrier_63", args: &[("rows", 33.0), ("cols", 63.0)] },
    Case { name: "metal_dropped_barrier_64", args: &[("rows", 33.0), ("cols", 64.0)] },
    Case { name: "metal_dropped_barrier_65", args: &[("rows", 33.0), ("cols", 65.0)] },
    Case { name: "metal_dropped_barrier_127", args: &[("rows", 33.0), ("cols", 127.0)] },
    Case { name: "metal_dropped_barrier_129", args: &[("rows", 33.0), ("cols", 129.0)] },
    Case { name: "metal_dropped_barrier_255", args: &[("rows", 33.0), ("cols", 255.0)] },
    Case { name: "metal_dropped_barrier_257", args: &[("rows", 33.0), ("cols", 257.0)] },
    Case { name: "metal_dropped_barrier_1023", args: &[("rows", 33.0), ("cols", 1023.0)] },
    Case { name: "metal_dropped_barrier_1024", args: &[("rows", 33.0), ("cols", 1024.0)] },
    Case { name: "metal_dropped_barrier_1025", args: &[("rows", 33.0), ("cols", 1025.0)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 3.0), ("cols", 257.0), ("size", 1e5)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values: Vec<f32> = s.values(rows * cols, Fill::Outliers).iter().map(|v| v * size).collect();
    let x = s.device().upload_f32([rows, cols], &values)?;
    let weight = s.input([cols], Fill::Normal(1.0))?;
    let out = s.output("out", DType::F32, [rows, cols])?;
    rms_norm(s.plan(), &x, &weight, &out, 1e-5)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 8 * n + 4 * a.usize("cols"), ops: 4 * n }
}
