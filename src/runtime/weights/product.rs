//! A linear layer by itself.

use super::{DeviceLinear, Input};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::kernels::Epilogue;
use crate::model::Linear;

/// A linear layer of floats on the device, multiplied as in the passes of a block.
pub(crate) struct Product(DeviceLinear);

impl Product {
    /// For inputs of up to `tokens` rows.
    ///
    /// # Errors
    /// As [`Device::upload`].
    pub(crate) fn new(device: &Device, linear: &Linear, tokens: usize) -> Result<Self> {
        let mut linear = DeviceLinear::upload(device, "a weight", linear)?;
        linear.cut(device, tokens)?;
        Ok(Self(linear))
    }

    /// `out = x · weightᵀ`; `x`: `[rows, in]`, `out`: `[rows, out]`, f32.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] naming the argument at fault.
    pub(crate) fn apply(&self, plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
        self.0.apply(plan, &Input { x: Some(x.clone()), ..Input::default() }, out, Epilogue::Store, None)
    }
}
