//! Every exact rewrite leaves the logits where they were to 1e-9, in f64, over random configurations.

mod by_hand;
mod by_recipe;
mod forward;
mod klt;
mod planted;

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgquant::model::{Block, Model, ModelConfig, ModelType};
use wgquant::transform::{Inputs, Matrix, Transform, Transformed};

use forward::{Extra, Wide};

/// Largest deviation allowed, of the logits' root mean square.
const EXACT: f64 = 1e-9;

/// A random model and everything random that goes with it.
#[derive(Debug)]
struct Setting {
    model: Model,
    tokens: Vec<usize>,
    seed: u64,
}

impl Setting {
    fn wide(&self, transform: Transform, inputs: &Inputs) -> Wide {
        Wide::new(&Transformed::with(&self.model, transform, inputs).unwrap())
    }

    fn plain(&self) -> Wide {
        self.wide(Transform::NONE, &Inputs::default())
    }

    fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(self.seed)
    }

    /// The deviation of a model's logits from the original's.
    fn deviation(&self, model: &Wide, extra: Extra<'_>) -> f64 {
        let want = self.plain().logits(&self.tokens, Extra::default());
        let got = model.logits(&self.tokens, extra);
        let rms = (want.iter().map(|v| v * v).sum::<f64>() / want.len() as f64).sqrt();
        assert!(rms > 0.01 && rms.is_finite() && got.len() == want.len(), "logits of rms {rms}");
        got.iter()
            .zip(&want)
            .map(|(g, w)| (g - w).abs() / rms)
            .fold(0.0, |m: f64, d| if d.is_nan() { d } else { m.max(d) })
    }

    /// Fails unless a model has the original's logits.
    fn same(&self, model: &Wide, what: &str) -> Result<(), TestCaseError> {
        let off = self.deviation(model, Extra::default());
        prop_assert!(off <= EXACT, "{what}: logits are {off:.2e} off");
        Ok(())
    }

    /// Statistics of the model under `base`, as the runtime's taps would give.
    fn stats(&self, base: Transform) -> Inputs {
        let mut inputs = Inputs::default();
        let model = self.wide(base, &Inputs::default());
        model.logits(&self.tokens, Extra { stats: Some(&mut inputs), ..Default::default() });
        inputs
    }
}

/// Sizes with Hadamard matrices by Sylvester (16, 8) and Paley (12, 20, 24, 28, 36), one to three groups, query heads
/// that share a KV head or not, tied heads and own ones.
fn settings() -> impl Strategy<Value = Setting> {
    let mamba = (1usize..4, 1usize..4, prop::sample::select(vec![4usize, 5, 8, 12]), 2usize..7);
    let attention = (1usize..4, 1usize..4, prop::sample::select(vec![4usize, 8, 12]));
    let hidden = prop::sample::select(vec![12usize, 16, 20, 24, 28, 36]);
    let mlp = prop::sample::select(vec![12usize, 24, 32, 36, 40, 56]);
    (mamba, attention, hidden, mlp, 1usize..5, any::<bool>(), any::<u64>()).prop_map(
        |((groups, heads, dim, state), (kv, repeats, head_dim), hidden, mlp, conv_kernel, tied, seed)| {
            let config = ModelConfig {
                model_type: ModelType::NemotronH,
                blocks: vec![Block::Mamba2, Block::Mlp, Block::Attention, Block::Mamba2],
                vocab_size: 19,
                hidden_size: hidden,
                intermediate_size: mlp,
                mamba_heads: groups * heads,
                mamba_head_dim: dim,
                n_groups: groups,
                state_size: state,
                conv_kernel,
                chunk_size: 16,
                attention_heads: kv * repeats,
                kv_heads: kv,
                head_dim,
                norm_eps: 1e-5,
                dt_limit: (0.0, f32::INFINITY),
                time_step_min: 1e-3,
                tied,
                bos: None,
                eos: vec![],
                max_positions: None,
            };
            let tokens = (0..12).map(|i| (i * 7 + seed as usize % 19) % 19).collect();
            Setting { model: Model::random(config, seed), tokens, seed }
        },
    )
}

/// Factors from 1/8 to 8.
fn factors(rng: &mut ChaCha8Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| rng.random_range(-3.0..3.0f64).exp2()).collect()
}

fn permutation(rng: &mut ChaCha8Rng, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in 1..n {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}

/// A random matrix that is well away from singular, stacked `count` times.
fn invertible(rng: &mut ChaCha8Rng, n: usize, count: usize) -> Vec<Matrix> {
    let diagonal = |i: usize| if i.is_multiple_of(n + 1) { 2.0 } else { 0.0 };
    let mut one = || (0..n * n).map(|i| diagonal(i) + rng.random_range(-1.0..1.0) / n as f64).collect();
    (0..count).map(|_| Matrix::new(n, n, one()).unwrap()).collect()
}

fn orthogonal(rng: &mut ChaCha8Rng, n: usize) -> Matrix {
    let values = (0..n * n).map(|_| rng.random_range(-1.0..1.0)).collect();
    Matrix::new(n, n, values).unwrap().orthonormalized().unwrap()
}
