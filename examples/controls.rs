//! What the quantizer must not notice, and what it must:
//! `cargo run --release --example controls -- MODEL CALIBRATION VALIDATION.npy [WINDOWS] [SEQUENCES] [ROWS]`, where
//! ROWS is a part of the names of the rows wanted.
//!
//! Planted outliers leave a model's function as it is, bit for bit, and make it hard to quantize: rounding to nearest
//! collapses, the pipeline of `--recipe w4a8` must not care. Each negative control takes away something that the
//! pipeline should miss: the text it calibrates on, all layers' covariance but one's, the rotation. One row each.

use std::path::Path;

use pollster::block_on;
use tokenizers::Tokenizer;
use wgquant::calibrate::{Calibration, Calibrator, Stats, TextEncoder, Windows, sample};
use wgquant::eval::compare;
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::hadamard;
use wgquant::model::{Model, ModelFile, ModelSource};
use wgquant::recipe::{Preset, Quantized, Recipe};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::transform::{Inputs, Matrix, Outliers, Planted, Rotation, Transform, Transformed, klt};

type Any<T> = Result<T, Box<dyn std::error::Error>>;

struct Setting {
    device: Device,
    options: EngineOptions,
    validation: Windows,
    calibration: Windows,
    /// Part of the names of the rows wanted.
    rows: String,
}

impl Setting {
    /// Quantizes `source` and prints how far it is from `original`.
    fn row(
        &self,
        name: &str,
        original: &dyn ModelSource,
        source: &dyn ModelSource,
        recipe: &Recipe,
        texts: &Windows,
    ) -> Any<()> {
        if !name.contains(&self.rows) {
            return Ok(());
        }
        // GPTQ hands out each layer once and in order, so it is held.
        let model = Model::load(&Quantized::new(source, recipe, &self.device, Some(texts), &|_| ())?)?;
        let engine = |m: &dyn ModelSource| Engine::new(&self.device, m, self.options);
        let r = block_on(compare(&mut engine(original)?, &mut engine(&model)?, &self.validation, &mut |_, _| {}))?;
        let within = |e: Option<f64>| e.map_or_else(String::new, |e| format!(" ± {e:.5}"));
        println!(
            "| {name} | {:.5}{} | {:.4}{} | {:.2} |",
            r.mean_kl,
            within(r.mean_kl_stderr),
            r.perplexity_ratio,
            within(r.perplexity_ratio_stderr),
            100.0 * r.top1_agreement
        );
        Ok(())
    }

    /// The KLT of the residual stream, normalised as block `index` reads it.
    fn klt_of(&self, original: &dyn ModelSource, index: usize) -> Any<Matrix> {
        let folded = Transformed::new(original, Transform { fold_norms: true, ..Transform::NONE })?;
        let engine = Engine::new(&self.device, &folded, self.options)?;
        let mut calibrator = Calibrator::new(engine, folded.rotation(), Stats::of_one_text(true))?;
        self.calibration.0.iter().try_for_each(|ids| block_on(calibrator.sequence(ids)))?;
        let known = Inputs::from_stats(calibrator.stats(), original.config());
        let site = known.stats.get(&format!("layer.{index}.norm")).ok_or("there is no such block")?;
        Ok(klt(&site.covariance, original.config().hidden_size)?)
    }
}

/// `H K / sqrt(n)`: MambaQuant's rotation (arXiv:2501.13484, equation 11) of one KLT.
fn with_hadamard(klt: &Matrix) -> Any<Matrix> {
    let mut columns = klt.transposed();
    hadamard::transform(klt.rows(), columns.values_mut())?;
    Ok(columns.transposed().orthonormalized()?)
}

/// Tokens drawn alike from the whole vocabulary: text of no language.
fn noise(like: &Windows, vocab: usize) -> Windows {
    let mut x = 1u64;
    let mut draw = move || {
        // Knuth's MMIX generator.
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((x >> 33) % vocab as u64) as u32
    };
    Windows(like.0.iter().map(|w| w.iter().map(|_| draw()).collect()).collect())
}

fn main() -> Any<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, calibration, validation, rest @ ..] = &args[..] else {
        return Err("usage: controls MODEL CALIBRATION VALIDATION.npy [WINDOWS] [SEQUENCES] [ROWS]".into());
    };
    let number = |i: usize, default: usize| rest.get(i).map_or(Ok(default), |n| n.parse());
    let (windows, sequences) = (number(0, 32)?, number(1, 128)?);
    let original = ModelFile::open(Path::new(model))?;
    let config = original.config();
    let tokenizer = Tokenizer::from_file(Path::new(model).join("tokenizer.json")).map_err(|e| e.to_string())?;
    let encoder = TextEncoder { tokenizer, template: None };
    let draw = Calibration { sequences, ..Calibration::default() };
    let s = Setting {
        device: block_on(Device::open(&DeviceChoice::Best, None))?,
        options: EngineOptions { context: 4096, ..EngineOptions::default() },
        validation: Windows::read(Path::new(validation), None, None, 1024, Some(windows))?,
        calibration: sample(Path::new(calibration), Some(&encoder), config.bos, &draw)?,
        rows: rest.get(2).cloned().unwrap_or_default(),
    };
    println!("{}, {windows} windows, {sequences} calibration sequences", s.device.name());
    println!("| what | KL, nats a token | perplexity ratio | same top token, % |\n|---|--:|--:|--:|");

    let rotated = Transform::hadamard(config, 0)?;
    let preset = |transform| Recipe::preset(Preset::W4A8, config, original.float_dtype(), transform, true);
    let pipeline = preset(rotated);
    let nearest = Recipe::preset(Preset::W4A8, config, original.float_dtype(), Transform::NONE, false);
    s.row("round to nearest", &original, &original, &nearest, &s.calibration)?;
    s.row("pipeline", &original, &original, &pipeline, &s.calibration)?;

    for exponent in [3, 6] {
        let planted = Planted::new(&original, Outliers { share: 0.02, exponent, seed: 1 })?;
        let name = |how: &str| format!("{how}, 2 % of channels planted times {}", 1 << exponent);
        s.row(&name("round to nearest"), &original, &planted, &nearest, &s.calibration)?;
        s.row(&name("pipeline"), &original, &planted, &pipeline, &s.calibration)?;
    }

    s.row("calibrated on noise", &original, &original, &pipeline, &noise(&s.calibration, config.vocab_size))?;
    s.row("no rotation", &original, &original, &preset(Transform::NONE), &s.calibration)?;
    let all = Transform { residual: Some(Rotation::KltHadamard), ..rotated };
    s.row("KLT x Hadamard of all layers", &original, &original, &preset(all), &s.calibration)?;
    if !"KLT x Hadamard of block 0".contains(&s.rows) {
        return Ok(());
    }
    let klt = s.klt_of(&original, 0)?;
    for (name, matrix) in [("KLT x Hadamard of block 0", with_hadamard(&klt)?), ("KLT of block 0", klt)] {
        let mut inputs = Inputs::default();
        inputs.given.insert("residual".to_owned(), matrix);
        let own = Transform { fold_norms: true, residual: Some(Rotation::Given), ..Transform::NONE };
        let source = Transformed::with(&original, own, &inputs)?;
        let online = Transform { online: rotated.online, ..Transform::NONE };
        s.row(name, &original, &source, &preset(online), &s.calibration)?;
    }
    Ok(())
}
