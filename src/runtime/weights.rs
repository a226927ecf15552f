//! A model's weights on a device.

mod embedding;
mod join;
mod linear;
#[cfg(not(target_arch = "wasm32"))]
mod product;

use std::fmt;

pub(super) use embedding::DeviceEmbedding;
use join::joined;
pub(super) use linear::DeviceLinear;
use linear::warn_of_floats;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use product::Product;

use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor};
use crate::kernels::{self, GatedNorm, Scaled};
use crate::model::{
    Layer, Linear, Mixer, ModelSource, Names, QuantizedLinear, check_layer, check_linear, check_vector,
};

/// How a layer wants its inputs as int8: the inputs that share a scale, and the scales where they are fixed.
#[derive(Clone)]
pub(super) struct Rounding {
    pub(super) group: usize,
    pub(super) fixed: Option<FixedScales>,
}

/// Scales that all tokens share, `[groups]`, on the host to be compared and on the device.
#[derive(Clone)]
pub(super) struct FixedScales {
    values: Vec<f32>,
    pub(super) tensor: DeviceTensor,
}

impl Rounding {
    fn upload(device: &Device, q: &QuantizedLinear) -> Result<Option<Self>> {
        let Some(group) = q.activations.group() else { return Ok(None) };
        let fixed = match q.input_scales.as_slice() {
            [] => None,
            values => Some(FixedScales { values: values.to_vec(), tensor: device.upload_f32([values.len()], values)? }),
        };
        Ok(Some(Self { group: group.len(q.codes.shape.cols()), fixed }))
    }

    /// Do both give the same codes?
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let values = |r: &Self| r.fixed.as_ref().map(|f| f.values.clone());
        self.group == other.group && values(self) == values(other)
    }
}

impl fmt::Display for Rounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fixed {
            None => write!(f, "groups of {}", self.group),
            Some(fixed) => write!(f, "groups of {} with fixed scales {:?}..", self.group, fixed.values.first()),
        }
    }
}

/// An activation, in f32 (not where all consumers want codes) and, where some consumer wants it, as int8
/// codes.
#[derive(Default)]
pub(super) struct Input {
    pub(super) x: Option<DeviceTensor>,
    pub(super) int8: Option<Int8>,
    /// What the product makes its one token of, itself.
    pub(super) token: Option<Token>,
}

/// A token whose codes, with a scale for each `group` columns, are not made yet.
pub(super) enum Token {
    /// The norm of `x` `[1, cols]`.
    Normed { x: DeviceTensor, weight: DeviceTensor, eps: f32, group: usize },
    /// The gated norm of `y` `[1, cols]`, and its transform; the gate is columns of `gate` from `offset` on.
    Gated { y: DeviceTensor, gate: DeviceTensor, offset: usize, weight: DeviceTensor, norm: GatedNorm, group: usize },
}

impl Input {
    fn float(&self) -> Result<&DeviceTensor> {
        self.x.as_ref().ok_or_else(|| Error::argument("linear layer", "its input was kept as int8 codes only"))
    }
}

/// int8 codes `[rows, cols]` with scales `[rows, groups]`.
pub(super) struct Int8 {
    pub(super) codes: DeviceTensor,
    pub(super) scales: DeviceTensor,
    pub(super) group: usize,
}

impl Int8 {
    pub(super) fn scaled(&self) -> Scaled<'_> {
        Scaled { codes: &self.codes, scales: &self.scales, group: self.group }
    }
}

pub(super) struct DeviceMamba2 {
    pub(super) in_proj: DeviceLinear,
    pub(super) conv_weight: DeviceTensor,
    pub(super) conv_bias: DeviceTensor,
    pub(super) dt_bias: DeviceTensor,
    pub(super) a_log: DeviceTensor,
    pub(super) d: DeviceTensor,
    /// `[3, heads]`: dt_bias, a_log, d, for kernels that have no binding to spare.
    pub(super) per_head: DeviceTensor,
    /// Of [`kernels::stored_vectors`], likewise.
    pub(super) vectors: DeviceTensor,
    /// Of [`kernels::gated_vectors`], likewise.
    pub(super) gated: DeviceTensor,
    pub(super) norm: DeviceTensor,
    pub(super) out_proj: DeviceLinear,
}

pub(super) struct DeviceAttention {
    pub(super) q_proj: DeviceLinear,
    pub(super) k_proj: DeviceLinear,
    pub(super) v_proj: DeviceLinear,
    /// The three as one product, their rows one behind the other, where they have one form: they are parts of it.
    pub(super) qkv: Option<DeviceLinear>,
    pub(super) o_proj: DeviceLinear,
}

pub(super) struct DeviceMlp {
    pub(super) up_proj: DeviceLinear,
    pub(super) down_proj: DeviceLinear,
}

