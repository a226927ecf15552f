//! Refining codes and scales after GPTQ.

use super::bindings::gptq_refine::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::gptq_block::{ROWS, within_block};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::gptq_refine::Params;
use crate::tensor::DType;

/// How [`gptq_refine`] may set a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleForm {
    /// Not at all.
    Fixed,
    /// To a whole number from 1 to this, times the row's unit.
    Coded(u8),
    /// To a float of this type.
    Plain(DType),
}

/// Tensors of [`gptq_refine`]; `n` columns, lines over the rows of the weight.
#[derive(Clone, Copy)]
pub struct GptqRefine<'a> {
    /// `[n, rows]` f32: remaining error times second moments.
    pub gradient: &'a DeviceTensor,
    /// `[n, n]` f32: second moments.
    pub moments: &'a DeviceTensor,
    /// `[rows]` f32: units of coded scales.
    pub units: &'a DeviceTensor,
    /// `[groups, rows]` f32.
    pub scales: &'a DeviceTensor,
    /// `[n, rows]` int8.
    pub codes: &'a DeviceTensor,
    /// `[at least width, rows]` f32: how codes times scales changed.
    pub changes: &'a DeviceTensor,
}

/// Improves columns `first .. first + width`, at most [`super::GPTQ_BLOCK`]: the scale of each `group` of them, then
/// their codes, within `-top - 1 ..= top`.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault; a block
/// that cuts a group whose scale may change is one.
pub fn gptq_refine(
    plan: &mut Plan,
    t: &GptqRefine<'_>,
    first: usize,
    width: usize,
    group: usize,
    form: ScaleForm,
    top: f32,
) -> Result<()> {
    const NAME: &str = "gptq_refine";
    let (n, rows) = (t.gradient.shape.rows(), t.gradient.shape.cols());
    for (name, tensor) in [
        ("gradient", t.gradient),
        ("moments", t.moments),
        ("units", t.units),
        ("scales", t.scales),
        ("changes", t.changes),
    ] {
        f32_tensor(NAME, name, tensor)?;
    }
    within_block(NAME, first, width, n)?;
    let cuts = !first.is_multiple_of(group.max(1)) || (!width.is_multiple_of(group.max(1)) && first + width < n);
    if group == 0 || (form != ScaleForm::Fixed && cuts) {
        return Err(Error::argument("gptq_refine: group", format!("{group} in {width} columns from {first} of {n}")));
    }
    expect(NAME, "moments", t.moments, [n, n])?;
    expect(NAME, "units", t.units, [1, rows])?;
    expect(NAME, "scales", t.scales, [n.div_ceil(group), rows])?;
    expect(NAME, "codes", t.codes, [n, rows])?;
    expect_dtype(NAME, "codes", t.codes, DType::I8, "i8")?;
    expect(NAME, "changes", t.changes, [t.changes.shape.rows().max(width), rows])?;
    let (form, top_scale) = match form {
        ScaleForm::Fixed => (0, 1.0),
        ScaleForm::Coded(most) => (1, f32::from(most)),
        ScaleForm::Plain(DType::F16) => (2, 1.0),
        ScaleForm::Plain(DType::BF16) => (3, 1.0),
        ScaleForm::Plain(_) => (4, 1.0),
    };
    let [n, rows_, first, width, group] = [n, rows, first, width, group].map(|v| v as u32);
    launch(
        plan,
        Params { n, rows: rows_, first, width, group, form, top_scale, top, zero: 0 },
        Bindings {
            gradient: t.gradient,
            moments: t.moments,
            units: t.units,
            scales: t.scales,
            codes: t.codes,
            changes: t.changes,
        },
        Grid::cover(rows, ROWS),
    )
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "gptq_refine", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_weight", args: &[("n", 1.0), ("rows", 1.0), ("first", 0.0), ("width", 1.0), ("group", 1.0)] },
    Case {
        name: "codes_only",
        args: &[("n", 60.0), ("rows", 13.0), ("first", 20.0), ("width", 29.0), ("group", 60.0)],
    },
    Case {
        name: "bf16_scales",
        args: &[("n", 60.0), ("rows", 11.0), ("first", 24.0), ("width", 36.0), ("group", 8.0), ("form", 3.0)],
    },
    Case {
        name: "f16_scales_last_group_short",
        args: &[("n", 45.0), ("rows", 6.0), ("first", 32.0), ("width", 13.0), ("group", 8.0), ("form", 2.0)],
    },
    Case {
        name: "f32_scales_whole_block",
        args: &[("n", 160.0), ("rows", 20.0), ("first", 0.0), ("width", 128.0), ("group", 32.0), ("form", 4.0)],
    },
    Case {
        name: "coded_scales",
        args: &[("n", 96.0), ("rows", 20.0), ("first", 32.0), ("width", 64.0), ("group", 32.0), ("form", 1.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (n, rows, group) = (a.usize("n"), a.usize("rows"), a.usize("group"));
    let (width, form) = (a.usize("width"), a.get("form").unwrap_or(0.0) as usize);
    let gradient = s.input([n, rows], Fill::Normal(0.5))?;
    // Symmetric, with a heavy diagonal.
    let mut moments = s.values(n * n, Fill::Normal(0.1));
    for i in 0..n {
        moments[i * n + i] = 1.0 + moments[i * n + i].abs();
        (0..i).for_each(|j| moments[i * n + j] = moments[j * n + i]);
    }
    let moments = s.device().upload_f32([n, n], &moments)?;
    let units = s.values(rows, Fill::Uniform(0.005, 0.009));
    let groups = n.div_ceil(group);
    let free = s.values(groups * rows, Fill::Uniform(0.2, 0.5));
    let scales: Vec<f32> = match form {
        1 => free.iter().enumerate().map(|(i, s)| (s / units[i % rows]).round() * units[i % rows]).collect(),
        _ => free,
    };
    let units = s.device().upload_f32([1, rows], &units)?;
    let scales = s.state_of("scales", [groups, rows], &scales)?;
    let codes = s.state_codes("codes", [n, rows], 4)?;
    let changes = s.output("changes", DType::F32, [width, rows])?;
    let form = match form {
        0 => ScaleForm::Fixed,
        1 => ScaleForm::Coded(63),
        2 => ScaleForm::Plain(DType::F16),
        3 => ScaleForm::Plain(DType::BF16),
        _ => ScaleForm::Plain(DType::F32),
    };
    let tensors = GptqRefine {
        gradient: &gradient,
        moments: &moments,
        units: &units,
        scales: &scales,
        codes: &codes,
        changes: &changes,
    };
    gptq_refine(s.plan(), &tensors, a.usize("first"), width, group, form, 7.0)
}

fn work(a: &Args) -> Work {
    let (rows, width) = (a.usize("rows"), a.usize("width"));
    Work { bytes: rows * width * (2 * 4 + 2) + 4 * width * width, ops: rows * width * (2 * width + 8) }
}
