//! A plan is a list of launches and copies; recorded once, it runs many times.
//!
//! On a GPU, recording compiles pipelines, puts all parameters into one uniform buffer and makes the bind
//! groups. On the CPU a launch is a call of the kernel's reference with the same parameters and bindings.

use std::sync::{RwLockReadGuard, RwLockWriteGuard};

use super::buffer::{DeviceTensor, Storage};
use super::device::{Device, Gpu, lock_read, lock_write};
use super::grid::{Grid, MAX_AXIS, on_matrices};
use super::specialise::Fixed;
use crate::error::{Error, Result};
use crate::shaders::{Kernel, Variant};

/// Launches a command buffer. Every one costs the GPU a pause; what watchdogs allow is for `pace` to see to.
pub(super) const LAUNCHES_PER_SUBMIT: usize = 1024;

/// One dispatch, as the generated `launch` functions build it.
pub struct Launch<'a> {
    /// Kernel.
    pub kernel: &'static Kernel,
    /// Data format word, for kernels that have formats.
    pub format: Option<&'static str>,
    /// Bytes of its `Params`.
    pub params: &'a [u8],
    /// Tensors in binding order.
    pub bindings: &'a [&'a DeviceTensor],
    /// Workgroups.
    pub grid: Grid,
    /// The kernel's reference.
    pub cpu: fn(&mut CpuCall<'_, '_>),
}

/// A call of a kernel's reference.
pub struct CpuCall<'a, 'g> {
    /// Bytes of `Params`.
    pub params: &'a [u8],
    /// Data format word.
    pub format: Option<&'static str>,
    /// Locked memory in binding order.
    pub bindings: &'a mut [CpuBinding<'g>],
}

/// Host memory of one binding.
pub struct CpuBinding<'a> {
    guard: Guard<'a>,
    start: usize,
    words: usize,
}

enum Guard<'a> {
    Read(RwLockReadGuard<'a, Vec<u32>>),
    Write(RwLockWriteGuard<'a, Vec<u32>>),
}

impl CpuBinding<'_> {
    /// As words.
    #[must_use]
    pub fn u32(&self) -> &[u32] {
        let all: &[u32] = match &self.guard {
            Guard::Read(g) => g,
            Guard::Write(g) => g,
        };
        &all[self.start..self.start + self.words]
    }

    /// As floats.
    #[must_use]
    pub fn f32(&self) -> &[f32] {
        bytemuck::cast_slice(self.u32())
    }

    /// As writable words; empty for a read-only binding, which the generated code never asks for.
    pub fn u32_mut(&mut self) -> &mut [u32] {
        match &mut self.guard {
            Guard::Read(_) => &mut [],
            Guard::Write(g) => &mut g[self.start..self.start + self.words],
        }
    }

    /// As writable floats, likewise.
    pub fn f32_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.u32_mut())
    }
}

/// A kernel in a data format: what a plan asks the adapter for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Need {
    /// Kernel name.
    pub kernel: &'static str,
    /// Data format word, for kernels that have formats.
    pub format: Option<&'static str>,
}

#[derive(Clone)]
pub(super) struct Dispatch {
    pub(super) kernel: &'static Kernel,
    pub(super) variant: &'static Variant,
    pub(super) format: Option<&'static str>,
    pub(super) params: Vec<u8>,
    pub(super) bindings: Vec<DeviceTensor>,
    pub(super) grid: Grid,
    pub(super) cpu: fn(&mut CpuCall<'_, '_>),
    pub(super) fixed: Fixed,
    /// Does it do what is left of the launch before, [`Plan::beside`]?
    pub(super) beside: bool,
}

pub(super) enum Step {
    Dispatch(Dispatch),
    Copy { from: DeviceTensor, to: DeviceTensor },
}

/// Launches and copies in order.
pub struct Plan {
    device: Device,
    pub(super) steps: Vec<Step>,
    variant: Option<&'static str>,
    pub(super) often: bool,
    beside: bool,
}

