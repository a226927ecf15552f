//! What a sequence carries from call to call: convolution windows, SSM states, keys and values.

use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan, Submission};
use crate::kernels::{self, AttentionDims, AttentionParts, KvCache, KvFormat, SsdDims, StateRounding, StoredState};
use crate::model::{Block, ModelConfig};
use crate::tensor::DType;

/// How the states of Mamba-2 blocks are kept between calls. Within a call they are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateFormat {
    /// f32.
    #[default]
    F32,
    /// int8 with a scale for each row (head, channel) over the state axis.
    Int8 {
        /// How codes are rounded. A seed of stochastic rounding is another one in each block.
        rounding: StateRounding,
        /// Turn B, C and the state by Hadamard's matrix on the state axis: exact, as A is one number a head.
        rotate: bool,
        /// Calls of one token between two roundings; the tokens since are kept as they are.
        window: usize,
    },
}

/// The state of a recurrence between calls.
#[allow(clippy::large_enum_variant, reason = "a few hundred bytes a block, beside its megabytes on the device")]
pub(super) enum SsmState {
    /// `[sequences * heads, head_dim * state]`.
    F32(DeviceTensor),
    /// Rounded, and the f32 state of a call of several tokens of one sequence, which all blocks share.
    Int8 { stored: StoredState, work: DeviceTensor, rounding: StateRounding },
}

impl SsmState {
    /// Bytes that this block alone takes.
    fn bytes(&self) -> usize {
        match self {
            Self::F32(ssm) => ssm.bytes(),
            Self::Int8 { stored, .. } => stored.bytes(),
        }
    }
}

/// State of one Mamba-2 block, of one sequence behind the other.
pub(super) struct MambaState {
    /// `[sequences * conv_dim, kernel]`: the last inputs of the convolution, oldest first.
    pub(super) conv: DeviceTensor,
    pub(super) ssm: SsmState,
}

/// State of one block.
#[allow(clippy::large_enum_variant, reason = "a few hundred bytes a block, beside its megabytes on the device")]
pub(super) enum BlockState {
    Mamba2(MambaState),
    Attention(KvCache),
    Mlp,
}

/// For how many sequences a state is, and for how many tokens of each.
#[derive(Clone, Copy)]
pub(super) struct StateSizes {
    pub(super) sequences: usize,
    pub(super) context: usize,
}

impl StateSizes {
    /// One sequence.
    pub(super) fn one(context: usize) -> Self {
        Self { sequences: 1, context }
    }
}

/// The state of one sequence, or of several that decode together.
pub struct State {
    pub(super) blocks: Vec<BlockState>,
    /// `[sequences]`: tokens processed, where attention appends.
    pub(super) cursor: DeviceTensor,
    /// `[context + 1, 1]`: 0, 1 and so on, of which a token copies what cursor and clock are to be. Of one sequence only.
    numbers: Option<DeviceTensor>,
    /// `[2]`: tokens processed, and those since int8 states were rounded: of all sequences at the same time.
    pub(super) clock: DeviceTensor,
    /// `[sequences * groups]`: for `mamba2_update`, zeros between launches.
    pub(super) tickets: DeviceTensor,
    /// For attention of one token, where there are attention blocks.
    pub(super) parts: Option<AttentionParts>,
    /// Tokens since int8 states were rounded.
    pub(super) recent: usize,
    format: StateFormat,
    dims: SsdDims,
    heads: AttentionDims,
    /// Tokens processed.
    pub(super) tokens: usize,
    /// Most tokens the caches hold.
    pub(super) context: usize,
}

