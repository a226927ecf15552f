//! The last pass of a Hadamard transform and int8 codes of what it gives, in one dispatch.

use super::bindings::hadamard_quantize::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::f32_tensor;
use super::quantize_tokens::{SPAN, held};
use super::rms_norm_quantize::quantized;
use super::scaled::Scaled;
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::hadamard_quantize::{Format, Params};
use crate::tensor::{DType, Tensor};

const NAME: &str = "hadamard_quantize";
/// Columns of the longest run that subgroups transform in rows of more than a span.
const LONG_RUN: usize = 256;

/// Does [`hadamard_quantize`] take rows of `cols` columns in runs of `run`, with a scale for each `group` of them? Rows are
/// held in registers: whole quads, at most 24576 columns, one scale; runs are powers of two from 2 to 4096.
pub(super) fn fits(cols: usize, run: usize, group: usize) -> bool {
    let runs = run > 1 && run.is_power_of_two() && run <= SPAN && cols.is_multiple_of(run);
    runs && group >= cols && held([cols, group], 6)
}

/// `v = scale * H x` for each run of `run` columns, `H` Sylvester's matrix; then [`super::quantize_tokens`] of `v` into
/// `out`, with one scale a row. QuaRot, arXiv:2404.00456.
///
/// `x`: `[rows, cols]` f32, or f16 of up to 4096 columns; `out`: codes `[rows, cols]` int8 with scales `[rows]` or `[rows, 1]`, written.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for rows, runs or groups that do
/// not fit ([`super::HadamardBuffers::fits_codes`]).
pub fn hadamard_quantize(plan: &mut Plan, x: &DeviceTensor, out: Scaled<'_>, run: usize, scale: f32) -> Result<()> {
    let halves = x.dtype == DType::F16;
    if !halves {
        f32_tensor(NAME, "x", x)?;
    }
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    let group = quantized(NAME, out, [rows, cols], 6)?;
    if !fits(cols, run, group) || (halves && cols > SPAN) {
        let reason = format!("runs of {run} of {cols} columns in groups of {group}");
        return Err(Error::argument(format!("{NAME}: `run`"), reason));
    }
    let params = Params { rows: rows as u32, cols: cols as u32, log_run: run.ilog2(), unit: scale };
    let format = match cols <= SPAN {
        _ if halves && run == SPAN => Format::Halves4096,
        _ if halves => Format::Halves,
        true => Format::Short,
        false if run <= LONG_RUN => Format::RunsOf256,
        false => Format::Any,
    };
    launch(plan, format, params, Bindings { x, codes: out.codes, scales: out.scales }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_mlp", args: &[("rows", 5.0), ("cols", 1344.0), ("run", 64.0)] },
    Case { name: "pairs", args: &[("rows", 3.0), ("cols", 20.0), ("run", 2.0)] },
    Case { name: "runs_of_8", args: &[("rows", 3.0), ("cols", 4104.0), ("run", 8.0)] },
    Case { name: "nemotron_8b_mlp_token", args: &[("rows", 1.0), ("cols", 21504.0), ("run", 256.0)] },
    Case { name: "nemotron_9b_mlp_token", args: &[("rows", 1.0), ("cols", 15680.0), ("run", 64.0)] },
    Case { name: "nemotron_8b_hidden", args: &[("rows", 3.0), ("cols", 4096.0), ("run", 4096.0)] },
    Case { name: "runs_of_512", args: &[("rows", 2.0), ("cols", 1536.0), ("run", 512.0)] },
    Case { name: "runs_of_4", args: &[("rows", 2.0), ("cols", 100.0), ("run", 4.0)] },
    Case { name: "runs_of_2048", args: &[("rows", 2.0), ("cols", 4096.0), ("run", 2048.0)] },
    Case { name: "f16_hidden", args: &[("rows", 3.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0)] },
    Case {
        name: "f16_one_hidden",
        args: &[("rows", 1.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0), ("size", 1.0)],
    },
    Case {
        name: "f16_hidden_of_1e3",
        args: &[("rows", 2.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0), ("size", 1e3)],
    },
    Case {
        name: "f16_hidden_of_1e-4",
        args: &[("rows", 2.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0), ("size", 1e-4)],
    },
    Case {
        name: "f16_hidden_subnormal",
        args: &[("rows", 2.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0), ("size", 1e-6)],
    },
    Case {
        name: "f16_hidden_zeros",
        args: &[("rows", 2.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0), ("size", 0.0)],
    },
    Case { name: "f16_last_quad_missing", args: &[("rows", 2.0), ("cols", 4092.0), ("run", 4.0), ("bits", 16.0)] },
    Case { name: "f16_heads_of_64", args: &[("rows", 5.0), ("cols", 1344.0), ("run", 64.0), ("bits", 16.0)] },
    Case { name: "f16_pairs", args: &[("rows", 3.0), ("cols", 20.0), ("run", 2.0), ("bits", 16.0)] },
    Case { name: "f16_norm_groups", args: &[("rows", 2.0), ("cols", 3072.0), ("run", 1024.0), ("bits", 16.0)] },
    Case { name: "f16_runs_of_256", args: &[("rows", 2.0), ("cols", 768.0), ("run", 256.0), ("bits", 16.0)] },
    Case { name: "f16_runs_of_2048", args: &[("rows", 2.0), ("cols", 2048.0), ("run", 2048.0), ("bits", 16.0)] },
    Case { name: "long_runs_of_2", args: &[("rows", 2.0), ("cols", 4108.0), ("run", 2.0)] },
    // An outlier in the last quad, which is read again beyond the end.
    Case { name: "long_last_run_alone", args: &[("rows", 1.0), ("cols", 8000.0), ("run", 64.0)] },
    Case { name: "long_runs_of_16", args: &[("rows", 3.0), ("cols", 8208.0), ("run", 16.0)] },
    Case { name: "widest_row_runs_of_128", args: &[("rows", 2.0), ("cols", 24576.0), ("run", 128.0)] },
    Case { name: "three_spans", args: &[("rows", 2.0), ("cols", 12288.0), ("run", 1024.0)] },
    Case { name: "widest_row_longest_run", args: &[("rows", 2.0), ("cols", 24576.0), ("run", 4096.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, run) = (a.usize("rows"), a.usize("cols"), a.usize("run"));
    let dtype = if a.get("bits") == Some(16.0) { DType::F16 } else { DType::F32 };
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values: Vec<f32> = s.values(rows * cols, Fill::Outliers).iter().map(|v| v * size).collect();
    let x = s.device().upload(&Tensor::from_f32_as(dtype, [rows, cols], &values)?)?;
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows])?;
    let out = Scaled { codes: &codes, scales: &scales, group: cols };
    hadamard_quantize(s.plan(), &x, out, run, 1.0 / (run as f32).sqrt())
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    let each = 1 + a.get("bits").map_or(4, |b| b as usize / 8);
    Work { bytes: each * n + 4 * a.usize("rows"), ops: n * (6 + a.usize("run").ilog2() as usize) }
}
