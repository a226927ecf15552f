//! Bits other than 4 and 8, nested scales, activation groups: what compressed-tensors has words for keeps them.

use serde_json::json;
use wgquant::checkpoint::Checkpoint;
use wgquant::model::{Activations, Group, Linear, Model, ModelFile, Scales, WriteOptions, write_model};
use wgquant::tensor::{DType, Tensor};

use super::common::{config, edit_json, is_own, map_linears, quantize, random, refusal, says};

/// The linear with scales of 6 bits under one f16 scale a row.
fn nested(linear: Linear) -> Linear {
    let Linear::Quantized(mut q) = linear else { panic!("is float") };
    let (rows, groups) = (q.scales.shape().rows(), q.scales.shape().cols());
    let codes = (0..rows * groups).map(|i| (i * 7 % 63 + 1) as u8).collect();
    let rows: Vec<f32> = (0..rows).map(|i| (i as f32 + 1.0) / 1024.0).collect();
    q.scales = Scales::Nested {
        codes: Tensor::new(DType::I8, [rows.len(), groups], codes).unwrap(),
        bits: 6,
        rows: Tensor::from_f32_as(DType::F16, [rows.len()], &rows).unwrap(),
    };
    Linear::Quantized(q)
}

fn written(f: impl FnMut(usize, &str, &Linear) -> Linear) -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let (dir, mut model) = (temp.path().join("q"), random(&config()));
    map_linears(&mut model, f);
    write_model(&config(), &model, &dir, &WriteOptions::default()).unwrap();
    assert_eq!(Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
    (temp, dir)
}

#[test]
fn every_number_of_bits_is_stored_densely() {
    for bits in [2, 3, 5, 6, 7] {
        let (_temp, dir) = written(|_, _, l| quantize(l, bits, Group::Size(8), Activations::TOKEN));
        let file = Checkpoint::open(&dir).unwrap();
        assert_eq!(file.config()["quantization_config"]["quant_method"], "compressed-tensors");
        let packed = file.info("backbone.layers.1.mixer.up_proj.weight_packed").unwrap();
        assert_eq!(packed.shape, [40, (24 * bits).div_ceil(32)]);
    }
}

#[test]
fn nested_scales_come_back_and_other_readers_are_told() {
    let (_temp, dir) = written(|_, _, l| nested(quantize(l, 4, Group::Size(8), Activations::TOKEN)));
    let file = Checkpoint::open(&dir).unwrap();
    let q = &file.config()["quantization_config"];
    // No reader of compressed-tensors finds `weight_scale`; that there is no method is the clearer refusal.
    is_own(q);
    assert_eq!(q["config_groups"]["group_0"]["weights"]["scale_bits"], 6);
    let module = "backbone.layers.1.mixer.up_proj";
    // 3 groups of 6 bits: one word a row.
    assert_eq!(file.info(&format!("{module}.weight_scale_packed")).unwrap().shape, [40, 1]);
    assert_eq!(file.info(&format!("{module}.weight_scale_row")).unwrap().shape, [40]);
    assert!(file.info(&format!("{module}.weight_scale")).is_none());
    // As earlier versions wrote it.
    let model = Model::load(&ModelFile::open(&dir).unwrap()).unwrap();
    edit_json(&dir.join("config.json"), |j| {
        let q = j["quantization_config"].as_object_mut().unwrap();
        q.shift_remove("wgquant_method");
        q.insert("quant_method".to_owned(), json!("wgquant"));
    });
    assert_eq!(Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
}

#[test]
fn activation_groups_are_the_group_strategy() {
    let (_temp, dir) = written(|_, _, l| quantize(l, 8, Group::Channel, Activations::Int8(Group::Size(8))));
    let file = Checkpoint::open(&dir).unwrap();
    let inputs = &file.config()["quantization_config"]["config_groups"]["group_0"]["input_activations"];
    assert_eq!(
        (&inputs["strategy"], &inputs["group_size"], &inputs["dynamic"]),
        (&json!("group"), &json!(8), &json!(true))
    );
}

#[test]
fn scale_codes_out_of_range_are_not_written() {
    let mut model = random(&config());
    map_linears(&mut model, |_, _, l| {
        let Linear::Quantized(mut q) = nested(quantize(l, 4, Group::Size(8), Activations::TOKEN)) else { panic!() };
        let Scales::Nested { codes, .. } = &mut q.scales else { panic!() };
        codes.bytes[1] = 64;
        Linear::Quantized(q)
    });
    let temp = tempfile::tempdir().unwrap();
    let err = write_model(&config(), &model, &temp.path().join("x"), &WriteOptions::default()).unwrap_err().to_string();
    says(&err, &["in_proj", "scale codes beyond 1..2^6"]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn scale_bits_must_fit_the_tensors() {
    let (_temp, dir) = written(|_, _, l| nested(quantize(l, 4, Group::Size(8), Activations::TOKEN)));
    let weights = "/quantization_config/config_groups/group_0/weights/scale_bits";
    edit_json(&dir.join("config.json"), |j| *j.pointer_mut(weights).unwrap() = json!(9));
    says(&refusal(&dir), &["weights.scale_bits is 9", "1 to 7"]);
    edit_json(&dir.join("config.json"), |j| *j.pointer_mut(weights).unwrap() = json!(null));
    says(&refusal(&dir), &["weight_scale"]);
}
