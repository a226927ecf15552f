//! compressed-tensors: what this crate writes it reads, and the configuration says what the tensors are.

use serde_json::{Value, json};
use wgquant::checkpoint::{Checkpoint, StoredType, unpack_bits};
use wgquant::model::{
    Activations, Group, Linear, Mixer, Model, ModelFile, QuantizedLinear, Scales, Summary, WriteOptions, write_model,
};
use wgquant::tensor::{DType, Tensor};

use super::common::{config, edit_json, is_own, map_linears, quantize, random, refusal, rewrite, says};

struct Case {
    temp: tempfile::TempDir,
    dir: std::path::PathBuf,
    model: Model,
    summary: Summary,
}

/// A model whose layers `f` quantizes, written and opened again; fails unless it is the same.
fn case(f: impl FnMut(usize, &str, &Linear) -> Linear, embedding: bool) -> Case {
    let temp = tempfile::tempdir().unwrap();
    let (dir, mut model) = (temp.path().join("q"), random(&config()));
    map_linears(&mut model, f);
    if embedding {
        model.embedding = quantize(&model.embedding, 8, Group::Channel, Activations::Float);
    }
    let summary = write_model(&config(), &model, &dir, &WriteOptions::default()).unwrap();
    let file = ModelFile::open(&dir).unwrap();
    assert!(file.is_quantized());
    assert_eq!(Model::load(&file).unwrap(), model);
    Case { temp, dir, model, summary }
}

fn quantization(dir: &std::path::Path) -> Value {
    Checkpoint::open(dir).unwrap().config()["quantization_config"].clone()
}

#[test]
fn w8a8() {
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::TOKEN), false);
    let q = quantization(&c.dir);
    assert_eq!(q["format"], "int-quantized");
    assert_eq!(q["quant_method"], "compressed-tensors");
    assert_eq!(q["ignore"], json!(["lm_head"]));
    let group = &q["config_groups"]["group_0"];
    assert_eq!(group["targets"], json!(["Linear"]));
    assert_eq!(group["input_activations"]["strategy"], "token");
    assert_eq!(group["weights"]["strategy"], "channel");
    let info = Checkpoint::open(&c.dir).unwrap().info("backbone.layers.0.mixer.in_proj.weight").cloned().unwrap();
    assert_eq!((info.dtype, info.shape), (StoredType::I8, vec![132, 24]));
}

/// Other readers make a tied head a linear layer of the embedding's weight: it is none of those that are quantized, and of codes
/// it would have no scales.
#[test]
fn a_tied_head_is_not_quantized_for_others() {
    let temp = tempfile::tempdir().unwrap();
    let mut json = config();
    json["tie_word_embeddings"] = json!(true);
    let mut model = random(&json);
    map_linears(&mut model, |_, _, l| quantize(l, 8, Group::Channel, Activations::TOKEN));
    (model.config.tied, model.head) = (true, None);
    let written = |name: &str, model: &Model| {
        let dir = temp.path().join(name);
        write_model(&json, model, &dir, &WriteOptions::default()).unwrap();
        assert_eq!(&Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
        quantization(&dir)
    };
    let q = written("floats", &model);
    assert_eq!((&q["ignore"], &q["quant_method"]), (&json!(["lm_head"]), &json!("compressed-tensors")));
    let table = model.embedding.clone();
    for (name, activations, strategy) in
        [("codes", Activations::Float, Value::Null), ("int8", Activations::TOKEN, json!("token"))]
    {
        model.embedding = quantize(&table, 8, Group::Channel, activations);
        let q = written(name, &model);
        assert_eq!(q["ignore"], json!(["lm_head"]));
        is_own(&q);
        let group = &q["config_groups"]["group_0"];
        assert_eq!(group["targets"], json!(["Embedding"]));
        // What inputs of the head are rounded to.
        assert_eq!(group["input_activations"]["strategy"], strategy);
    }
}

#[test]
fn w4_in_groups() {
    let c = case(|_, _, l| quantize(l, 4, Group::Size(8), Activations::TOKEN), false);
    assert_eq!(quantization(&c.dir)["format"], "pack-quantized");
    let file = Checkpoint::open(&c.dir).unwrap();
    let module = "backbone.layers.1.mixer.up_proj";
    assert_eq!(file.info(&format!("{module}.weight_packed")).unwrap().shape, [40, 3]);
    assert_eq!(file.i64s(&format!("{module}.weight_shape")).unwrap(), [40, 24]);
    assert_eq!(file.info(&format!("{module}.weight_scale")).unwrap().shape, [40, 3]);
    assert!(c.summary.ragged.is_empty(), "{:?}", c.summary.ragged);
    let words: Vec<u32> = file
        .tensor(&format!("{module}.weight_packed"))
        .unwrap()
        .bytes
        .chunks(4)
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let wgquant::model::Mixer::Mlp(mlp) = &c.model.layers[1].mixer else { panic!() };
    let Linear::Quantized(q) = &mlp.up_proj else { panic!() };
    let codes: Vec<u8> = unpack_bits(&words, 4, 24).into_iter().map(i8::cast_unsigned).collect();
    assert_eq!(q.codes.bytes, codes);
}

#[test]
fn w4_by_channel() {
    let c = case(|_, _, l| quantize(l, 4, Group::Channel, Activations::Float), false);
    let group = &quantization(&c.dir)["config_groups"]["group_0"];
    assert_eq!((&group["weights"]["strategy"], &group["input_activations"]), (&json!("channel"), &Value::Null));
}

#[test]
fn w8_without_activations_is_packed_as_vllm_wants_it() {
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::Float), false);
    assert_eq!(quantization(&c.dir)["format"], "pack-quantized");
}

