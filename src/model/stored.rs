//! Weights in compressed-tensors layout, whatever they are a part of.

use std::borrow::Cow;
#[cfg(not(target_arch = "wasm32"))]
use std::path::Path;

use super::names::Role;
use super::quantized::{SCALE_RULE, beyond, usable_scale};
use super::scheme::{Quantization, Scheme};
use super::{Activations, Linear, QuantizedLinear, Scales, scheme_json};
use crate::checkpoint::{Checkpoint, StoredType, unpack_bits};
use crate::error::Result;
use crate::tensor::{DType, Tensor};

/// The tensors of a directory, and what `quantization_config` of its `config.json` says of them.
#[derive(Debug)]
pub(crate) struct StoredWeights {
    pub(super) checkpoint: Checkpoint,
    pub(super) quantization: Quantization,
}

impl StoredWeights {
    /// # Errors
    /// [`crate::Error::UnsupportedModel`] or [`crate::Error::BadCheckpoint`] for a `quantization_config` that is not read.
    pub(super) fn new(checkpoint: Checkpoint) -> Result<Self> {
        let quantization = match checkpoint.config().get("quantization_config").filter(|q| !q.is_null()) {
            Some(q) => scheme_json::parse(q).map_err(|e| e.in_config(&checkpoint.config_path()))?,
            None => Quantization::default(),
        };
        Ok(Self { checkpoint, quantization })
    }

    /// What [`super::write_weights`] wrote, and the note it was given.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`StoredWeights::new`].
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn open(dir: &Path) -> Result<(Self, serde_json::Value)> {
        let checkpoint = Checkpoint::open(dir)?;
        let note = checkpoint.config().get(super::write::NOTE).cloned().unwrap_or_default();
        Ok((Self::new(checkpoint)?, note))
    }

    /// The scales of static activations, one for each group of a module's `cols` inputs.
    pub(super) fn input_scales(&self, module: &str, activations: Activations, cols: usize) -> Result<Vec<f32>> {
        let count = activations.stored_scales(cols);
        if count == 0 {
            return Ok(Vec::new());
        }
        let zero = format!("{module}.input_zero_point");
        if self.checkpoint.info(&zero).is_some() && self.checkpoint.tensor(&zero)?.bytes.iter().any(|b| *b != 0) {
            return Err(self.checkpoint.bad(&zero, "is not 0; only symmetric activations are supported"));
        }
        let name = format!("{module}.input_scale");
        let scales = self.checkpoint.float_vec(&name, &[count])?;
        match scales.iter().position(|s| !usable_scale(*s)) {
            Some(i) => Err(self.checkpoint.bad(&name, &format!("has {:e} at index {i}; {SCALE_RULE}", scales[i]))),
            None => Ok(scales),
        }
    }

    /// How a module is stored. The tensors there are decide whether it is quantized; the configuration says how.
    pub(super) fn scheme_of(&self, module: &str, role: Role) -> Result<Option<Scheme>> {
        let name = format!("{module}.weight");
        let packed = format!("{module}.weight_packed");
        let is_packed = self.checkpoint.info(&packed).is_some();
        let is_bytes = self.checkpoint.info(&name).is_some_and(|i| i.dtype == StoredType::I8);
        if role == Role::Vector || !(is_packed || is_bytes) {
            return Ok(None);
        }
        let name = if is_packed { packed } else { name };
        let advice = "no group of quantization_config matches; was config.json copied from the original model?";
        let scheme = self.quantization.scheme(module, role);
        let scheme = scheme.ok_or_else(|| self.checkpoint.bad(&name, &format!("is quantized, but {advice}")))?;
        Ok(Some(Scheme { packed: is_packed, ..scheme }))
    }

    /// A module's weight in the form it is stored in.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::BadCheckpoint`], naming the tensor.
    pub(crate) fn linear(&self, module: &str, role: Role) -> Result<Linear> {
        let name = format!("{module}.weight");
        let Some(scheme) = self.scheme_of(module, role)? else {
            return Ok(Linear::Float(self.checkpoint.tensor(&name)?));
        };
        let codes = if scheme.packed {
            let shape = self.checkpoint.i64s(&format!("{module}.weight_shape"))?;
            // Checked against the configuration on opening.
            let [rows, cols] = [0, 1].map(|i| shape.get(i).map_or(0, |n| *n as usize));
            self.unpacked(&format!("{module}.weight_packed"), scheme.bits, [rows, cols])?
        } else {
            let codes = self.checkpoint.tensor(&name)?;
            if beyond(scheme.bits, &codes.bytes) {
                let what = format!("holds codes beyond the {} bits quantization_config states", scheme.bits);
                return Err(self.checkpoint.bad(&name, &what));
            }
            codes
        };
        let Scheme { bits, group, activations, .. } = scheme;
        let scales = match scheme.scale_bits {
            None => Scales::Plain(self.checkpoint.tensor(&format!("{module}.weight_scale"))?),
            Some(bits) => {
                let shape = [codes.shape.rows(), group.count(codes.shape.cols())];
                let mut codes = self.unpacked(&format!("{module}.weight_scale_packed"), bits, shape)?;
                codes.bytes.iter_mut().for_each(|c| *c = c.wrapping_add(1 << (bits - 1)));
                Scales::Nested { codes, bits, rows: self.checkpoint.tensor(&format!("{module}.weight_scale_row"))? }
            }
        };
        let input_scales = self.input_scales(module, activations, codes.shape.cols())?;
        Ok(Linear::Quantized(QuantizedLinear { bits, group, codes, scales, activations, input_scales }))
    }

    /// The codes `[rows, cols]` of a packed tensor.
    fn unpacked(&self, name: &str, bits: usize, [rows, cols]: [usize; 2]) -> Result<Tensor> {
        let packed = self.checkpoint.tensor(name)?;
        // Words where they are, if they lie as words do.
        let words = bytemuck::try_cast_slice(&packed.bytes).map_or_else(
            |_| packed.bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
            Cow::Borrowed,
        );
        let codes = unpack_bits(&words, bits, cols);
        Tensor::new(DType::I8, [rows, cols], bytemuck::cast_vec(codes))
    }
}
