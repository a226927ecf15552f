//! Exact rewrites leave the logits where they were, over random models.

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Block, Model, ModelConfig, ModelFile, ModelSource, ModelType, OnlineRotation};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::transform::{Rotation, Transform, Transformed};

use crate::common;

fn logits(source: &dyn ModelSource) -> Vec<f32> {
    let mut engine = Engine::new(&Device::Cpu, source, EngineOptions { context: 64, ..Default::default() }).unwrap();
    let vocab = source.config().vocab_size as u32;
    let tokens: Vec<u32> = (0..40).map(|i| (i * 37 + 5) % vocab).collect();
    let mut all = Vec::new();
    block_on(engine.feed_all(&tokens, |_, l| {
        all.extend_from_slice(l);
        Ok(())
    }))
    .unwrap();
    all
}

fn config(hidden: usize, intermediate: usize, heads: usize, head_dim: usize, groups: usize, tied: bool) -> ModelConfig {
    ModelConfig {
        model_type: ModelType::NemotronH,
        blocks: vec![Block::Mamba2, Block::Mlp, Block::Attention, Block::Mlp, Block::Mamba2],
        vocab_size: 97,
        hidden_size: hidden,
        intermediate_size: intermediate,
        mamba_heads: heads,
        mamba_head_dim: head_dim,
        n_groups: groups,
        state_size: 16,
        conv_kernel: 4,
        chunk_size: 16,
        attention_heads: 4,
        kv_heads: 2,
        head_dim: 16,
        norm_eps: 1e-5,
        dt_limit: (0.0, f32::INFINITY),
        time_step_min: 1e-3,
        tied,
        bos: None,
        eos: vec![],
        max_positions: None,
    }
}

fn configs() -> Vec<ModelConfig> {
    vec![
        config(64, 96, 4, 16, 2, false),
        config(48, 168, 6, 20, 1, true),  // orders 12, 84, 60 x 2
        config(80, 144, 8, 12, 4, false), // orders 20, 36, 12
    ]
}

fn sites(c: &ModelConfig) -> Vec<Transform> {
    let none = Transform::NONE;
    let (group, mlp) = (c.d_inner() / c.n_groups, c.intermediate_size);
    vec![
        Transform { fold_norms: true, ..none },
        Transform { fold_norms: true, residual: Some(Rotation::RandomHadamard(7)), ..none },
        Transform { online: OnlineRotation { out_proj: Some(group), down_proj: None }, ..none },
        Transform { online: OnlineRotation { out_proj: None, down_proj: Some(mlp) }, ..none },
        Transform { online: OnlineRotation { out_proj: Some(4), down_proj: Some(8) }, ..none },
        Transform::hadamard(c, 3).unwrap(),
    ]
}

#[test]
fn every_rewrite_keeps_the_logits() {
    for (seed, config) in configs().into_iter().enumerate() {
        let model = Model::random(config.clone(), seed as u64);
        let want = logits(&model);
        for transform in sites(&config) {
            let got = logits(&Transformed::new(&model, transform).unwrap());
            let (nmse, _) = error(&got, &want);
            assert!(nmse <= 1e-9, "hidden {}: {transform:?}: NMSE {nmse:.3e}", config.hidden_size);
        }
    }
}

#[test]
fn rotation_keeps_the_logits_of_nano() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let transform = Transform::hadamard(file.config(), 0).unwrap();
    assert_eq!(transform.online, OnlineRotation { out_proj: Some(128), down_proj: Some(672) });
    let (nmse, _) = error(&logits(&Transformed::new(&file, transform).unwrap()), &logits(&file));
    assert!(nmse <= 1e-9, "NMSE {nmse:.3e}");
}

#[test]
fn a_rotation_that_is_not_undone_shows() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut model = Model::load(&file).unwrap();
    model.rotation.down_proj = Some(32);
    assert!(error(&logits(&model), &logits(&file)).0 > 1e-2);
}

#[test]
fn rejects_rewrites_that_do_not_fit() {
    let model = Model::random(configs().remove(0), 1);
    let fails = |t: Transform| Transformed::new(&model, t).err().unwrap().to_string();
    assert!(fails(Transform { residual: Some(Rotation::RandomHadamard(1)), ..Transform::NONE }).contains("needs norm folding"));
    let online = OnlineRotation { out_proj: Some(48), down_proj: None };
    assert!(fails(Transform { online, ..Transform::NONE }).contains("block 48 over width 64"));
    let rotated = Transformed::new(&model, Transform::hadamard(model.config(), 1).unwrap()).unwrap();
    assert!(Transformed::new(&rotated, Transform::NONE).err().unwrap().to_string().contains("rotated already"));
}
