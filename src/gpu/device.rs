//! Choosing an adapter, opening it, and moving tensors to and from it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::adapter::{
    AdapterReport, COOPERATIVE_MATRIX, DeviceChoice, all_adapters, check_baseline, no_adapter, pick, report,
};
use super::buffer::{DeviceTensor, Storage};
use super::caps::Caps;
use super::errors::{Late, Lost};
use super::pipeline::Pipelines;
use crate::error::{Error, Result};
use crate::pack::{pack_codes, unpack_codes};
use crate::tensor::{DType, Shape, Tensor};

/// A kernel that has not ended by then is taken to hang.
pub(super) const TIMEOUT: Duration = Duration::from_secs(300);

/// An open GPU.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    pub(crate) late: Late,
    pub(crate) lost: Lost,
    /// The adapter.
    pub adapter: AdapterReport,
    /// Its capabilities after masking.
    pub caps: Caps,
    /// Which plans have their parameters compiled in.
    pub(super) specialising: super::specialise::Specialising,
    /// Which variants to use.
    pub(super) trust: super::trust::Trust,
    /// Which of them were found fastest.
    pub(super) choices: super::tune::Choices,
    /// Memory that may be used, where a user says.
    pub(super) limit: super::memory::Limit,
    /// The largest binding, where a user says less than the adapter.
    pub(super) binding_limit: super::memory::Limit,
    /// The most memory that was held, where somebody watches.
    pub(super) most: super::memory::Most,
    /// Staging buffers.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser stages on its own"))]
    pub(super) ring: super::upload::Ring,
    /// Read-back buffers that are free.
    pub(super) spare: super::read::Spare,
    /// Which submissions are done, where the driver does not tell.
    pub(super) receipts: Arc<super::receipts::Receipts>,
    /// Submits under way.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) flights: super::pace::Flights,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.adapter.name)
    }
}

/// Where tensors live and plans run. Cloning shares it.
#[derive(Clone, Debug)]
pub enum Device {
    /// A GPU through wgpu.
    Gpu(Arc<Gpu>),
    /// The CPU reference.
    Cpu,
    /// Tensors have sizes and no memory, and nothing runs: to count what a model takes.
    Nowhere,
}

impl Device {
    /// Opens the chosen device; `caps_mask` as in [`Caps::masked`].
    ///
    /// # Errors
    /// [`Error::NoAdapter`] listing what there is, [`Error::LimitExceeded`] when the adapter is below
    /// baseline WebGPU, [`Error::Gpu`] when it does not open.
    pub async fn open(choice: &DeviceChoice, caps_mask: Option<&str>) -> Result<Self> {
        if *choice == DeviceChoice::Cpu {
            return Ok(Self::Cpu);
        }
        let all = all_adapters().await;
        let Some(adapter) = pick(&all, choice) else { return Err(no_adapter(&all, choice).await) };
        let gpu = open(adapter, caps_mask).await?;
        Ok(Self::Gpu(Arc::new(gpu)))
    }

