//! Models of published shapes with seeded random weights, drawn in their quantized form layer by layer: to measure
//! speed and memory where no weights can be had.
//!
//! Weights have variance 1 / inputs, those that write to the residual stream less by the number of blocks, and decay
//! and step are as Mamba-2 initialises them (arXiv:2405.21060): activations stay finite and near 1.

mod draw;
mod scheme;
mod shapes;

use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::{
    Attention, Block, Layer, Linear, Mamba2, Mixer, Mlp, ModelConfig, ModelSource, Names, OnlineRotation,
    QuantizedLinear, Role, WeightForm, uses_conv_bias,
};
use crate::recipe::{Module, Recipe};
use crate::tensor::Shape;
use draw::Stream;

pub use scheme::recipe;
pub use shapes::{cut, names, shape};

/// A [`ModelSource`] that makes each part as it is asked for, always the same for the same seed.
#[derive(Clone, Debug)]
pub struct Synth {
    config: ModelConfig,
    /// Does the convolution have a bias?
    bias: bool,
    json: Value,
    recipe: Recipe,
    modules: Vec<Module>,
    parameters: u64,
    seed: u64,
}

impl Synth {
    /// A model of the shape that `json`, a `config.json`, says, in the forms that `recipe` gives its weights.
    ///
    /// # Errors
    /// As [`ModelConfig::from_json`] and [`Recipe::modules`].
    pub fn new(json: Value, recipe: Recipe, seed: u64) -> Result<Self> {
        let path = Path::new("config.json");
        let (mut config, bias) = (ModelConfig::from_json(path, &json)?, uses_conv_bias(path, &json)?);
        let modules = recipe.modules(&config)?;
        // A head that folding unties adds bytes and none of those.
        let all = Names::default().expected(&config, bias);
        let parameters = all.iter().map(|t| t.shape.iter().map(|n| *n as u64).product::<u64>()).sum();
        config.tied &= !recipe.transform.fold_norms;
        Ok(Self { config, bias, json, recipe, modules, parameters, seed })
    }

    /// Its `config.json`, without what quantizing adds.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The recipe its forms are from.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Parameters of the original, whatever their form.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes its tensors take in a file, vectors as f32.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tensors = Names::default().expected(&self.config, self.bias);
        let vectors = tensors.iter().filter(|t| t.role == Role::Vector);
        let vectors: u64 = vectors.map(|t| 4 * t.shape.iter().map(|n| *n as u64).product::<u64>()).sum();
        vectors + self.modules.iter().map(|m| m.bytes(self.recipe.float)).sum::<u64>()
    }

    fn stream(&self, name: &str) -> Stream {
        Stream::new(self.seed, name)
    }

    fn vector(&self, name: &str, count: usize, low: f32, high: f32) -> Vec<f32> {
        let stream = self.stream(name);
        (0..count).map(|i| stream.uniform(i, low, high)).collect()
    }

    /// Ones where the recipe folds norms into weights.
    fn norm(&self, name: &str, count: usize, folded: bool) -> Vec<f32> {
        if folded && self.recipe.transform.fold_norms { vec![1.0; count] } else { self.vector(name, count, 0.7, 1.3) }
    }

    /// The weight of `module` with elements of this standard deviation.
    fn linear(&self, module: &str, deviation: f32) -> Result<Linear> {
        let missing = || Error::argument("synth", format!("the recipe has no module `{module}`"));
        let module = self.modules.iter().find(|m| m.name == module).ok_or_else(missing)?;
        let (stream, shape) = (self.stream(&module.name), Shape::from([module.rows, module.cols]));
        let Some(format) = &module.weights else {
            return Ok(Linear::Float(draw::floats(stream, shape, self.recipe.float, deviation)?));
        };
        let (codes, scales) = draw::quantized(stream, shape, format, deviation)?;
        let (bits, group, activations) = (format.bits, format.group, module.activations);
        // As if inputs lay within 4 deviations of 1.
        let input_scales = vec![4.0 / 127.0; activations.stored_scales(module.cols)];
        Ok(Linear::Quantized(QuantizedLinear { bits, group, codes, scales, activations, input_scales }))
    }

    /// Of block `index`, the layer called `part`, of `inputs` inputs.
    fn part(&self, index: usize, part: &str, inputs: usize) -> Result<Linear> {
        let writes_stream = matches!(part, "out_proj" | "o_proj" | "down_proj");
        let blocks = if writes_stream { self.config.blocks.len() as f32 } else { 1.0 };
        let name = Names::default().mixer(index, part);
        self.linear(&name, (inputs as f32 * blocks).sqrt().recip())
    }

    fn mamba2(&self, index: usize) -> Result<Mamba2> {
        let c = &self.config;
        let name = |part: &str| Names::default().mixer(index, part);
        let limit = (c.conv_kernel as f32).sqrt().recip();
        let heads = c.mamba_heads;
        let bias = || self.vector(&name("conv1d.bias"), c.conv_dim(), -limit, limit);
        // Uniform in the logarithm; then the inverse of softplus, ln(e^dt - 1).
        let steps = self.vector(&name("dt_bias"), heads, 0.001f32.ln(), 0.1f32.ln());
        Ok(Mamba2 {
            in_proj: self.part(index, "in_proj", c.hidden_size)?,
            conv_weight: self.vector(&name("conv1d.weight"), c.conv_dim() * c.conv_kernel, -limit, limit),
            conv_bias: if self.bias { bias() } else { vec![0.0; c.conv_dim()] },
            dt_bias: steps.into_iter().map(|ln| ln.exp().exp_m1().ln()).collect(),
            a_log: self.vector(&name("A_log"), heads, 1.0, 16.0).into_iter().map(f32::ln).collect(),
            d: vec![1.0; heads],
            norm: self.norm(&name("norm.weight"), c.d_inner(), false),
            out_proj: self.part(index, "out_proj", c.d_inner())?,
        })
    }
}

