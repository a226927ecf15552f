//! A model from bytes is the model from the disk.

use std::fs;

use wgquant::checkpoint::Checkpoint;
use wgquant::model::{Model, ModelFile, WriteOptions};

use super::common::{config, on_disk, says};

#[test]
fn bytes_give_what_the_directory_gives() {
    let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let weights = fs::read(dir.join("model.safetensors")).unwrap();
    let file = ModelFile::new(Checkpoint::from_bytes("tiny", &text, weights).unwrap()).unwrap();
    let disk = ModelFile::open(&dir).unwrap();
    assert_eq!(Model::load(&file).unwrap(), Model::load(&disk).unwrap());
    assert_eq!((file.bytes(), file.parameters()), (disk.bytes(), disk.parameters()));
}

#[test]
fn damage_is_named() {
    let (_temp, dir) = on_disk(&config(), &WriteOptions::default());
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let mut weights = fs::read(dir.join("model.safetensors")).unwrap();
    let refused = |text: &str, weights: &[u8]| Checkpoint::from_bytes("tiny", text, weights.to_vec()).unwrap_err();
    says(&refused("{", &weights).to_string(), &["tiny/config.json", "is not JSON"]);
    weights.pop();
    says(&refused(&text, &weights).to_string(), &["tiny/model.safetensors", "truncated"]);
}