    /// The open GPU, if it is one.
    #[must_use]
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Gpu(gpu) => Some(gpu),
            Self::Cpu | Self::Nowhere => None,
        }
    }

    /// Name for people: the adapter with its driver, or the reference.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Gpu(gpu) => format!("{} ({} {})", gpu.adapter.name, gpu.adapter.driver, gpu.adapter.driver_info),
            Self::Cpu => "CPU reference".to_owned(),
            Self::Nowhere => "nowhere".to_owned(),
        }
    }

    /// Largest binding in bytes.
    #[must_use]
    pub fn max_binding_bytes(&self) -> u64 {
        self.gpu().map_or(u64::MAX, Gpu::max_binding_bytes)
    }

    /// Does it have matrix units, and not masked? The reference has none.
    #[must_use]
    pub fn has_matrix_units(&self) -> bool {
        self.gpu().is_some_and(|gpu| gpu.caps.coop_matrix)
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] when it is larger than a binding may be, [`Error::OutOfMemory`] when memory is out,
    /// [`Error::Argument`] for a shape beyond any memory.
    pub fn alloc(&self, dtype: DType, shape: impl Into<Shape>) -> Result<DeviceTensor> {
        self.place(dtype, shape.into(), None)
    }

    /// A tensor of packed `words` (rows padded to words).
    ///
    /// # Errors
    /// As [`Device::alloc`], and [`Error::Argument`] when the word count is not the shape's.
    pub fn upload_words(&self, dtype: DType, shape: impl Into<Shape>, words: &[u32]) -> Result<DeviceTensor> {
        let shape = shape.into();
        let need = checked_words(dtype, shape)?;
        if words.len() != need {
            return Err(Error::argument("upload", format!("{dtype} {shape} takes {need} words, got {}", words.len())));
        }
        self.place(dtype, shape, Some(words))
    }

    /// An f32 tensor.
    ///
    /// # Errors
    /// As [`Device::upload_words`].
    pub fn upload_f32(&self, shape: impl Into<Shape>, values: &[f32]) -> Result<DeviceTensor> {
        self.upload_words(DType::F32, shape, bytemuck::cast_slice(values))
    }

    /// A host tensor in its own dtype.
    ///
    /// # Errors
    /// As [`Device::upload_part`].
    pub fn upload(&self, tensor: &Tensor) -> Result<DeviceTensor> {
        self.upload_part(tensor, 0..tensor.shape.rows())
    }

    /// These rows of a host tensor in its own dtype.
    ///
    /// # Errors
    /// As [`Device::alloc`]; [`Error::Argument`] for rows that are not there, and for a tensor without all its bytes.
    pub fn upload_part(&self, tensor: &Tensor, rows: Range<usize>) -> Result<DeviceTensor> {
        if let Some(short) = tensor.short() {
            return Err(Error::argument("upload", short));
        }
        if rows.start > rows.end || rows.end > tensor.shape.rows() {
            return Err(Error::argument("upload", format!("rows {rows:?} of a tensor {}", tensor.shape)));
        }
        let (dtype, shape) = (tensor.dtype, tensor.shape);
        let row_bytes = (shape.cols() * dtype.bits()).div_ceil(8);
        let shape = if rows == (0..shape.rows()) { shape } else { Shape::new(&[rows.len(), shape.cols()]) };
        self.upload_rows(dtype, shape, |first, count| {
            let first = rows.start + first;
            let bytes = &tensor.bytes[first * row_bytes..(first + count) * row_bytes];
            // Whole words need no padding, and rows are one run of them.
            if let (0, Ok(words)) = (row_bytes % 4, bytemuck::try_cast_slice(bytes)) {
                return Cow::Borrowed(words);
            }
            let padded = |b: &[u8]| {
                let mut word = [0u8; 4];
                word[..b.len()].copy_from_slice(b);
                u32::from_le_bytes(word)
            };
            bytes.chunks(row_bytes.max(1)).flat_map(|row| row.chunks(4).map(padded)).collect()
        })
    }

    /// Codes `[rows, cols]`, one byte each, packed to `bits` (4 or 8).
    ///
    /// # Errors
    /// [`Error::Argument`] for other bits or another number of codes; as [`Device::alloc`].
    pub fn upload_codes(&self, bits: usize, shape: impl Into<Shape>, codes: &[i8]) -> Result<DeviceTensor> {
        let shape = shape.into();
        let dtype = match bits {
            4 => DType::I4,
            8 => DType::I8,
            _ => return Err(Error::argument("upload_codes", format!("{bits} bits, expected 4 or 8"))),
        };
        checked_words(dtype, shape)?;
        if codes.len() != shape.elements() {
            return Err(Error::argument("upload_codes", format!("{} codes for a tensor {shape}", codes.len())));
        }
        let cols = shape.cols();
        self.upload_rows(dtype, shape, |first, count| {
            let codes = &codes[first * cols..(first + count) * cols];
            // Rows of whole words of bytes are packed as they are.
            match bytemuck::try_cast_slice(codes) {
                Ok(words) if bits == 8 && cols.is_multiple_of(4) => Cow::Borrowed(words),
                _ => Cow::Owned(pack_codes(bits, codes, cols)),
            }
        })
    }

    fn place(&self, dtype: DType, shape: Shape, words: Option<&[u32]>) -> Result<DeviceTensor> {
        let count = checked_words(dtype, shape)?;
        let storage = match self {
            Self::Cpu => Storage::Cpu(Arc::new(RwLock::new(words.map_or_else(|| zeros(count), |w| Ok(w.to_vec()))?))),
            Self::Gpu(gpu) => Storage::Gpu(gpu.buffer(count, words)?),
            Self::Nowhere => Storage::Nowhere(Arc::default()),
        };
        Ok(DeviceTensor { storage, offset: 0, dtype, shape })
    }

    /// Overwrites a tensor's words, before anything submitted later.
    ///
    /// # Errors
    /// [`Error::Argument`] when the word count is not the tensor's, or its memory not on this device.
    pub fn write(&self, tensor: &DeviceTensor, words: &[u32]) -> Result<()> {
        tensor.expect_on(self)?;
        if words.len() != tensor.words() {
            return Err(Error::argument("write", format!("{} words into {}", words.len(), tensor.words())));
        }
        match (&tensor.storage, self) {
            (Storage::Gpu(buffer), Self::Gpu(gpu)) => {
                gpu.write(buffer, tensor.offset, bytemuck::cast_slice(words))?;
            }
            (Storage::Cpu(data), Self::Cpu) => {
                let start = tensor.offset / 4;
                lock_write(data)[start..start + words.len()].copy_from_slice(words);
            }
            _ => return Err(Error::argument("write", "the tensor is on another device")),
        }
        Ok(())
    }

    /// A tensor's words, once all work submitted before is done.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the device is lost or hangs; [`Error::Argument`] for a tensor of another device.
    pub async fn read(&self, tensor: &DeviceTensor) -> Result<Vec<u32>> {
        self.begin_read(tensor)?.words().await
    }

    /// An f32 tensor's values.
    ///
    /// # Errors
    /// As [`Device::read`], and [`Error::DType`] for another dtype.
    pub async fn read_f32(&self, tensor: &DeviceTensor) -> Result<Vec<f32>> {
        if tensor.dtype != DType::F32 {
            return Err(Error::DType { kernel: "read_f32", arg: "tensor", expected: "f32", got: tensor.dtype });
        }
        Ok(bytemuck::cast_vec(self.read(tensor).await?))
    }

    /// The codes of an I8 or I4 tensor, one byte each.
    ///
    /// # Errors
    /// As [`Device::read`], and [`Error::DType`] for another dtype.
    pub async fn read_codes(&self, tensor: &DeviceTensor) -> Result<Vec<i8>> {
        if !matches!(tensor.dtype, DType::I8 | DType::I4) {
            return Err(Error::DType { kernel: "read_codes", arg: "tensor", expected: "i8 or i4", got: tensor.dtype });
        }
        let words = self.read(tensor).await?;
        Ok(unpack_codes(tensor.dtype.bits(), &words, tensor.shape.cols()))
    }

    /// Waits until all submitted work is done. In a browser, where nothing may block, this returns at once:
    /// use [`Device::finished`].
    ///
    /// # Errors
    /// [`Error::Gpu`] when the device is lost or hangs.
    pub fn wait(&self) -> Result<()> {
        self.gpu().map_or(Ok(()), Gpu::wait)
    }
}

