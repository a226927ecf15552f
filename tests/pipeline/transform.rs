//! Exact rewrites leave the logits where they were, over random models.

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::check::error;
use wgquant::model::{Block, Group, Model, ModelConfig, ModelFile, ModelSource, ModelType, OnlineRotation};
use wgquant::recipe::{Bits, Recipe};
use wgquant::runtime::{Engine, EngineOptions, Stage, Tap};
use wgquant::tensor::DType;
use wgquant::transform::{Inputs, Matrix, Permutation, Rotation, SiteStats, Smooth, Transform, Transformed};

use crate::common;

pub(super) fn logits(source: &dyn ModelSource) -> Vec<f32> {
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
        Transform { values: Some(Rotation::RandomHadamard(2)), keys: Some(Rotation::Hadamard), ..none },
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

/// Mean, largest and mean product of the channels of every tap, under the tap's own name.
pub(super) fn statistics(model: &dyn ModelSource) -> Inputs {
    let mut engine = Engine::new(&Device::Cpu, model, EngineOptions { context: 64, ..Default::default() }).unwrap();
    let tokens: Vec<u32> = (0..48).map(|i| (i * 37 + 5) % model.config().vocab_size as u32).collect();
    let stats = |tap: Tap| {
        let (n, values) = (tap.shape.cols(), &tap.values);
        let column = |c: usize| values.iter().skip(c).step_by(n).map(|v| f64::from(*v));
        let mean = |i, j| column(i).zip(column(j)).map(|(a, b)| a * b).sum::<f64>() / tap.shape.rows() as f64;
        let wide = tap.name.ends_with("norm") || tap.name.ends_with("attention");
        let stats = SiteStats {
            absmax: (0..n).map(|c| column(c).fold(0.0, |m: f64, v| m.max(v.abs()))).collect(),
            rms: (0..n).map(|c| mean(c, c).sqrt()).collect(),
            covariance: if wide { (0..n * n).map(|i| mean(i / n, i % n)).collect() } else { vec![] },
            ..Default::default()
        };
        (tap.name, stats)
    };
    let taps = block_on(engine.trace_on(&tokens, &[])).unwrap();
    Inputs { stats: taps.into_iter().map(stats).collect(), ..Default::default() }
}

/// Statistics by the names of the engine's own taps, weights rounded to f32: everything at once on a trained model.
#[test]
fn calibrated_rewrites_keep_the_logits_of_nano() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let alpha = Some(0.5.into());
    let transform = Transform {
        smooth: Smooth { norms: None, gated_norm: alpha, conv: alpha, relu2: alpha, values: alpha },
        permute: Some(Permutation::Balance),
        values: Some(Rotation::KltHadamard),
        keys: Some(Rotation::Klt),
        residual: Some(Rotation::KltHadamard),
        online: OnlineRotation { out_proj: Some(32), down_proj: Some(32) },
        ..Transform::NONE
    };
    let transform = Transform { fold_norms: true, ..transform };
    assert!(transform.needs_stats() && !Transform::hadamard(file.config(), 0).unwrap().needs_stats());
    let inputs = statistics(&Transformed::new(&file, transform.base()).unwrap());
    let (nmse, _) = error(&logits(&Transformed::with(&file, transform, &inputs).unwrap()), &logits(&file));
    assert!(nmse <= 1e-9, "NMSE {nmse:.3e}");
}

#[test]
fn recipes_spell_transforms() {
    let written = "fold_norms = true\nresidual = 7\n\n[online]\nout_proj = 128\n";
    let read: Transform = toml::from_str(written).unwrap();
    let online = OnlineRotation { out_proj: Some(128), down_proj: None };
    let residual = Some(Rotation::RandomHadamard(7));
    assert_eq!(read, Transform { fold_norms: true, residual, online, ..Transform::NONE });
    assert_eq!(toml::to_string(&read).unwrap(), written);
    let all = Transform {
        smooth: Smooth { relu2: Some(0.5.into()), ..Smooth::NONE },
        permute: Some(Permutation::Sort),
        values: Some(Rotation::KltHadamard),
        keys: Some(Rotation::Klt),
        residual: Some(Rotation::Given),
        ..read
    };
    let text = toml::to_string(&all).unwrap();
    assert!(text.contains("values = \"klt-hadamard\"") && text.contains("relu2 = 0.5"), "{text}");
    assert_eq!(toml::from_str::<Transform>(&text).unwrap(), all);
    let fails = |text: &str| toml::from_str::<Transform>(&format!("{text}\n{written}")).unwrap_err().to_string();
    assert!(fails("values = \"fourier\"").contains("a seed, or one of `hadamard`, `klt`, `klt-hadamard`"));
    assert!(!fails("values = \"fourier\"").contains("given"));
    assert!(fails("permute = \"shuffle\"").contains("`balance` or `sort`"));
    assert!(fails("smooth = { relu2 = true }").contains("an exponent: a number, or `search`"));
    assert!(fails("smooth = { down_proj = 0.5 }").contains("unknown field `down_proj`"));
}