#[allow(clippy::large_enum_variant, reason = "a few hundred bytes a block, beside its megabytes on the device")]
pub(super) enum DeviceMixer {
    Mamba2(DeviceMamba2),
    Attention(DeviceAttention),
    Mlp(DeviceMlp),
}

impl DeviceMixer {
    /// Makes products of up to `tokens` rows with float weights run on matrix units, where the device has any.
    pub(super) fn cut(&mut self, device: &Device, tokens: usize) -> Result<()> {
        self.linears_mut().into_iter().try_for_each(|(_, linear)| linear.cut(device, tokens))
    }

    /// Its linear layers by their names in a checkpoint.
    fn linears_mut(&mut self) -> Vec<(&'static str, &mut DeviceLinear)> {
        match self {
            Self::Mamba2(m) => vec![("in_proj", &mut m.in_proj), ("out_proj", &mut m.out_proj)],
            Self::Attention(a) => vec![
                ("q_proj", &mut a.q_proj),
                ("k_proj", &mut a.k_proj),
                ("v_proj", &mut a.v_proj),
                ("o_proj", &mut a.o_proj),
            ],
            Self::Mlp(m) => vec![("up_proj", &mut m.up_proj), ("down_proj", &mut m.down_proj)],
        }
    }

    pub(super) fn linears(&self) -> Vec<&DeviceLinear> {
        match self {
            Self::Mamba2(m) => vec![&m.in_proj, &m.out_proj],
            Self::Attention(a) => vec![&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj],
            Self::Mlp(m) => vec![&m.up_proj, &m.down_proj],
        }
    }
}

pub(super) struct DeviceLayer {
    pub(super) norm: DeviceTensor,
    pub(super) mixer: DeviceMixer,
}

impl DeviceLayer {
    /// Uploads block `index`.
    pub(super) fn upload(device: &Device, index: usize, layer: &Layer) -> Result<Self> {
        let vector = |v: &[f32]| device.upload_f32([v.len()], v);
        let linear = |part: &str, l: &Linear| DeviceLinear::upload(device, &format!("{part} of layer {index}"), l);
        let mixer = match &layer.mixer {
            Mixer::Mamba2(m) => {
                let channels = m.conv_bias.len();
                DeviceMixer::Mamba2(DeviceMamba2 {
                    in_proj: linear("in_proj", &m.in_proj)?,
                    conv_weight: device
                        .upload_f32([channels, m.conv_weight.len() / channels.max(1)], &m.conv_weight)?,
                    conv_bias: vector(&m.conv_bias)?,
                    dt_bias: vector(&m.dt_bias)?,
                    a_log: vector(&m.a_log)?,
                    d: vector(&m.d)?,
                    per_head: device.upload_f32([3, m.d.len()], &[&m.dt_bias[..], &m.a_log, &m.d].concat())?,
                    vectors: vector(&kernels::stored_vectors(
                        &m.conv_weight,
                        &m.conv_bias,
                        [&m.dt_bias, &m.a_log, &m.d],
                    ))?,
                    gated: vector(&kernels::gated_vectors(
                        &m.conv_weight,
                        &m.conv_bias,
                        [&m.dt_bias, &m.a_log, &m.d],
                        &m.norm,
                    ))?,
                    norm: vector(&m.norm)?,
                    out_proj: linear("out_proj", &m.out_proj)?,
                })
            }
            Mixer::Attention(a) => {
                let inputs = [("q_proj", &a.q_proj), ("k_proj", &a.k_proj), ("v_proj", &a.v_proj)];
                let qkv = joined(inputs.map(|(_, l)| l))?.map(|l| linear("q_proj, k_proj, v_proj", &l)).transpose()?;
                let rows = inputs.map(|(_, l)| l.dims().0);
                let parts = qkv.as_ref().and_then(|qkv| qkv.thirds(rows));
                let (qkv, [q_proj, k_proj, v_proj]) = match parts {
                    Some(parts) => (qkv, parts),
                    None => {
                        let [q, k, v] = inputs.map(|(part, l)| linear(part, l));
                        (None, [q?, k?, v?])
                    }
                };
                let o_proj = linear("o_proj", &a.o_proj)?;
                DeviceMixer::Attention(DeviceAttention { q_proj, k_proj, v_proj, qkv, o_proj })
            }
            Mixer::Mlp(m) => DeviceMixer::Mlp(DeviceMlp {
                up_proj: linear("up_proj", &m.up_proj)?,
                down_proj: linear("down_proj", &m.down_proj)?,
            }),
        };
        Ok(Self { norm: vector(&layer.norm)?, mixer })
    }
}

/// The place of a linear layer in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot<'a> {
    /// The token embedding.
    Embedding,
    /// Of this block, the layer of this name in checkpoints: `in_proj`.
    Layer(usize, &'a str),
    /// The output head.
    Head,
}

