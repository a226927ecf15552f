//! A whole model in memory: for small models, tests and transforms.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    Attention, Block, Layer, Linear, Mamba2, Mixer, Mlp, ModelConfig, ModelSource, OnlineRotation, Role, WeightForm,
};
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// All parts of a model. As a [`ModelSource`] it hands out copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Shape.
    pub config: ModelConfig,
    /// Rotations applied at run time.
    pub rotation: OnlineRotation,
    /// Token embedding, `[vocab, hidden]`.
    pub embedding: Linear,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// Final norm, `[hidden]`.
    pub norm_f: Vec<f32>,
    /// Output head, `[vocab, hidden]`; `None` when tied.
    pub head: Option<Linear>,
}

impl Model {
    /// Copies every part of `source`.
    ///
    /// # Errors
    /// Whatever `source` gives.
    pub fn load(source: &dyn ModelSource) -> Result<Self> {
        let config = source.config().clone();
        Ok(Self {
            rotation: source.rotation(),
            embedding: source.embedding()?,
            layers: (0..config.blocks.len()).map(|i| source.layer(i)).collect::<Result<_>>()?,
            norm_f: source.norm_f()?,
            head: source.head()?,
            config,
        })
    }

    /// A model with random f32 weights, the same for the same `seed`: sized so that activations stay near 1, steps
    /// and decays as Mamba-2 initialises them.
    ///
    /// # Panics
    /// With a `conv_kernel` or a width of 0, which no configuration has that was read.
    #[must_use]
    pub fn random(config: ModelConfig, seed: u64) -> Self {
        let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        Self {
            rotation: OnlineRotation::default(),
            embedding: Linear::Float(Tensor::from_f32([vocab, hidden], &random.uniform(vocab * hidden, -1.7, 1.7))),
            layers: config.blocks.iter().map(|block| random.layer(&config, *block)).collect(),
            norm_f: random.uniform(hidden, 0.7, 1.3),
            head: (!config.tied).then(|| random.linear(vocab, hidden)),
            config,
        }
    }
}

/// Draws weights in a fixed order.
struct Random(ChaCha8Rng);

impl Random {
    fn uniform(&mut self, n: usize, low: f32, high: f32) -> Vec<f32> {
        (0..n).map(|_| self.0.random_range(low..high)).collect()
    }

    /// Variance 1 / `cols`, so that outputs have the variance of inputs.
    fn linear(&mut self, rows: usize, cols: usize) -> Linear {
        let limit = (3.0 / cols as f32).sqrt();
        Linear::Float(Tensor::from_f32([rows, cols], &self.uniform(rows * cols, -limit, limit)))
    }

    fn layer(&mut self, config: &ModelConfig, block: Block) -> Layer {
        let norm = self.uniform(config.hidden_size, 0.7, 1.3);
        let mixer = match block {
            Block::Mamba2 => Mixer::Mamba2(self.mamba2(config)),
            Block::Attention => Mixer::Attention(self.attention(config)),
            Block::Mlp => Mixer::Mlp(Mlp {
                up_proj: self.linear(config.intermediate_size, config.hidden_size),
                down_proj: self.linear(config.hidden_size, config.intermediate_size),
            }),
        };
        Layer { norm, mixer }
    }

    fn mamba2(&mut self, c: &ModelConfig) -> Mamba2 {
        let (heads, limit) = (c.mamba_heads, (c.conv_kernel as f32).sqrt().recip());
        // The inverse of softplus, ln(e^dt - 1): the step is dt where the projection gives 0.
        let dt_bias = self.uniform(heads, 0.001, 0.1).into_iter().map(|dt| dt.exp_m1().ln()).collect();
        Mamba2 {
            in_proj: self.linear(c.in_proj_rows(), c.hidden_size),
            conv_weight: self.uniform(c.conv_dim() * c.conv_kernel, -limit, limit),
            conv_bias: self.uniform(c.conv_dim(), -limit, limit),
            dt_bias,
            a_log: self.uniform(heads, 1.0, 16.0).into_iter().map(f32::ln).collect(),
            d: self.uniform(heads, 0.5, 1.5),
            norm: self.uniform(c.d_inner(), 0.7, 1.3),
            out_proj: self.linear(c.hidden_size, c.d_inner()),
        }
    }

    fn attention(&mut self, c: &ModelConfig) -> Attention {
        let (q, kv, hidden) = (c.attention_heads * c.head_dim, c.kv_heads * c.head_dim, c.hidden_size);
        Attention {
            q_proj: self.linear(q, hidden),
            k_proj: self.linear(kv, hidden),
            v_proj: self.linear(kv, hidden),
            o_proj: self.linear(hidden, q),
        }
    }
}

impl ModelSource for Model {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn rotation(&self) -> OnlineRotation {
        self.rotation
    }

    fn forms(&self) -> Result<Option<Vec<WeightForm>>> {
        let linears = self.layers.iter().flat_map(Layer::linears).map(|(_, linear)| linear).chain(&self.head);
        let embedding = WeightForm::of(&self.embedding, Role::Embedding);
        Ok(Some(std::iter::once(embedding).chain(linears.map(|l| WeightForm::of(l, Role::Linear))).collect()))
    }

    fn embedding(&self) -> Result<Linear> {
        Ok(self.embedding.clone())
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let missing = || Error::argument("layer", format!("{index}, but the model has {}", self.layers.len()));
        self.layers.get(index).cloned().ok_or_else(missing)
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        Ok(self.norm_f.clone())
    }

    fn head(&self) -> Result<Option<Linear>> {
        Ok(self.head.clone())
    }
}
