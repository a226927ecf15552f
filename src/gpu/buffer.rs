//! Tensors on a device: contiguous, row-major, rows padded to whole 32-bit words.

use std::sync::{Arc, RwLock};

use super::device::{Device, checked_words, lock_read};
use super::plan::elsewhere;
use crate::error::{Error, Result};
use crate::shaders::{Kernel, Variant};
use crate::tensor::{DType, Shape};

/// Offsets at which a binding may begin on any adapter, in bytes.
pub(crate) const ALIGNMENT: usize = 256;

/// Memory behind a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    /// A wgpu buffer.
    Gpu(wgpu::Buffer),
    /// Host memory, for the reference.
    Cpu(Arc<RwLock<Vec<u32>>>),
    /// None, of an identity: for plans that are only looked at.
    Nowhere(Arc<()>),
}

impl Storage {
    /// Are the two the same allocation?
    pub(crate) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gpu(a), Self::Gpu(b)) => a == b,
            (Self::Cpu(a), Self::Cpu(b)) => Arc::ptr_eq(a, b),
            (Self::Nowhere(a), Self::Nowhere(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A tensor on a device, or a range of rows of one. Cloning shares the memory.
///
/// Types narrower than 32 bits are packed into words from the low end (see [`crate::pack`] for codes);
/// each row (run of the last axis) starts at a word.
#[derive(Clone, Debug)]
pub struct DeviceTensor {
    pub(crate) storage: Storage,
    /// Byte offset into the storage, a multiple of 256.
    pub(crate) offset: usize,
    /// Element type.
    pub dtype: DType,
    /// Axes, in elements.
    pub shape: Shape,
}

impl DeviceTensor {
    /// Refuses it where its memory is not what work on `device` looks for, or less than its type and shape say, which anybody may
    /// change. Of several GPUs wgpu knows.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub(super) fn expect_on(&self, device: &Device) -> Result<()> {
        let held = match (&self.storage, device) {
            (Storage::Gpu(buffer), Device::Gpu(_)) => buffer.size(),
            (Storage::Cpu(data), Device::Cpu) => lock_read(data).len() as u64 * 4,
            (Storage::Nowhere(_), Device::Nowhere) => u64::MAX,
            _ => return Err(elsewhere()),
        };
        let end = (checked_words(self.dtype, self.shape)? as u64 * 4).saturating_add(self.offset as u64);
        if end > held {
            let what = format!("{} {} ends at byte {end} of {held}", self.dtype, self.shape);
            return Err(Error::argument("tensor", what));
        }
        Ok(())
    }

    /// Words a row takes.
    #[must_use]
    pub fn row_words(&self) -> usize {
        row_words(self.dtype, self.shape)
    }

    /// Words in all.
    #[must_use]
    pub fn words(&self) -> usize {
        self.shape.rows() * self.row_words()
    }

    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words() * 4
    }

    /// The start of this memory as a tensor of another dtype and shape.
    ///
    /// # Errors
    /// [`Error::Argument`] when it is too small.
    pub fn view(&self, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if checked_words(dtype, shape)? > self.words() {
            return Err(Error::argument("view", format!("{dtype} {shape} in {} {}", self.dtype, self.shape)));
        }
        Ok(Self { shape, dtype, ..self.clone() })
    }

    /// `count` rows from `first` on. Its offset suits copies; bindings want multiples of 256 bytes.
    ///
    /// # Errors
    /// [`Error::Argument`] when they are not there.
    pub fn rows(&self, first: usize, count: usize) -> Result<Self> {
        if first.checked_add(count).is_none_or(|end| end > self.shape.rows()) {
            return Err(Error::argument("rows", format!("{count} from {first} of a tensor {}", self.shape)));
        }
        let offset = self.offset + first * self.row_words() * 4;
        Ok(Self { offset, shape: Shape::new(&[count, self.shape.cols()]), ..self.clone() })
    }

    /// Row `row` of a `[rows, cols]` tensor. Its offset suits copies; bindings want multiples of 256 bytes.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is none.
    pub fn row(&self, row: usize) -> Result<Self> {
        self.rows(row, 1)
    }
}

/// Words a row of `shape` takes.
pub(crate) fn row_words(dtype: DType, shape: Shape) -> usize {
    (shape.cols() * dtype.bits()).div_ceil(32)
}

/// Refuses a tensor that ends within an element of a binding: the shader would not see the rest of it.
pub(super) fn whole_elements(kernel: &Kernel, variant: &Variant, tensors: &[&DeviceTensor]) -> Result<()> {
    for ((tensor, binding), stride) in tensors.iter().zip(kernel.bindings).zip(variant.strides) {
        if !tensor.bytes().is_multiple_of(*stride as usize) {
            let name = format!("{}.{}: `{}`", kernel.name, variant.name, binding.name);
            return Err(Error::argument(name, format!("{} bytes, not whole elements of {stride}", tensor.bytes())));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::gpu::Plan;

    #[test]
    fn views_are_of_what_is_there() {
        let x = Device::Cpu.alloc(DType::F32, [2, 8]).unwrap();
        assert_eq!(x.view(DType::I8, [8, 8]).unwrap().words(), 16);
        for shape in [[3, 8], [1 << 40, 1 << 40], [usize::MAX, 2]] {
            assert!(x.view(DType::F32, shape).is_err(), "{shape:?}");
        }
    }

    /// Type and shape are anybody's to change; the memory stays what it was.
    #[test]
    fn tensors_larger_than_their_memory_are_refused() {
        let device = Device::Cpu;
        let other = device.alloc(DType::F32, [8]).unwrap();
        for (dtype, shape) in [(DType::F32, [8]), (DType::F32, [usize::MAX]), (DType::U32, [3])] {
            let mut x = device.alloc(DType::I8, [8]).unwrap();
            (x.dtype, x.shape) = (dtype, shape.into());
            let refused = [
                device.write(&x, &[0; 8]),
                device.begin_read(&x).map(drop),
                Plan::new(&device).copy(&other, &x),
                crate::kernels::relu_squared(&mut Plan::new(&device), &x, &other),
            ];
            assert!(refused.iter().all(Result::is_err), "{dtype} {shape:?}: {refused:?}");
        }
        let rows = device.alloc(DType::F32, [4, 64]).unwrap();
        let mut last = rows.row(3).unwrap();
        device.write(&last, &[1; 64]).unwrap();
        last.shape = [2, 64].into();
        let told = device.write(&last, &[1; 128]).unwrap_err().to_string();
        assert!(told.contains("f32 [2, 64] ends at byte 1280 of 1024"), "{told}");
    }

    #[test]
    fn tensors_of_nowhere_are_on_no_other_device() {
        let [here, nowhere] = [Device::Cpu, Device::Nowhere].map(|d| d.alloc(DType::F32, [2, 2]).unwrap());
        let said = |result: Result<()>| result.unwrap_err().to_string();
        assert!(said(Plan::new(&Device::Cpu).copy(&nowhere, &here)).contains("another device"));
        assert!(said(Plan::new(&Device::Nowhere).copy(&nowhere, &here)).contains("another device"));
        assert!(said(Device::Cpu.write(&nowhere, &[0; 4])).contains("another device"));
        assert!(Device::Cpu.begin_read(&nowhere).is_err());
        let other = Device::Nowhere.alloc(DType::F32, [2, 2]).unwrap();
        Plan::new(&Device::Nowhere).copy(&nowhere, &other).unwrap();
    }
}
