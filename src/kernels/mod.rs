//! Kernels: argument checks, launch and named cases of every shader. One file a kernel.

pub mod bindings;
pub mod check;

mod attention;
mod causal_conv1d;
mod causal_conv1d_state;
mod causal_conv1d_update;
mod chunk_cumsum;
mod chunk_scan;
mod chunk_state;
mod columns;
mod kv_append;
mod rms_norm;
mod selective_state_update;
mod ssd;
mod state_passing;

pub use attention::{AttentionDims, attention};
pub use causal_conv1d::causal_conv1d;
pub use causal_conv1d_state::causal_conv1d_state;
pub use causal_conv1d_update::causal_conv1d_update;
pub use chunk_cumsum::chunk_cumsum;
pub use chunk_scan::chunk_scan;
pub use chunk_state::chunk_state;
pub use columns::Columns;
pub use kv_append::kv_append;
pub use rms_norm::rms_norm;
pub use selective_state_update::selective_state_update;
pub use ssd::SsdDims;
pub use state_passing::state_passing;

use crate::error::{Error, Result};
use crate::gpu::DeviceTensor;
use crate::tensor::{DType, Shape};

/// Every kernel with its cases, by name.
pub const ENTRIES: &[check::Entry] = &[
    attention::ENTRY,
    causal_conv1d::ENTRY,
    causal_conv1d_state::ENTRY,
    causal_conv1d_update::ENTRY,
    chunk_cumsum::ENTRY,
    chunk_scan::ENTRY,
    chunk_state::ENTRY,
    kv_append::ENTRY,
    rms_norm::ENTRY,
    selective_state_update::ENTRY,
    state_passing::ENTRY,
];

/// Refuses a tensor that is not of `shape` (rank matters only through rows and columns).
pub(crate) fn expect(
    kernel: &'static str,
    arg: &'static str,
    tensor: &DeviceTensor,
    shape: impl Into<Shape>,
) -> Result<()> {
    let expected = shape.into();
    if (tensor.shape.rows(), tensor.shape.cols()) != (expected.rows(), expected.cols()) {
        return Err(Error::Shape { kernel, arg, expected, got: tensor.shape });
    }
    Ok(())
}

/// Refuses a tensor that is not of `dtype`; `expected` is its name in the message.
pub(crate) fn expect_dtype(
    kernel: &'static str,
    arg: &'static str,
    tensor: &DeviceTensor,
    dtype: DType,
    expected: &'static str,
) -> Result<()> {
    if tensor.dtype != dtype {
        return Err(Error::DType { kernel, arg, expected, got: tensor.dtype });
    }
    Ok(())
}

/// Refuses a tensor that is not f32.
pub(crate) fn f32_tensor(kernel: &'static str, arg: &'static str, tensor: &DeviceTensor) -> Result<()> {
    expect_dtype(kernel, arg, tensor, DType::F32, "f32")
}