impl Plan {
    /// An empty plan.
    #[must_use]
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), steps: Vec::new(), variant: None, often: false, beside: false }
    }

    /// The device it is for.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Uses the variant of this name where a kernel has it, instead of the best one. For tests.
    pub fn force_variant(&mut self, name: &'static str) {
        self.variant = Some(name);
    }

    /// Adds what does the rest of the launch before, by another variant of its kernel. Whether there is such may depend on the number of tokens
    /// ([`Plan::specialised_with`]).
    ///
    /// # Errors
    /// What `add` gives.
    pub(crate) fn beside(&mut self, add: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.beside = true;
        let added = add(self);
        self.beside = false;
        added
    }

    /// Adds a dispatch as it is: shaders do not check what they read and write, so functions of [`crate::kernels`], which look at all
    /// arguments before, are what to call. For tests.
    ///
    /// # Errors
    /// [`Error::Argument`] when an output is bound twice; [`Error::LimitExceeded`] when the grid is too large;
    /// [`Error::Lacks`] when the adapter can run no variant of a `probe_*` kernel, or not the forced one; what the guard
    /// says ([`Gpu::set_guard`]).
    #[doc(hidden)]
    pub fn launch(&mut self, launch: Launch<'_>) -> Result<()> {
        let kernel = launch.kernel;
        for (i, (tensor, binding)) in launch.bindings.iter().zip(kernel.bindings).enumerate() {
            tensor.expect_on(&self.device)?;
            let mut others = launch.bindings.iter().enumerate().filter(|(j, _)| i != *j);
            if binding.writable && others.any(|(_, other)| tensor.storage.same(&other.storage)) {
                return Err(Error::argument(
                    format!("{}: `{}`", kernel.name, binding.name),
                    "an output shares memory with another argument",
                ));
            }
        }
        if let Some(gpu) = self.device.gpu() {
            for axis in launch.grid.workgroups() {
                super::device::check_limit(
                    &gpu.adapter.name,
                    "workgroups along an axis",
                    axis as u64,
                    MAX_AXIS as u64,
                )?;
            }
        }
        let variant = self.settled(kernel, launch.format, launch.grid)?;
        if let Some(gpu) = self.device.gpu() {
            // A test that forces an emulated form knows what it does.
            let lacks = |n: &&str| *n != crate::shaders::EMULATED && !gpu.caps.has(n);
            let needs: Vec<&str> = variant.needs.iter().copied().filter(lacks).collect();
            if !needs.is_empty() {
                let (adapter, needs) = (gpu.adapter.name.clone(), needs.join(", "));
                return Err(Error::Lacks { adapter, needs, kernel: kernel.name });
            }
        }
        if launch.grid.workgroups().contains(&0) {
            return Ok(());
        }
        // Of all of them: what an adapter runs must not depend on what another would have refused.
        for variant in kernel.variants.iter().filter(|v| v.format == launch.format) {
            super::buffer::whole_elements(kernel, variant, launch.bindings)?;
        }
        self.steps.push(Step::Dispatch(Dispatch {
            kernel,
            variant,
            format: launch.format,
            params: launch.params.to_vec(),
            bindings: launch.bindings.iter().map(|t| (*t).clone()).collect(),
            grid: launch.grid,
            cpu: launch.cpu,
            fixed: Fixed::ALL,
            beside: self.beside,
        }));
        Ok(())
    }

    /// Will a launch of this kernel run on matrix units, or emulate them?
    ///
    /// # Errors
    /// What the guard says.
    pub(crate) fn on_matrices(&self, kernel: &'static Kernel, format: &'static str, grid: Grid) -> Result<bool> {
        Ok(on_matrices(self.settled(kernel, Some(format), grid)?))
    }

    /// The variant to dispatch, about which the guard was asked.
    fn settled(&self, kernel: &'static Kernel, format: Option<&'static str>, grid: Grid) -> Result<&'static Variant> {
        let variant = self.choose(kernel, format, grid);
        let gpu = self.device.gpu().filter(|_| self.variant.is_none());
        let Some(guard) = gpu.and_then(|g| g.unsettled(kernel, variant)) else { return Ok(variant) };
        guard(&self.device, Need { kernel: kernel.name, format })?;
        Ok(self.choose(kernel, format, grid))
    }

    /// Of the variants of the format that the adapter can run and that are not distrusted, the one chosen by measurement
    /// for this size, else the last; build.rs guarantees there is one to run (but of `probe_*` kernels), and
    /// [`crate::kernels::trust`] refuses the adapter when none is to be trusted.
    fn choose(&self, kernel: &'static Kernel, format: Option<&'static str>, grid: Grid) -> &'static Variant {
        let of_format = || kernel.variants.iter().filter(|v| v.format == format);
        let can_run = |v: &&Variant| self.device.gpu().is_none_or(|g| g.can_run(v));
        let trusted = |v: &&Variant| self.device.gpu().is_none_or(|g| g.trusts(kernel.name, v.name) != Some(false));
        of_format()
            .find(|v| Some(v.name) == self.variant)
            .or_else(|| self.device.gpu()?.chosen(kernel, format, grid).filter(trusted))
            .or_else(|| of_format().rev().find(|v| can_run(v) && trusted(v)))
            .or_else(|| of_format().rev().find(can_run))
            .or_else(|| of_format().next_back())
            .unwrap_or(&kernel.variants[0])
    }

    /// Copies a tensor into another of the same size.
    ///
    /// # Errors
    /// [`Error::Shape`] when the sizes differ; [`Error::Argument`] for a tensor of another device.
    pub fn copy(&mut self, from: &DeviceTensor, to: &DeviceTensor) -> Result<()> {
        Step::copy(&self.device, from, to).map(|step| self.steps.push(step))
    }

    /// Number of dispatches.
    #[must_use]
    pub fn dispatches(&self) -> usize {
        self.steps.iter().filter(|s| matches!(s, Step::Dispatch(_))).count()
    }

    /// `kernel.variant` of every dispatch, in order.
    pub fn labels(&self) -> impl Iterator<Item = String> + '_ {
        self.steps.iter().filter_map(|s| match s {
            Step::Dispatch(d) => Some(format!("{}.{}", d.kernel.name, d.variant.name)),
            Step::Copy { .. } => None,
        })
    }

    /// Kernel and format of every dispatch, in order.
    pub fn needs(&self) -> impl Iterator<Item = Need> + '_ {
        self.steps.iter().filter_map(|s| match s {
            Step::Dispatch(d) => Some(Need { kernel: d.kernel.name, format: d.format }),
            Step::Copy { .. } => None,
        })
    }

    /// Compiles, and makes parameters and bind groups.
    ///
    /// # Errors
    /// [`Error::Gpu`] naming the kernel that does not compile or bind.
    pub fn record(self) -> Result<Recording> {
        let commands = match &self.device {
            Device::Cpu | Device::Nowhere => Vec::new(),
            Device::Gpu(gpu) => gpu.commands(&self.steps, self.often)?,
        };
        Ok(Recording {
            device: self.device,
            steps: self.steps,
            commands,
            #[cfg(not(target_arch = "wasm32"))]
            pace: Default::default(),
        })
    }
}

