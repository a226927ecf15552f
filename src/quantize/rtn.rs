//! Round to nearest: `scale = amax / (2^(b-1) - 1)`, `code = round(w / scale)`, half to even.

use rayon::prelude::*;

use super::format::{Format, RowScales, ScaleFormat, code, holding};
use crate::error::{Error, Result};
use crate::gpu::{Device, Need, Plan};
use crate::kernels;
use crate::model::{Activations, Linear, QuantizedLinear, Scales};
use crate::tensor::{DType, Tensor};

/// Most bytes, as f32, of the rows of a weight that are quantized together.
pub(super) const ROWS_BYTES: u64 = 512 << 20;

/// What quantizing dispatches, to be checked before it is trusted.
pub const QUANTIZER: [Need; 16] = [
    Need { kernel: "gram", format: None },
    Need { kernel: "matmul_halves", format: Some("single") },
    Need { kernel: "matmul_halves", format: Some("both") },
    Need { kernel: "subtract", format: None },
    Need { kernel: "embed", format: Some("w_f32") },
    Need { kernel: "split_columns", format: None },
    Need { kernel: "gather_moments", format: None },
    Need { kernel: "channel_stats", format: None },
    Need { kernel: "quantize_static", format: None },
    Need { kernel: "rank_update", format: Some("any") },
    Need { kernel: "rank_update", format: Some("quads") },
    Need { kernel: "gptq_block", format: None },
    Need { kernel: "gptq_refine", format: None },
    Need { kernel: "absmax", format: None },
    Need { kernel: "quantize_weight", format: Some("int8") },
    Need { kernel: "quantize_weight", format: Some("int4") },
];

/// Quantizes a float weight `[out, in]` symmetrically. On the device for plain scales, which are rounded to their
/// type before the codes are chosen, so that codes fit the stored scales.
///
/// # Errors
/// [`Error::Argument`] for a weight that is quantized already or a form that cannot be; GPU errors.
pub async fn nearest(
    device: &Device,
    linear: &Linear,
    format: &Format,
    activations: Activations,
) -> Result<QuantizedLinear> {
    format.check()?;
    let weight = float(linear)?;
    let ScaleFormat::Plain(scale_dtype) = format.scales else {
        return searched(linear, format, activations, 1);
    };
    let (rows, cols) = (weight.shape.rows(), weight.shape.cols());
    let groups = format.group.count(cols);
    let (mut codes, mut scales) = (Vec::with_capacity(rows * cols), Vec::with_capacity(rows * groups));
    let values = weight.to_f32()?;
    for some in values.chunks(rows_of_bytes(device, cols, ROWS_BYTES) * cols.max(1)) {
        let (own, of_rows) = nearest_rows(device, some, cols, format, scale_dtype).await?;
        codes.extend(own);
        scales.extend(of_rows);
    }
    Ok(QuantizedLinear {
        bits: format.bits,
        group: format.group,
        codes: Tensor::new(DType::I8, [rows, cols], bytemuck::cast_vec(codes))?,
        scales: Scales::Plain(Tensor::from_f32_as(scale_dtype, [rows, groups], &scales)?),
        activations,
        input_scales: Vec::new(),
    })
}

/// Rows of `n` f32 in so many bytes, whole words of codes, that the device can bind.
pub(super) fn rows_of_bytes(device: &Device, n: usize, bytes: u64) -> usize {
    let most = device.max_binding_bytes().min(bytes) / (4 * n.max(1)) as u64;
    usize::try_from(most).unwrap_or(1 << 20).clamp(4, 1 << 20) / 4 * 4
}

/// Codes and scales of whole rows of `cols`.
async fn nearest_rows(
    device: &Device,
    weight: &[f32],
    cols: usize,
    format: &Format,
    scale_dtype: DType,
) -> Result<(Vec<i8>, Vec<f32>)> {
    let (rows, size, groups) = (weight.len() / cols.max(1), format.group.len(cols), format.group.count(cols));
    let w = device.upload_f32([rows, cols], weight)?;
    let amax = device.alloc(DType::F32, [rows, groups])?;
    let mut plan = Plan::new(device);
    kernels::absmax(&mut plan, &w, &amax, size)?;
    plan.record()?.run()?;
    let most = ((1i16 << (format.bits - 1)) - 1) as i8;
    let top = f32::from(most);
    let scales: Vec<f32> = device.read_f32(&amax).await?.iter().map(|a| holding(scale_dtype, a / top, top)).collect();

    let scales_on_device = device.upload_f32([rows, groups], &scales)?;
    let codes = device.alloc(if format.bits <= 4 { DType::I4 } else { DType::I8 }, [rows, cols])?;
    let mut plan = Plan::new(device);
    kernels::quantize_weight(&mut plan, &w, &scales_on_device, &codes, size)?;
    plan.record()?.run()?;
    let mut codes = device.read_codes(&codes).await?;
    // The kernel knows the codes of the type they are stored in, of which 3 bits or 5 are a part.
    codes.iter_mut().for_each(|code| *code = (*code).clamp(-most, most));
    Ok((codes, scales))
}

/// Quantizes a float weight with the scales of least squared error among `steps` candidates each, on the host.
///
/// # Errors
/// [`Error::Argument`] for a weight that is quantized already or a form that cannot be.
pub fn searched(linear: &Linear, format: &Format, activations: Activations, steps: usize) -> Result<QuantizedLinear> {
    format.check()?;
    let weight = float(linear)?;
    let (rows, cols) = (weight.shape.rows(), weight.shape.cols());
    let (values, group, alike) = (weight.to_f32()?, format.group.len(cols).max(1), vec![1.0; cols]);
    let mut codes = vec![0i8; rows * cols];
    let scales: Vec<RowScales> = values
        .par_chunks(cols.max(1))
        .zip(codes.par_chunks_mut(cols.max(1)))
        .map(|(row, codes)| {
            let scales = format.search(row, &alike, steps);
            for (i, (w, c)) in row.iter().zip(codes).enumerate() {
                *c = code(*w, scales.values[i / group].recip(), format.half()) as i8;
            }
            scales
        })
        .collect();
    Ok(QuantizedLinear {
        bits: format.bits,
        group: format.group,
        codes: Tensor::new(DType::I8, [rows, cols], bytemuck::cast_vec(codes))?,
        scales: format.gather(&scales)?,
        activations,
        input_scales: Vec::new(),
    })
}

/// A row rounded to nearest, as floats; scales are not searched.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn rounded(row: &[f32], format: &Format) -> Vec<f32> {
    let group = format.group.len(row.len()).max(1);
    let scales = format.search(row, &vec![1.0; row.len()], 1).values;
    let one = |(i, w): (usize, &f32)| code(*w, scales[i / group].recip(), format.half()) * scales[i / group];
    row.iter().enumerate().map(one).collect()
}

fn float(linear: &Linear) -> Result<&Tensor> {
    match linear {
        Linear::Float(weight) => Ok(weight),
        Linear::Quantized(_) => {
            Err(Error::argument("quantize", "the weight is quantized already; start from the original checkpoint"))
        }
    }
}
