//! A column range of a wider tensor, for parts of a fused projection's output.

use super::f32_tensor;
use super::ssd::expect_columns;
use crate::error::{Error, Result};
use crate::gpu::{ALIGNMENT, DeviceTensor};
use crate::tensor::Shape;

/// Columns `offset..offset + width` of a row-major `[rows, stride]` f32 tensor.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The whole tensor.
    pub tensor: &'a DeviceTensor,
    /// First column.
    pub offset: usize,
    /// Number of columns.
    pub width: usize,
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
        f32_tensor(kernel, arg, self.tensor)?;
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
