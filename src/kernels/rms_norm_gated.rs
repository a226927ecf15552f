//! The Mamba-2 mixer's norm: gate, then root-mean-square norm over groups of columns.

use super::bindings::rms_norm_gated::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{dtype, expect_floats};
use super::{Columns, expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::rms_norm_gated::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "rms_norm_gated";

/// `v = y * silu(z); out = v / sqrt(mean(v²) + eps) * weight`, the mean over each of `groups` runs of
/// `d / groups` columns. Dao & Gu 2024, arXiv:2405.21060 (`norm_before_gate = False`).
///
/// `y`: `[rows, d]` f32 or f16; `out`: `[rows, d]` f32; `gate`: `d` columns z of a tensor of `rows` rows; `weight`: `[d]` f32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] when `groups`
/// does not divide `d` or the gate has another width.
pub fn rms_norm_gated(
    plan: &mut Plan,
    y: &DeviceTensor,
    gate: &Columns<'_>,
    weight: &DeviceTensor,
    out: &DeviceTensor,
    groups: usize,
    eps: f32,
) -> Result<()> {
    let (rows, d) = (y.shape.rows(), y.shape.cols());
    let format = match expect_floats(NAME, &[("y", y, [rows, d])])? {
        DType::F16 => Format::Half,
        _ => Format::F32,
    };
    f32_tensor(NAME, "gate", gate.tensor)?;
    f32_tensor(NAME, "weight", weight)?;
    f32_tensor(NAME, "out", out)?;
    expect(NAME, "gate", gate.tensor, [rows, gate.stride()])?;
    expect(NAME, "weight", weight, [d])?;
    expect(NAME, "out", out, [rows, d])?;
    if gate.width != d {
        return Err(Error::argument(format!("{NAME}: `gate`"), format!("{} columns for {d} of `y`", gate.width)));
    }
    if groups == 0 || !d.is_multiple_of(groups) {
        return Err(Error::argument(format!("{NAME}: `groups`"), format!("{groups} does not divide {d} columns")));
    }
    let params = Params {
        rows: rows as u32,
        groups: groups as u32,
        group_size: (d / groups) as u32,
        gate_stride: gate.stride() as u32,
        gate_offset: gate.offset as u32,
        eps,
    };
    launch(plan, format, params, Bindings { y, gate: gate.tensor, weight, out }, Grid::linear(rows * groups))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano", args: &[("rows", 5.0), ("d", 256.0), ("groups", 2.0), ("offset", 0.0), ("stride", 584.0)] },
    Case {
        name: "one_group",
        args: &[("rows", 3.0), ("d", 333.0), ("groups", 1.0), ("offset", 0.0), ("stride", 700.0)],
    },
    Case {
        name: "gate_in_the_middle",
        args: &[("rows", 4.0), ("d", 96.0), ("groups", 4.0), ("offset", 17.0), ("stride", 131.0)],
    },
    Case {
        name: "groups_of_one_column",
        args: &[("rows", 3.0), ("d", 7.0), ("groups", 7.0), ("offset", 1.0), ("stride", 8.0)],
    },
    Case {
        name: "nemotron_8b_token",
        args: &[("rows", 1.0), ("d", 8192.0), ("groups", 8.0), ("offset", 0.0), ("stride", 18560.0)],
    },
    Case {
        name: "rows_of_odd_halves",
        args: &[("rows", 3.0), ("d", 333.0), ("groups", 3.0), ("offset", 0.0), ("stride", 700.0), ("bits", 16.0)],
    },
    // docs/driver-faults.md: exp under fast math (llama.cpp's unary.wgsl), MoltenVK #2711 (a reduction's barriers).
    Case {
        name: "fast_math_silu_1e4",
        args: &[("rows", 3.0), ("d", 96.0), ("groups", 2.0), ("offset", 0.0), ("stride", 96.0), ("gate", 1e4)],
    },
    Case {
        name: "metal_dropped_barrier_33",
        args: &[("rows", 9.0), ("d", 99.0), ("groups", 3.0), ("offset", 0.0), ("stride", 99.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, d) = (a.usize("rows"), a.usize("d"));
    let y = s.input_as(dtype(a), [rows, d], Fill::Outliers)?;
    let projected = s.input([rows, a.usize("stride")], Fill::Normal(a.get("gate").unwrap_or(2.0) as f32))?;
    let weight = s.input([d], Fill::Normal(1.0))?;
    let out = s.output("out", DType::F32, [rows, d])?;
    let gate = Columns::new(NAME, &projected, a.usize("offset"), d)?;
    rms_norm_gated(s.plan(), &y, &gate, &weight, &out, a.usize("groups"), 1e-5)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("d");
    Work { bytes: (8 + dtype(a).bits() / 8) * n + 4 * a.usize("d"), ops: 10 * n }
}
