//! What is written is read back, in every layout a model may have on disk.

use serde_json::{Value, json};
use wgquant::checkpoint::Checkpoint;
use wgquant::model::{Linear, Model, ModelFile, ModelSource, Names, OnlineRotation, WriteOptions, write_model};
use wgquant::tensor::{DType, Tensor};

use super::common::{config, edit_json, is_own, map_linears, on_disk, random, refusal, rewrite, says, sharded, with};

fn load(dir: &std::path::Path) -> Model {
    Model::load(&ModelFile::open(dir).unwrap()).unwrap()
}

#[test]
fn float_model() {
    let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
    let model = random(&config());
    assert_eq!(load(&dir), model);
    let file = ModelFile::open(&dir).unwrap();
    assert_eq!(file.bytes(), file.parameters() * 4);
    assert!(!file.is_quantized());
}

#[test]
fn sharded_is_the_same_as_a_single_file() {
    let (_a, single) = on_disk(&config(), &WriteOptions::default());
    let (_b, parts) = sharded();
    assert!(parts.join("model.safetensors.index.json").is_file());
    let names = std::fs::read_dir(&parts).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut shards: Vec<String> = names.filter(|n| n.ends_with(".safetensors")).collect();
    shards.sort();
    let total = shards.len();
    let want: Vec<String> = (1..=total).map(|i| format!("model-{i:05}-of-{total:05}.safetensors")).collect();
    assert!(total > 2 && shards == want, "{shards:?}");
    assert_eq!(load(&single), load(&parts));
}

/// Two models must not pass for one because of what their folders hide.
#[test]
fn shards_of_one_name_in_two_folders_are_two() {
    let (_temp, dir) = sharded();
    let shards = ["model-00001", "model-00002"].map(|shard| {
        let mut names = std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.find(|n| n.starts_with(shard)).unwrap()
    });
    let folders = ["x", "y"].map(|folder| format!("{folder}/w.safetensors"));
    for (shard, folder) in shards.iter().zip(&folders) {
        std::fs::create_dir(dir.join(folder).parent().unwrap()).unwrap();
        std::fs::rename(dir.join(shard), dir.join(folder)).unwrap();
    }
    let plain = load(&sharded().1);
    edit_json(&dir.join("model.safetensors.index.json"), |j| {
        for file in j["weight_map"].as_object_mut().unwrap().values_mut() {
            if let Some(i) = shards.iter().position(|shard| *file == shard.as_str()) {
                *file = json!(folders[i]);
            }
        }
    });
    assert_eq!(load(&dir), plain);
    let print = Checkpoint::open(&dir).unwrap().fingerprint().unwrap();
    let [a, b] = folders.map(|folder| print[&folder]["sha256"].as_str().unwrap().to_owned());
    assert_ne!(a, b);
    assert!(print["config.json"]["sha256"].is_string() && print.get("w.safetensors").is_none(), "{print}");
}

#[test]
fn model_prefix_and_new_names() {
    let (temp, dir) = on_disk(&config(), &WriteOptions::default());
    let from = Checkpoint::open(&dir).unwrap();
    let out = temp.path().join("renamed");
    let mut to = wgquant::checkpoint::CheckpointWriter::create(&out).unwrap();
    for name in from.names() {
        let new = name.replace("backbone.", "model.").replace(".embeddings.", ".embed_tokens.");
        to.add(&new, &from.tensor(name).unwrap()).unwrap();
    }
    to.copy(&dir.join("config.json")).unwrap();
    to.finish(Value::Null).unwrap();
    assert_eq!(load(&out), load(&dir));

    // Written again, the names stay.
    let (file, again) = (ModelFile::open(&out).unwrap(), temp.path().join("again"));
    write_model(file.checkpoint().config(), &file, &again, &WriteOptions::like(&file).unwrap()).unwrap();
    let again = ModelFile::open(&again).unwrap();
    assert_ne!(again.names(), &Names::default());
    assert!(again.checkpoint().info("model.embed_tokens.weight").is_some());
}

