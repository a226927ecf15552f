//! What a model takes on a device, computed before anything is allocated.

use std::fmt;

use super::EngineOptions;
use super::batch::batch_bytes;
use super::kept::kept_bytes;
use super::scratch::Scratch;
use super::state::{State, StateSizes};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::kernels;
use crate::model::{Block, ModelConfig, ModelSource, Names, OnlineRotation, Role, Stored, WeightForm};
use crate::tensor::DType;

/// Bytes an engine holds on its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub kv: u64,
    /// States of Mamba-2 blocks.
    pub state: u64,
    /// All of sequences that are kept: keys and values, states, logits.
    pub kept: u64,
    /// Activations, logits of all tokens of a pass aside.
    pub scratch: u64,
}

impl Memory {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.kv + self.state + self.kept + self.scratch
    }

    /// What an engine for a model of these forms will hold. Nothing is allocated.
    ///
    /// # Errors
    /// As [`super::Engine::new`], but for what the adapter cannot do.
    pub fn plan(
        config: &ModelConfig,
        rotation: OnlineRotation,
        forms: &[WeightForm],
        options: EngineOptions,
    ) -> Result<Self> {
        config.countable()?;
        let options = options.checked()?;
        // The embedding as the head of a tied model: a second copy.
        let head =
            forms.first().filter(|_| config.tied).map(|embedding| WeightForm { role: Role::Linear, ..*embedding });
        let forms = || forms.iter().chain(&head);
        let groups = forms().map(WeightForm::activation_groups).max().unwrap_or(0);
        let EngineOptions { context, sequences, .. } = options;
        let one = state(config, StateSizes::one(context), options)?;
        let several = (sequences > 1).then(|| state(config, StateSizes { sequences, context }, options)).transpose()?;
        let states = || std::iter::once(&one).chain(&several);
        let kv = states().map(State::kv_bytes).sum::<usize>();
        let beside = several.as_ref().map_or(0, |_| batch_bytes(config, sequences));
        let scratch = Scratch::new(&Device::Nowhere, config, rotation, options.rows(), groups, options.scan)?;
        Ok(Self {
            weights: vectors(config) + forms().map(resident).sum::<u64>(),
            kv: kv as u64,
            state: (states().map(State::bytes).sum::<usize>() - kv) as u64,
            kept: (kept_bytes(config, &one) as u64).saturating_mul(options.kept as u64),
            scratch: (scratch.bytes() + beside) as u64,
        })
    }

    /// As [`Memory::plan`], of a model whose forms are known before it is read; `None` of others, which are made as they
    /// are read.
    ///
    /// # Errors
    /// As [`Memory::plan`].
    pub fn of(source: &dyn ModelSource, options: EngineOptions) -> Result<Option<Self>> {
        source.config().countable()?;
        let forms = source.forms()?;
        forms.map(|forms| Self::plan(source.config(), source.rotation(), &forms, options)).transpose()
    }

    /// Refuses what does not fit the memory that `device` has free, where that is known.
    ///
    /// # Errors
    /// [`Error::TooLarge`] with the numbers.
    pub fn check(&self, device: &Device) -> Result<()> {
        let Some((gpu, room)) = device.gpu().and_then(|g| Some((g, g.room()?))) else { return Ok(()) };
        if self.total() <= room.free {
            return Ok(());
        }
        let adapter = gpu.adapter.name.clone();
        Err(Error::TooLarge { adapter, plan: self.to_string(), need: self.total(), have: room.free, why: room.why })
    }
}

/// `weights 6144.0 MiB, keys and values 128.0 MiB, states 98.0 MiB, activations 300.0 MiB`, and where sequences are kept
/// `kept sequences 912.0 MiB` before the last.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Self { weights, kv, state, kept, scratch } = *self;
        write!(f, "weights {:.1} MiB, keys and values {:.1} MiB, states {:.1} MiB", mib(weights), mib(kv), mib(state))?;
        if kept > 0 {
            write!(f, ", kept sequences {:.1} MiB", mib(kept))?;
        }
        write!(f, ", activations {:.1} MiB", mib(scratch))
    }
}

/// A state that has no memory.
fn state(config: &ModelConfig, sizes: StateSizes, options: EngineOptions) -> Result<State> {
    State::new(&Device::Nowhere, config, sizes, options.state, options.kv)
}

/// Bytes of norms, convolutions and what there is once a head; convolutions three times, gated norms twice and the latter four times, as
/// `DeviceMamba2::per_head`, `vectors` and `gated` are copies.
fn vectors(config: &ModelConfig) -> u64 {
    let all = Names::default().expected(config, true);
    let elements = all.iter().filter(|t| t.role == Role::Vector).map(|t| t.shape.iter().product::<usize>());
    let mamba = config.blocks.iter().filter(|b| **b == Block::Mamba2).count();
    let per_head = 3 * config.mamba_heads;
    let vectors = per_head + config.conv_dim() * (config.conv_kernel + 1);
    let copies = per_head + vectors.next_multiple_of(4) + vectors + config.d_inner();
    (elements.sum::<usize>() + mamba * copies) as u64 * 4
}

/// Bytes of a weight in the form that `super::weights` holds it in: codes padded to words, scales of whole four rows.
fn resident(form: &WeightForm) -> u64 {
    let WeightForm { role, rows, cols, stored } = *form;
    let padded = |bits: usize| rows * (cols * bits).div_ceil(32) * 4;
    let bytes = match stored {
        Stored::Float(dtype) => padded(dtype.bits()),
        Stored::Codes { bits, group, scales, activations } => {
            let fixed = activations.stored_scales(cols) * 4;
            let held = kernels::placed([rows, group.count(cols)]).iter().product::<usize>() * scales.bits() / 8;
            match (role, bits > 4) {
                (Role::Embedding, _) => padded(if bits > 4 { 8 } else { 4 }) + held,
                (Role::Linear, true) if activations.int8() => padded(8) + held + fixed,
                (Role::Linear, false) => padded(4) + held + fixed,
                _ => padded(DType::F32.bits()),
            }
        }
    };
    bytes as u64
}