#[test]
fn ragged_groups_are_reported() {
    let c = case(|_, _, l| quantize(l, 4, Group::Size(16), Activations::Float), false);
    // 24, 40 and 32 inputs: 16 divides the output of attention and of Mamba (48) only.
    let wanted = ["in_proj", "up_proj", "down_proj", "q_proj", "k_proj", "v_proj"];
    assert!(c.summary.ragged.iter().all(|m| wanted.iter().any(|w| m.ends_with(w))), "{:?}", c.summary.ragged);
    assert_eq!(c.summary.ragged.len(), 7);
    // The same of what is rounded on the way in.
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::Int8(Group::Size(16))), false);
    assert_eq!(c.summary.ragged.len(), 7, "{:?}", c.summary.ragged);
}

#[test]
fn mixed_schemes() {
    let c = case(
        |i, name, l| match (i, name) {
            (_, "q_proj") => l.clone(),
            (0, _) | (_, "k_proj" | "v_proj") => quantize(l, 8, Group::Channel, Activations::TOKEN),
            _ => quantize(l, 4, Group::Size(8), Activations::TOKEN),
        },
        true,
    );
    let q = quantization(&c.dir);
    assert_eq!(q["format"], "mixed-precision");
    assert_eq!(q["ignore"], json!([r"re:.*\.q_proj$", "lm_head"]));
    let groups: Vec<&Value> = q["config_groups"].as_object().unwrap().values().collect();
    assert_eq!(groups[0]["targets"], json!(["Embedding"]));
    assert_eq!((&groups[0]["format"], &groups[0]["input_activations"]), (&json!("int-quantized"), &Value::Null));
    // in_proj differs between layers 0 and 3, so each is named; the prefix is left open.
    let layers = [r"re:.*\.layers\.0\.mixer\.in_proj$", r"re:.*\.layers\.0\.mixer\.out_proj$"];
    assert_eq!(groups[1]["targets"], json!([layers[0], layers[1], r"re:.*\.k_proj$", r"re:.*\.v_proj$"]));
    assert_eq!(groups[2]["format"], "pack-quantized");
}

#[test]
fn head_quantized() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, mut model) = (temp.path().join("q"), random(&config()));
    model.head = model.head.map(|h| quantize(&h, 8, Group::Channel, Activations::TOKEN));
    write_model(&config(), &model, &dir, &WriteOptions::default()).unwrap();
    assert_eq!(Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
}

