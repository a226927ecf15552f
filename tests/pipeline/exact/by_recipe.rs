//! The rewrites as recipes name them, calibrated where they need it, alone and all at once.

use proptest::prelude::*;
use wgquant::hadamard;
use wgquant::model::{Block, OnlineRotation};
use wgquant::transform::{Inputs, Matrix, Permutation, Rotation, Smooth, Transform};

use super::forward::Extra;
use super::{Setting, invertible, orthogonal, settings};

const ROTATIONS: [Rotation; 5] =
    [Rotation::Hadamard, Rotation::RandomHadamard(5), Rotation::Klt, Rotation::KltHadamard, Rotation::Given];

/// Everything that any transform of the model may ask for.
fn inputs(s: &Setting, base: Transform) -> Inputs {
    let (mut inputs, mut rng, c) = (s.stats(base), s.rng(), &s.model.config);
    inputs.given.insert("residual".into(), orthogonal(&mut rng, c.hidden_size));
    for (i, _) in c.blocks.iter().enumerate().filter(|(_, b)| **b == Block::Attention) {
        for what in ["values", "keys"] {
            let all = invertible(&mut rng, c.head_dim, c.kv_heads);
            let stacked = all.iter().flat_map(|t| t.values()).copied().collect();
            let stacked = Matrix::new(c.kv_heads * c.head_dim, c.head_dim, stacked).unwrap();
            inputs.given.insert(format!("layer.{i}.{what}"), stacked);
        }
    }
    inputs
}

fn smooth(alpha: f64) -> Smooth {
    let alpha = Some(alpha.into());
    Smooth { norms: None, gated_norm: alpha, conv: alpha, relu2: alpha, values: alpha }
}

/// Block sizes of Hadamard transforms that divide `width`.
fn blocks(width: usize) -> Vec<usize> {
    (1..=width).filter(|b| width.is_multiple_of(*b) && hadamard::factor(*b).is_some()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn residual_rotations(s in settings()) {
        let fold = Transform { fold_norms: true, ..Transform::NONE };
        let inputs = inputs(&s, fold);
        for kind in ROTATIONS {
            s.same(&s.wide(Transform { residual: Some(kind), ..fold }, &inputs), &format!("{kind:?}"))?;
        }
    }

    #[test]
    fn rotations_of_heads(s in settings()) {
        let inputs = inputs(&s, Transform::NONE);
        for kind in ROTATIONS {
            let transform = Transform { values: Some(kind), keys: Some(kind), ..Transform::NONE };
            s.same(&s.wide(transform, &inputs), &format!("{kind:?}"))?;
        }
    }

    #[test]
    fn online_rotations(s in settings()) {
        let c = &s.model.config;
        for out_proj in blocks(c.d_inner()) {
            let online = OnlineRotation { out_proj: Some(out_proj), down_proj: None };
            s.same(&s.wide(Transform { online, ..Transform::NONE }, &Inputs::default()), &format!("{online:?}"))?;
        }
        for down_proj in blocks(c.intermediate_size) {
            let online = OnlineRotation { out_proj: None, down_proj: Some(down_proj) };
            s.same(&s.wide(Transform { online, ..Transform::NONE }, &Inputs::default()), &format!("{online:?}"))?;
        }
    }

    #[test]
    fn smoothing(s in settings(), alpha in 0.0..=1.0f64) {
        let inputs = inputs(&s, Transform::NONE);
        let all = Smooth { norms: Some(alpha.into()), ..smooth(alpha) };
        s.same(&s.wide(Transform { smooth: all, ..Transform::NONE }, &inputs), "smoothing")?;
    }

    /// Smoothing, permutations and rotations on top of each other, each with statistics of the base.
    #[test]
    fn all_at_once(s in settings(), kind in prop::sample::select(ROTATIONS.to_vec()), alpha in 0.0..=1.0f64) {
        let c = &s.model.config;
        let base = Transform { fold_norms: true, ..Transform::NONE };
        let inputs = inputs(&s, base);
        for (permute, out_proj, down_proj) in [
            (Permutation::Sort, None, None),
            (Permutation::Balance, blocks(c.mamba_head_dim).pop(), Some(4)),
            (Permutation::Balance, blocks(c.d_inner() / c.n_groups).pop(), Some(2)),
        ] {
            let transform = Transform {
                smooth: smooth(alpha),
                permute: Some(permute),
                values: Some(kind),
                keys: Some(kind),
                residual: Some(kind),
                online: OnlineRotation { out_proj, down_proj },
                ..base
            };
            prop_assert_eq!(transform.base(), base);
            s.same(&s.wide(transform, &inputs), &format!("{transform:?}"))?;
        }
    }

    /// The same statistic after smoothing is what the factors say.
    #[test]
    fn smoothing_evens_out_the_activation(s in settings()) {
        let before = s.stats(Transform::NONE);
        let transform = Transform { smooth: Smooth { relu2: Some(1.0.into()), ..Smooth::NONE }, ..Transform::NONE };
        let mut after = Inputs::default();
        let model = s.wide(transform, &before);
        model.logits(&s.tokens, Extra { stats: Some(&mut after), ..Default::default() });
        let spread = |i: &Inputs| {
            let absmax = &i.stats["layer.1.up_proj"].absmax;
            let live = absmax.iter().filter(|v| **v > 0.0);
            live.clone().fold(0.0, |m: f64, v| m.max(*v)) / live.fold(f64::INFINITY, |m: f64, v| m.min(*v))
        };
        // Two factors of 8 bits each, or the cut at 2^20.
        prop_assert!(spread(&after) < 1.04 || spread(&before) > 1048576.0, "{} of {}", spread(&after), spread(&before));
    }
}
