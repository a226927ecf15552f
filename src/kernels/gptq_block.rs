//! GPTQ on a block of steps of every row.

use super::bindings::gptq_block::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::gptq_block::Params;
use crate::tensor::DType;

/// Most steps of a block, for [`gptq_block`] and [`super::gptq_refine`].
pub const GPTQ_BLOCK: usize = 128;
/// Rows of a workgroup.
pub(super) const ROWS: usize = 8;

/// Tensors of [`gptq_block`]; `n` steps, lines over the rows of the weight.
#[derive(Clone, Copy)]
pub struct GptqBlock<'a> {
    /// `[n, rows]` f32: the weight, in the order of steps.
    pub wanted: &'a DeviceTensor,
    /// `[n, rows]` f32: what the errors of the blocks before leave to each step.
    pub adjusted: &'a DeviceTensor,
    /// `[n, n]` f32, lower triangular `M` with the second moments `MᵀM`.
    pub factor: &'a DeviceTensor,
    /// `[n, 2]` u32: each step's group, and the bits of `1 / M[i, i]`.
    pub steps: &'a DeviceTensor,
    /// `[2 groups, rows]` f32: scales, then their reciprocals.
    pub scales: &'a DeviceTensor,
    /// `[n, rows]` int8.
    pub codes: &'a DeviceTensor,
    /// `[at least width, rows]` f32: errors of the block.
    pub errors: &'a DeviceTensor,
}

/// Chooses the codes of steps `first .. first + width`, at most [`GPTQ_BLOCK`], within `-top - 1 ..= top`.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn gptq_block(plan: &mut Plan, t: &GptqBlock<'_>, first: usize, width: usize, top: f32) -> Result<()> {
    const NAME: &str = "gptq_block";
    let (n, rows) = (t.wanted.shape.rows(), t.wanted.shape.cols());
    let floats = [
        ("wanted", t.wanted),
        ("adjusted", t.adjusted),
        ("factor", t.factor),
        ("scales", t.scales),
        ("errors", t.errors),
    ];
    for (name, tensor) in floats {
        f32_tensor(NAME, name, tensor)?;
    }
    expect(NAME, "adjusted", t.adjusted, [n, rows])?;
    expect(NAME, "factor", t.factor, [n, n])?;
    expect(NAME, "steps", t.steps, [n, 2])?;
    expect_dtype(NAME, "steps", t.steps, DType::U32, "u32")?;
    expect(NAME, "scales", t.scales, [t.scales.shape.rows() / 2 * 2, rows])?;
    expect(NAME, "codes", t.codes, [n, rows])?;
    expect_dtype(NAME, "codes", t.codes, DType::I8, "i8")?;
    expect(NAME, "errors", t.errors, [t.errors.shape.rows().max(width), rows])?;
    within_block(NAME, first, width, n)?;
    let [n, rows_, first, width] = [n, rows, first, width].map(|v| v as u32);
    launch(
        plan,
        Params { n, rows: rows_, first, width, top, zero: 0 },
        Bindings {
            wanted: t.wanted,
            adjusted: t.adjusted,
            factor: t.factor,
            steps: t.steps,
            scales: t.scales,
            codes: t.codes,
            errors: t.errors,
        },
        Grid::cover(rows, ROWS),
    )
}

/// Refuses a block that is empty, too long, or not within `n`.
pub(super) fn within_block(kernel: &'static str, first: usize, width: usize, n: usize) -> Result<()> {
    if width == 0 || width > GPTQ_BLOCK || first + width > n {
        let what = format!("{width} from {first} of {n}; 1 to {GPTQ_BLOCK}");
        return Err(Error::argument(format!("{kernel}: width"), what));
    }
    Ok(())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "gptq_block", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_weight", args: &[("n", 1.0), ("rows", 1.0), ("first", 0.0), ("width", 1.0), ("groups", 1.0)] },
    Case {
        name: "odd_rows_within",
        args: &[("n", 50.0), ("rows", 13.0), ("first", 17.0), ("width", 29.0), ("groups", 3.0)],
    },
    Case {
        name: "whole_block",
        args: &[("n", 160.0), ("rows", 40.0), ("first", 0.0), ("width", 128.0), ("groups", 5.0)],
    },
    Case {
        name: "last_block_8_bits",
        args: &[("n", 136.0), ("rows", 9.0), ("first", 128.0), ("width", 8.0), ("groups", 1.0), ("top", 127.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (n, rows, groups) = (a.usize("n"), a.usize("rows"), a.usize("groups"));
    let (width, top) = (a.usize("width"), a.get("top").unwrap_or(7.0) as f32);
    let wanted = s.input([n, rows], Fill::Normal(1.0))?;
    let adjusted = s.input([n, rows], Fill::Normal(0.3))?;
    let factor = s.input([n, n], Fill::Normal(0.1))?;
    let diagonal = s.values(n, Fill::Uniform(0.8, 1.4));
    // Steps jump between groups, as they do when the inputs of largest second moment come first.
    let steps: Vec<u32> =
        diagonal.iter().enumerate().flat_map(|(i, d)| [(i * 7 % groups) as u32, d.to_bits()]).collect();
    let steps = s.device().upload_words(DType::U32, [n, 2], &steps)?;
    let mut scales = s.values(groups * rows, Fill::Uniform(0.2, 0.5));
    let reciprocals: Vec<f32> = scales.iter().map(|s| s.recip()).collect();
    scales.extend(reciprocals);
    let scales = s.device().upload_f32([2 * groups, rows], &scales)?;
    // Codes of other blocks must stay as they are.
    let codes = s.state_codes("codes", [n, rows], 8)?;
    let errors = s.output("errors", DType::F32, [width, rows])?;
    let tensors = GptqBlock {
        wanted: &wanted,
        adjusted: &adjusted,
        factor: &factor,
        steps: &steps,
        scales: &scales,
        codes: &codes,
        errors: &errors,
    };
    gptq_block(s.plan(), &tensors, a.usize("first"), width, top)
}

fn work(a: &Args) -> Work {
    let (rows, width) = (a.usize("rows"), a.usize("width"));
    Work { bytes: rows * width * (3 * 4 + 1) + 2 * width * width, ops: rows * width * (width + 8) }
}
