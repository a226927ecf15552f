//! Activations of one call, allocated once for the longest call and shared by all layers and plans.

use super::state::ssd;
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor};
use crate::kernels::{GROUPED_TOKENS, GroupedTokens, HadamardBuffers, TOKEN_GROUP};
use crate::model::{Block, ModelConfig, OnlineRotation};
use crate::tensor::DType;

/// Of a call of fewer tokens than this there is room for more than one slice of the widest product ([`crate::kernels::SplitK`]), but for no more than four.
const SLICED_TOKENS: usize = 256;

/// In what a call of several tokens keeps x, B and C of the recurrence, the states that enter chunks, and products C·B. Sums and the
/// state that is left are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanFormat {
    /// f32.
    #[default]
    F32,
    /// f16, as mamba_ssm has them in f16 models: half of the memory, and a third of the products on matrix units. Numbers beyond
    /// f16's range become the last in it.
    F16,
}

impl ScanFormat {
    /// The type of the tensors.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
        }
    }
}

/// Codes of few tokens and, for each [`TOKEN_GROUP`] of them, a scale and a sum of squares ([`GroupedTokens`]).
pub(super) struct Link {
    /// `[tokens, columns]` int8.
    pub(super) codes: DeviceTensor,
    /// `[2, tokens · columns / 32]` f32.
    pub(super) scales: DeviceTensor,
}

impl Link {
    /// For up to so many tokens and columns.
    fn new(device: &Device, tokens: usize, columns: usize) -> Result<Self> {
        Ok(Self {
            codes: device.alloc(DType::I8, [tokens, columns])?,
            scales: device.alloc(DType::F32, [2, tokens * columns.div_ceil(TOKEN_GROUP)])?,
        })
    }

    /// What kernels read and write there.
    pub(super) fn tokens(&self) -> GroupedTokens<'_> {
        GroupedTokens { codes: &self.codes, scales: &self.scales }
    }

    /// Views for `tokens` of `columns`, whole groups.
    pub(super) fn of(&self, tokens: usize, columns: usize) -> Result<Self> {
        Ok(Self {
            codes: self.codes.view(DType::I8, [tokens, columns])?,
            scales: self.scales.view(DType::F32, [2, tokens * columns / TOKEN_GROUP])?,
        })
    }

    /// The scales alone, `[tokens, columns / 32]`.
    pub(super) fn scales(&self) -> Result<DeviceTensor> {
        let [tokens, columns] = [self.codes.shape.rows(), self.codes.shape.cols()];
        self.scales.row(0)?.view(DType::F32, [tokens, columns / TOKEN_GROUP])
    }
}

/// Flat buffers; plans take views of the length they need. No two of one dispatch's arguments share a buffer.
pub(super) struct Scratch {
    /// Type of what the scan of several tokens reads.
    pub(super) scan: ScanFormat,
    /// Token ids of a call, `[tokens]`.
    pub(super) ids: DeviceTensor,
    /// Residual stream, `[tokens, hidden]`.
    pub(super) hidden: DeviceTensor,
    /// Normed stream.
    pub(super) normed: DeviceTensor,
    /// Output of in_proj, up_proj, q_proj, or of q_proj, k_proj and v_proj as one; or sums of slices of a product into the stream.
    pub(super) wide: DeviceTensor,
    /// Convolved x, B, C; or keys.
    pub(super) xbc: DeviceTensor,
    /// Values.
    pub(super) value: DeviceTensor,
    /// `[heads, tokens]`.
    pub(super) dt: DeviceTensor,
    /// `[heads, tokens]`.
    pub(super) da_cumsum: DeviceTensor,
    /// Products of C and B within chunks, `[tokens, groups * chunk]`.
    pub(super) products: DeviceTensor,
    /// `[chunks, heads * head_dim * state]`; of a scan in f16 nothing.
    pub(super) chunk_states: DeviceTensor,
    /// Likewise: the state that enters each chunk.
    pub(super) entering: DeviceTensor,
    /// Output of the scan or of attention.
    pub(super) y: DeviceTensor,
    /// Gated and normed `y`.
    pub(super) gated: DeviceTensor,
    /// Rotated input of out_proj or down_proj; or sums of slices of a product into `wide`.
    pub(super) rotated: DeviceTensor,
    /// What the rotation before out_proj needs, where there is one.
    pub(super) rotate_out: Option<HadamardBuffers>,
    /// What the rotation before down_proj needs, where there is one.
    pub(super) rotate_down: Option<HadamardBuffers>,
    /// int8 activations.
    pub(super) codes: DeviceTensor,
    /// Their scales, `[tokens, groups]`.
    pub(super) scales: DeviceTensor,
    /// What few tokens' products leave for the next one: of the stream, and within a block.
    pub(super) links: [Link; 2],
    /// The stream of the last token, `[1, hidden]`.
    pub(super) last: DeviceTensor,
    /// Logits of the last token, `[1, vocab]`.
    pub(super) logits: DeviceTensor,
    /// The chosen id, `[1]`.
    pub(super) next: DeviceTensor,
    /// Seed and counter of the sampler.
    pub(super) rng: DeviceTensor,
}