/// All weights of a model.
pub(super) struct Weights {
    pub(super) embedding: DeviceEmbedding,
    pub(super) layers: Vec<DeviceLayer>,
    pub(super) norm_f: DeviceTensor,
    pub(super) head: DeviceLinear,
    /// Is the head the embedding?
    tied: bool,
}

impl Weights {
    /// Puts `linear` where `slot` says, if it is one that could be loaded there; an embedding also in a tied head's place.
    pub(super) fn replace(&mut self, device: &Device, slot: Slot<'_>, linear: &Linear) -> Result<()> {
        match slot {
            Slot::Embedding => {
                check_linear("the embedding", linear, self.embedding.shape())?;
                let embedding = DeviceEmbedding::upload(device, linear)?;
                if self.tied {
                    self.head = DeviceLinear::upload(device, "the head", linear)?;
                }
                self.embedding = embedding;
            }
            Slot::Head => {
                check_linear("the head", linear, self.head.shape())?;
                self.head = DeviceLinear::upload(device, "the head", linear)?;
            }
            Slot::Layer(index, part) => {
                let linears = self.layers.get_mut(index).map(|l| l.mixer.linears_mut()).unwrap_or_default();
                let place = linears.into_iter().find(|(name, _)| *name == part).map(|(_, place)| place);
                let place = place.ok_or_else(|| Error::argument("replace", format!("no `{part}` in block {index}")))?;
                let name = format!("{part} of layer {index}");
                check_linear(&name, linear, place.shape())?;
                *place = DeviceLinear::upload(device, &name, linear)?;
                if let Some(DeviceMixer::Attention(a)) = self.layers.get_mut(index).map(|l| &mut l.mixer) {
                    a.qkv = None;
                }
            }
        }
        Ok(())
    }

    /// Uploads layer by layer; the host never holds more than one, and a tied embedding beside it. Refuses what the configuration does not
    /// call for: kernels have the sizes from there.
    pub(super) fn upload(device: &Device, source: &dyn ModelSource) -> Result<Self> {
        let (config, names) = (source.config(), Names::default());
        let vocab = [config.vocab_size, config.hidden_size];
        // In the order the model runs: a source that calibrates as it goes can have no other.
        let read = source.embedding()?;
        check_linear(&names.embedding(), &read, vocab)?;
        let embedding = DeviceEmbedding::upload(device, &read)?;
        let tied = config.tied.then_some(read);
        let layer = |i| {
            let layer = source.layer(i)?;
            check_layer(config, i, &layer, |part| names.layer(i, part))?;
            layer.linears().into_iter().for_each(|(part, l)| warn_of_floats(&format!("{part} of layer {i}"), l));
            DeviceLayer::upload(device, i, &layer)
        };
        let layers = (0..config.blocks.len()).map(layer).collect::<Result<Vec<_>>>()?;
        let norm_f = source.norm_f()?;
        check_vector(&names.norm_f(), &norm_f, config.hidden_size)?;
        let own = source.head()?;
        own.iter().try_for_each(|head| check_linear(names.head(), head, vocab))?;
        let is_tied = own.is_none();
        let head = match own {
            Some(head) => head,
            None => tied.map_or_else(|| source.embedding(), Ok)?,
        };
        warn_of_floats("the head", &head);
        Ok(Self {
            embedding,
            layers,
            norm_f: device.upload_f32([norm_f.len()], &norm_f)?,
            head: DeviceLinear::upload(device, "the head", &head)?,
            tied: is_tied,
        })
    }

    /// Most scales that a token's activations have anywhere.
    pub(super) fn activation_groups(&self) -> usize {
        let linears = self.layers.iter().flat_map(|l| l.mixer.linears()).chain([&self.head]);
        linears.map(DeviceLinear::activation_groups).max().unwrap_or(0)
    }
}

impl DeviceLayer {
    fn bytes(&self) -> usize {
        let mixer = match &self.mixer {
            DeviceMixer::Mamba2(m) => {
                let conv = [&m.conv_weight, &m.conv_bias, &m.vectors, &m.gated].map(DeviceTensor::bytes);
                let vectors = [&m.dt_bias, &m.a_log, &m.d, &m.per_head, &m.norm].map(DeviceTensor::bytes);
                m.in_proj.bytes() + m.out_proj.bytes() + conv.iter().chain(&vectors).sum::<usize>()
            }
            DeviceMixer::Attention(a) => {
                [&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj].map(DeviceLinear::bytes).iter().sum()
            }
            DeviceMixer::Mlp(m) => m.up_proj.bytes() + m.down_proj.bytes(),
        };
        self.norm.bytes() + mixer
    }
}

impl Weights {
    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        let layers = self.layers.iter().map(DeviceLayer::bytes).sum::<usize>();
        self.embedding.bytes() + layers + self.norm_f.bytes() + self.head.bytes()
    }
}