/// A poisoned lock only means that a reference kernel panicked; its data is as good as before.
pub(crate) fn lock_read(data: &RwLock<Vec<u32>>) -> std::sync::RwLockReadGuard<'_, Vec<u32>> {
    data.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn lock_write(data: &RwLock<Vec<u32>>) -> std::sync::RwLockWriteGuard<'_, Vec<u32>> {
    data.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Words of a tensor, whose number of bits must be a number too.
pub(super) fn checked_words(dtype: DType, shape: Shape) -> Result<usize> {
    // A browser's `usize` has 32 bits, and an int4 tensor more elements than bytes.
    let product = |axes: &[usize]| axes.iter().try_fold(32u64, |n, axis| n.checked_mul(*axis as u64)).map(|n| n / 32);
    let (rows, cols) = shape.dims().split_at(shape.dims().len().saturating_sub(1));
    let row = product(cols).map(|cols| (cols * dtype.bits() as u64).div_ceil(32));
    let words = product(shape.dims()).and(row).zip(product(rows)).map(|(row, rows)| row * rows);
    let words = words.and_then(|n| usize::try_from(n).ok()).filter(|n| n.checked_mul(4).is_some());
    words.ok_or_else(|| Error::argument("tensor", format!("{dtype} {shape} is beyond any memory")))
}

/// Zeros in host memory. `vec!` ends the program where there is no room for them, so the system is asked before.
fn zeros(count: usize) -> Result<Vec<u32>> {
    let mut asked = Vec::<u32>::new();
    let granted = asked.try_reserve_exact(count);
    // Or the compiler leaves out both, as nothing is done with the memory.
    std::hint::black_box(&asked);
    drop(asked);
    granted.map(|()| vec![0; count]).map_err(|e| Error::OutOfMemory {
        adapter: "CPU reference".to_owned(),
        what: "a tensor".to_owned(),
        need: count as u64 * 4,
        held: 0,
        limit: None,
        message: e.to_string(),
    })
}

async fn open(adapter: &wgpu::Adapter, caps_mask: Option<&str>) -> Result<Gpu> {
    let report = report(adapter);
    let have = adapter.limits();
    check_baseline(&report.name, &have)?;
    let caps = caps_mask.map_or(Ok(report.caps), |mask| report.caps.masked(mask))?;
    let mut wanted = wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
    let mut experimental = wgpu::ExperimentalFeatures::disabled();
    if caps.coop_matrix {
        wanted |= COOPERATIVE_MATRIX;
        experimental = experimental_features();
    }
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("wgquant"),
            required_features: wanted & adapter.features(),
            required_limits: have,
            experimental_features: experimental,
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        })
        .await
        .map_err(|e| Error::Gpu { what: format!("opening {}", report.name), message: e.to_string() })?;
    let (late, lost) = (Late::listen(&device), Lost::listen(&device));
    let (pipelines, trust) = (Pipelines::new(), super::trust::Trust::default());
    let (limit, binding_limit, most, ring, choices, spare) = Default::default();
    let specialising = super::specialise::Specialising::new(report.is_software());
    let receipts = Arc::new(super::receipts::Receipts::of(&device, adapter.get_info().backend));
    #[cfg(not(target_arch = "wasm32"))]
    let flights = super::pace::Flights::new(report.is_software());
    Ok(Gpu {
        device,
        queue,
        pipelines,
        late,
        lost,
        adapter: report,
        caps,
        specialising,
        trust,
        choices,
        limit,
        binding_limit,
        most,
        ring,
        spare,
        receipts,
        #[cfg(not(target_arch = "wasm32"))]
        flights,
    })
}

