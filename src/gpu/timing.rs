//! How long a recording takes, as a whole and launch by launch.

#[cfg(not(target_arch = "wasm32"))]
use std::time::Instant;

#[cfg(target_arch = "wasm32")]
use web_time::Instant;

use super::buffer::DeviceTensor;
use super::device::{Device, Gpu};
use super::plan::{Command, LAUNCHES_PER_SUBMIT, Recording, Step};
use crate::error::Result;
use crate::shaders::Kernel;

/// Runs of a launch that the clock times together.
const REPEATS: usize = 16;

/// A launch of a recording.
pub struct Launched<'a> {
    /// Kernel.
    pub kernel: &'static Kernel,
    /// Name of the variant that runs.
    pub variant: &'static str,
    /// Tensors in binding order.
    pub bindings: &'a [DeviceTensor],
}

impl Launched<'_> {
    /// Does the variant that runs need the capability of this word ([`super::Caps::has`])?
    #[must_use]
    pub fn needs(&self, word: &str) -> bool {
        self.kernel.variants.iter().any(|v| v.name == self.variant && v.needs.contains(&word))
    }
}

impl Recording {
    /// The launches in order, copies left out.
    pub fn launches(&self) -> impl Iterator<Item = Launched<'_>> {
        self.steps.iter().filter_map(|step| match step {
            Step::Dispatch(d) => Some(Launched { kernel: d.kernel, variant: d.variant.name, bindings: &d.bindings }),
            Step::Copy { .. } => None,
        })
    }

    /// Runs a plan of dispatches only, and gives the seconds it took: by timestamp queries on a GPU that
    /// has them, else by the clock from submission to completion.
    ///
    /// # Errors
    /// As [`Recording::run`] and [`Device::read`].
    pub async fn run_timed(&self) -> Result<f64> {
        match &self.device {
            Device::Gpu(gpu) if gpu.adapter.caps.timestamps => {
                let queries = gpu.queries(1)?;
                gpu.checked("timing", || {
                    let mut encoder = gpu.device.create_command_encoder(&Default::default());
                    gpu.encode(&mut encoder, &self.commands, Some((&queries.set, 0)));
                    queries.resolve(&mut encoder);
                    gpu.send(encoder);
                })?;
                Ok(gpu.seconds(&queries).await?[0])
            }
            _ => {
                let start = Instant::now();
                self.run()?;
                self.device.finished().await?;
                Ok(start.elapsed().as_secs_f64())
            }
        }
    }

    /// Runs it and gives the seconds of each launch, in the order of [`Recording::launches`]. With timestamp queries a
    /// launch is a pass of its own, timed from the end of what came before it to its own. A GPU without them runs each
    /// many times by the clock: then only the times mean anything, not what the tensors hold.
    ///
    /// # Errors
    /// As [`Recording::run`] and [`Device::read`].
    pub async fn run_each(&self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        match &self.device {
            Device::Gpu(gpu) if gpu.adapter.caps.timestamps => {
                let mut parts = Vec::new();
                // All submitted before any is read, so that the GPU does not wait.
                for part in self.commands.chunks(LAUNCHES_PER_SUBMIT) {
                    parts.push(gpu.submit_each(part)?);
                }
                for queries in &parts {
                    all.extend(gpu.seconds(queries).await?);
                }
            }
            Device::Gpu(gpu) => {
                for command in &self.commands {
                    let once = gpu.clocked(command, 1, &self.device).await?;
                    if command.is_dispatch() {
                        // Submitting and waiting cost the same for one and for many.
                        let many = gpu.clocked(command, 1 + REPEATS, &self.device).await?;
                        all.push((many - once).max(0.0) / REPEATS as f64);
                    }
                }
            }
            Device::Nowhere => self.run()?,
            Device::Cpu => {
                for step in &self.steps {
                    let start = Instant::now();
                    step.run_on_cpu();
                    all.extend(matches!(step, Step::Dispatch(_)).then(|| start.elapsed().as_secs_f64()));
                }
            }
        }
        Ok(all)
    }
}

impl Command {
    fn is_dispatch(&self) -> bool {
        matches!(self, Self::Dispatch { .. })
    }
}

/// Timestamps of passes: one when each begins, one when it ends.
struct Queries {
    set: wgpu::QuerySet,
    count: u32,
    resolved: wgpu::Buffer,
}

impl Queries {
    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.set, 0..self.count, &self.resolved, 0);
    }
}

impl Gpu {
    fn queries(&self, passes: usize) -> Result<Queries> {
        let count = 2 * passes as u32;
        self.checked("timing", || {
            let set = self.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timing"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let resolved = self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timing"),
                size: u64::from(count) * 8,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            Queries { set, count, resolved }
        })
    }

    /// Seconds by the clock of `times` runs of `command` in one submission.
    async fn clocked(&self, command: &Command, times: usize, device: &Device) -> Result<f64> {
        let start = Instant::now();
        self.checked("submitting", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            (0..times).for_each(|_| self.encode(&mut encoder, std::slice::from_ref(command), None));
            self.send(encoder);
        })?;
        device.finished().await?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Submits `commands`, a pass for each dispatch.
    fn submit_each(&self, commands: &[Command]) -> Result<Queries> {
        let passes = commands.iter().filter(|c| c.is_dispatch()).count();
        // A set of no queries cannot be.
        let mut queries = self.queries(passes.max(1))?;
        self.checked("timing", || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut next = 0;
            for command in commands {
                self.encode(&mut encoder, std::slice::from_ref(command), Some((&queries.set, next)));
                next += if command.is_dispatch() { 2 } else { 0 };
            }
            queries.count = next;
            if next > 0 {
                queries.resolve(&mut encoder);
            }
            self.send(encoder);
        })?;
        Ok(queries)
    }

    /// Seconds of each pass, once they are done.
    async fn seconds(&self, queries: &Queries) -> Result<Vec<f64>> {
        if queries.count == 0 {
            return Ok(Vec::new());
        }
        let words = self.begin_read(&queries.resolved, 0, queries.count as usize * 8)?.words().await?;
        let period = f64::from(self.queue.get_timestamp_period()) * 1e-9;
        let at = |pair: &[u32]| u64::from(pair[0]) | (u64::from(pair[1]) << 32);
        Ok(words.chunks_exact(4).map(|w| at(&w[2..]).saturating_sub(at(&w[..2])) as f64 * period).collect())
    }
}
