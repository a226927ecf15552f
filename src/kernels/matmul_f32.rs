//! Product with an f32, f16 or bf16 weight.

use super::Columns;
use super::bindings::matmul_f32::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::f32_tensor;
use super::matmul::{CaseOf, Epilogue, Sizes, weight_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matmul_f32::{Format, Params};
use crate::tensor::DType;

/// `out = x · weightᵀ`, then the epilogue; sums in f32.
///
/// `x`: `[m, k]` f32; `weight`: `[n, k]` f32, f16 or bf16; `out`: `[m, n]` f32, which may be columns of wider rows.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn matmul_f32<'a>(
    plan: &mut Plan,
    x: &DeviceTensor,
    weight: &DeviceTensor,
    out: impl Into<Columns<'a>>,
    epilogue: Epilogue,
) -> Result<()> {
    let tiled = plan.device().gpu().is_some_and(|gpu| !gpu.adapter.is_software());
    product(plan, x, weight, out.into(), epilogue, tiled)
}

/// From tiles or straight from storage.
fn product(
    plan: &mut Plan,
    x: &DeviceTensor,
    weight: &DeviceTensor,
    out: Columns<'_>,
    epilogue: Epilogue,
    tiled: bool,
) -> Result<()> {
    f32_tensor("matmul_f32", "x", x)?;
    let format = match (weight.dtype, tiled) {
        (DType::F32, false) => Format::WF32,
        (DType::F16, false) => Format::WF16,
        (DType::BF16, false) => Format::WBf16,
        (DType::F32, true) => Format::TiledF32,
        (DType::F16, true) => Format::TiledF16,
        (DType::BF16, true) => Format::TiledBf16,
        (got, _) => {
            return Err(Error::DType { kernel: "matmul_f32", arg: "weight", expected: "f32, f16 or bf16", got });
        }
    };
    let sizes = Sizes::of("matmul_f32", "x", x, weight, &out)?;
    let params = Params {
        m: sizes.m as u32,
        n: sizes.n as u32,
        k: sizes.k as u32,
        epilogue: epilogue as u32,
        out_stride: out.stride() as u32,
        out_first: out.offset as u32,
    };
    launch(plan, format, params, Bindings { x, weight, out: out.tensor }, sizes.tiles())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matmul_f32", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case {
        name: "columns_of_wider_rows",
        args: &[("m", 13.0), ("n", 67.0), ("k", 32.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case {
        name: "columns_of_tiles",
        args: &[("m", 13.0), ("n", 67.0), ("k", 33.0), ("stride", 100.0), ("first", 20.0), ("tiled", 1.0)],
    },
    Case { name: "one_element_of_tiles", args: &[("m", 1.0), ("n", 1.0), ("k", 1.0), ("tiled", 1.0)] },
    Case {
        name: "past_tiles_odd_k",
        args: &[("m", 65.0), ("n", 129.0), ("k", 257.0), ("epilogue", 2.0), ("tiled", 1.0)],
    },
    Case { name: "past_tiles_f16", args: &[("m", 70.0), ("n", 200.0), ("k", 95.0), ("dtype", 1.0), ("tiled", 1.0)] },
    Case {
        name: "past_tiles_bf16",
        args: &[("m", 67.0), ("n", 161.0), ("k", 49.0), ("dtype", 2.0), ("epilogue", 1.0), ("tiled", 1.0)],
    },
    Case { name: "one_element", args: &[("m", 1.0), ("n", 1.0), ("k", 1.0)] },
    Case { name: "primes", args: &[("m", 13.0), ("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "past_a_tile_odd_k", args: &[("m", 65.0), ("n", 129.0), ("k", 257.0), ("dtype", 1.0)] },
    Case { name: "k_of_three_bf16", args: &[("m", 9.0), ("n", 5.0), ("k", 3.0), ("dtype", 2.0), ("epilogue", 1.0)] },
    Case { name: "nano_in_proj", args: &[("m", 37.0), ("n", 648.0), ("k", 128.0), ("dtype", 2.0)] },
    Case { name: "nano_down_add", args: &[("m", 20.0), ("n", 128.0), ("k", 672.0), ("epilogue", 2.0)] },
    Case { name: "nano_up_relu2", args: &[("m", 20.0), ("n", 672.0), ("k", 128.0), ("dtype", 1.0), ("epilogue", 1.0)] },
    // docs/driver-faults.md: burn #4355, burn #5626, ONNX Runtime #26367.
    Case { name: "vega_257x384x1152", args: &[("m", 257.0), ("n", 384.0), ("k", 1152.0)] },
    Case { name: "burn_odd_tiles_of_k", args: &[("m", 65.0), ("n", 63.0), ("k", 36.0)] },
    Case { name: "burn_odd_tiles_of_k_less_1", args: &[("m", 64.0), ("n", 65.0), ("k", 35.0)] },
    Case { name: "burn_odd_tiles_of_k_plus_1", args: &[("m", 63.0), ("n", 64.0), ("k", 37.0)] },
    Case {
        name: "f16_overflow_activations_1e5",
        args: &[("m", 9.0), ("n", 65.0), ("k", 260.0), ("dtype", 1.0), ("size", 1e5)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values = s.values(case.sizes.m * case.sizes.k, Fill::Outliers);
    let values: Vec<f32> = values.iter().map(|v| v * size).collect();
    let x = s.device().upload_f32([case.sizes.m, case.sizes.k], &values)?;
    let weight = s.input_as(weight_dtype(a), [case.sizes.n, case.sizes.k], Fill::Normal(0.05))?;
    let out = case.out(s)?;
    product(s.plan(), &x, &weight, case.columns(&out)?, case.epilogue, a.get("tiled") == Some(1.0))
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(32, weight_dtype(a).bits())
}
