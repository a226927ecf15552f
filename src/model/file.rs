//! A model on disk, checked against its configuration on opening and read one layer at a time.

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::config::uses_conv_bias;
use super::keys::unsupported;
use super::names::{Expected, Names, Role};
use super::scheme::Scheme;
use super::stored::StoredWeights;
use super::{
    Attention, Block, Layer, Linear, Mamba2, Mixer, Mlp, ModelConfig, ModelSource, OnlineRotation, Stored, WeightForm,
    scale_type,
};
use crate::checkpoint::{Checkpoint, GENERATION_CONFIG, StoredType, packed_words, read_json};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Version of the `wgquant` key this crate writes and reads.
pub(super) const EXTENSION_VERSION: u32 = 1;

/// The `wgquant` key of `config.json`: what compressed-tensors has no words for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension {
    version: u32,
    #[serde(default)]
    rotation: OnlineRotation,
    /// Was the head the embedding before it was transformed? It takes bytes, and is no more parameters.
    #[serde(default)]
    untied_head: bool,
}

/// What a quantized weight is stored as, beside or in place of `weight`.
const PARTS: [&str; 8] = [
    "weight_packed",
    "weight_shape",
    "weight_scale",
    "weight_scale_packed",
    "weight_scale_row",
    "weight_zero_point",
    "input_scale",
    "input_zero_point",
];

/// A model directory.
#[derive(Debug)]
pub struct ModelFile {
    weights: StoredWeights,
    config: ModelConfig,
    names: Names,
    rotation: OnlineRotation,
    conv_bias: bool,
    parameters: u64,
}

