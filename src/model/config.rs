//! `config.json` of `nemotron_h` and `mamba2`, checked before anything is allocated.

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
    /// `time_step_min`, which transformers wrongly applies in prefill (reference/quantization.md 3.3).
    pub time_step_min: f32,
    /// Is the head the embedding?
    pub tied: bool,
    /// Beginning-of-sequence token.
    pub bos: Option<u32>,
    /// End-of-sequence tokens.
    pub eos: Vec<u32>,
    /// Longest sequence the model was made for, if stated.
    pub max_positions: Option<usize>,
}

impl ModelConfig {
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
