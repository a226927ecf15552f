//! `config.json` of `nemotron_h` and `mamba2`, checked before anything is allocated.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::Value;

use super::keys::{Keys, unsupported};
use crate::error::{Error, Result};

/// Infinity in `time_step_limit`: JSON has none, and shaders must not meet one. No step comes near it.
const NO_LIMIT: f32 = 1e30;

/// Sizes above these are damage, not models; checking here keeps every later product of two sizes in range.
const WIDTH: RangeInclusive<usize> = 1..=1 << 20;
const COUNT: RangeInclusive<usize> = 1..=4096;

/// Channels of an attention head that its kernels take at most.
const MOST_HEAD_DIM: usize = 256;
/// Names of the number of B/C groups.
const GROUPS: [&str; 2] = ["n_groups", "mamba_n_groups"];

/// Families this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelType {
    /// NVIDIA Nemotron-H: Mamba-2, attention and MLP blocks.
    NemotronH,
    /// Pure Mamba-2 in Hugging Face layout.
    Mamba2,
}

/// Kind of one block, with its letter in `hybrid_override_pattern`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// `M`
    Mamba2,
    /// `*`
    Attention,
    /// `-`
    Mlp,
}

/// The shape of a model. Sizes in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Family.
    pub model_type: ModelType,
    /// Blocks in order.
    pub blocks: Vec<Block>,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of an MLP; 0 without MLP blocks.
    pub intermediate_size: usize,
    /// SSM heads.
    pub mamba_heads: usize,
    /// Channels an SSM head.
    pub mamba_head_dim: usize,
    /// B/C groups; head `h` uses group `h / (mamba_heads / n_groups)`.
    pub n_groups: usize,
    /// SSM state size N.
    pub state_size: usize,
    /// Taps of the causal convolution.
    pub conv_kernel: usize,
    /// Chunk of the chunked scan.
    pub chunk_size: usize,
    /// Query heads; 0 without attention blocks.
    pub attention_heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Channels an attention head.
    pub head_dim: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// dt is clamped to this range after softplus (`time_step_limit`).
    pub dt_limit: (f32, f32),
    /// `time_step_min`, which transformers wrongly applies in prefill of `nemotron_h` (reference/quantization.md 3.3).
    pub time_step_min: f32,
    /// Is the head the embedding?
    pub tied: bool,
    /// Beginning-of-sequence token.
    pub bos: Option<u32>,
    /// End-of-sequence tokens: those of `config.json` and, of a model on disk, also those of its `generation_config.json`,
    /// by which transformers stops.
    pub eos: Vec<u32>,
    /// Longest sequence the model was made for, if stated.
    pub max_positions: Option<usize>,
}

impl ModelConfig {
    /// Reads a parsed `config.json`; `path` is for messages. Old and new names of a key are taken alike.
    ///
    /// # Errors
    /// [`crate::Error::UnsupportedModel`] naming the key and its value, [`crate::Error::BadCheckpoint`] for a missing
    /// key or what is no object.
    pub fn from_json(path: &Path, v: &Value) -> Result<Self> {
        Self::from_keys(Keys { path, v }).map_err(|e| e.in_config(path))
    }

    fn from_keys(keys: Keys<'_>) -> Result<Self> {
        if !keys.v.is_object() {
            return Err(Error::bad(keys.path, "is no JSON object"));
        }
        let family = keys.get(&["model_type"])?;
        let config = match family.and_then(Value::as_str) {
            Some("nemotron_h") => nemotron_h(keys)?,
            Some("mamba2") => mamba2(keys)?,
            // As the authors of Mamba-2 publish their models.
            None if family.is_none() && keys.v.get("ssm_cfg").is_some() => {
                let value = "missing, and `ssm_cfg` there: convert it to Hugging Face's layout first (transformers' \
                             convert_mamba2_ssm_checkpoint_to_pytorch.py)";
                return Err(unsupported("model_type", value));
            }
            other => {
                let other = match (other, family) {
                    (Some(name), _) if !name.is_empty() => name.to_owned(),
                    (_, Some(value)) => value.to_string(),
                    (_, None) => "missing".to_owned(),
                };
                return Err(unsupported("model_type", format!("{other}; supported are nemotron_h and mamba2")));
            }
        };
        config.check(keys)?;
        Ok(config)
    }

