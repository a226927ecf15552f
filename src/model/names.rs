//! What the tensors of a model are called in a checkpoint, and which shapes a configuration implies.

use serde::Serialize;

use super::config::{Block, ModelConfig};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// The two things that published checkpoints name differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: &'static str,
    embedding: &'static str,
}

/// What a tensor is for, which decides the forms it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Weight of a linear layer: float or quantized.
    Linear,
    /// Token embedding: float or quantized.
    Embedding,
    /// Small parameter: float.
    Vector,
}

/// A tensor that a configuration calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Full name, ending in `.weight` for linear layers and the embedding.
    pub name: String,
    /// Logical shape.
    pub shape: Vec<usize>,
    /// Purpose.
    pub role: Role,
}

impl Expected {
    /// Name of the module that a weight belongs to.
    #[must_use]
    pub fn module(&self) -> &str {
        self.name.strip_suffix(".weight").unwrap_or(&self.name)
    }
}

impl Default for Names {
    /// The names of published Nemotron-H checkpoints.
    fn default() -> Self {
        Self { prefix: "backbone", embedding: "embeddings" }
    }
}

impl Names {
    /// Finds out which names a checkpoint uses.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] when it has no embedding under any name known.
    pub fn detect(checkpoint: &Checkpoint) -> Result<Self> {
        for prefix in ["backbone", "model"] {
            for embedding in ["embeddings", "embed_tokens"] {
                let names = Self { prefix, embedding };
                let module = names.embedding();
                let there = |s| checkpoint.info(&format!("{module}.{s}")).is_some();
                if there("weight") || there("weight_packed") {
                    return Ok(names);
                }
            }
        }
        let known = "backbone.embeddings.weight or model.embed_tokens.weight";
        Err(Error::bad(
            checkpoint.dir(),
            format!("holds no embedding ({known}); is this a nemotron_h or mamba2 model?"),
        ))
    }

    /// Module of the embedding.
    #[must_use]
    pub fn embedding(&self) -> String {
        format!("{}.{}", self.prefix, self.embedding)
    }

    /// Weight of the final norm.
    #[must_use]
    pub fn norm_f(&self) -> String {
        format!("{}.norm_f.weight", self.prefix)
    }

    /// Module of the head, which has no prefix.
    #[must_use]
    pub fn head(&self) -> &'static str {
        "lm_head"
    }

    /// `part` of block `index`: `norm.weight`, `mixer.in_proj`, ..
    #[must_use]
    pub fn layer(&self, index: usize, part: &str) -> String {
        format!("{}.layers.{index}.{part}", self.prefix)
    }

    /// `part` of block `index`'s mixer: `in_proj`, `conv1d.weight`, ..
    #[must_use]
    pub fn mixer(&self, index: usize, part: &str) -> String {
        self.layer(index, &format!("mixer.{part}"))
    }

    /// Every tensor `config` calls for, in order of use.
    #[must_use]
    pub fn expected(&self, config: &ModelConfig, conv_bias: bool) -> Vec<Expected> {
        let vocab = vec![config.vocab_size, config.hidden_size];
        let embedding = format!("{}.weight", self.embedding());
        let mut all = vec![Expected { name: embedding, shape: vocab.clone(), role: Role::Embedding }];
        for (i, block) in config.blocks.iter().enumerate() {
            let parts = block_parts(config, *block, conv_bias);
            all.extend(parts.into_iter().map(|(part, shape, role)| Expected {
                name: self.layer(i, part),
                shape,
                role,
            }));
        }
        all.push(Expected { name: self.norm_f(), shape: vec![config.hidden_size], role: Role::Vector });
        if !config.tied {
            all.push(Expected { name: format!("{}.weight", self.head()), shape: vocab, role: Role::Linear });
        }
        all
    }
}

/// Of a block the names, shapes and purposes of all parts.
pub(super) fn block_parts(c: &ModelConfig, block: Block, conv_bias: bool) -> Vec<(&'static str, Vec<usize>, Role)> {
    use Role::{Linear, Vector};
    let (hidden, inner, heads) = (c.hidden_size, c.d_inner(), c.mamba_heads);
    let mut parts = vec![("norm.weight", vec![hidden], Vector)];
    match block {
        Block::Mamba2 => {
            parts.extend([
                ("mixer.in_proj.weight", vec![c.in_proj_rows(), hidden], Linear),
                ("mixer.conv1d.weight", vec![c.conv_dim(), 1, c.conv_kernel], Vector),
                ("mixer.dt_bias", vec![heads], Vector),
                ("mixer.A_log", vec![heads], Vector),
                ("mixer.D", vec![heads], Vector),
                ("mixer.norm.weight", vec![inner], Vector),
                ("mixer.out_proj.weight", vec![hidden, inner], Linear),
            ]);
            if conv_bias {
                parts.push(("mixer.conv1d.bias", vec![c.conv_dim()], Vector));
            }
        }
        Block::Attention => {
            let (q, kv) = (c.attention_heads * c.head_dim, c.kv_heads * c.head_dim);
            parts.extend([
                ("mixer.q_proj.weight", vec![q, hidden], Linear),
                ("mixer.k_proj.weight", vec![kv, hidden], Linear),
                ("mixer.v_proj.weight", vec![kv, hidden], Linear),
                ("mixer.o_proj.weight", vec![hidden, q], Linear),
            ]);
        }
        Block::Mlp => parts.extend([
            ("mixer.up_proj.weight", vec![c.intermediate_size, hidden], Linear),
            ("mixer.down_proj.weight", vec![hidden, c.intermediate_size], Linear),
        ]),
    }
    parts
}
