//! Planted outliers change nothing but how hard a model is to quantize.

use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Group, Linear, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Recipe};
use wgquant::tensor::DType;
use wgquant::transform::{Outliers, Planted, Smooth, Transform, Transformed};

use crate::common;
use crate::transform::{logits, statistics};

const OUTLIERS: Outliers = Outliers { share: 0.02, exponent: 6, seed: 1 };

fn quantized(model: &dyn ModelSource) -> Vec<f32> {
    let recipe = Recipe::uniform(model.config(), Bits::W4A8, Group::Size(32), true, DType::F32, Transform::NONE);
    logits(&pollster::block_on(recipe.apply(model, &Device::Cpu, |_| {})).unwrap())
}

#[test]
fn planted_outliers_change_no_bit_and_defeat_rounding_to_nearest() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let planted = Planted::new(&file, OUTLIERS).unwrap();
    let want = logits(&file);
    let got = logits(&planted);
    assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
    // Powers of two fit the checkpoint's type, so the planted model can be written as it was.
    let types = |m: &dyn ModelSource| -> Vec<DType> {
        let layer = m.layer(0).unwrap();
        layer.linears().iter().map(|(_, l)| if let Linear::Float(t) = l { t.dtype } else { DType::I8 }).collect()
    };
    assert_eq!(types(&planted), types(&file));
    let (before, after) = (error(&quantized(&file), &want).0, error(&quantized(&planted), &want).0);
    assert!(after > 5.0 * before, "NMSE of W4A8 {before:.2e}, with outliers {after:.2e}");
}

/// With the exponent 1/2 a factor follows an outlier to the full, whatever its size: what is quantized is what it was.
#[test]
fn folding_and_smoothing_remove_planted_outliers() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let half = Some(0.5.into());
    let transform = Transform {
        fold_norms: true,
        smooth: Smooth { gated_norm: half, relu2: half, values: half, ..Smooth::NONE },
        ..Transform::NONE
    };
    let want = logits(&file);
    let loss = |model: &dyn ModelSource| {
        let inputs = statistics(&Transformed::new(model, transform.base()).unwrap());
        error(&quantized(&Transformed::with(model, transform, &inputs).unwrap()), &want).0
    };
    let (before, after) = (loss(&file), loss(&Planted::new(&file, OUTLIERS).unwrap()));
    assert!((after / before - 1.0).abs() < 1e-6, "NMSE of W4A8 {before:.9e}, with outliers {after:.9e}");
}

#[test]
fn seeds_and_limits() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let layer = |seed| Planted::new(&file, Outliers { seed, ..OUTLIERS }).unwrap().layer(1).unwrap();
    assert_eq!(layer(1), layer(1));
    assert_ne!(layer(1), layer(2));
    let fails = |o| Planted::new(&file, o).err().unwrap().to_string();
    assert!(fails(Outliers { share: 1.5, ..OUTLIERS }).contains("share 1.5 of 0 to 1"));
    assert!(fails(Outliers { exponent: 13, ..OUTLIERS }).contains("exponent 13"));
}