#[test]
fn a_rotation_that_is_not_undone_shows() {
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut model = Model::load(&file).unwrap();
    model.rotation.down_proj = Some(32);
    assert!(error(&logits(&model), &logits(&file)).0 > 1e-2);
}

#[test]
fn online_rotations_in_blocks_where_they_fit() {
    for config in configs() {
        let whole = Transform::hadamard(&config, 0).unwrap();
        let norm = config.d_inner() / config.n_groups;
        for block in [1, 4, 12, 32] {
            let OnlineRotation { out_proj, down_proj } = whole.in_blocks(&config, block).online;
            let want =
                |own: Option<usize>, width: usize| own.map(|own| if width.is_multiple_of(block) { block } else { own });
            assert_eq!(out_proj, want(whole.online.out_proj, norm), "{block} of {norm}");
            assert_eq!(down_proj, want(whole.online.down_proj, config.intermediate_size));
        }
        assert_eq!(whole.in_blocks(&config, 0), whole);
    }
    assert_eq!(Transform::NONE.in_blocks(&configs()[0], 32), Transform::NONE);
    let model = Model::random(configs().remove(0), 1);
    let in_blocks = Transform::hadamard(model.config(), 1).unwrap().in_blocks(model.config(), 4);
    let nmse = error(&logits(&Transformed::new(&model, in_blocks).unwrap()), &logits(&model)).0;
    assert!(nmse < 1e-9, "{nmse:.3e}");
}

/// One width without a Hadamard matrix is no reason to leave others as they are, nor is one that is not there.
#[test]
fn sites_are_judged_alone() {
    let mut config = configs().remove(0);
    config.intermediate_size = 236;
    assert!(Transform::hadamard(&config, 0).unwrap_err().to_string().contains("intermediate_size 236"));
    assert!(Transform::hadamard_in(&config, 0, Some(8)).is_err()); // no divisor
    let online = |c: &ModelConfig, block| Transform::hadamard_in(c, 0, block).unwrap().online;
    assert_eq!(online(&config, Some(4)), OnlineRotation { out_proj: Some(4), down_proj: Some(4) });
    config.blocks.retain(|b| *b != Block::Mlp);
    assert_eq!(online(&config, None), OnlineRotation { out_proj: Some(32), down_proj: None });
    // Heads of no block.
    let mut config = configs().remove(0);
    config.blocks.retain(|b| *b != Block::Mamba2);
    (config.mamba_heads, config.n_groups) = (59, 1);
    assert_eq!(online(&config, None), OnlineRotation { out_proj: None, down_proj: Some(96) });
    config.hidden_size = 118;
    assert_eq!(Transform::hadamard(&config, 0).unwrap().residual, None);
}

