//! The trained models of this project, where they are present.

use wgquant::model::{Model, ModelFile, ModelSource, WriteOptions, write_model};

use crate::shared::shared;

#[test]
fn trained_models_open_and_survive_a_copy() {
    for (name, millions, blocks) in [("nano", 1.73, 9), ("mamba2", 6.42, 10), ("small", 29.08, 14)] {
        let Some(dir) = shared(name) else { continue };
        let file = ModelFile::open(&dir).unwrap();
        assert!((file.parameters() as f64 / 1e6 - millions).abs() < 0.006, "{name}: {}", file.parameters());
        assert_eq!(file.config().blocks.len(), blocks);
        let model = Model::load(&file).unwrap();
        assert_eq!(model.head.is_none(), name == "mamba2");
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("copy");
        write_model(file.checkpoint().config(), &file, &out, &WriteOptions::like(&file).unwrap()).unwrap();
        assert_eq!(Model::load(&ModelFile::open(&out).unwrap()).unwrap(), model, "{name}");
        assert!(out.join("tokenizer.json").is_file());
    }
}

#[test]
fn another_family_is_refused_by_name() {
    let Some(dir) = shared("gpt2") else { return };
    let err = ModelFile::open(&dir).unwrap_err().to_string();
    assert!(err.contains("model_type is gpt2"), "{err}");
}
