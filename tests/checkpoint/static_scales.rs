//! Static activation scales: written as compressed-tensors has them where it has words for them, read back bit for bit,
//! refused where no GPU could divide by them.

use serde_json::{Value, json};
use wgquant::checkpoint::{Checkpoint, CheckpointWriter};
use wgquant::model::{Activations, Group, Linear, Model, ModelFile, QuantizedLinear, WriteOptions, write_model};
use wgquant::tensor::{DType, Tensor};

use super::common::{config, edit_json, is_own, map_linears, quantize, random, refusal, rewrite, says};

const UP: &str = "backbone.layers.1.mixer.up_proj";

/// The model with int8 weights and scales, no two alike, fixed for each `group` of inputs.
fn fixed(group: Group) -> Model {
    let mut model = random(&config());
    let mut next = 0f32;
    map_linears(&mut model, |_, _, l| {
        let Linear::Quantized(q) = quantize(l, 8, Group::Channel, Activations::Static(group)) else { panic!() };
        let scale = |_| {
            next += 1.0;
            0.0123 + next / 977.0
        };
        let input_scales = (0..group.count(l.dims().1)).map(scale).collect();
        Linear::Quantized(QuantizedLinear { input_scales, ..q })
    });
    model
}

fn written(group: Group) -> (tempfile::TempDir, std::path::PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let (dir, model) = (temp.path().join("q"), fixed(group));
    write_model(&config(), &model, &dir, &WriteOptions::default()).unwrap();
    assert_eq!(Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
    (temp, dir)
}

fn inputs(dir: &std::path::Path) -> (Value, Value) {
    let file = Checkpoint::open(dir).unwrap();
    let q = &file.config()["quantization_config"];
    (q["quant_method"].clone(), q["config_groups"]["group_0"]["input_activations"].clone())
}

#[test]
fn one_scale_an_input_is_the_tensor_strategy() {
    let (_temp, dir) = written(Group::Channel);
    let (method, inputs) = inputs(&dir);
    let want = json!({
        "num_bits": 8, "type": "int", "symmetric": true, "group_size": null, "strategy": "tensor", "dynamic": false
    });
    assert_eq!((method, inputs), (json!("compressed-tensors"), want));
    let info = Checkpoint::open(&dir).unwrap().info(&format!("{UP}.input_scale")).cloned().unwrap();
    assert_eq!((&*info.dtype.name(), info.shape), ("F32", vec![1]));
}

#[test]
fn scales_by_groups_are_told_to_other_readers() {
    let (_temp, dir) = written(Group::Size(8));
    let (_, inputs) = inputs(&dir);
    // compressed-tensors 0.20 would apply such scales along tokens.
    is_own(&Checkpoint::open(&dir).unwrap().config()["quantization_config"]);
    assert_eq!(
        (&inputs["strategy"], &inputs["group_size"], &inputs["dynamic"]),
        (&json!("group"), &json!(8), &json!(false))
    );
    assert_eq!(Checkpoint::open(&dir).unwrap().info(&format!("{UP}.input_scale")).unwrap().shape, [3]);
}

/// The directory again with the input scale of [`UP`] as `tensor`.
fn with_scale(dir: &std::path::Path, out: &std::path::Path, tensor: Option<Tensor>) -> String {
    rewrite(dir, out, |name, t| if name == format!("{UP}.input_scale") { tensor.clone() } else { Some(t) });
    refusal(out)
}

#[test]
fn scales_that_cannot_be_are_refused() {
    let (temp, dir) = written(Group::Size(8));
    let name = format!("{UP}.input_scale");
    for (i, (bad, says_so)) in [(0.0, "0e0"), (-0.5, "-5e-1"), (1e-39, "1e-39"), (1e38, "1e38")].into_iter().enumerate()
    {
        let text = with_scale(&dir, &temp.path().join(format!("{i}")), Some(Tensor::from_f32([3], &[0.1, bad, 0.2])));
        says(&text, &[&name, says_so, "index 1", "must be positive"]);
    }
    for (i, bad) in [f32::NAN, f32::INFINITY].into_iter().enumerate() {
        let text = with_scale(&dir, &temp.path().join(format!("n{i}")), Some(Tensor::from_f32([3], &[0.1, bad, 0.2])));
        says(&text, &[&name, "at index 1"]);
    }
    let text = with_scale(&dir, &temp.path().join("short"), Some(Tensor::from_f32([2], &[0.1, 0.2])));
    says(&text, &[&name, "[2]", "[3]"]);
    let codes = Tensor::new(DType::I8, [3], vec![1, 2, 3]).unwrap();
    says(&with_scale(&dir, &temp.path().join("codes"), Some(codes)), &[&name, "I8", "F32, F16 or BF16"]);
    says(&with_scale(&dir, &temp.path().join("none"), None), &[&name]);
}

#[test]
fn group_size_that_contradicts_scales() {
    let (_temp, dir) = written(Group::Size(8));
    edit_json(&dir.join("config.json"), |j| {
        j["quantization_config"]["config_groups"]["group_0"]["input_activations"]["group_size"] = json!(12);
    });
    says(&refusal(&dir), &["input_scale", "[3]", "[2]"]);
}

/// Zero points of 0, which some writers leave, change nothing; others are refused.
#[test]
fn zero_points_must_be_zero() {
    let (temp, dir) = written(Group::Channel);
    for (name, zero) in [("zero", 0u8), ("other", 3)] {
        let (from, out) = (Checkpoint::open(&dir).unwrap(), temp.path().join(name));
        let mut to = CheckpointWriter::create(&out).unwrap();
        from.names().for_each(|n| to.add(n, &from.tensor(n).unwrap()).unwrap());
        to.add(&format!("{UP}.input_zero_point"), &Tensor::new(DType::I8, [1], vec![zero]).unwrap()).unwrap();
        to.copy(&dir.join("config.json")).unwrap();
        to.finish(Value::Null).unwrap();
    }
    assert_eq!(Model::load(&ModelFile::open(&temp.path().join("zero")).unwrap()).unwrap(), fixed(Group::Channel));
    says(&refusal(&temp.path().join("other")), &["up_proj.input_zero_point", "is not 0"]);
}

#[test]
fn scales_that_do_not_fit_are_not_written() {
    for (scales, parts) in [
        (vec![], &["has 0 input scales, expected 3"][..]),
        (vec![0.1; 4], &["has 4 input scales, expected 3"]),
        (vec![0.1, -1.0, 0.1], &["input scale -1e0 at index 1"]),
    ] {
        let (temp, mut model) = (tempfile::tempdir().unwrap(), fixed(Group::Size(8)));
        map_linears(&mut model, |i, part, l| match l {
            Linear::Quantized(q) if (i, part) == (1, "up_proj") => {
                Linear::Quantized(QuantizedLinear { input_scales: scales.clone(), ..q.clone() })
            }
            other => other.clone(),
        });
        let out = temp.path().join("x");
        let err = write_model(&config(), &model, &out, &WriteOptions::default()).unwrap_err().to_string();
        says(&err, parts);
        says(&err, &[UP]);
        assert!(!out.exists());
    }
}
