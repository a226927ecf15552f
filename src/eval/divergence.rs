//! How far two engines' predictions of the same tokens are apart.

use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan, Recording};
use crate::kernels::kl_divergence;
use crate::runtime::Engine;
use crate::tensor::DType;

/// Computes it on the model's device.
#[derive(Default)]
pub(super) struct Divergence {
    /// For passes of so many tokens.
    recorded: Option<Recorded>,
}

struct Recorded {
    tokens: usize,
    recording: Recording,
    out: DeviceTensor,
    /// Where the base's logits go, if they are on another device.
    moved: Option<DeviceTensor>,
}

impl Divergence {
    /// Sum of KL(base || model) over the last pass of [`Engine::score`] of both, of `tokens` tokens, nats.
    pub(super) async fn sum(&mut self, base: &Engine, model: &Engine, tokens: usize) -> Result<f64> {
        let recorded = match self.recorded.take().filter(|recorded| recorded.tokens == tokens) {
            Some(recorded) => recorded,
            None => Recorded::new(base, model, tokens)?,
        };
        let Recorded { recording, out, moved, .. } = self.recorded.insert(recorded);
        if let Some(moved) = moved {
            let logits = base.device().read(&base.scored_logits(tokens)?).await?;
            model.device().write(moved, &logits)?;
        }
        recording.run()?;
        Ok(model.device().read_f32(out).await?.iter().map(|kl| f64::from(*kl)).sum())
    }
}

impl Recorded {
    fn new(base: &Engine, model: &Engine, tokens: usize) -> Result<Self> {
        let (device, of_base, of_model) = (model.device(), base.scored_logits(tokens)?, model.scored_logits(tokens)?);
        let moved = if same(base.device(), device) { None } else { Some(device.alloc(DType::F32, of_base.shape)?) };
        let out = device.alloc(DType::F32, [tokens])?;
        let mut plan = Plan::new(device);
        kl_divergence(&mut plan, moved.as_ref().unwrap_or(&of_base), &of_model, &out)?;
        Ok(Self { tokens, recording: plan.record()?, out, moved })
    }
}

/// May tensors of one be read by the other?
fn same(a: &Device, b: &Device) -> bool {
    match (a, b) {
        (Device::Gpu(a), Device::Gpu(b)) => std::sync::Arc::ptr_eq(a, b),
        (Device::Cpu, Device::Cpu) => true,
        _ => false,
    }
}