    /// Sequences end at the ids of a parsed `generation_config.json` too; `path` is its name in messages.
    pub(super) fn end_also(&mut self, path: &Path, v: &Value) -> Result<()> {
        if !v.is_object() {
            return Err(Error::bad(path, "is no JSON object"));
        }
        let eos = "eos_token_id";
        let keys = Keys { path, v };
        for token in keys.tokens(eos).map_err(|e| e.in_config(path))? {
            self.holds(eos, token).map_err(|e| e.in_config(path))?;
            if !self.eos.contains(&token) {
                self.eos.push(token);
            }
        }
        Ok(())
    }

    /// Relations between sizes that the layers rely on, and sizes that kernels take: known here, a model is refused before long work.
    fn check(&self, keys: Keys<'_>) -> Result<()> {
        let has = |block| self.blocks.contains(&block);
        let divides = |names: &[&str], n: usize, of_key: &str, of: usize| {
            if n == 0 || !of.is_multiple_of(n) {
                let absent = if keys.get(names)?.is_none() { "absent, so " } else { "" };
                return Err(unsupported(names[0], format!("{absent}{n}, which does not divide {of_key} {of}")));
            }
            Ok(())
        };
        // As the kernels of the scan take them.
        let in_quads = |key: &str, n: usize| match n.is_multiple_of(4) {
            true => Ok(()),
            false => Err(unsupported(key, format!("{n}; multiples of 4 are supported"))),
        };
        if has(Block::Mamba2) {
            divides(&GROUPS, self.n_groups, "the number of mamba heads", self.mamba_heads)?;
            let [channels, states] = match self.model_type {
                ModelType::NemotronH => ["mamba_head_dim", "ssm_state_size"],
                ModelType::Mamba2 => ["head_dim", "state_size"],
            };
            in_quads(channels, self.mamba_head_dim)?;
            in_quads(states, self.state_size)?;
        }
        if has(Block::Attention) {
            divides(&["num_key_value_heads"], self.kv_heads, "num_attention_heads", self.attention_heads)?;
            if self.head_dim > MOST_HEAD_DIM {
                let value = format!("{}; heads of attention of up to {MOST_HEAD_DIM} are supported", self.head_dim);
                return Err(unsupported("head_dim", value));
            }
        }
        let bos = self.bos.iter().map(|token| ("bos_token_id", token));
        let mut tokens = bos.chain(self.eos.iter().map(|token| ("eos_token_id", token)));
        tokens.try_for_each(|(key, token)| self.holds(key, *token))
    }

    /// Is the token of `key` one of the vocabulary's?
    fn holds(&self, key: &str, token: u32) -> Result<()> {
        if (token as usize) < self.vocab_size {
            return Ok(());
        }
        Err(unsupported(key, format!("{token}, not below vocab_size {}", self.vocab_size)))
    }

    /// What transformers 5.24 clamps dt to in prefill: of `nemotron_h` not to `time_step_limit` but from `time_step_min` on, of `mamba2` as
    /// the configuration says.
    #[must_use]
    pub fn transformers_dt_limit(&self) -> (f32, f32) {
        match self.model_type {
            ModelType::NemotronH => (self.time_step_min, NO_LIMIT),
            ModelType::Mamba2 => self.dt_limit,
        }
    }

    /// The sizes by their names here, and the most that a file may say: products of two are then in range of 64 bits.
    pub(super) fn sizes(&self) -> [(&'static str, usize, usize); 12] {
        let (width, count) = (*WIDTH.end(), *COUNT.end());
        [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, width),
            ("intermediate_size", self.intermediate_size, width),
            ("mamba_heads", self.mamba_heads, count),
            // Of Mamba-2 a quotient of up to 64 widths.
            ("mamba_head_dim", self.mamba_head_dim, 64 * width),
            ("n_groups", self.n_groups, count),
            ("state_size", self.state_size, count),
            ("conv_kernel", self.conv_kernel, 16),
            ("chunk_size", self.chunk_size, count),
            ("attention_heads", self.attention_heads, count),
            ("kv_heads", self.kv_heads, count),
            ("head_dim", self.head_dim, count),
        ]
    }

    /// Refuses sizes that no file may have, of a configuration that was made by hand.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the size.
    pub(crate) fn countable(&self) -> Result<()> {
        match self.sizes().into_iter().find(|(_, size, most)| size > most) {
            Some((key, size, most)) => {
                Err(Error::argument("configuration", format!("{key} of {size}, at most {most}")))
            }
            None => Ok(()),
        }
    }

    /// `heads * head_dim`.
    #[must_use]
    pub fn d_inner(&self) -> usize {
        self.mamba_heads * self.mamba_head_dim
    }