impl State {
    pub(super) fn new(
        device: &Device,
        config: &ModelConfig,
        StateSizes { sequences, context }: StateSizes,
        format: StateFormat,
        kv: KvFormat,
    ) -> Result<Self> {
        let (dims, heads) = (ssd(config), attention(config));
        let ssm_shape = [sequences * dims.heads, dims.head_dim * dims.state];
        let int8 = format != StateFormat::F32 && config.blocks.contains(&Block::Mamba2);
        let work = int8.then(|| device.alloc(DType::F32, [dims.heads, dims.head_dim * dims.state])).transpose()?;
        let ssm = |block: usize| match (format, &work) {
            (StateFormat::Int8 { rounding, rotate, window }, Some(work)) => Ok(SsmState::Int8 {
                stored: match (StoredState::of_sequences(device, dims, sequences, window, rotate)?, rounding) {
                    (stored, StateRounding::Feedback) => stored.with_errors(device)?,
                    (stored, _) => stored,
                },
                work: work.clone(),
                rounding: of_block(rounding, block),
            }),
            _ => device.alloc(DType::F32, ssm_shape).map(SsmState::F32),
        };
        let blocks = config
            .blocks
            .iter()
            .enumerate()
            .map(|(i, block)| {
                let named = |e: Error| e.named(&format!("the state of layer {i}"));
                Ok(match block {
                    Block::Mamba2 => BlockState::Mamba2(MambaState {
                        conv: device
                            .alloc(DType::F32, [sequences * config.conv_dim(), config.conv_kernel])
                            .map_err(named)?,
                        ssm: ssm(i).map_err(named)?,
                    }),
                    Block::Attention => {
                        let named = |e: Error| {
                            let limited = matches!(e, Error::LimitExceeded { .. });
                            let hint = if limited { "; fewer tokens, or fewer bits by --kv, take less" } else { "" };
                            e.named(&format!("keys and values of layer {i}{hint}"))
                        };
                        let cache = KvCache::of_sequences(device, heads, sequences, context, kv);
                        BlockState::Attention(cache.map_err(named)?)
                    }
                    Block::Mlp => BlockState::Mlp,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let (clock, cursor) = (device.alloc(DType::U32, [2])?, device.alloc(DType::U32, [sequences])?);
        let numbers = (sequences == 1).then(|| device.alloc(DType::U32, [context + 1, 1])).transpose()?;
        if let (Some(numbers), Device::Gpu(_) | Device::Cpu) = (&numbers, device) {
            device.write(numbers, &(0..=context as u32).collect::<Vec<_>>())?;
        }
        let tickets = device.alloc(DType::U32, [sequences * dims.groups.max(1)])?;
        let attends = config.blocks.contains(&Block::Attention);
        let parts = attends.then(|| AttentionParts::new(device, heads, sequences, context)).transpose()?;
        Ok(Self { blocks, cursor, numbers, clock, tickets, parts, tokens: 0, recent: 0, context, format, dims, heads })
    }

    /// Those of the first `sequences`, in the same memory; none where there are codes whose scales lie behind those of all.
    pub(super) fn first(&self, sequences: usize) -> Result<Option<Self>> {
        let rows = |tensor: &DeviceTensor, each: usize| tensor.rows(0, sequences * each);
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            blocks.push(match block {
                BlockState::Mamba2(MambaState { conv, ssm: SsmState::F32(ssm) }) => {
                    let (conv, ssm) = (rows(conv, self.dims.conv_dim())?, rows(ssm, self.dims.heads)?);
                    BlockState::Mamba2(MambaState { conv, ssm: SsmState::F32(ssm) })
                }
                BlockState::Mamba2(_) => return Ok(None),
                BlockState::Attention(cache) => match cache.first(sequences)? {
                    Some(cache) => BlockState::Attention(cache),
                    None => return Ok(None),
                },
                BlockState::Mlp => BlockState::Mlp,
            });
        }
        let cursor = self.cursor.view(DType::U32, [sequences])?;
        let tickets = self.tickets.view(DType::U32, [sequences * self.dims.groups.max(1)])?;
        let (clock, parts, numbers) = (self.clock.clone(), self.parts.clone(), None);
        Ok(Some(Self { blocks, cursor, numbers, clock, tickets, parts, ..*self }))
    }

    /// Back to the beginning of a sequence. Keys and values need no clearing: the cursor hides them; nor do recent
    /// tokens, which the clock hides.
    pub(super) fn reset(&mut self, device: &Device) -> Result<()> {
        let mut submission = device.submission();
        let mut clear = |t: &DeviceTensor| submission.clear(t);
        for block in &self.blocks {
            if let BlockState::Mamba2(m) = block {
                clear(&m.conv)?;
                match &m.ssm {
                    SsmState::F32(ssm) => clear(ssm)?,
                    SsmState::Int8 { stored, .. } => {
                        clear(&stored.codes)?;
                        clear(&stored.scales)?;
                        stored.errors.as_ref().map_or(Ok(()), &mut clear)?;
                    }
                }
            }
        }
        clear(&self.tickets)?;
        submission.submit()?;
        (self.tokens, self.recent) = (0, 0);
        self.write_clock(device)
    }

    /// The sequence was copied here with so many tokens.
    pub(super) fn set_tokens(&mut self, device: &Device, tokens: usize) -> Result<()> {
        (self.tokens, self.recent) = (tokens, 0);
        self.write_clock(device)
    }

    /// Adds copies of states, and of keys and values of the first `tokens`: those of sequence `mine` become those of
    /// sequence `theirs` of `other`. int8 states must have been rounded: recent tokens are not copied.
    pub(super) fn copy(&self, mine: usize, other: &Self, theirs: usize, tokens: usize, plan: &mut Plan) -> Result<()> {
        let part = |plan: &mut Plan, from: &DeviceTensor, to: &DeviceTensor, rows: usize| {
            plan.copy(&from.rows(mine * rows, rows)?, &to.rows(theirs * rows, rows)?)
        };
        for (from, to) in self.blocks.iter().zip(&other.blocks) {
            match (from, to) {
                (BlockState::Mamba2(from), BlockState::Mamba2(to)) => {
                    part(plan, &from.conv, &to.conv, self.dims.conv_dim())?;
                    let rows = self.dims.d_inner();
                    match (&from.ssm, &to.ssm) {
                        (SsmState::F32(from), SsmState::F32(to)) => part(plan, from, to, self.dims.heads)?,
                        (SsmState::Int8 { stored: from, .. }, SsmState::Int8 { stored: to, .. }) => {
                            part(plan, &from.codes, &to.codes, rows)?;
                            part(plan, &column(&from.scales)?, &column(&to.scales)?, rows)?;
                            if let (Some(from), Some(to)) = (&from.errors, &to.errors) {
                                part(plan, from, to, rows)?;
                            }
                        }
                        _ => {}
                    }
                }
                (BlockState::Attention(from), BlockState::Attention(to)) => {
                    copy_cache(plan, self.heads, [(from, mine), (to, theirs)], tokens)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The cursor, too, of one sequence; those of several are written by who knows where each stands.
    fn write_clock(&self, device: &Device) -> Result<()> {
        device.write(&self.clock, &[self.tokens as u32, self.recent as u32])?;
        match self.cursor.words() {
            1 => device.write(&self.cursor, &[self.tokens as u32]),
            _ => Ok(()),
        }
    }

    /// After a pass of `tokens`: a pass of several leaves int8 states rounded, one of one token adds a recent one.
    /// True when there is no room for another, and the states must be rounded before [`State::rounded`].
    pub(super) fn advance(&mut self, device: &Device, tokens: usize) -> Result<bool> {
        let full = self.count(tokens);
        self.write_clock(device)?;
        Ok(full)
    }

    /// As [`State::advance`], of a pass by the kernels of several tokens, also where it is one.
    pub(super) fn advance_rounded(&mut self, device: &Device, tokens: usize) -> Result<()> {
        self.tokens += tokens;
        self.rounded(device)
    }

    /// All recent tokens went into the rounded states.
    pub(super) fn rounded(&mut self, device: &Device) -> Result<()> {
        self.recent = 0;
        self.write_clock(device)
    }

    /// As [`State::advance`] for one token of one sequence, behind the pass that is in `submission`. Writes of the host would cost the
    /// device another pause.
    pub(super) fn step(&mut self, submission: &mut Submission) -> Result<bool> {
        let full = self.count(1);
        self.copy_clock(submission)?;
        Ok(full)
    }

    /// As [`State::rounded`], behind the rounding that is in `submission`.
    pub(super) fn step_rounded(&mut self, submission: &mut Submission) -> Result<()> {
        self.recent = 0;
        self.copy_clock(submission)
    }

    fn count(&mut self, tokens: usize) -> bool {
        self.tokens += tokens;
        let window = match self.format {
            StateFormat::F32 => None,
            StateFormat::Int8 { window, .. } => Some(window),
        };
        self.recent = if tokens == 1 && window.is_some() { self.recent + 1 } else { 0 };
        window == Some(self.recent)
    }

    /// Only int8 states ask for the clock.
    fn copy_clock(&self, submission: &mut Submission) -> Result<()> {
        let several = || Error::argument("step", "one token of several sequences");
        let numbers = self.numbers.as_ref().ok_or_else(several)?;
        let number = |n: usize| numbers.row(n);
        submission.copy(&number(self.tokens)?, &self.cursor)?;
        if self.format != StateFormat::F32 {
            let clock = self.clock.view(DType::U32, [2, 1])?;
            submission.copy(&number(self.tokens)?, &clock.row(0)?)?;
            submission.copy(&number(self.recent)?, &clock.row(1)?)?;
        }
        Ok(())
    }

    /// Rounds all int8 states with their recent tokens; they are forgotten by [`State::rounded`] afterwards.
    pub(super) fn round(&self, device: &Device) -> Result<Plan> {
        let mut plan = Plan::new(device).specialised();
        for block in &self.blocks {
            let BlockState::Mamba2(MambaState { ssm: SsmState::Int8 { stored, rounding, .. }, .. }) = block else {
                continue;
            };
            // A pass of several tokens may round at the same clock: other draws.
            kernels::ssm_round(&mut plan, stored, &self.clock, self.dims, of_block(*rounding, self.blocks.len()))?;
        }
        Ok(plan)
    }

    /// Bytes of keys and values on the device.
    pub(super) fn kv_bytes(&self) -> usize {
        let kv = self.blocks.iter().map(|block| match block {
            BlockState::Attention(kv) => kv.bytes(),
            _ => 0,
        });
        kv.sum()
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        let block = |b: &BlockState| match b {
            BlockState::Mamba2(m) => m.conv.bytes() + m.ssm.bytes(),
            BlockState::Attention(kv) => kv.bytes(),
            BlockState::Mlp => 0,
        };
        let shared = self.blocks.iter().find_map(|b| match b {
            BlockState::Mamba2(MambaState { ssm: SsmState::Int8 { work, .. }, .. }) => Some(work.bytes()),
            _ => None,
        });
        let small = self.clock.bytes()
            + self.cursor.bytes()
            + self.numbers.as_ref().map_or(0, DeviceTensor::bytes)
            + self.tickets.bytes()
            + self.parts.as_ref().map_or(0, AttentionParts::bytes);
        self.blocks.iter().map(block).sum::<usize>() + shared.unwrap_or(0) + small
    }

    /// The f32 SSM state of block `index`, `[heads, head_dim * state]`, where it is a Mamba-2 block that has one.
    #[must_use]
    pub fn ssm(&self, index: usize) -> Option<&DeviceTensor> {
        match self.blocks.get(index) {
            Some(BlockState::Mamba2(MambaState { ssm: SsmState::F32(ssm), .. })) => Some(ssm),
            _ => None,
        }
    }

    /// The tensors of block `index` by name (`conv`, `ssm`; `key`, `value` up to the tokens seen), read back.
    ///
    /// # Errors
    /// [`Error::Argument`] where there is no such block; as [`Device::read_f32`].
    pub async fn read(&self, device: &Device, index: usize) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let none = || Error::argument("state", format!("block {index} of {}", self.blocks.len()));
        Ok(match self.blocks.get(index).ok_or_else(none)? {
            BlockState::Mamba2(m) => {
                let ssm = match &m.ssm {
                    SsmState::F32(ssm) => ssm,
                    SsmState::Int8 { stored, work, .. } => {
                        let mut plan = Plan::new(device);
                        kernels::ssm_load(&mut plan, stored, &self.clock, work, self.dims)?;
                        plan.record()?.run()?;
                        work
                    }
                };
                vec![("conv", device.read_f32(&m.conv).await?), ("ssm", device.read_f32(ssm).await?)]
            }
            BlockState::Attention(kv) => {
                let [key, value] = kv.read(device, self.heads, 0, self.tokens).await?;
                vec![("key", key), ("value", value)]
            }
            BlockState::Mlp => Vec::new(),
        })
    }
}

/// A vector as rows of one element.
fn column(vector: &DeviceTensor) -> Result<DeviceTensor> {
    vector.view(DType::F32, [vector.words(), 1])
}

/// Adds copies of the first `tokens` of a sequence from one cache to another, both of one format.
fn copy_cache(plan: &mut Plan, heads: AttentionDims, ends: [(&KvCache, usize); 2], tokens: usize) -> Result<()> {
    if tokens == 0 {
        return Ok(());
    }
    let mut words = |both: [&DeviceTensor; 2], from: [usize; 2], count: usize| {
        let part = |i: usize| both[i].view(both[i].dtype, [both[i].words(), 1])?.rows(from[i], count);
        plan.copy(&part(0)?, &part(1)?)
    };
    let [(from, _), (to, _)] = ends;
    for both in [[&from.key, &to.key], [&from.value, &to.value]] {
        // Rows (token, kv head) of codes, or of elements, then rows of scales.
        let row = |i: usize| ends[i].1 * ends[i].0.max() * heads.kv_heads;
        let all = |i: usize| ends[i].0.sequences * ends[i].0.max() * heads.kv_heads;
        let (width, scales) = match from.format.codes(heads.head_dim) {
            None => (heads.head_dim, 0),
            Some(codes) => (codes.words(), codes.groups()),
        };
        let rows = tokens * heads.kv_heads;
        words(both, [0, 1].map(|i| row(i) * width), rows * width)?;
        if scales > 0 {
            words(both, [0, 1].map(|i| all(i) * width + row(i) * scales), rows * scales)?;
        }
    }
    Ok(())
}

/// Sizes of a model's Mamba-2 mixers.
pub(super) fn ssd(c: &ModelConfig) -> SsdDims {
    SsdDims {
        heads: c.mamba_heads,
        head_dim: c.mamba_head_dim,
        groups: c.n_groups,
        state: c.state_size,
        chunk: c.chunk_size,
    }
}

/// Sizes of a model's attention.
pub(super) fn attention(c: &ModelConfig) -> AttentionDims {
    AttentionDims { heads: c.attention_heads, kv_heads: c.kv_heads, head_dim: c.head_dim }
}

/// Other draws in each block.
fn of_block(rounding: StateRounding, block: usize) -> StateRounding {
    match rounding {
        StateRounding::Nearest | StateRounding::Feedback => rounding,
        StateRounding::Stochastic(seed) => {
            StateRounding::Stochastic(seed.wrapping_add((block as u32 + 1).wrapping_mul(0x9e37_79b9)))
        }
    }
}
