//! After GPTQ: codes one at a time (coordinate descent, QuantEase, arXiv:2309.01885), and scales by least squares,
//! group by group. Each step can only lessen the error of the row's output.

use pollster::block_on;
use rayon::prelude::*;

use super::blocks::{BLOCK, at, product};
use super::format::{Format, RowScales, ScaleFormat};
use super::gptq::scale_lines;
use super::prepared::Prepared;
use super::turn::{lines_of, rows_of, turned};
use crate::error::Result;
use crate::gpu::Plan;
use crate::kernels::{GptqRefine, ScaleForm, Update, gptq_refine, rank_update};
use crate::tensor::DType;

/// Refines the codes and scales of rows in place. Scales of groups that no block holds whole stay.
pub(super) fn refine(
    target: &[f32],
    codes: &mut Vec<i8>,
    scales: &mut [RowScales],
    prepared: &Prepared,
    format: &Format,
    sweeps: usize,
) -> Result<()> {
    let (n, rows, device) = (prepared.n, scales.len(), &prepared.device);
    let group = format.group.len(n).max(1);
    let (form, width) = match format.scales {
        _ if group > BLOCK => (ScaleForm::Fixed, BLOCK),
        ScaleFormat::Plain(dtype) => (ScaleForm::Plain(dtype), BLOCK / group * group),
        ScaleFormat::Nested(bits) => (ScaleForm::Coded((1 << bits) - 1), BLOCK / group * group),
    };
    let columns: Vec<usize> = (0..n).collect();
    let error = lines_of(rows, &columns, |r, columns, part| {
        let (target, codes) = (&target[r * n..][columns.clone()], &codes[r * n..][columns.clone()]);
        for ((error, c), (target, code)) in part.iter_mut().zip(columns).zip(target.iter().zip(codes)) {
            *error = target - f32::from(*code) * scales[r].values[c / group];
        }
    });
    let gradient = product(device, &prepared.moments, &device.upload_f32([n, rows], &error)?)?;
    let units: Vec<f32> = scales.iter().map(RowScales::unit).collect();
    let units = device.upload_f32([1, rows], &units)?;
    let on_device = device.upload_f32([n.div_ceil(group), rows], &scale_lines(scales))?;
    let code_lines = device.upload_codes(8, [n, rows], &turned(codes, &columns))?;
    let changes = device.alloc(DType::F32, [BLOCK, rows])?;
    let tensors = GptqRefine {
        gradient: &gradient,
        moments: &prepared.moments,
        units: &units,
        scales: &on_device,
        codes: &code_lines,
        changes: &changes,
    };
    let mut plan = Plan::new(device);
    for first in (0..n).step_by(width) {
        let width = width.min(n - first);
        gptq_refine(&mut plan, &tensors, first, width, group, form, format.half() - 1.0)?;
        let how = Update { rows: n, cols: rows, depth: width, minus: true, ..Update::default() };
        rank_update(&mut plan, at(&prepared.moments, first), at(&changes, 0), at(&gradient, 0), &how)?;
    }
    let sweep = plan.record()?;
    // One that changes nothing is not looked for: reading the codes takes as long.
    (0..sweeps).try_for_each(|_| sweep.run_paced())?;
    *codes = rows_of(&block_on(device.read_codes(&code_lines))?, &columns);
    let values = block_on(device.read_f32(&on_device))?;
    scales.par_iter_mut().enumerate().for_each(|(r, scales)| {
        values.iter().skip(r).step_by(rows).enumerate().for_each(|(g, value)| format.set(scales, g, *value));
    });
    Ok(())
}
