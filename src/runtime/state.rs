//! What a sequence carries from call to call: convolution windows, SSM states, keys and values.

use crate::error::Result;
use crate::gpu::{Device, DeviceTensor};
use crate::model::{Block, ModelConfig};
use crate::tensor::DType;

/// State of one Mamba-2 block.
pub(super) struct MambaState {
    /// `[conv_dim, kernel]`: the last inputs of the convolution, oldest first.
    pub(super) conv: DeviceTensor,
    /// `[heads, head_dim * state]`.
    pub(super) ssm: DeviceTensor,
}

/// Keys and values of one attention block, `[context, kv_heads * head_dim]` each.
pub(super) struct KvState {
    pub(super) key: DeviceTensor,
    pub(super) value: DeviceTensor,
}

/// State of one block.
pub(super) enum BlockState {
    Mamba2(MambaState),
    Attention(KvState),
    Mlp,
}

/// The state of one sequence. All f32.
pub struct State {
    pub(super) blocks: Vec<BlockState>,
    /// `[1]`: tokens processed, where attention appends.
    pub(super) cursor: DeviceTensor,
    /// Tokens processed.
    pub(super) tokens: usize,
    /// Most tokens the caches hold.
    pub(super) context: usize,
}

impl State {
    pub(super) fn new(device: &Device, config: &ModelConfig, context: usize) -> Result<Self> {
        let f32s = |rows: usize, cols: usize| device.alloc(DType::F32, [rows, cols]);
        let kv = config.kv_heads * config.head_dim;
        let blocks = config
            .blocks
            .iter()
            .map(|block| {
                Ok(match block {
                    Block::Mamba2 => BlockState::Mamba2(MambaState {
                        conv: f32s(config.conv_dim(), config.conv_kernel)?,
                        ssm: f32s(config.mamba_heads, config.mamba_head_dim * config.state_size)?,
                    }),
                    Block::Attention => {
                        BlockState::Attention(KvState { key: f32s(context, kv)?, value: f32s(context, kv)? })
                    }
                    Block::Mlp => BlockState::Mlp,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { blocks, cursor: device.alloc(DType::U32, [1])?, tokens: 0, context })
    }

    /// Back to the beginning of a sequence. Keys and values need no clearing: the cursor hides them.
    pub(super) fn reset(&mut self, device: &Device) -> Result<()> {
        for block in &self.blocks {
            if let BlockState::Mamba2(m) = block {
                device.write(&m.conv, &vec![0; m.conv.words()])?;
                device.write(&m.ssm, &vec![0; m.ssm.words()])?;
            }
        }
        self.tokens = 0;
        device.write(&self.cursor, &[0])
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        let block = |b: &BlockState| match b {
            BlockState::Mamba2(m) => m.conv.bytes() + m.ssm.bytes(),
            BlockState::Attention(kv) => kv.key.bytes() + kv.value.bytes(),
            BlockState::Mlp => 0,
        };
        self.blocks.iter().map(block).sum::<usize>() + self.cursor.bytes()
    }

    /// The SSM state of block `index`, `[heads, head_dim * state]`, where it is a Mamba-2 block.
    #[must_use]
    pub fn ssm(&self, index: usize) -> Option<&DeviceTensor> {
        match self.blocks.get(index) {
            Some(BlockState::Mamba2(m)) => Some(&m.ssm),
            _ => None,
        }
    }

    /// The tensors of block `index` by name (`conv`, `ssm`; `key`, `value` up to the tokens seen), read back.
    ///
    /// # Errors
    /// As [`Device::read_f32`].
    pub async fn read(&self, device: &Device, index: usize) -> Result<Vec<(&'static str, Vec<f32>)>> {
        Ok(match &self.blocks[index] {
            BlockState::Mamba2(m) => {
                vec![("conv", device.read_f32(&m.conv).await?), ("ssm", device.read_f32(&m.ssm).await?)]
            }
            BlockState::Attention(kv) => {
                let seen = |t: &DeviceTensor| t.view(DType::F32, [self.tokens, t.shape.cols()]);
                vec![
                    ("key", device.read_f32(&seen(&kv.key)?).await?),
                    ("value", device.read_f32(&seen(&kv.value)?).await?),
                ]
            }
            BlockState::Mlp => Vec::new(),
        })
    }
}