impl Scratch {
    /// For calls of up to `tokens`; `groups`: most scales that a token's activations have; `scan`: type of what the scan of several
    /// tokens reads.
    pub(super) fn new(
        device: &Device,
        c: &ModelConfig,
        rotation: OnlineRotation,
        tokens: usize,
        groups: usize,
        scan: ScanFormat,
    ) -> Result<Self> {
        let f32s = |n: usize| device.alloc(DType::F32, [n.max(1)]);
        let query = c.attention_heads * c.head_dim;
        let kv = c.kv_heads * c.head_dim;
        let widest = c.in_proj_rows().max(c.intermediate_size).max(query + 2 * kv);
        let inner = c.d_inner().max(c.intermediate_size).max(query).max(c.hidden_size);
        let (states, products) = if c.blocks.contains(&Block::Mamba2) {
            let dims = ssd(c);
            (dims.chunks(tokens) * dims.state_len(), tokens * dims.products_len(scan.dtype()))
        } else {
            (0, 0)
        };
        let rotate = |block: Option<usize>, cols: usize| {
            block.map(|block| HadamardBuffers::new(device, tokens, cols, block)).transpose()
        };
        let roomy = |columns: usize| f32s(tokens.max(SLICED_TOKENS.min(4 * tokens)) * columns);
        let linked = tokens.min(GROUPED_TOKENS);
        let scanned = |n: usize| device.alloc(scan.dtype(), [n.max(1)]);
        Ok(Self {
            scan,
            rotate_out: rotate(rotation.out_proj, c.d_inner())?,
            rotate_down: rotate(rotation.down_proj, c.intermediate_size)?,
            ids: device.alloc(DType::U32, [tokens])?,
            hidden: f32s(tokens * c.hidden_size)?,
            normed: f32s(tokens * c.hidden_size)?,
            wide: roomy(widest)?,
            xbc: f32s(tokens * c.conv_dim().max(kv))?,
            value: f32s(tokens * kv)?,
            dt: f32s(tokens * c.mamba_heads)?,
            da_cumsum: f32s(tokens * c.mamba_heads)?,
            products: scanned(products)?,
            chunk_states: f32s(if scan == ScanFormat::F32 { states } else { 0 })?,
            entering: scanned(states)?,
            y: f32s(tokens * c.d_inner().max(query))?,
            gated: f32s(tokens * c.d_inner())?,
            rotated: roomy(inner)?,
            codes: device.alloc(DType::I8, [tokens, inner])?,
            scales: f32s(tokens * groups)?,
            links: [Link::new(device, linked, inner)?, Link::new(device, linked, inner)?],
            last: f32s(c.hidden_size)?,
            logits: f32s(c.vocab_size)?,
            next: device.alloc(DType::U32, [1])?,
            rng: device.alloc(DType::U32, [2])?,
        })
    }

    /// Most tokens of a call.
    pub(super) fn tokens(&self) -> usize {
        self.ids.shape.elements()
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        let Self { ids, hidden, normed, wide, xbc, value, dt, da_cumsum, products, chunk_states, entering, y, .. } =
            self;
        let Self { gated, rotated, codes, scales, links, last, logits, next, rng, rotate_out, rotate_down, .. } = self;
        let tensors = [
            ids,
            hidden,
            normed,
            wide,
            xbc,
            value,
            dt,
            da_cumsum,
            products,
            chunk_states,
            entering,
            y,
            gated,
            rotated,
            codes,
            scales,
            last,
            logits,
            next,
            rng,
        ];
        let rotations = [rotate_out, rotate_down].into_iter().flatten().map(HadamardBuffers::bytes).sum::<usize>();
        let links = links.iter().map(|l| l.codes.bytes() + l.scales.bytes()).sum::<usize>();
        tensors.iter().map(|t| t.bytes()).sum::<usize>() + rotations + links
    }
}