/// vLLM's class of heads is not `Linear`, so a quantized one is named beside the class, and before it, as compressed-tensors warns of a name
/// behind a class that means it; one that is not is left out as before. Files that name the class alone, as earlier versions wrote them, are
/// the same model.
#[test]
fn a_quantized_head_is_named() {
    for (bits, group) in [(8, Group::Channel), (4, Group::Size(8))] {
        let temp = tempfile::tempdir().unwrap();
        let (dir, mut model) = (temp.path().join("q"), random(&config()));
        let form = |l: &Linear| quantize(l, bits, group, Activations::TOKEN);
        map_linears(&mut model, |_, _, l| form(l));
        model.head = model.head.as_ref().map(form);
        write_model(&config(), &model, &dir, &WriteOptions::default()).unwrap();
        assert_eq!(Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
        let q = quantization(&dir);
        assert_eq!(
            (&q["config_groups"]["group_0"]["targets"], &q["ignore"]),
            (&json!(["lm_head", "Linear"]), &json!([]))
        );
        edit_json(&dir.join("config.json"), |j| {
            j["quantization_config"]["config_groups"]["group_0"]["targets"] = json!(["Linear"]);
        });
        assert_eq!(Model::load(&ModelFile::open(&dir).unwrap()).unwrap(), model);
    }
}

#[test]
fn what_would_compute_otherwise_is_refused() {
    let c = case(|_, _, l| quantize(l, 4, Group::Size(8), Activations::TOKEN), false);
    let path = c.dir.join("config.json");
    let original = std::fs::read(&path).unwrap();
    let cases: [(&str, Value, &[&str]); 14] = [
        ("/quant_method", json!("gptq"), &["quantization_config.quant_method is \"gptq\""]),
        ("/quant_method", json!(null), &["quantization_config.quant_method is null"]),
        ("/quantization_status", json!("frozen"), &["quantization_status", "frozen"]),
        ("/kv_cache_scheme", json!({"num_bits": 8}), &["kv_cache_scheme"]),
        ("/transform_config", json!({"config_groups": {}}), &["transform_config"]),
        ("/config_groups/group_0/weights/num_bits", json!(9), &["weights.num_bits is 9", "2 to 8"]),
        ("/config_groups/group_0/weights/symmetric", json!(false), &["weights.symmetric is false"]),
        ("/config_groups/group_0/weights/strategy", json!("tensor"), &["weights.strategy", "tensor"]),
        ("/config_groups/group_0/weights/group_size", json!(0), &["weights.group_size is 0"]),
        ("/config_groups/group_0/weights/actorder", json!("group"), &["weights.actorder", "group"]),
        (
            "/config_groups/group_0/input_activations/dynamic",
            json!("local"),
            &["input_activations.dynamic is \"local\""],
        ),
        // One scale a token that is not found as the model runs means nothing.
        (
            "/config_groups/group_0/input_activations/dynamic",
            json!(false),
            &["input_activations.strategy is \"token\"", "\"tensor\" and \"group\""],
        ),
        ("/config_groups/group_0/format", json!("float-quantized"), &["format", "float-quantized"]),
        ("/config_groups/group_0/targets", json!(["re:("]), &["targets", "re:("]),
    ];
    for (key, value, parts) in cases {
        edit_json(&path, |j| *j["quantization_config"].pointer_mut(key).unwrap_or(&mut json!(0)) = value.clone());
        if key.ends_with("actorder") {
            edit_json(&path, |j| j["quantization_config"]["config_groups"]["group_0"]["weights"]["actorder"] = value);
        }
        says(&refusal(&c.dir), parts);
        std::fs::write(&path, &original).unwrap();
    }
}

#[test]
fn codes_without_configuration() {
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::TOKEN), false);
    edit_json(&c.dir.join("config.json"), |j| j["quantization_config"] = Value::Null);
    says(&refusal(&c.dir), &["is quantized, but no group", "in_proj.weight"]);
}

#[test]
fn group_size_that_contradicts_scales() {
    let c = case(|_, _, l| quantize(l, 4, Group::Size(8), Activations::TOKEN), false);
    edit_json(&c.dir.join("config.json"), |j| {
        j["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = json!(4);
    });
    says(&refusal(&c.dir), &["weight_scale", "[132, 3]", "[132, 6]"]);
}

#[test]
fn nan_scales() {
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::TOKEN), false);
    let out = c.temp.path().join("nan");
    rewrite(&c.dir, &out, |name, mut t| {
        if name == "backbone.layers.1.mixer.up_proj.weight_scale" {
            t.bytes[2..4].copy_from_slice(&half::bf16::NAN.to_le_bytes());
        }
        Some(t)
    });
    says(&refusal(&out), &["up_proj.weight_scale", "NaN at index 1"]);
}

#[test]
fn asymmetric_weights() {
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::TOKEN), false);
    let (from, out) = (Checkpoint::open(&c.dir).unwrap(), c.temp.path().join("asymmetric"));
    let mut to = wgquant::checkpoint::CheckpointWriter::create(&out).unwrap();
    for name in from.names() {
        to.add(name, &from.tensor(name).unwrap()).unwrap();
    }
    let scale = from.tensor("backbone.layers.0.mixer.in_proj.weight_scale").unwrap();
    to.add("backbone.layers.0.mixer.in_proj.weight_zero_point", &scale).unwrap();
    to.copy(&c.dir.join("config.json")).unwrap();
    to.finish(Value::Null).unwrap();
    says(&refusal(&out), &["weight_zero_point", "asymmetric"]);
}