    /// Channels of the convolution: x, B and C.
    #[must_use]
    pub fn conv_dim(&self) -> usize {
        self.d_inner() + 2 * self.n_groups * self.state_size
    }

    /// Rows of `in_proj`: z, x, B, C, dt.
    #[must_use]
    pub fn in_proj_rows(&self) -> usize {
        self.d_inner() + self.conv_dim() + self.mamba_heads
    }
}

impl Block {
    /// The block of a letter in `hybrid_override_pattern` or a name in `layers_block_type`.
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "M" | "mamba" | "mamba2" | "linear_attention" => Self::Mamba2,
            "*" | "attention" | "full_attention" => Self::Attention,
            "-" | "mlp" => Self::Mlp,
            _ => return None,
        })
    }
}

fn nemotron_h(keys: Keys<'_>) -> Result<ModelConfig> {
    let blocks = blocks(keys)?;
    let has = |block| blocks.contains(&block);
    keys.refuse_true(&["use_bias", "mamba_proj_bias", "mlp_bias", "attention_bias"])?;
    keys.only(&["mamba_hidden_act", "hidden_act"], &["silu", "swish"])?;
    if has(Block::Mlp) {
        keys.only(&["mlp_hidden_act"], &["relu2"])?;
    }
    let hidden_size = keys.size(&["hidden_size"], WIDTH)?;
    let (mut attention_heads, mut kv_heads, mut head_dim) = (0, 0, 0);
    if has(Block::Attention) {
        if keys.get(&["sliding_window"])?.is_some() {
            return Err(unsupported("sliding_window", "set; only full attention is supported"));
        }
        attention_heads = keys.size(&["num_attention_heads"], COUNT)?;
        // As transformers' configuration has them: null is as many, absent is 8.
        let kv = if keys.v.get("num_key_value_heads").is_some() { attention_heads } else { 8 };
        kv_heads = keys.size_or(&["num_key_value_heads"], COUNT, kv)?;
        head_dim = keys.size_or(&["head_dim", "attention_head_dim"], COUNT, 128)?;
    }
    let intermediate_size = if has(Block::Mlp) { keys.size(&["intermediate_size"], WIDTH)? } else { 0 };
    let mut config = common(keys, ModelType::NemotronH, blocks, hidden_size)?;
    config.mamba_heads = keys.size(&["mamba_num_heads"], COUNT)?;
    config.mamba_head_dim = keys.size(&["mamba_head_dim"], COUNT)?;
    Ok(ModelConfig { intermediate_size, attention_heads, kv_heads, head_dim, ..config })
}

fn mamba2(keys: Keys<'_>) -> Result<ModelConfig> {
    keys.refuse_true(&["use_bias"])?;
    keys.only(&["hidden_act"], &["silu", "swish"])?;
    if keys.get(&["rms_norm"])?.is_some_and(|v| *v != Value::Bool(true)) {
        return Err(unsupported("rms_norm", "not true; the gated norm is supported only"));
    }
    let layers = keys.size(&["num_hidden_layers"], COUNT)?;
    let hidden_size = keys.size(&["hidden_size"], WIDTH)?;
    let inner = hidden_size * keys.size_or(&["expand"], 1..=64, 2)?;
    let mut config = common(keys, ModelType::Mamba2, vec![Block::Mamba2; layers], hidden_size)?;
    config.mamba_heads = keys.size(&["num_heads"], COUNT)?;
    config.mamba_head_dim = match keys.get(&["head_dim"])? {
        Some(_) => keys.size(&["head_dim"], COUNT)?,
        None => quotient("expand * hidden_size", inner, "num_heads", config.mamba_heads)?,
    };
    if config.d_inner() != inner {
        let (heads, dim) = (config.mamba_heads, config.mamba_head_dim);
        return Err(unsupported(
            "num_heads * head_dim",
            format!("{heads} * {dim}, but expand * hidden_size is {inner}"),
        ));
    }
    Ok(config)
}

