//! A column range of a wider tensor, for parts of a fused projection's output.

use super::f32_tensor;
use super::ssd::expect_columns;
use crate::error::{Error, Result};
use crate::gpu::{ALIGNMENT, DeviceTensor};
use crate::tensor::Shape;

/// Columns `offset..offset + width` of a row-major `[rows, stride]` f32 tensor. They are there: shaders do not check.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The whole tensor.
    pub(crate) tensor: &'a DeviceTensor,
    /// First column.
    pub(crate) offset: usize,
    /// Number of columns.
    pub(crate) width: usize,
}

impl<'a> Columns<'a> {
    /// A checked range; `kernel` is named in errors.
    ///
    /// # Errors
    /// [`Error::DType`] when the tensor is not f32, [`Error::Argument`] when it has fewer columns.
    pub fn new(kernel: &'static str, tensor: &'a DeviceTensor, offset: usize, width: usize) -> Result<Self> {
        f32_tensor(kernel, "columns", tensor)?;
        if offset.checked_add(width).is_none_or(|end| end > tensor.shape.cols()) {
            let reason = format!("{width} columns from column {offset} of a tensor {}", tensor.shape);
            return Err(Error::argument(format!("{kernel}: `columns`"), reason));
        }
        Ok(Self { tensor, offset, width })
    }

    /// Refuses a tensor that is not f32, or columns that are not `[rows, width]`.
    pub(super) fn expect(&self, kernel: &'static str, arg: &'static str, [rows, width]: [usize; 2]) -> Result<()> {
        expect_columns(kernel, arg, self, rows, width)
    }

    /// These columns as a tensor of their own: of a tensor of one row, from where a binding may begin.
    pub(crate) fn as_row(&self) -> Option<DeviceTensor> {
        let offset = self.tensor.offset + 4 * self.offset;
        let fits = self.tensor.shape.rows() == 1 && offset.is_multiple_of(ALIGNMENT);
        fits.then(|| DeviceTensor { offset, shape: Shape::new(&[1, self.width]), ..self.tensor.clone() })
    }

    /// Do rows of vec4s begin at whole vec4s?
    pub(crate) fn in_quads(&self) -> bool {
        self.offset.is_multiple_of(4) && self.stride().is_multiple_of(4)
    }

    /// Elements from a row to the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.tensor.shape.cols()
    }
}

/// All columns.
impl<'a> From<&'a DeviceTensor> for Columns<'a> {
    fn from(tensor: &'a DeviceTensor) -> Self {
        Self { tensor, offset: 0, width: tensor.shape.cols() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::gpu::{Device, Plan};
    use crate::kernels::{GatedNorm, Scaled, SsdDims, causal_conv1d, causal_conv1d_state, chunk_cumsum};
    use crate::kernels::{rms_norm_gated, rms_norm_gated_quantize};
    use crate::tensor::DType;

    #[test]
    fn columns_are_there() {
        let x = Device::Cpu.alloc(DType::F32, [2, 8]).unwrap();
        assert!(Columns::new("test", &x, 5, 3).is_ok());
        for (offset, width) in [(5, 4), (1000, 8), (9, 0), (usize::MAX, 2)] {
            assert!(Columns::new("test", &x, offset, width).is_err(), "{width} from {offset}");
        }
    }

    /// All columns of a tensor may be of any type: rows of f16 end where a kernel would read on.
    #[test]
    fn columns_of_another_type_are_refused() {
        let device = Device::Cpu;
        let f32s = |shape: [usize; 2]| device.alloc(DType::F32, shape).unwrap();
        let halves = device.alloc(DType::F16, [2, 8]).unwrap();
        let (from, plan) = (Columns::from(&halves), &mut Plan::new(&device));
        let refused = |result: Result<()>, name: &str| {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::DType { got: DType::F16, arg, .. } if arg == name), "{error}");
        };
        let dims = SsdDims { heads: 8, head_dim: 4, groups: 1, state: 4, chunk: 2 };
        let (row, turned) = (f32s([1, 8]), [f32s([8, 2]), f32s([8, 2])]);
        refused(chunk_cumsum(plan, &from, &row, &row, &turned[0], &turned[1], dims, (0.0, 1.0)), "dt_raw");
        let taps = f32s([8, 4]);
        refused(causal_conv1d(plan, &from, &taps, &taps, &row, &f32s([2, 8])), "input");
        refused(causal_conv1d_state(plan, &from, &taps), "input");
        let (y, norm) = (f32s([2, 8]), GatedNorm { groups: 1, block: 1, eps: 1e-5 });
        refused(rms_norm_gated(plan, &y, &from, &row, &f32s([2, 8]), 1, 1e-5), "gate");
        let codes = device.alloc(DType::I8, [2, 8]).unwrap();
        let out = Scaled { codes: &codes, scales: &f32s([2, 1]), group: 8 };
        refused(rms_norm_gated_quantize(plan, &y, &from, &row, out, norm), "gate");
    }
}