/// Where a configuration ties a head that is in the file, it is the embedding only if it has the same values; else it counts, and the model
/// is untied to all who ask and as it is written again.
#[test]
fn a_stored_head_of_a_tied_model_counts_where_it_differs() {
    let mamba2 = json!({
        "model_type": "mamba2", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 4,
        "head_dim": 12, "state_size": 8, "n_groups": 1, "expand": 2, "tie_word_embeddings": false,
    });
    for config in [config(), mamba2] {
        let (temp, dir) = on_disk(&config, &WriteOptions::default());
        edit_json(&dir.join("config.json"), |j| j["tie_word_embeddings"] = json!(true));
        let (file, want) = (ModelFile::open(&dir).unwrap(), random(&config));
        assert!(!file.config().tied && want.head.is_some() && file.bytes() == 4 * file.parameters());
        assert_eq!(Model::load(&file).unwrap(), want);
        let again = temp.path().join("again");
        write_model(file.checkpoint().config(), &file, &again, &WriteOptions::default()).unwrap();
        let json = ModelFile::open(&again).unwrap().checkpoint().config().clone();
        assert!(json["tie_word_embeddings"] == false && json["wgquant"].is_null(), "{json}");
        assert_eq!(load(&again), want);

        // The embedding's values in bf16, and the head's in either type, but for what the last adds.
        let Linear::Float(embedding) = &want.embedding else { panic!("codes") };
        for (dtype, off) in [(DType::BF16, 0.0), (DType::F32, 0.0), (DType::BF16, 1.0), (DType::F32, 1e-3)] {
            let out = temp.path().join(format!("{dtype}-{off}"));
            let rounded = Tensor::from_f32_as(DType::BF16, embedding.shape, &embedding.to_f32().unwrap()).unwrap();
            let mut values = rounded.to_f32().unwrap();
            *values.last_mut().unwrap() += off;
            let head = Tensor::from_f32_as(dtype, embedding.shape, &values).unwrap();
            rewrite(&dir, &out, |name, t| match name {
                "lm_head.weight" => Some(head.clone()),
                "backbone.embeddings.weight" => Some(rounded.clone()),
                _ => Some(t),
            });
            let file = ModelFile::open(&out).unwrap();
            assert_eq!(file.config().tied, off == 0.0, "{dtype}, {off}");
            assert_eq!(file.head().unwrap(), (off != 0.0).then_some(Linear::Float(head)), "{dtype}, {off}");
            assert_eq!(file.checkpoint().config()["tie_word_embeddings"], off == 0.0);
            assert!(file.unused().is_empty());
        }
    }
}

#[test]
fn a_tied_head_is_the_embedding() {
    let (temp, dir) = on_disk(&config(), &WriteOptions::default());
    edit_json(&dir.join("config.json"), |j| j["tie_word_embeddings"] = json!(true));
    let out = temp.path().join("tied");
    rewrite(&dir, &out, |name, t| (name != "lm_head.weight").then_some(t));
    assert!(load(&out).head.is_none());
    // Untying is written as such.
    let (untied, mut model) = (temp.path().join("untied"), load(&out));
    model.head = Some(model.embedding.clone());
    write_model(&with(json!({"tie_word_embeddings": true})), &model, &untied, &WriteOptions::default()).unwrap();
    assert_eq!(load(&untied).head, Some(model.embedding));
}

#[test]
fn every_float_type_is_read_exactly() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let (temp, dir) = on_disk(&config(), &WriteOptions::default());
        let out = temp.path().join("typed");
        let convert = |t: &Tensor| Tensor::from_f32_as(dtype, t.shape, &t.to_f32().unwrap()).unwrap();
        rewrite(&dir, &out, |_, t| Some(convert(&t)));
        let mut want = random(&config());
        let cast = |l: &Linear| match l {
            Linear::Float(t) => Linear::Float(convert(t)),
            Linear::Quantized(_) => unreachable!(),
        };
        map_linears(&mut want, |_, _, l| cast(l));
        let got = load(&out);
        assert_eq!(got.embedding, cast(&want.embedding));
        let wgquant::model::Mixer::Mamba2(a) = &want.layers[0].mixer else { panic!() };
        let wgquant::model::Mixer::Mamba2(b) = &got.layers[0].mixer else { panic!() };
        assert_eq!(a.in_proj, b.in_proj);
        let rounded: Vec<f32> = a.conv_weight.iter().map(|v| wgquant::tensor::round_to(dtype, *v)).collect();
        assert_eq!(b.conv_weight, rounded);
    }
}

#[test]
fn vectors_are_never_rounded() {
    let options = WriteOptions { vector_dtype: DType::BF16, ..WriteOptions::default() };
    let (_temp, dir) = on_disk(&config(), &options);
    let (got, want) = (load(&dir), random(&config()));
    let wgquant::model::Mixer::Mamba2(a) = &want.layers[0].mixer else { panic!() };
    let wgquant::model::Mixer::Mamba2(b) = &got.layers[0].mixer else { panic!() };
    assert_eq!((&a.a_log, &a.d, &a.dt_bias), (&b.a_log, &b.d, &b.dt_bias));
    assert_eq!((&a.norm, &a.conv_weight), (&b.norm, &b.conv_weight));
}