/// What both families share; heads and the parts that only one has are left 0.
fn common(keys: Keys<'_>, model_type: ModelType, blocks: Vec<Block>, hidden_size: usize) -> Result<ModelConfig> {
    let (groups, chunk) = if model_type == ModelType::NemotronH { (8, 128) } else { (8, 256) };
    Ok(ModelConfig {
        model_type,
        blocks,
        vocab_size: keys.size(&["vocab_size"], 1..=1 << 24)?,
        hidden_size,
        intermediate_size: 0,
        mamba_heads: 0,
        mamba_head_dim: 0,
        n_groups: keys.size_or(&GROUPS, COUNT, groups)?,
        state_size: keys.size_or(&["ssm_state_size", "state_size", "mamba_state_size", "mamba_d_state"], COUNT, 128)?,
        conv_kernel: keys.size_or(&["conv_kernel", "mamba_d_conv"], 1..=16, 4)?,
        chunk_size: keys.size_or(&["chunk_size", "mamba_chunk_size"], COUNT, chunk)?,
        attention_heads: 0,
        kv_heads: 0,
        head_dim: 0,
        norm_eps: keys.number(&["layer_norm_epsilon", "norm_eps", "rms_norm_eps"], 0.0..=1.0)?.unwrap_or(1e-5),
        dt_limit: dt_limit(keys)?,
        time_step_min: keys.number(&["time_step_min", "mamba_dt_min"], 0.0..=NO_LIMIT)?.unwrap_or(1e-3),
        tied: keys.flag(&["tie_word_embeddings"])?.unwrap_or(false),
        bos: keys.tokens("bos_token_id")?.first().copied(),
        eos: keys.tokens("eos_token_id")?,
        max_positions: match keys.get(&["max_position_embeddings"])? {
            Some(_) => Some(keys.size(&["max_position_embeddings"], 1..=1 << 30)?),
            None => None,
        },
    })
}

/// The blocks, from a pattern string or a list of names, checked against the number of layers.
fn blocks(keys: Keys<'_>) -> Result<Vec<Block>> {
    let list = |key| keys.v.get(key).and_then(Value::as_array).map(|list| (key, list));
    let (key, names): (&str, Vec<String>) = match ["layers_block_type", "layer_types"].into_iter().find_map(list) {
        Some((key, list)) => {
            (key, list.iter().map(|n| n.as_str().map_or_else(|| n.to_string(), str::to_owned)).collect())
        }
        None => {
            let pattern = keys.required(&["hybrid_override_pattern", "layers_block_type"])?;
            let wrong = || unsupported("hybrid_override_pattern", format!("{pattern}, not a string of letters"));
            let letters = pattern.as_str().ok_or_else(wrong)?;
            ("hybrid_override_pattern", letters.chars().map(String::from).collect())
        }
    };
    let layers = keys.size_or(&["num_hidden_layers"], COUNT, names.len())?;
    if names.len() != layers || !COUNT.contains(&layers) {
        return Err(unsupported(key, format!("{} blocks long, but num_hidden_layers is {layers}", names.len())));
    }
    let block = |(i, name): (usize, &String)| {
        Block::parse(name).ok_or_else(|| {
            let moe = if matches!(name.as_str(), "E" | "moe") { " (mixture of experts)" } else { "" };
            unsupported(
                &format!("{key}[{i}]"),
                format!("`{name}`{moe}; supported are M (Mamba-2), * (attention), - (MLP); in lists `mamba`, `attention`, `mlp`"),
            )
        })
    };
    names.iter().enumerate().map(block).collect()
}

/// `time_step_limit`; the upper end may be infinite, however Python wrote that.
fn dt_limit(keys: Keys<'_>) -> Result<(f32, f32)> {
    let Some(value) = keys.get(&["time_step_limit", "mamba_dt_limit"])? else { return Ok((0.0, NO_LIMIT)) };
    let end = |v: &Value| match v {
        Value::Null => Some(NO_LIMIT),
        Value::String(s) if matches!(s.to_ascii_lowercase().as_str(), "inf" | "infinity" | "+inf") => Some(NO_LIMIT),
        v => v.as_f64().map(|x| (x as f32).min(NO_LIMIT)),
    };
    let ends: Option<Vec<f32>> = value.as_array().and_then(|a| a.iter().map(end).collect());
    match ends.as_deref() {
        Some([low, high]) if 0.0 <= *low && low < high => Ok((*low, *high)),
        _ => Err(unsupported("time_step_limit", format!("{value}, not [low, high] with 0 <= low < high"))),
    }
}

/// Does the convolution have a bias? Not part of [`ModelConfig`]: a layer without has zeros.
pub(crate) fn uses_conv_bias(path: &Path, v: &Value) -> Result<bool> {
    let flag = Keys { path, v }.flag(&["use_conv_bias", "mamba_conv_bias"]).map_err(|e| e.in_config(path))?;
    Ok(flag.unwrap_or(true))
}

fn quotient(key: &str, n: usize, by_key: &str, by: usize) -> Result<usize> {
    if by == 0 || !n.is_multiple_of(by) {
        return Err(unsupported(key, format!("{n}, which is not divisible by {by_key} {by}")));
    }
    Ok(n / by)
}