#[allow(unsafe_code, reason = "wgpu's word for features that are not fully validated")]
fn experimental_features() -> wgpu::ExperimentalFeatures {
    // SAFETY: asked for cooperative matrices only. The shaders that use them load and store within their tiles, in
    // uniform control flow, and are checked against the reference before they are trusted (`kernels::trust`).
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// Refuses an adapter that offers less than is needed.
pub(crate) fn check_limit(adapter: &str, what: &str, need: u64, have: u64) -> Result<()> {
    if have < need {
        return Err(Error::LimitExceeded { adapter: adapter.to_owned(), what: what.to_owned(), need, have });
    }
    Ok(())
}

impl Gpu {
    /// A storage buffer of `count` words, with `words` in it or zeros.
    fn buffer(&self, count: usize, words: Option<&[u32]>) -> Result<wgpu::Buffer> {
        let size = (count.max(1) * 4) as u64;
        check_limit(&self.adapter.name, "the largest binding in bytes", size, self.max_binding_bytes())?;
        let buffer = self.allocated("a tensor", size, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("tensor"),
                size,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        if let Some(words) = words {
            self.write(&buffer, 0, bytemuck::cast_slice(words))?;
        }
        Ok(buffer)
    }

    /// Waits for all submitted work.
    pub(crate) fn wait(&self) -> Result<()> {
        wait_on(&self.device, None)
    }

    /// Waits for a submission.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn wait_until(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        wait_on(&self.device, Some(submission))
    }
}

/// Waits for a submission, or for all submitted work.
pub(super) fn wait_on(device: &wgpu::Device, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
    device
        .poll(wgpu::PollType::Wait { submission_index, timeout: Some(TIMEOUT) })
        .map(|_| ())
        .map_err(|e| Error::Gpu { what: "waiting for the GPU".to_owned(), message: e.to_string() })
}

/// Shared, lazily filled pipeline cache.
pub(crate) type Cache<K, V> = Mutex<HashMap<K, V>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_beyond_any_memory_are_errors() {
        // The last is a number of bytes, but no address space has them.
        for shape in [[usize::MAX, 2], [1 << 40, 1 << 40], [1 << 16, 1 << 36]] {
            let error = Device::Cpu.alloc(DType::F32, shape).unwrap_err().to_string();
            assert!(error.contains("memory"), "{error}");
        }
        assert!(Device::Cpu.upload_words(DType::I4, [usize::MAX, usize::MAX], &[]).is_err());
        assert!(Device::Cpu.upload_codes(4, [usize::MAX, 2], &[]).is_err());
        assert!(Tensor::new(DType::F32, [1 << 32, 1 << 32], Vec::new()).is_err());
        let short = Tensor { dtype: DType::F32, shape: [4].into(), bytes: Vec::new() };
        let told = Device::Cpu.upload(&short).unwrap_err().to_string();
        assert!(told.contains("f32 [4] takes 16 bytes, got 0"), "{told}");
    }

    /// Rows of whole words are taken as they are, wherever they begin.
    #[test]
    fn bytes_of_whole_words_are_codes() {
        let codes: Vec<i8> = (0..41i32).map(|i| (i * 5 - 100) as i8).collect();
        for (first, shape) in [(0, [5, 8]), (1, [5, 8]), (1, [8, 5])] {
            let codes = &codes[first..][..40];
            let tensor = Device::Cpu.upload_codes(8, shape, codes).unwrap();
            assert_eq!(pollster::block_on(Device::Cpu.read_codes(&tensor)).unwrap(), codes, "{shape:?} from {first}");
        }
    }

    #[test]
    fn codes_are_of_four_or_eight_bits() {
        assert!(Device::Cpu.upload_codes(5, [1, 8], &[0; 8]).unwrap_err().to_string().contains("5 bits"));
        let floats = Device::Cpu.alloc(DType::F32, [2]).unwrap();
        assert!(pollster::block_on(Device::Cpu.read_codes(&floats)).is_err());
    }
}
