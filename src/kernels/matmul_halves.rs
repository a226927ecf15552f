//! Product of f32 numbers on matrix units that take f16.

use super::bindings::matmul_halves::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::matmul::{CaseOf, Epilogue, Sizes, weight_dtype};
use super::{Columns, GramSums, Halves, split_columns, split_rows};
use crate::error::{Error, Result};
use crate::gpu::Plan;
use crate::shaders::matmul_halves::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "matmul_halves";

/// As [`super::matmul_f32`], of what [`super::split_rows`] made of `x` and of `weight`, or [`super::split_columns`] of both
/// transposed. The weight, or both, may be of one part.
///
/// `out`'s rows and its first column are multiples of 4.
///
/// # Errors
/// [`Error::Shape`] naming the argument at fault; [`Error::Argument`] for other columns, and for `x` of fewer parts than `weight`.
pub fn matmul_halves<'a>(
    plan: &mut Plan,
    x: &Halves,
    weight: &Halves,
    out: impl Into<Columns<'a>>,
    epilogue: Epilogue,
) -> Result<()> {
    into(plan, x, weight, out.into(), epilogue, false)
}

/// `sums += xᵀ x`, as [`super::gram`], of what [`super::split_columns`] made of `x` in one part. What f32 totals lose is below what
/// rounding `x` does, and not kept.
///
/// # Errors
/// As [`matmul_halves`]; [`Error::Argument`] for sums of two matrices.
pub fn gram_halves(plan: &mut Plan, x: &Halves, sums: &GramSums) -> Result<()> {
    if !sums.symmetric {
        return Err(Error::argument("gram_halves: sums", "of two matrices"));
    }
    into(plan, x, x, (&sums.totals).into(), Epilogue::Add, true)
}

fn into(plan: &mut Plan, x: &Halves, weight: &Halves, out: Columns<'_>, epilogue: Epilogue, upper: bool) -> Result<()> {
    let k = x.tokens();
    let sizes = Sizes { m: x.columns(), n: weight.columns(), k };
    let format = match (x.parts, weight.parts) {
        (2, 2) => Format::Both,
        (2, 1) => Format::Exact,
        (1, 1) => Format::Single,
        _ => return Err(Error::argument(format!("{NAME}: `x`"), "one f16 a number, for weights of two")),
    };
    super::expect(NAME, "weight", &weight.numbers, [weight.parts * k, sizes.n])?;
    out.expect(NAME, "out", [sizes.m, sizes.n])?;
    if !out.in_quads() {
        let reason = format!("column {} of rows of {}: not of whole 16 bytes", out.offset, out.stride());
        return Err(Error::argument(format!("{NAME}: `out`"), reason));
    }
    let params = Params {
        m: sizes.m as u32,
        n: sizes.n as u32,
        k: k as u32,
        epilogue: epilogue as u32,
        out_stride: out.stride() as u32,
        out_first: out.offset as u32,
        upper: upper.into(),
    };
    let bindings =
        Bindings { a: &x.numbers, a_scales: &x.scales, b: &weight.numbers, b_scales: &weight.scales, out: out.tensor };
    launch(plan, format, params, bindings, sizes.tiles())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_k", args: &[("m", 8.0), ("n", 8.0), ("k", 1.0)] },
    Case { name: "past_tiles_odd_k", args: &[("m", 264.0), ("n", 136.0), ("k", 49.0), ("epilogue", 2.0)] },
    Case {
        name: "past_tiles_bf16",
        args: &[("m", 264.0), ("n", 264.0), ("k", 96.0), ("dtype", 2.0), ("epilogue", 1.0)],
    },
    Case {
        name: "columns_of_wider_rows_f16",
        args: &[("m", 40.0), ("n", 72.0), ("k", 33.0), ("dtype", 1.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case {
        name: "added_to_what_is_there_bf16",
        args: &[("m", 16.0), ("n", 64.0), ("k", 40.0), ("dtype", 2.0), ("epilogue", 2.0)],
    },
    Case { name: "activations_1e5", args: &[("m", 16.0), ("n", 64.0), ("k", 260.0), ("dtype", 2.0), ("size", 1e5)] },
    Case {
        name: "past_tiles_in_one_part_added",
        args: &[("m", 264.0), ("n", 136.0), ("k", 49.0), ("parts", 1.0), ("epilogue", 2.0)],
    },
    Case {
        name: "above_the_diagonal",
        args: &[("m", 776.0), ("n", 776.0), ("k", 47.0), ("parts", 1.0), ("epilogue", 2.0), ("upper", 1.0)],
    },
    Case { name: "strips_of_tiles", args: &[("m", 2312.0), ("n", 264.0), ("k", 3.0), ("parts", 1.0)] },
    // Fewer workgroups than eight tiles of rows would take.
    Case { name: "a_strip_of_one_tile", args: &[("m", 40.0), ("n", 392.0), ("k", 5.0), ("parts", 1.0)] },
    Case { name: "activations_1e-9", args: &[("m", 16.0), ("n", 64.0), ("k", 40.0), ("size", 1e-9)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (case, dtype) = (CaseOf::new(a), weight_dtype(a));
    let Sizes { m, n, k } = case.sizes;
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values: Vec<f32> = s.values(m * k, Fill::Outliers).iter().map(|v| v * size).collect();
    let x = s.device().upload_f32([m, k], &values)?;
    let weight = s.input_as(dtype, [n, k], Fill::Normal(0.05))?;
    let single = a.get("parts") == Some(1.0);
    let parts = if single || dtype != DType::F32 { 1 } else { 2 };
    let x_halves = Halves::new(s.device(), k, m, if single { 1 } else { 2 })?;
    let weight_halves = Halves::new(s.device(), k, n, parts)?;
    if single {
        // Numbers that are there as columns.
        split_columns(s.plan(), &x.view(DType::F32, [k, m])?, &x_halves)?;
        split_columns(s.plan(), &weight.view(DType::F32, [k, n])?, &weight_halves)?;
    } else {
        split_rows(s.plan(), &x, &x_halves)?;
        split_rows(s.plan(), &weight, &weight_halves)?;
    }
    let out = case.out(s)?;
    into(s.plan(), &x_halves, &weight_halves, case.columns(&out)?, case.epilogue, a.get("upper") == Some(1.0))
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(32, weight_dtype(a).bits())
}