impl ModelFile {
    /// Opens a model and checks that every tensor its configuration calls for is there, in a type and shape that
    /// fit. Only headers are read, except where the configuration ties a head that is in the file all the same: it is
    /// compared with the embedding, and where they differ the model is one of a head of its own.
    ///
    /// # Errors
    /// [`Error::UnsupportedModel`], [`Error::BadCheckpoint`], [`Error::MissingTensor`] or [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Self> {
        Self::new(Checkpoint::open(dir)?)
    }

    /// As [`ModelFile::open`], of a checkpoint that is open.
    ///
    /// # Errors
    /// As [`ModelFile::open`].
    pub fn new(checkpoint: Checkpoint) -> Result<Self> {
        let (path, json) = (checkpoint.config_path(), checkpoint.config());
        let mut config = ModelConfig::from_json(&path, json)?;
        if let Some(file) = checkpoint.sibling_files().iter().find(|f| f.ends_with(GENERATION_CONFIG)) {
            config.end_also(file, &read_json(file)?)?;
        }
        let conv_bias = uses_conv_bias(&path, json)?;
        let (rotation, untied) = match json.get("wgquant") {
            Some(extension) => extended(extension, &config).map_err(|e| e.in_config(&path))?,
            None => Default::default(),
        };
        let weights = StoredWeights::new(checkpoint)?;
        let names = Names::detect(&weights.checkpoint)?;
        let mut file = Self { weights, config, names, rotation, conv_bias, parameters: 0 };
        let stored = ["weight", "weight_packed"].map(|part| format!("{}.{part}", file.names.head()));
        let doubtful = file.config.tied && stored.iter().any(|name| file.checkpoint().info(name).is_some());
        file.config.tied &= !doubtful;
        let expected = file.names.expected(&file.config, conv_bias);
        expected.iter().try_for_each(|tensor| file.check(tensor))?;
        if doubtful {
            file.decide_tie()?;
        }
        let once = untied || file.config.tied;
        let counted = expected.iter().filter(|tensor| !once || tensor.module() != file.names.head());
        file.parameters = counted.map(|tensor| tensor.shape.iter().map(|n| *n as u64).product::<u64>()).sum();
        Ok(file)
    }

    /// Whether the head in the file, which the configuration ties to the embedding, is the embedding. transformers takes the one in the
    /// file, of nemotron_h always, of mamba2 where it differs, and so does this: the other would be another model.
    fn decide_tie(&mut self) -> Result<()> {
        let (embedding, head) = (self.names.embedding(), self.names.head().to_owned());
        let [ours, its] = [&embedding, &head].map(|module| format!("{module}.weight"));
        let [a, b] = [&ours, &its].map(|name| self.checkpoint().info(name).map(|info| info.dtype));
        self.config.tied = if a == b && a.is_some_and(StoredType::is_float) {
            self.checkpoint().same(&ours, &its)
        } else {
            let values = |linear: Linear| match linear {
                Linear::Float(tensor) => tensor.to_f32(),
                Linear::Quantized(q) => q.dequantize(),
            };
            let (a, b) = (values(self.embedding()?)?, values(self.weights.linear(&head, Role::Linear)?)?);
            a.par_iter().zip(&b).all(|(a, b)| a == b)
        };
        if !self.config.tied {
            log::warn!(
                "{}: tie_word_embeddings is true, but the file has another `{head}` than `{embedding}`; it is used, as in transformers",
                self.checkpoint().config_path().display()
            );
            self.weights.checkpoint.amend("tie_word_embeddings", Value::Bool(false));
        }
        Ok(())
    }

    /// Parameters of the model, whatever their form in the file; a head that is tied, or was before a transform, counts once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes of all tensors in the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.checkpoint().bytes()
    }

    /// The directory underneath.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.weights.checkpoint
    }

    /// The floating-point type the checkpoint uses: its embedding's, or bf16 where that is quantized.
    #[must_use]
    pub fn float_dtype(&self) -> DType {
        let embedding = self.checkpoint().info(&format!("{}.weight", self.names.embedding()));
        match embedding.map(|i| i.dtype) {
            Some(StoredType::F16) => DType::F16,
            Some(StoredType::F32) => DType::F32,
            _ => DType::BF16,
        }
    }

    /// What its tensors are called.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Is any weight quantized?
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        !self.weights.quantization.groups.is_empty()
    }

    /// Names of the tensors there are that the model as its configuration describes it has no use for, sorted.
    #[must_use]
    pub fn unused(&self) -> Vec<&str> {
        let expected = self.names.expected(&self.config, self.conv_bias);
        let mut known: BTreeSet<String> = expected.iter().map(|t| t.name.clone()).collect();
        for weight in expected.iter().filter(|t| t.role != Role::Vector) {
            known.extend(PARTS.map(|part| format!("{}.{part}", weight.module())));
        }
        // Some tied checkpoints store the head all the same.
        known.insert(format!("{}.weight", self.names.head()));
        self.checkpoint().names().filter(|name| !known.contains(*name)).collect()
    }

    /// The tensor `name` must have `shape`, which the configuration implies.
    fn check_shape(&self, name: &str, shape: &[usize]) -> Result<StoredType> {
        let missing = || Error::MissingTensor { name: name.to_owned(), file: self.checkpoint().dir().to_owned() };
        let info = self.checkpoint().info(name).ok_or_else(missing)?;
        if info.shape != shape {
            let (got, c) = (&info.shape, &self.config);
            let sizes = format!("hidden_size {}, vocab_size {}", c.hidden_size, c.vocab_size);
            let what = format!("has shape {got:?}, config.json ({sizes}) implies {shape:?}");
            return Err(self.checkpoint().bad(name, &what));
        }
        Ok(info.dtype)
    }

    fn check_type(&self, name: &str, shape: &[usize], fits: impl Fn(StoredType) -> bool, want: &str) -> Result<()> {
        let dtype = self.check_shape(name, shape)?;
        if matches!(dtype, StoredType::Other(_)) {
            return Err(self.checkpoint().foreign(name, dtype));
        }
        if !fits(dtype) {
            return Err(self.checkpoint().bad(name, &format!("is {}, expected {want}", dtype.name())));
        }
        Ok(())
    }

    /// Checks presence, type and shape of an expected tensor and of those that come with it when quantized.
    fn check(&self, tensor: &Expected) -> Result<()> {
        let float = "F32, F16 or BF16";
        let Some(scheme) = self.weights.scheme_of(tensor.module(), tensor.role)? else {
            return self.check_type(&tensor.name, &tensor.shape, StoredType::is_float, float);
        };
        let (module, shape) = (tensor.module(), &tensor.shape);
        if scheme.packed {
            let packed = [shape[0], packed_words(scheme.bits, shape[1])];
            self.check_type(&format!("{module}.weight_packed"), &packed, |t| t == StoredType::I32, "I32")?;
            let name = format!("{module}.weight_shape");
            self.check_type(&name, &[2], |t| t == StoredType::I64, "I64")?;
            let stated = self.checkpoint().i64s(&name)?;
            if !stated.iter().copied().eq(shape.iter().map(|n| *n as i64)) {
                return Err(self.checkpoint().bad(&name, &format!("says {stated:?}, config.json implies {shape:?}")));
            }
        } else {
            self.check_type(&tensor.name, shape, |t| t == StoredType::I8, "I8")?;
        }
        let groups = scheme.group.count(shape[1]);
        if let Some(bits) = scheme.scale_bits {
            let packed = [shape[0], packed_words(bits, groups)];
            self.check_type(&format!("{module}.weight_scale_packed"), &packed, |t| t == StoredType::I32, "I32")?;
            self.check_type(&format!("{module}.weight_scale_row"), &[shape[0]], StoredType::is_float, float)?;
        } else {
            self.check_type(&format!("{module}.weight_scale"), &[shape[0], groups], StoredType::is_float, float)?;
        }
        let zero = format!("{module}.weight_zero_point");
        if self.checkpoint().info(&zero).is_some() {
            return Err(self
                .checkpoint()
                .bad(&zero, "makes the weight asymmetric; only symmetric weights are supported"));
        }
        self.weights.input_scales(module, scheme.activations, shape[1]).map(|_| ())
    }

    /// The form of a weight, by the headers.
    fn form(&self, tensor: &Expected) -> Result<WeightForm> {
        let float = |name: &str| match self.checkpoint().info(name).map(|i| i.dtype) {
            Some(StoredType::F16) => DType::F16,
            Some(StoredType::BF16) => DType::BF16,
            _ => DType::F32,
        };
        let stored = match self.weights.scheme_of(tensor.module(), tensor.role)? {
            Some(Scheme { bits, group, scale_bits, activations, .. }) => {
                let scales = scale_type(bits, float(&format!("{}.weight_scale", tensor.module())), scale_bits);
                Stored::Codes { bits, group, scales, activations }
            }
            None => Stored::Float(float(&tensor.name)),
        };
        Ok(WeightForm { role: tensor.role, rows: tensor.shape[0], cols: tensor.shape[1], stored })
    }

    fn mamba2(&self, index: usize) -> Result<Mamba2> {
        let c = &self.config;
        let vector = |part: &str, shape: &[usize]| self.checkpoint().float_vec(&self.names.layer(index, part), shape);
        let linear = |part: &str| self.weights.linear(&self.names.layer(index, part), Role::Linear);
        let heads = [c.mamba_heads];
        Ok(Mamba2 {
            in_proj: linear("mixer.in_proj")?,
            conv_weight: vector("mixer.conv1d.weight", &[c.conv_dim(), 1, c.conv_kernel])?,
            conv_bias: match self.conv_bias {
                true => vector("mixer.conv1d.bias", &[c.conv_dim()])?,
                false => vec![0.0; c.conv_dim()],
            },
            dt_bias: vector("mixer.dt_bias", &heads)?,
            a_log: vector("mixer.A_log", &heads)?,
            d: vector("mixer.D", &heads)?,
            norm: vector("mixer.norm.weight", &[c.d_inner()])?,
            out_proj: linear("mixer.out_proj")?,
        })
    }
}

