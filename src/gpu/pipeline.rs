//! Pipelines, compiled on first use and cached by kernel, variant and the parameters that are compiled in.

use std::collections::HashMap;

use super::device::{Cache, Gpu};
use super::specialise::{Fixed, specialised};
use crate::error::{Error, Result};
use crate::shaders::{KERNELS, Kernel, Variant};

/// A compiled variant.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

type Key = (&'static str, &'static str);

/// Cache of [`Pipeline`]s by kernel and variant name and [`Fixed::key`] of the parameters, and sources that replace the built-in ones, by kernel and variant name.
#[derive(Debug)]
pub(crate) struct Pipelines {
    compiled: Cache<(Key, Vec<u8>), Pipeline>,
    replaced: Cache<Key, String>,
}

impl Pipelines {
    pub(crate) fn new() -> Self {
        Self { compiled: Cache::new(HashMap::new()), replaced: Cache::new(HashMap::new()) }
    }
}

/// Do shaders have the translator's checks of indices, loops and divisors, as the environment's `WGQUANT_SHADER_CHECKS` asks?
pub(crate) fn shader_checks() -> bool {
    std::env::var_os("WGQUANT_SHADER_CHECKS").is_some_and(|value| !value.is_empty())
}

/// A poisoned lock only means that a compilation panicked; the maps are as good as before.
fn lock<K, V>(cache: &Cache<K, V>) -> std::sync::MutexGuard<'_, HashMap<K, V>> {
    cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Gpu {
    /// Compiles `source` (preprocessed WGSL, without enable lines) in place of a variant's own from now on; `None`
    /// restores it. For mutation tests and shader experiments: open a device for them, as every clone of this one
    /// is affected. Recordings made before keep their pipelines. It keeps the translator's run-time checks, unlike our own
    /// shaders: timed beside them it may take up to three times as long.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such kernel or variant. A source that does not compile shows when a plan
    /// that uses it is recorded.
    pub fn override_source(&self, kernel: &str, variant: &str, source: Option<String>) -> Result<()> {
        let found = KERNELS.iter().find(|k| k.name == kernel);
        let found = found.and_then(|k| k.variants.iter().find(|v| v.name == variant).map(|v| (k.name, v.name)));
        let key = found.ok_or_else(|| Error::argument("override_source", format!("no shader {kernel}.{variant}")))?;
        match source {
            Some(source) => lock(&self.pipelines.replaced).insert(key, source),
            None => lock(&self.pipelines.replaced).remove(&key),
        };
        lock(&self.pipelines.compiled).retain(|(compiled, _), _| *compiled != key);
        Ok(())
    }

    /// Pipelines that there are, by variant and the numbers compiled in: for tests of what serves several plans.
    #[must_use]
    pub fn compiled(&self) -> usize {
        lock(&self.pipelines.compiled).len()
    }

    /// The pipeline of a variant that has these numbers of `params`, bytes of `Params`, compiled in, and reads the others from a uniform buffer.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] with the compiler's message.
    pub(crate) fn pipeline(
        &self,
        kernel: &'static Kernel,
        variant: &'static Variant,
        params: &[u8],
        fixed: Fixed,
    ) -> Result<Pipeline> {
        let mut cache = lock(&self.pipelines.compiled);
        let key = ((kernel.name, variant.name), fixed.key(params));
        if let Some(found) = cache.get(&key) {
            return Ok(found.clone());
        }
        let label = format!("{}.{}", kernel.name, variant.name);
        let pipeline = match self.alike(&cache, kernel, variant, &key.1) {
            Some(found) => found,
            // A compiler may refuse in constants what it never comes to as numbers, such as a division by none of a part left out.
            None => match self.checked(&label, || self.compile(&label, kernel, variant, params, fixed)) {
                Err(e) if fixed != Fixed::NONE => {
                    log::warn!("{label} with its parameters compiled in: {e}; they stay in a uniform buffer");
                    self.checked(&label, || self.compile(&label, kernel, variant, params, Fixed::NONE))?
                }
                compiled => compiled?,
            },
        };
        cache.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    /// What is compiled of another variant with the same source: formats may differ for some capabilities only, and some
    /// drivers take half a minute for one shader.
    fn alike(
        &self,
        compiled: &HashMap<(Key, Vec<u8>), Pipeline>,
        kernel: &Kernel,
        variant: &Variant,
        key: &[u8],
    ) -> Option<Pipeline> {
        let replaced = lock(&self.pipelines.replaced);
        let own = |v: &&Variant| !replaced.contains_key(&(kernel.name, v.name));
        let mut alike = kernel.variants.iter().filter(own).filter(|v| v.same_shader(variant));
        own(&variant)
            .then(|| alike.find_map(|v| compiled.get(&((kernel.name, v.name), key.to_vec())).cloned()))
            .flatten()
    }

    fn compile(&self, label: &str, kernel: &Kernel, variant: &Variant, params: &[u8], fixed: Fixed) -> Pipeline {
        let mut source = String::new();
        // naga 30 takes subgroups without a line.
        let enables = [("f16", "enable f16;\n"), ("coop_matrix", "enable wgpu_cooperative_matrix;\n")];
        source.extend(enables.iter().filter(|(word, _)| variant.needs.contains(word)).map(|(_, line)| *line));
        let replacement = lock(&self.pipelines.replaced).get(&(kernel.name, variant.name)).cloned();
        let replaced = replacement.is_some();
        let text = replacement.as_deref().unwrap_or(variant.source);
        source += &specialised(text, kernel, params, fixed);
        let module = self.module(label, source, !replaced);
        let layout = self.bind_group_layout(label, kernel);
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(label),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            // No kernel reads what it has not written there (tests/mutants/unwritten.rs); zeros cost 64 sequences 2 % on an H100.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    }

    /// Our own shaders go without the translator's checks of indices, loop lengths and divisors, which cost a third of the
    /// speed of matrix products (H100): their hosts check shapes before a launch, the build refuses what it cannot
    /// validate, and every variant is compared with its reference, guard words around its outputs included, before it is
    /// trusted (its parameters in a uniform; compiled in, on the machines that tests ran on). Vulkan drivers still keep accesses within buffers, where they can (robustBufferAccess2). Replaced sources
    /// are checked: a mutant may do anything. So is everything under the environment's `WGQUANT_SHADER_CHECKS`.
    #[allow(unsafe_code, reason = "wgpu's word for shaders without run-time checks")]
    fn module(&self, label: &str, source: String, own: bool) -> wgpu::ShaderModule {
        let descriptor =
            wgpu::ShaderModuleDescriptor { label: Some(label), source: wgpu::ShaderSource::Wgsl(source.into()) };
        if own && !shader_checks() {
            // SAFETY: see above; a shader that strays is a fault of this crate, which its tests look for.
            unsafe { self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
        } else {
            self.device.create_shader_module(descriptor)
        }
    }

    fn bind_group_layout(&self, label: &str, kernel: &Kernel) -> wgpu::BindGroupLayout {
        let storage = kernel.bindings.iter().map(|b| wgpu::BufferBindingType::Storage { read_only: !b.writable });
        let entries: Vec<_> = storage
            .chain([wgpu::BufferBindingType::Uniform])
            .zip(0..)
            .map(|(ty, binding)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            })
            .collect();
        self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries })
    }
}