/// Where the first pass writes when it begins and ends: two queries from this one on.
pub(super) type Times<'a> = Option<(&'a wgpu::QuerySet, u32)>;

pub(super) enum Command {
    Dispatch { pipeline: wgpu::ComputePipeline, group: wgpu::BindGroup, grid: [u32; 3] },
    Copy { from: wgpu::Buffer, from_offset: u64, to: wgpu::Buffer, to_offset: u64, bytes: u64 },
}

/// The command that copies `from` to `to`, of as many words.
pub(super) fn copy(from: &DeviceTensor, to: &DeviceTensor) -> Result<Command> {
    let (Storage::Gpu(a), Storage::Gpu(b)) = (&from.storage, &to.storage) else { return Err(elsewhere()) };
    let (from_offset, to_offset, bytes) = (from.offset as u64, to.offset as u64, from.bytes() as u64);
    Ok(Command::Copy { from: a.clone(), from_offset, to: b.clone(), to_offset, bytes })
}

pub(super) fn elsewhere() -> Error {
    Error::argument("tensor", "it is on another device")
}

impl Gpu {
    fn commands(&self, steps: &[Step], often: bool) -> Result<Vec<Command>> {
        let align = self.device.limits().min_uniform_buffer_offset_alignment as usize;
        let mut data = Vec::new();
        let mut offsets = Vec::new();
        for step in steps {
            offsets.push(data.len());
            if let Step::Dispatch(d) = step {
                data.extend_from_slice(&d.params);
                data.resize(data.len().next_multiple_of(align), 0);
            }
        }
        let uniforms = self.checked("parameters", || {
            let uniforms = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("parameters"),
                size: data.len().max(align) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            self.queue.write_buffer(&uniforms, 0, &data);
            uniforms
        })?;
        let constant = self.specialising.applies(often);
        steps.iter().zip(offsets).map(|(step, offset)| self.command(step, (&uniforms, offset), constant)).collect()
    }

