//! Products of one token that make its int8 codes themselves, against those of codes made before.

use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Epilogue, Scaled};
use wgquant::tensor::DType;
use wgquant::{Error, Result};

use super::common::gpu;

/// Outputs of a product with a weight of `bits` that makes the codes, and of one of codes made before.
fn both(d: &Device, bits: usize, [k, group, parts]: [usize; 3]) -> Result<[Vec<f32>; 2]> {
    let x: Vec<f32> = (0..k).map(|i| ((i * 7919) % 211) as f32 * 0.1 - 10.0).collect();
    let maxima: Vec<f32> = x.chunks(k / parts).map(|p| p.iter().fold(0.0, |m, v| v.abs().max(m))).collect();
    let w: Vec<i8> = (0..3 * k).map(|i| ((i * 31) % 15) as i8 - 7).collect();
    let weight_scales: Vec<f32> = (0..3 * k.div_ceil(group)).map(|i| 0.01 + i as f32 * 1e-4).collect();
    let weight = d.upload_codes(bits, [3, k], &w)?;
    let scales = d.upload_f32([3, k.div_ceil(group)], &weight_scales)?;
    let weight = Scaled { codes: &weight, scales: &scales, group };
    let (x, maxima) = (d.upload_f32([1, k], &x)?, d.upload_f32([1, maxima.len()], &maxima)?);
    let (codes, scale) = (d.alloc(DType::I8, [1, k])?, d.alloc(DType::F32, [1, 1])?);
    let (one, two) = (d.alloc(DType::F32, [1, 3])?, d.alloc(DType::F32, [1, 3])?);
    let mut plan = Plan::new(d);
    kernels::quantize_tokens(&mut plan, &x, &codes, &scale, k)?;
    let made = Scaled { codes: &codes, scales: &scale, group: k };
    if bits == 4 {
        kernels::matvec_w4a8_of_floats(&mut plan, &x, &maxima, weight, &one, Epilogue::Store)?;
        kernels::matvec_w4a8(&mut plan, made, weight, &two, Epilogue::Store)?;
    } else {
        kernels::matvec_w8a8_of_floats(&mut plan, &x, &maxima, weight, &one, Epilogue::Store)?;
        kernels::matvec_w8a8(&mut plan, made, weight, &two, Epilogue::Store)?;
    }
    plan.record()?.run()?;
    Ok([block_on(d.read_f32(&one))?, block_on(d.read_f32(&two))?])
}

/// They give the same, and refuse what has no whole 16 bytes. `quad`: weights of 16 bytes.
#[test]
fn codes_made_by_a_product_are_those_made_before() {
    for d in [Device::Cpu, gpu()] {
        for (bits, quad) in [(4, 32), (8, 16)] {
            for sizes in [[quad * 10, quad * 10, 5], [quad * 12, quad * 2, 1], [8320, 8320, 260]] {
                let [one, two] = both(&d, bits, sizes).unwrap();
                let near = one.iter().zip(&two).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0));
                assert!(near, "{bits} bits, {sizes:?}: {one:?} {two:?}");
            }
            for (k, group) in [(quad * 2 + 8, quad * 2 + 8), (quad * 4, quad / 2)] {
                let refused = both(&d, bits, [k, group, 1]).unwrap_err();
                assert!(matches!(&refused, Error::Argument { what, .. } if what.contains("`x`")), "{refused}");
            }
        }
    }
}
