//! A pass with everything its ops give, read back; optionally each op on given inputs.

use std::collections::HashMap;

use super::engine::Engine;
use super::forward::Forward;
use super::taps::Taps;
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::tensor::{DType, Shape, Tensor, unpack_halves};

/// What one op of a pass gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// `hidden.{i}` for the stream entering block i (the last leaves the blocks), `layer.{i}.{op}` within block i,
    /// `norm_f`, `logits`.
    pub name: String,
    /// `[tokens, width]`; `[heads, tokens]` for `dt` and `da_cumsum`, `[chunks, state]` for chunks' states.
    pub shape: Shape,
    /// The values; int8 codes as numbers.
    pub values: Vec<f32>,
}

impl Engine {
    /// As [`Engine::feed`] in one pass, and gives what every op gave, in order: see [`Tap::name`].
    ///
    /// # Errors
    /// As [`Engine::feed`]; [`Error::Argument`] when the tokens are more than one pass takes.
    pub async fn trace(&mut self, tokens: &[u32]) -> Result<Vec<(String, Vec<f32>)>> {
        let taps = self.trace_on(tokens, &[]).await?;
        Ok(taps.into_iter().map(|t| (t.name, t.values)).collect())
    }

    /// As [`Engine::trace`], but what `inputs` holds replaces what the op of that name gave before the next op reads
    /// it. So each op is seen on the same inputs as in another run, and shows its own error only. `inputs` that the
    /// pass has no op for are left aside.
    ///
    /// # Errors
    /// As [`Engine::trace`]; [`Error::Argument`] when an input is of another shape than what it replaces.
    pub async fn trace_on(&mut self, tokens: &[u32], inputs: &[Tap]) -> Result<Vec<Tap>> {
        self.check(tokens)?;
        if tokens.len() > self.options.pass_tokens {
            let reason = format!("{} tokens in a pass of {}", tokens.len(), self.options.pass_tokens);
            return Err(Error::argument("trace", reason));
        }
        let ids = self.scratch.ids.view(DType::U32, [tokens.len()])?;
        self.device.write(&ids, tokens)?;
        // Nothing that looks at a plan lives on while results are awaited: the future may go to another thread.
        let copies = self.run_traced(&ids, inputs)?;
        self.advance(tokens.len())?;
        let mut read = Vec::with_capacity(copies.len());
        for (name, copy) in copies {
            read.push(Tap { name, shape: copy.shape, values: values(&self.device, &copy).await? });
        }
        Ok(read)
    }

    /// Runs the pass over `ids`, and gives a copy of what every op gave, in order.
    fn run_traced(&self, ids: &DeviceTensor, inputs: &[Tap]) -> Result<Vec<(String, DeviceTensor)>> {
        let tokens = ids.shape.elements();
        let inputs: HashMap<&str, &Tap> = inputs.iter().map(|t| (t.name.as_str(), t)).collect();
        let logits = self.device.alloc(DType::F32, [tokens, self.config.vocab_size])?;
        let mut copies = Vec::new();
        let mut plan = Plan::new(&self.device);
        let mut look = |plan: &mut Plan, name: String, tensor: &DeviceTensor| {
            let copy = self.device.alloc(tensor.dtype, tensor.shape)?;
            plan.copy(tensor, &copy)?;
            if let Some(input) = inputs.get(name.as_str()) {
                plan.copy(&upload(&self.device, input, tensor)?, tensor)?;
            }
            copies.push((name, copy));
            Ok(())
        };
        let mut taps = Taps::new(&mut look);
        // One token is taken for the one after a prompt, which transformers does not clamp.
        let dt_limit = if tokens == 1 { self.config.dt_limit } else { self.fed_dt_limit() };
        let forward = Forward { dt_limit, ..self.forward(tokens) };
        let hidden = forward.blocks(&mut plan, &self.weights, ids, &mut taps)?;
        forward.head(&mut plan, &self.weights, &hidden, &logits, &mut taps)?;
        plan.copy(&logits.row(tokens - 1)?, &self.last_logits()?)?;
        plan.record()?.run_paced()?;
        Ok(copies)
    }
}

/// `input` on the device, in the form of the tensor it replaces.
fn upload(device: &Device, input: &Tap, like: &DeviceTensor) -> Result<DeviceTensor> {
    if input.values.len() != like.shape.elements() {
        return Err(Error::argument(
            format!("activation `{}`", input.name),
            format!("has shape {}, this model gives {}", input.shape, like.shape),
        ));
    }
    match like.dtype {
        DType::I8 => {
            let codes: Vec<i8> = input.values.iter().map(|v| *v as i8).collect();
            device.upload_codes(8, like.shape, &codes)
        }
        _ => device.upload(&Tensor::from_f32_as(like.dtype, like.shape, &input.values)?),
    }
}

async fn values(device: &Device, tensor: &DeviceTensor) -> Result<Vec<f32>> {
    match tensor.dtype {
        DType::I8 => Ok(device.read_codes(tensor).await?.into_iter().map(f32::from).collect()),
        DType::F16 => {
            let mut values = unpack_halves(&device.read(tensor).await?);
            values.truncate(tensor.shape.elements());
            Ok(values)
        }
        _ => device.read_f32(tensor).await,
    }
}
