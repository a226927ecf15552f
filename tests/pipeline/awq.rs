//! Exponents of smoothing found block by block.

use pollster::block_on;
use wgquant::calibrate::{Calibration, Windows, sample};
use wgquant::eval::compare;
use wgquant::gpu::Device;
use wgquant::model::{Group, Model, ModelFile, ModelSource};
use wgquant::recipe::{Bits, Quantized, Recipe};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::transform::{Exponent, Outliers, Planted, Smooth, Transform};

use crate::common;

/// Outliers in block norms, gated norms, values and relu².
const OUTLIERS: Outliers = Outliers { share: 0.02, exponent: 5, seed: 1 };

fn smooth(exponent: Exponent) -> Smooth {
    let e = Some(exponent);
    Smooth { norms: e, gated_norm: e, relu2: e, values: e, ..Smooth::NONE }
}

fn texts() -> Windows {
    let settings = Calibration { sequences: 4, length: 128, seed: 1, ..Calibration::default() };
    sample(&common::nano().join("val_ids_u16.npy"), None, None, &settings).unwrap()
}

fn recipe(file: &ModelFile, smooth: Smooth) -> Recipe {
    let transform = Transform { smooth, ..Transform::NONE };
    Recipe::uniform(file.config(), Bits::W4A8, Group::Size(32), true, file.float_dtype(), transform)
}

/// KL of `source`, rounded to nearest under these rewrites, on other texts than it was calibrated on.
fn kl(file: &ModelFile, source: &dyn ModelSource, smooth: Smooth) -> f64 {
    let device = common::gpu();
    let progress = |_| {};
    let quantized = Quantized::new(source, &recipe(file, smooth), &device, Some(&texts()), &progress).unwrap();
    let windows = Calibration { sequences: 4, length: 128, seed: 2, ..Calibration::default() };
    let windows = sample(&common::nano().join("val_ids_u16.npy"), None, None, &windows).unwrap();
    let options = EngineOptions { context: windows.longest(), ..Default::default() };
    let mut base = Engine::new(&device, source, options).unwrap();
    let mut model = Engine::new(&device, &Model::load(&quantized).unwrap(), options).unwrap();
    block_on(compare(&mut base, &mut model, &windows, &mut |_, _| {})).unwrap().mean_kl
}

#[test]
fn searched_factors_take_planted_outliers_away() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let planted = Planted::new(&file, OUTLIERS).unwrap();
    let (plain, none) = (kl(&file, &file, Smooth::NONE), kl(&file, &planted, Smooth::NONE));
    let (half, searched) = (kl(&file, &planted, smooth(0.5.into())), kl(&file, &planted, smooth(Exponent::Search)));
    let clean = kl(&file, &file, smooth(Exponent::Search));
    eprintln!("KL: {plain:.4}, searched {clean:.4}; planted {none:.4}, 0.5 {half:.4}, searched {searched:.4}");
    assert!(none > 2.0 * plain, "planted outliers cost nothing: {none} for {plain}");
    assert!(searched < 0.5 * none, "KL {searched} searched, {none} without");
    assert!(searched < 1.05 * half, "KL {searched} searched, {half} with one exponent for all");
    assert!(clean < 1.1 * plain, "KL {clean} searched, {plain} without");
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let fails = |recipe: &Recipe| {
        let made = Quantized::new(&file, recipe, &Device::Cpu, Some(&Windows(vec![vec![3, 4, 5]])), &|_| {});
        made.err().unwrap().to_string()
    };
    let search = Some(Exponent::Search);
    let rotated = Transform::hadamard(file.config(), 0).unwrap();
    for (smooth, transform, words) in [
        (Smooth { conv: search, ..Smooth::NONE }, Transform::NONE, "smooth.conv: what the convolution reads"),
        (Smooth { norms: search, ..Smooth::NONE }, rotated, "no norm folding"),
        (
            Smooth { gated_norm: search, ..Smooth::NONE },
            rotated,
            "smooth.gated_norm: is searched for inputs as they are",
        ),
        (Smooth { relu2: search, ..Smooth::NONE }, rotated, "smooth.relu2: is searched"),
    ] {
        let line = fails(&Recipe { transform: Transform { smooth, ..transform }, ..recipe(&file, Smooth::NONE) });
        assert!(line.contains(words), "{line}");
    }
    let floats = Recipe { rules: Vec::new(), ..recipe(&file, smooth(Exponent::Search)) };
    assert!(fails(&floats).contains("the recipe quantizes none"));
}

#[test]
fn recipes_say_search() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let own = recipe(&file, Smooth { relu2: Some(0.25.into()), ..smooth(Exponent::Search) });
    let text = own.to_toml().unwrap();
    assert!(text.contains("norms = \"search\"") && text.contains("relu2 = 0.25"), "{text}");
    assert_eq!(Recipe::parse("test", &text).unwrap(), own);
    let wrong = Recipe::parse("test", &text.replace("\"search\"", "\"awq\"")).unwrap_err().to_string();
    assert!(wrong.contains("`awq` is neither a number nor `search`"), "{wrong}");
}