impl ModelSource for ModelFile {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn rotation(&self) -> OnlineRotation {
        self.rotation
    }

    fn forms(&self) -> Result<Option<Vec<WeightForm>>> {
        let all = self.names.expected(&self.config, self.conv_bias);
        let weights = all.iter().filter(|t| t.role != Role::Vector);
        weights.map(|t| self.form(t)).collect::<Result<_>>().map(Some)
    }

    fn embedding(&self) -> Result<Linear> {
        self.weights.linear(&self.names.embedding(), Role::Embedding)
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let blocks = &self.config.blocks;
        let linear = |part: &str| self.weights.linear(&self.names.layer(index, part), Role::Linear);
        let mixer = match blocks.get(index) {
            Some(Block::Mamba2) => Mixer::Mamba2(self.mamba2(index)?),
            Some(Block::Attention) => Mixer::Attention(Attention {
                q_proj: linear("mixer.q_proj")?,
                k_proj: linear("mixer.k_proj")?,
                v_proj: linear("mixer.v_proj")?,
                o_proj: linear("mixer.o_proj")?,
            }),
            Some(Block::Mlp) => {
                Mixer::Mlp(Mlp { up_proj: linear("mixer.up_proj")?, down_proj: linear("mixer.down_proj")? })
            }
            None => return Err(Error::argument("layer", format!("{index}, but the model has {}", blocks.len()))),
        };
        let norm = self.checkpoint().float_vec(&self.names.layer(index, "norm.weight"), &[self.config.hidden_size])?;
        Ok(Layer { norm, mixer })
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        self.checkpoint().float_vec(&self.names.norm_f(), &[self.config.hidden_size])
    }

    fn head(&self) -> Result<Option<Linear>> {
        // Some tied checkpoints store the head nevertheless: where it is tied still, it was found to be the embedding on opening.
        if self.config.tied { Ok(None) } else { self.weights.linear(self.names.head(), Role::Linear).map(Some) }
    }
}

/// The rotation in the `wgquant` key, checked against the sizes it applies to, and whether the head was tied.
fn extended(extension: &Value, config: &ModelConfig) -> Result<(OnlineRotation, bool)> {
    let parsed: Extension =
        serde_json::from_value(extension.clone()).map_err(|e| unsupported("wgquant", format!("{extension}: {e}")))?;
    if parsed.version != EXTENSION_VERSION {
        let value = format!("{}; this program reads version {EXTENSION_VERSION}: use a newer one", parsed.version);
        return Err(unsupported("wgquant.version", value));
    }
    if let Some((site, what)) = parsed.rotation.misfit(config) {
        return Err(unsupported(&format!("wgquant.rotation.{site}"), what));
    }
    Ok((parsed.rotation, parsed.untied_head))
}