#[test]
fn convolution_without_bias() {
    let config = with(json!({"use_conv_bias": false}));
    let mut model = random(&config);
    let temp = tempfile::tempdir().unwrap();
    let err = write_model(&config, &model, &temp.path().join("a"), &WriteOptions::default()).unwrap_err().to_string();
    says(&err, &["conv1d.bias", "use_conv_bias"]);
    for layer in &mut model.layers {
        if let wgquant::model::Mixer::Mamba2(m) = &mut layer.mixer {
            m.conv_bias.fill(0.0);
        }
    }
    write_model(&config, &model, &temp.path().join("b"), &WriteOptions::default()).unwrap();
    assert_eq!(load(&temp.path().join("b")), model);
}

#[test]
fn pure_mamba2() {
    let config = json!({
        "model_type": "mamba2", "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 4,
        "head_dim": 12, "state_size": 8, "n_groups": 1, "expand": 2, "tie_word_embeddings": true,
    });
    let (_temp, dir) = on_disk(&config, &WriteOptions::default());
    assert_eq!(load(&dir), random(&config));
}

/// A head that a transform unties takes bytes and is no more parameters, also written once more.
#[test]
fn an_untied_head_is_no_parameter() {
    let temp = tempfile::tempdir().unwrap();
    let mut json = config();
    json["tie_word_embeddings"] = true.into();
    let mut model = random(&json);
    assert!(model.head.is_none());
    let written = |json: &Value, model: &Model, name: &str| {
        let dir = temp.path().join(name);
        write_model(json, model, &dir, &WriteOptions::default()).unwrap();
        let file = ModelFile::open(&dir).unwrap();
        (file.parameters(), file.bytes(), file.checkpoint().config().clone())
    };
    let (parameters, bytes, _) = written(&json, &model, "tied");
    model.head = Some(model.embedding.clone());
    model.config.tied = false;
    let (untied, more, json) = written(&json, &model, "untied");
    assert!(untied == parameters && more > bytes && json["wgquant"]["untied_head"] == true, "{json}");
    assert_eq!(written(&json, &model, "again").0, parameters);
}

#[test]
fn rotation_is_kept_and_checked() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("rotated");
    let mut model = random(&config());
    model.rotation = OnlineRotation { out_proj: Some(24), down_proj: Some(20) };
    write_model(&config(), &model, &dir, &WriteOptions::default()).unwrap();
    assert_eq!(load(&dir), model);
    // Whoever does not know rotations is stopped, though nothing is quantized.
    let file = ModelFile::open(&dir).unwrap();
    is_own(&file.checkpoint().config()["quantization_config"]);
    assert!(!file.is_quantized());
    let path = dir.join("config.json");
    // As earlier versions wrote it: without that, or with the method's name where others look for it.
    for old in [json!(null), json!({ "quant_method": "wgquant", "config_groups": {} })] {
        let new = file.checkpoint().config()["quantization_config"].clone();
        edit_json(&path, |j| j["quantization_config"] = old);
        assert_eq!(load(&dir), model);
        edit_json(&path, |j| j["quantization_config"] = new);
    }
    edit_json(&path, |j| j["quantization_config"]["wgquant_method"] = json!("other"));
    says(&refusal(&dir), &["quantization_config.wgquant_method is \"other\""]);
    edit_json(&path, |j| j["quantization_config"]["wgquant_method"] = json!("wgquant"));
    edit_json(&path, |j| j["wgquant"]["rotation"]["down_proj"] = json!(7));
    says(&refusal(&dir), &["wgquant.rotation.down_proj is 7", "does not divide 40"]);
    edit_json(&path, |j| j["wgquant"]["rotation"]["down_proj"] = json!(5));
    says(&refusal(&dir), &["config.json", "wgquant.rotation.down_proj is 5", "Hadamard matrix"]);
    edit_json(&path, |j| j["wgquant"]["rotation"] = json!({"up_proj": 8}));
    says(&refusal(&dir), &["wgquant", "up_proj"]);
    edit_json(&path, |j| j["wgquant"] = json!({"version": 2}));
    says(&refusal(&dir), &["wgquant.version is 2", "newer"]);
}
