//! Product of one token with an f32, f16 or bf16 weight.

use super::bindings::matvec_f32::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::f32_tensor;
use super::matmul::{CaseOf, Epilogue, Sizes, weight_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_f32::{Format, Params};
use crate::tensor::DType;

/// `out = x · weightᵀ`, then the epilogue; sums in f32. One token: `m` is 1.
///
/// `x`: `[1, k]` f32; `weight`: `[n, k]` f32, f16 or bf16; `out`: `[1, n]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`Error::Argument`] for several rows.
pub fn matvec_f32(
    plan: &mut Plan,
    x: &DeviceTensor,
    weight: &DeviceTensor,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    f32_tensor("matvec_f32", "x", x)?;
    let format = match weight.dtype {
        DType::F32 => Format::WF32,
        DType::F16 => Format::WF16,
        DType::BF16 => Format::WBf16,
        got => return Err(Error::DType { kernel: "matvec_f32", arg: "weight", expected: "f32, f16 or bf16", got }),
    };
    let sizes = Sizes::of("matvec_f32", "x", x, weight, &out.into())?.one_row("matvec_f32")?;
    let params = Params { n: sizes.n as u32, k: sizes.k as u32, epilogue: epilogue as u32 };
    launch(plan, format, params, Bindings { x, weight, out }, sizes.rows())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matvec_f32", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("n", 1.0), ("k", 1.0)] },
    Case { name: "primes_add", args: &[("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "odd_k_f16", args: &[("n", 129.0), ("k", 257.0), ("dtype", 1.0)] },
    Case { name: "odd_k_bf16_relu2", args: &[("n", 6.0), ("k", 131.0), ("dtype", 2.0), ("epilogue", 1.0)] },
    Case { name: "nano_in_proj", args: &[("n", 648.0), ("k", 128.0), ("dtype", 2.0)] },
    Case { name: "nano_down_add", args: &[("n", 128.0), ("k", 672.0), ("epilogue", 2.0)] },
    Case { name: "nemotron_8b_q_proj_rows", args: &[("n", 256.0), ("k", 4096.0), ("dtype", 2.0)] },
    // docs/driver-faults.md: ONNX Runtime #26367; a dispatch folded into two axes.
    Case { name: "f16_overflow_activations_1e5", args: &[("n", 65.0), ("k", 260.0), ("dtype", 1.0), ("size", 1e5)] },
    Case { name: "grid_folds_beyond_65535", args: &[("n", 262_153.0), ("k", 2.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values = s.values(case.sizes.m * case.sizes.k, Fill::Outliers);
    let values: Vec<f32> = values.iter().map(|v| v * size).collect();
    let x = s.device().upload_f32([case.sizes.m, case.sizes.k], &values)?;
    let weight = s.input_as(weight_dtype(a), [case.sizes.n, case.sizes.k], Fill::Normal(0.05))?;
    let out = case.out(s)?;
    matvec_f32(s.plan(), &x, &weight, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(32, weight_dtype(a).bits())
}