#[test]
fn rejects_rewrites_that_do_not_fit() {
    let model = Model::random(configs().remove(0), 1);
    let fails = |t: Transform| Transformed::new(&model, t).err().unwrap().to_string();
    assert!(
        fails(Transform { residual: Some(Rotation::RandomHadamard(1)), ..Transform::NONE })
            .contains("needs norm folding")
    );
    let online = OnlineRotation { out_proj: Some(48), down_proj: None };
    assert!(fails(Transform { online, ..Transform::NONE }).contains("block 48 over width 64"));
    // 0 divides by anything, but there is nothing to rotate.
    let mut config = model.config().clone();
    config.blocks.retain(|b| *b == Block::Attention);
    (config.intermediate_size, config.head_dim) = (0, 14);
    let attention = Model::random(config, 1);
    let fails = |t: Transform| Transformed::new(&attention, t).err().unwrap().to_string();
    let online = |out_proj, down_proj| Transform { online: OnlineRotation { out_proj, down_proj }, ..Transform::NONE };
    assert!(fails(online(None, Some(32))).contains("before down_proj: block 32, but the model has no MLP block"));
    assert!(fails(online(Some(32), None)).contains("before out_proj: block 32, but the model has no Mamba-2 block"));
    for (kind, needs) in [(Rotation::RandomHadamard(1), true), (Rotation::KltHadamard, true), (Rotation::Klt, false)] {
        for (what, t) in [
            ("values", Transform { values: Some(kind), ..Transform::NONE }),
            ("keys", Transform { keys: Some(kind), ..Transform::NONE }),
        ] {
            let refused = Transformed::new(&attention, t).err().map(|e| e.to_string());
            let said =
                refused.is_some_and(|e| e.contains(&format!("rotation of {what}: no Hadamard")) && e.contains("14"));
            assert_eq!(said, needs, "{what} by {kind:?}");
        }
    }
    let rotated = Transformed::new(&model, Transform::hadamard(model.config(), 1).unwrap()).unwrap();
    assert!(Transformed::new(&rotated, Transform::NONE).err().unwrap().to_string().contains("rotated already"));
}

/// Of a configuration that was made by hand.
#[test]
fn sizes_of_no_model_are_refused() {
    let mut config = configs().remove(0);
    config.mamba_head_dim = usize::MAX / 2;
    let recipe = Recipe::uniform(&config, Bits::W8A8, Group::Channel, false, DType::BF16, Transform::NONE);
    for error in [Transform::hadamard(&config, 0).err().unwrap(), recipe.modules(&config).err().unwrap()] {
        assert!(error.to_string().contains("mamba_head_dim of 9223372036854775807"), "{error}");
    }
    assert!(Stage::new(&Device::Cpu, &config, OnlineRotation::default(), 8, 8).is_err());
}

#[test]
fn rejects_inputs_that_are_missing_or_wrong() {
    let model = Model::random(configs().remove(0), 1);
    let (base, n) = (Transform { fold_norms: true, ..Transform::NONE }, model.config.hidden_size);
    let fails = |t: Transform, inputs: &Inputs| match Transformed::with(&model, t, inputs) {
        Ok(t) => (0..5).find_map(|i| t.layer(i).err()).unwrap().to_string(),
        Err(e) => e.to_string(),
    };
    let none = Inputs::default();
    let smooth = Smooth { relu2: Some(0.5.into()), ..Smooth::NONE };
    assert!(fails(Transform { smooth, ..base }, &none).contains("needs statistics of `layer.1.up_proj`"));
    assert!(fails(Transform { permute: Some(Permutation::Sort), ..base }, &none).contains("`layer.0.gated_norm`"));
    assert!(fails(Transform { permute: Some(Permutation::Balance), ..base }, &none).contains("no online rotation"));
    assert!(fails(Transform { residual: Some(Rotation::Klt), ..base }, &none).contains("no covariance"));
    assert!(fails(Transform { residual: Some(Rotation::Given), ..base }, &none).contains("given for `residual`"));
    assert!(
        fails(Transform { keys: Some(Rotation::Klt), ..base }, &none).contains("needs statistics of `layer.2.norm`")
    );
    let smooth = Smooth { norms: Some(0.5.into()), ..Smooth::NONE };
    assert!(fails(Transform { smooth, ..base }, &none).contains("no norm folding"));
    let smooth = Smooth { values: Some(1.5.into()), ..Smooth::NONE };
    assert!(fails(Transform { smooth, ..base }, &none).contains("exponent 1.5"));
    let mut inputs = Inputs::default();
    inputs.stats.insert("layer.1.up_proj".into(), SiteStats { absmax: vec![1.0; 3], ..Default::default() });
    let smooth = Smooth { relu2: Some(0.5.into()), ..Smooth::NONE };
    assert!(fails(Transform { smooth, ..base }, &inputs).contains("3 values of absmax, expected 96"));
    let mut skewed = Matrix::identity(n);
    skewed.values_mut()[1] = 0.1;
    inputs.given.insert("residual".into(), skewed);
    assert!(fails(Transform { residual: Some(Rotation::Given), ..base }, &inputs).contains("1.00e-1 off the identity"));
    inputs.given.insert("residual".into(), Matrix::identity(n - 1));
    assert!(
        fails(Transform { residual: Some(Rotation::Given), ..base }, &inputs)
            .contains("is [63, 63], expected [64, 64]")
    );
}