impl ModelSource for Synth {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn rotation(&self) -> OnlineRotation {
        self.recipe.transform.online
    }

    fn forms(&self) -> Result<Option<Vec<WeightForm>>> {
        Ok(Some(self.modules.iter().map(|m| m.form(self.recipe.float)).collect()))
    }

    fn embedding(&self) -> Result<Linear> {
        self.linear(&Names::default().embedding(), 1.0)
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let c = &self.config;
        let missing = || Error::argument("layer", format!("{index}, but the model has {}", c.blocks.len()));
        let block = c.blocks.get(index).ok_or_else(missing)?;
        let (hidden, query) = (c.hidden_size, c.attention_heads * c.head_dim);
        let mixer = match block {
            Block::Mamba2 => Mixer::Mamba2(self.mamba2(index)?),
            Block::Attention => Mixer::Attention(Attention {
                q_proj: self.part(index, "q_proj", hidden)?,
                k_proj: self.part(index, "k_proj", hidden)?,
                v_proj: self.part(index, "v_proj", hidden)?,
                o_proj: self.part(index, "o_proj", query)?,
            }),
            Block::Mlp => Mixer::Mlp(Mlp {
                up_proj: self.part(index, "up_proj", hidden)?,
                down_proj: self.part(index, "down_proj", c.intermediate_size)?,
            }),
        };
        Ok(Layer { norm: self.norm(&Names::default().layer(index, "norm.weight"), hidden, true), mixer })
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        Ok(self.norm(&Names::default().norm_f(), self.config.hidden_size, true))
    }

    fn head(&self) -> Result<Option<Linear>> {
        if self.config.tied {
            return Ok(None);
        }
        self.linear(Names::default().head(), (self.config.hidden_size as f32).sqrt().recip()).map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::model::{ModelFile, WriteOptions, write_model};

    fn synth(use_conv_bias: bool) -> Synth {
        let mut json = shape("nano").unwrap();
        cut(&mut json, 2).unwrap();
        json["use_conv_bias"] = use_conv_bias.into();
        let config = ModelConfig::from_json(Path::new("config.json"), &json).unwrap();
        Synth::new(json, recipe("w8a8", &config).unwrap(), 0).unwrap()
    }

    #[test]
    fn a_convolution_without_bias_is_written_without() {
        let (with, without) = (synth(true), synth(false));
        let channels = with.config.conv_dim() as u64;
        assert_eq!(with.parameters() - without.parameters(), channels);
        assert_eq!(with.bytes() - without.bytes(), 4 * channels);
        let temp = tempfile::tempdir().unwrap();
        for model in [&with, &without] {
            let out = temp.path().join(model.bias.to_string());
            let summary = write_model(model.json(), model, &out, &WriteOptions::default()).unwrap();
            assert_eq!(summary.written.tensor_bytes, model.bytes());
            let Mixer::Mamba2(m) = ModelFile::open(&out).unwrap().layer(0).unwrap().mixer else { panic!("no Mamba-2") };
            assert_eq!(m.conv_bias.iter().any(|b| *b != 0.0), model.bias);
        }
    }

    /// Blocks of rotations where a whole width has no Hadamard matrix, as 1888 has none.
    #[test]
    fn rotated_in_blocks_where_the_whole_width_cannot_be() {
        let mut json = shape("nano").unwrap();
        json["intermediate_size"] = 1888.into();
        let config = ModelConfig::from_json(Path::new("config.json"), &json).unwrap();
        let online = |word: &str| recipe(word, &config).unwrap().transform.online;
        let blocks = OnlineRotation { out_proj: Some(32), down_proj: Some(32) };
        assert_eq!((online("preset-w4a8"), online("w8a8-a32")), (blocks, blocks));
        assert_eq!(online("w8a8"), OnlineRotation::default());
    }
}
