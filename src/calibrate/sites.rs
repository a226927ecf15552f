//! Places in a model whose activations are looked at, and how to find them among the taps of a pass.
//!
//! A site that is the input of a module has the module's name (`backbone.layers.3.mixer.out_proj`; k_proj and v_proj
//! share q_proj's). Other sites are named like parts of a mixer: `mixer.z`, `mixer.x`, `mixer.B`, `mixer.C` (after the
//! convolution), `mixer.dt` (after softplus), `mixer.state`, `mixer.y`, `mixer.query`, `mixer.key`, `mixer.value`. The
//! stream that enters a block has the block's name, the one that leaves the last is `backbone.norm_f`.

use crate::gpu::DeviceTensor;
use crate::kernels::Samples;
use crate::model::{Block, ModelConfig, Names, OnlineRotation};

/// A site and where a tap holds its samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) name: String,
    pub(super) samples: Samples,
    /// Is this the whole input `[tokens, channels]` of a linear layer?
    pub(super) linear: bool,
}

/// Which sites the taps of a model hold.
pub(super) struct Sites {
    config: ModelConfig,
    rotation: OnlineRotation,
    names: Names,
}

impl Sites {
    pub(super) fn new(config: &ModelConfig, rotation: OnlineRotation) -> Self {
        Self { config: config.clone(), rotation, names: Names::default() }
    }

    /// The sites in what the tap `name` gives, states left aside.
    pub(super) fn of(&self, name: &str, tensor: &DeviceTensor) -> Vec<Site> {
        if name == "norm_f" {
            return vec![all(self.names.head().to_owned(), tensor, true)];
        }
        let mut words = name.splitn(3, '.');
        let (first, index, op) = (words.next(), words.next().and_then(|i| i.parse().ok()), words.next());
        let Some(index) = index else { return Vec::new() };
        match (first, op) {
            (Some("hidden"), None) => vec![all(self.stream(index), tensor, false)],
            (Some("layer"), Some(op)) => self.within(index, op, tensor),
            _ => Vec::new(),
        }
    }

    /// Name of the SSM state's site of block `index`.
    pub(super) fn state(&self, index: usize) -> String {
        self.part(index, "state")
    }

    /// Samples of a `[count, state]` tensor of states, heads as channels, from row `first` on.
    pub(super) fn states(&self, count: usize, first: usize) -> Samples {
        let c = &self.config;
        let (heads, inner) = (c.mamba_heads, c.mamba_head_dim * c.state_size);
        let stride = heads * inner;
        Samples { stride, offset: first * stride, outer: count - first, channels: heads, inner }
    }

    /// All outputs of in_proj, where `name` is their tap.
    pub(super) fn projected(&self, name: &str, tensor: &DeviceTensor) -> Option<Site> {
        let index = name.strip_prefix("layer.")?.strip_suffix(".in_proj")?.parse().ok()?;
        Some(all(self.part(index, "zxbcdt"), tensor, false))
    }

    fn stream(&self, index: usize) -> String {
        let layer = self.names.layer(index, "");
        match index < self.config.blocks.len() {
            true => layer.trim_end_matches('.').to_owned(),
            false => self.names.norm_f().trim_end_matches(".weight").to_owned(),
        }
    }

    fn part(&self, index: usize, part: &str) -> String {
        self.names.mixer(index, part)
    }

    fn within(&self, index: usize, op: &str, tensor: &DeviceTensor) -> Vec<Site> {
        let (c, name) = (&self.config, |part: &str| self.part(index, part));
        let input = |part: &str| vec![all(name(part), tensor, true)];
        let plain = |part: &str| vec![all(name(part), tensor, false)];
        let columns = |part: &str, offset: usize, channels: usize| Site {
            name: name(part),
            samples: Samples { stride: tensor.shape.cols(), offset, outer: tensor.shape.rows(), channels, inner: 1 },
            linear: false,
        };
        let (inner, bc) = (c.d_inner(), c.n_groups * c.state_size);
        let last = |rotated: Option<usize>, plain: &'static str| if rotated.is_some() { "rotated" } else { plain };
        let Some(block) = c.blocks.get(index) else { return Vec::new() };
        match (block, op) {
            (Block::Mamba2, "norm") => input("in_proj"),
            (Block::Mamba2, "in_proj") => vec![columns("z", 0, inner)],
            (Block::Mamba2, "conv") => {
                vec![columns("x", 0, inner), columns("B", inner, bc), columns("C", inner + bc, bc)]
            }
            (Block::Mamba2, "dt") => vec![by_rows(name("dt"), tensor)],
            (Block::Mamba2, "scan") => plain("y"),
            (Block::Mamba2, op) if op == last(self.rotation.out_proj, "gated_norm") => input("out_proj"),
            (Block::Attention, "norm") => input("q_proj"),
            (Block::Attention, "q_proj") => plain("query"),
            (Block::Attention, "k_proj") => plain("key"),
            (Block::Attention, "v_proj") => plain("value"),
            (Block::Attention, "attention") => input("o_proj"),
            (Block::Mlp, "norm") => input("up_proj"),
            (Block::Mlp, op) if op == last(self.rotation.down_proj, "up_proj") => input("down_proj"),
            _ => Vec::new(),
        }
    }
}

/// Every column is a channel.
fn all(name: String, tensor: &DeviceTensor, linear: bool) -> Site {
    let (rows, cols) = (tensor.shape.rows(), tensor.shape.cols());
    Site { name, samples: Samples { stride: cols, offset: 0, outer: rows, channels: cols, inner: 1 }, linear }
}

/// Every row is a channel.
fn by_rows(name: String, tensor: &DeviceTensor) -> Site {
    let (rows, cols) = (tensor.shape.rows(), tensor.shape.cols());
    Site {
        name,
        samples: Samples { stride: rows * cols, offset: 0, outer: 1, channels: rows, inner: cols },
        linear: false,
    }
}
