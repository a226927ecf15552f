//! Round to nearest: `scale = amax / (2^(b-1) - 1)`, `code = round(w / scale)`, half to even.

use crate::error::{Error, Result};
use crate::gpu::{Device, Need, Plan};
use crate::kernels;
use crate::model::{Activations, Group, Linear, QuantizedLinear, Scales};
use crate::tensor::{DType, Tensor, round_to};

/// What quantizing dispatches, to be checked before it is trusted.
pub const QUANTIZER: [Need; 3] = [
    Need { kernel: "absmax", format: None },
    Need { kernel: "quantize_weight", format: Some("int8") },
    Need { kernel: "quantize_weight", format: Some("int4") },
];

/// Quantizes a float weight `[out, in]` symmetrically to `bits` (4 or 8), on the device.
///
/// Scales are rounded to `scale_dtype` before the codes are chosen, so that codes fit the stored scales.
///
/// # Errors
/// [`Error::Argument`] for a weight that is quantized already; GPU errors.
pub async fn quantize_linear(
    device: &Device,
    linear: &Linear,
    bits: usize,
    group: Group,
    scale_dtype: DType,
    activations: Activations,
) -> Result<QuantizedLinear> {
    let Linear::Float(weight) = linear else {
        return Err(Error::argument("quantize", "the weight is quantized already; start from the original checkpoint"));
    };
    let (rows, cols) = (weight.shape.rows(), weight.shape.cols());
    let (size, groups) = (group.len(cols), group.count(cols));
    let w = device.upload_f32([rows, cols], &weight.to_f32()?)?;
    let amax = device.alloc(DType::F32, [rows, groups])?;
    let mut plan = Plan::new(device);
    kernels::absmax(&mut plan, &w, &amax, size)?;
    plan.record()?.run()?;
    let top = f32::from((1i16 << (bits - 1)) - 1);
    let scales: Vec<f32> = device.read_f32(&amax).await?.iter().map(|a| stored_scale(a / top, scale_dtype)).collect();

    let scales_on_device = device.upload_f32([rows, groups], &scales)?;
    let codes = device.alloc(if bits == 4 { DType::I4 } else { DType::I8 }, [rows, cols])?;
    let mut plan = Plan::new(device);
    kernels::quantize_weight(&mut plan, &w, &scales_on_device, &codes, size)?;
    plan.record()?.run()?;
    let codes = device.read_codes(&codes).await?;
    Ok(QuantizedLinear {
        bits,
        group,
        codes: Tensor::new(DType::I8, [rows, cols], bytemuck::cast_vec(codes))?,
        scales: Scales::Plain(Tensor::from_f32_as(scale_dtype, [rows, groups], &scales)?),
        activations,
    })
}

/// The scale as it will be read back. A group of zeros has scale 1, so that readers never divide by 0.
fn stored_scale(scale: f32, dtype: DType) -> f32 {
    let rounded = round_to(dtype, scale);
    if rounded > 0.0 { rounded } else { 1.0 }
}
