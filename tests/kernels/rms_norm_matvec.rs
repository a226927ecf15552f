use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Epilogue, Groups, Scaled, ScaledWeight};
use wgquant::tensor::DType;
use wgquant::{Error, Result};

use super::common::{assert_close, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("rms_norm_matvec");
}

/// Outputs of a token of `rows` x `cols`, a norm of `norm` and 3 rows of a weight of `bits` in groups of `group`; and of the norm's codes
/// and their product in two launches.
fn both(d: &Device, bits: usize, [rows, cols, norm, group]: [usize; 4]) -> Result<[Vec<f32>; 2]> {
    // Whole steps up to 127 where the norm's weight is in.
    let codes = (0..rows * cols).map(|i| if i == 5 { 127.0 } else { ((i * 7919) % 211) as f32 - 105.0 });
    let weights: Vec<f32> = (0..norm).map(|i| [0.5, 1.0, 2.0][i % 3]).collect();
    let x: Vec<f32> = codes.enumerate().map(|(i, v)| v * 0.01 / [0.5, 1.0, 2.0][i % cols % 3]).collect();
    let w: Vec<i8> = (0..3 * cols).map(|i| ((i * 31) % 15) as i8 - 7).collect();
    let groups = cols.div_ceil(group);
    let weight_scales: Vec<f32> = (0..3 * groups).map(|i| 0.01 + i as f32 * 1e-4).collect();
    let (weight, scales) =
        (d.upload_codes(bits, [3, cols], &w)?, kernels::upload_scales(d, [3, groups], &weight_scales)?);
    let weight = ScaledWeight { codes: &weight, scales: &scales, group };
    let (x, norm) = (d.upload_f32([rows, cols], &x)?, d.upload_f32([norm], &weights)?);
    let (codes, scale) = (d.alloc(DType::I8, [1, cols])?, d.alloc(DType::F32, [1, 1])?);
    let (one, two) = (d.alloc(DType::F32, [rows, 3])?, d.alloc(DType::F32, [1, 3])?);
    let mut plan = Plan::new(d);
    kernels::rms_norm_matvec(&mut plan, &x, (&norm, 1e-5, cols), weight, &one, Epilogue::Store)?;
    let made = Scaled { codes: &codes, scales: &scale, group: cols };
    kernels::rms_norm_quantize(&mut plan, &x, &norm, made, 1e-5)?;
    match bits {
        4 => kernels::matvec_w4a8(&mut plan, made, weight, &two, Epilogue::Store)?,
        _ => kernels::matvec_w8a8(&mut plan, made, weight, &two, Epilogue::Store)?,
    }
    plan.record()?.run()?;
    Ok([block_on(d.read_f32(&one))?, block_on(d.read_f32(&two))?])
}

#[test]
fn is_the_norm_and_then_the_product() {
    for d in [Device::Cpu, gpu()] {
        for (bits, quad) in [(4, 32), (8, 16)] {
            for (cols, group) in [(quad * 10, quad * 10), (quad * 12, quad * 2)] {
                let [one, two] = both(&d, bits, [1, cols, cols, group]).unwrap();
                assert_close(&one, &two, 1e-10);
            }
        }
    }
}

#[test]
fn rejects_what_does_not_fit() {
    let refused = |bits, sizes| both(&Device::Cpu, bits, sizes).unwrap_err();
    assert!(matches!(refused(4, [2, 64, 64, 64]), Error::Argument { .. } | Error::Shape { .. }));
    assert!(matches!(refused(8, [1, 64, 63, 64]), Error::Shape { arg: "norm", .. }));
    for (bits, cols, group) in [(4, 8224, 8224), (8, 8208, 8208), (4, 40, 40), (8, 24, 24), (4, 128, 16), (8, 64, 8)] {
        let error = refused(bits, [1, cols, cols, group]).to_string();
        assert!(error.contains("rms_norm_matvec: `x`") && error.contains(&cols.to_string()), "{error}");
    }
    let pays =
        |cols, weight, bits, token| kernels::rms_norm_matvec_pays(&Device::Cpu, cols, Groups { bits, weight, token });
    assert!(pays(4096, 128, 4, 4096) && pays(8192, 8192, 8, 32) && pays(4096, 64, 8, 128));
    assert!(!pays(8224, 8224, 4, 8224) && !pays(4096, 16, 4, 4096) && !pays(4096, 4096, 16, 4096));
    assert!(!pays(4096, 4096, 8, 16) && !pays(4096, 4096, 8, 96) && !pays(4112, 4112, 8, 32));
}