#[test]
fn four_bit_codes_in_bytes_are_checked() {
    // compressed-tensors stores W4A8 this way when the format is left to it.
    let c = case(|_, _, l| quantize(l, 8, Group::Channel, Activations::TOKEN), false);
    edit_json(&c.dir.join("config.json"), |j| {
        j["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = json!(4);
    });
    says(&refusal(&c.dir), &["codes beyond the 4 bits"]);
}

#[test]
fn codes_out_of_range_are_not_written() {
    let temp = tempfile::tempdir().unwrap();
    let mut model = random(&config());
    map_linears(&mut model, |_, _, l| match quantize(l, 8, Group::Channel, Activations::Float) {
        Linear::Quantized(q) => Linear::Quantized(wgquant::model::QuantizedLinear { bits: 4, ..q }),
        float => float,
    });
    let err = write_model(&config(), &model, &temp.path().join("x"), &WriteOptions::default()).unwrap_err().to_string();
    says(&err, &["in_proj", "beyond 4 bits"]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

/// As [`codes_out_of_range_are_not_written`]: what is refused of one weight, after `change`.
#[track_caller]
fn not_written(change: impl Fn(&mut QuantizedLinear), parts: &[&str]) {
    let (temp, mut model) = (tempfile::tempdir().unwrap(), random(&config()));
    map_linears(&mut model, |i, part, l| match quantize(l, 4, Group::Size(8), Activations::TOKEN) {
        Linear::Quantized(mut q) if (i, part) == (1, "up_proj") => {
            change(&mut q);
            Linear::Quantized(q)
        }
        other => other,
    });
    let err = write_model(&config(), &model, &temp.path().join("x"), &WriteOptions::default()).unwrap_err().to_string();
    says(&err, &["weight `backbone.layers.1.mixer.up_proj`"]);
    says(&err, parts);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn scales_that_nobody_can_use_are_not_written() {
    for (bad, word) in [(0.0, "0e0"), (-1.0, "-1e0"), (1e-39, "e-39"), (f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let scales = |n: usize| (0..n).map(|i| if i == 5 { bad } else { 0.5 }).collect::<Vec<f32>>();
        let plain = |q: &mut QuantizedLinear| {
            let shape = q.scales.shape();
            q.scales = Scales::Plain(Tensor::from_f32(shape, &scales(shape.elements())));
        };
        not_written(plain, &["has the scale", word, "at index 5", "must be positive"]);
        let nested = |q: &mut QuantizedLinear| {
            let shape = q.scales.shape();
            let codes = Tensor::new(DType::I8, shape, vec![1; shape.elements()]).unwrap();
            q.scales = Scales::Nested { codes, bits: 6, rows: Tensor::from_f32([40], &scales(40)) };
        };
        not_written(nested, &["has the row scale", word, "at index 5", "must be positive"]);
    }
}

#[test]
fn groups_of_nothing_and_tensors_cut_short_are_not_written() {
    not_written(|q| q.group = Group::Size(0), &["groups of 0 inputs"]);
    not_written(|q| q.activations = Activations::Int8(Group::Size(0)), &["groups of 0 inputs"]);
    not_written(|q| q.codes.bytes.truncate(100), &["bytes of codes", "[40, 24] takes 960 bytes, got 100"]);
    let short = |q: &mut QuantizedLinear| match &mut q.scales {
        Scales::Plain(scales) => scales.bytes.truncate(2),
        Scales::Nested { .. } => panic!("plain"),
    };
    not_written(short, &["bytes of scales", "bf16 [40, 3] takes 240 bytes, got 2"]);
    not_written(|q| q.codes.shape = [24, 40].into(), &["has shape [24, 40], expected [40, 24]"]);
}

/// What a file would be refused for on opening is not written.
#[test]
fn a_model_that_is_not_its_configurations_is_not_written() {
    let refused = |change: &dyn Fn(&mut Model), parts: &[&str]| {
        let (temp, mut model) = (tempfile::tempdir().unwrap(), random(&config()));
        change(&mut model);
        let out = temp.path().join("x");
        let err = write_model(&config(), &model, &out, &WriteOptions::default()).unwrap_err().to_string();
        says(&err, parts);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    };
    let floats = |shape: [usize; 2]| Linear::Float(Tensor::from_f32(shape, &vec![0.5; shape[0] * shape[1]]));
    refused(&|m| m.embedding = floats([10, 24]), &["backbone.embeddings", "has shape [10, 24], expected [50, 24]"]);
    refused(&|m| m.head = Some(floats([50, 23])), &["lm_head", "[50, 23]", "[50, 24]"]);
    refused(&|m| m.norm_f.push(1.0), &["backbone.norm_f.weight", "25 values, expected 24"]);
    refused(&|m| m.layers[2].norm.truncate(3), &["backbone.layers.2.norm.weight", "3 values, expected 24"]);
    refused(&|m| m.layers.swap(0, 1), &["backbone.layers.0.mixer.in_proj", "is not there", "block 0 is Mamba2"]);
    let conv = |m: &mut Model| match &mut m.layers[0].mixer {
        Mixer::Mamba2(mamba) => mamba.conv_bias.clear(),
        _ => panic!("block 0 is a Mamba-2 block"),
    };
    refused(&conv, &["backbone.layers.0.mixer.conv1d.bias", "0 values, expected 80"]);
}