    fn command(&self, step: &Step, (uniforms, offset): (&wgpu::Buffer, usize), constant: bool) -> Result<Command> {
        let d = match step {
            Step::Dispatch(d) => d,
            Step::Copy { from, to } => return copy(from, to),
        };
        let pipeline = self.pipeline(d.kernel, d.variant, &d.params, if constant { d.fixed } else { Fixed::NONE })?;
        let mut entries = Vec::with_capacity(d.bindings.len() + 1);
        for tensor in &d.bindings {
            let Storage::Gpu(buffer) = &tensor.storage else { return Err(elsewhere()) };
            entries.push((buffer, tensor.offset, tensor.bytes().max(4)));
        }
        entries.push((uniforms, offset, d.params.len()));
        let entries: Vec<_> = entries
            .into_iter()
            .zip(0..)
            .map(|((buffer, offset, size), binding)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: offset as u64,
                    size: std::num::NonZeroU64::new(size as u64),
                }),
            })
            .collect();
        let label = d.kernel.name;
        let group = self.checked(label, || {
            self.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(label),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        Ok(Command::Dispatch { pipeline: pipeline.pipeline, group, grid: d.grid.of(d.variant).map(|n| n as u32) })
    }

    pub(super) fn encode(&self, encoder: &mut wgpu::CommandEncoder, commands: &[Command], mut times: Times<'_>) {
        let mut rest = commands;
        while let Some(first) = rest.first() {
            if let Command::Copy { from, from_offset, to, to_offset, bytes } = first {
                encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
                rest = &rest[1..];
                continue;
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("plan"),
                timestamp_writes: times.take().map(|(query_set, first)| wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                }),
            });
            while let Some(Command::Dispatch { pipeline, group, grid: [x, y, z] }) = rest.first() {
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(*x, *y, *z);
                rest = &rest[1..];
            }
        }
    }
}

/// A plan ready to run.
pub struct Recording {
    pub(super) device: Device,
    pub(super) steps: Vec<Step>,
    pub(super) commands: Vec<Command>,
    /// How long its launches take.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) pace: std::sync::Arc<super::pace::Pace>,
}

impl Recording {
    /// Runs it: submits on a GPU (does not wait), computes on the CPU.
    ///
    /// # Errors
    /// [`Error::Gpu`] when wgpu refuses the commands.
    pub fn run(&self) -> Result<()> {
        match &self.device {
            Device::Gpu(gpu) => {
                let count = self.commands.len();
                for first in (0..count).step_by(LAUNCHES_PER_SUBMIT) {
                    self.submit(gpu, first..(first + LAUNCHES_PER_SUBMIT).min(count))?;
                }
            }
            Device::Cpu => self.steps.iter().for_each(Step::run_on_cpu),
            Device::Nowhere => return Err(Error::argument("run", "there is no device")),
        }
        Ok(())
    }
}

impl Recording {
    /// Submits some of its launches and copies.
    pub(super) fn submit(&self, gpu: &Gpu, part: std::ops::Range<usize>) -> Result<wgpu::SubmissionIndex> {
        gpu.checked("submitting", || {
            let mut encoder = gpu.device.create_command_encoder(&Default::default());
            gpu.encode(&mut encoder, &self.commands[part], None);
            gpu.send(encoder)
        })
    }

    /// In a browser nothing can be waited for, so nothing is measured: as [`Recording::run`].
    ///
    /// # Errors
    /// As [`Recording::run`].
    #[cfg(target_arch = "wasm32")]
    pub fn run_paced(&self) -> Result<()> {
        self.run()
    }

    /// Nothing is known of how long it takes.
    #[cfg(target_arch = "wasm32")]
    #[must_use]
    pub fn overrun(&self) -> f64 {
        0.0
    }
}

impl Step {
    /// A copy of `from` to `to`.
    pub(super) fn copy(device: &Device, from: &DeviceTensor, to: &DeviceTensor) -> Result<Self> {
        [from, to].into_iter().try_for_each(|tensor| tensor.expect_on(device))?;
        if from.words() != to.words() {
            return Err(Error::Shape { kernel: "copy", arg: "to", expected: from.shape, got: to.shape });
        }
        Ok(Self::Copy { from: from.clone(), to: to.clone() })
    }

    pub(super) fn run_on_cpu(&self) {
        let lock = |tensor: &DeviceTensor| match &tensor.storage {
            Storage::Cpu(data) => (data.clone(), tensor.offset / 4, tensor.words()),
            Storage::Gpu(_) | Storage::Nowhere(_) => unreachable!("a CPU plan holds CPU tensors"),
        };
        match self {
            Self::Copy { from, to } => {
                let ((a, a_start, words), (b, b_start, _)) = (lock(from), lock(to));
                let words = lock_read(&a)[a_start..a_start + words].to_vec();
                lock_write(&b)[b_start..b_start + words.len()].copy_from_slice(&words);
            }
            Self::Dispatch(d) => {
                let held: Vec<_> = d.bindings.iter().map(lock).collect();
                let mut bindings: Vec<CpuBinding<'_>> = held
                    .iter()
                    .zip(d.kernel.bindings)
                    .map(|((data, start, words), binding)| CpuBinding {
                        guard: if binding.writable {
                            Guard::Write(lock_write(data))
                        } else {
                            Guard::Read(lock_read(data))
                        },
                        start: *start,
                        words: *words,
                    })
                    .collect();
                (d.cpu)(&mut CpuCall { params: &d.params, format: d.format, bindings: &mut bindings });
            }
        }
    }
}
