//! Tensors of several kinds of numbers in one buffer.

use super::{Output, Setup};
use crate::error::Result;
use crate::gpu::DeviceTensor;
use crate::tensor::{DType, Shape};

impl Setup {
    /// A tensor the kernel reads and writes that holds `parts` one behind the other, each compared by its own type: codes
    /// as [`Setup::rounded_output`], all else as [`Setup::output`].
    ///
    /// # Errors
    /// As [`Setup::input`].
    pub fn state_parts(
        &mut self,
        name: &'static str,
        dtype: DType,
        shape: impl Into<Shape>,
        parts: &[(DType, Shape)],
        words: &[u32],
    ) -> Result<DeviceTensor> {
        let tensor = self.guarded(name, dtype, shape.into(), false, Some(words))?;
        let Some(Output { buffer, .. }) = self.outputs.pop() else { unreachable!("guarded adds one") };
        let mut first = 0;
        for (dtype, shape) in parts.iter().copied() {
            let rounded = matches!(dtype, DType::I8 | DType::I4);
            let output = Output { name, buffer: buffer.clone(), first, dtype, shape, rounded };
            first += output.words();
            self.outputs.push(output);
        }
        assert_eq!(first, tensor.words(), "the parts of `{name}` fill it");
        Ok(tensor)
    }
}
