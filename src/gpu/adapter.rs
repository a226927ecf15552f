//! The adapters of this machine, and what they offer.

use serde::{Deserialize, Serialize};

use super::caps::Caps;
use super::device::check_limit;
use crate::error::{Error, Result};

pub(super) const COOPERATIVE_MATRIX: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

/// What `--device` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The best adapter there is: discrete, integrated, virtual, software, in that order.
    Best,
    /// The CPU reference.
    Cpu,
    /// The adapter whose index, or part of whose name (any case), this is; of a number that is no index, a whole word of the
    /// name, such as 4090.
    Named(String),
}

impl From<&str> for DeviceChoice {
    fn from(text: &str) -> Self {
        match text {
            "gpu" => Self::Best,
            "cpu" => Self::Cpu,
            name => Self::Named(name.to_owned()),
        }
    }
}

/// An adapter as `wgquant devices` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdapterReport {
    /// Name the driver gives.
    pub name: String,
    /// vulkan, metal, dx12, gl or webgpu.
    pub backend: String,
    /// DiscreteGpu, IntegratedGpu, VirtualGpu, Cpu or Other.
    pub device_type: String,
    /// PCI vendor id.
    pub vendor: u32,
    /// PCI device id.
    pub device: u32,
    /// Driver name.
    pub driver: String,
    /// Driver version.
    pub driver_info: String,
    /// What shader variants may use.
    pub caps: Caps,
    /// Largest storage buffer binding, bytes.
    pub max_binding_bytes: u64,
    /// Largest buffer, bytes.
    pub max_buffer_bytes: u64,
    /// Workgroup memory, bytes.
    pub max_workgroup_bytes: u32,
    /// Invocations a workgroup.
    pub max_invocations: u32,
    /// Storage buffers a shader.
    pub max_storage_buffers: u32,
}

impl AdapterReport {
    /// Does it compute on the processor? Then nothing about it is a GPU's speed.
    #[must_use]
    pub fn is_software(&self) -> bool {
        self.device_type == "Cpu"
    }
}

/// Those of `WGPU_BACKEND`, where it names any: set to nothing it leaves out none.
fn asked_backends() -> Option<wgpu::Backends> {
    wgpu::Backends::from_env().filter(|backends| !backends.is_empty())
}

pub(super) async fn all_adapters() -> Vec<wgpu::Adapter> {
    // OpenGL is the last resort: it shows the same GPUs again, with fewer features. WGPU_BACKEND=gl asks for it.
    let mut all = Vec::new();
    for backends in [!wgpu::Backends::GL, wgpu::Backends::GL] {
        if all.is_empty() {
            let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
            descriptor.backends = asked_backends().unwrap_or(wgpu::Backends::all()) & backends;
            all = wgpu::Instance::new(descriptor).enumerate_adapters(backends).await;
        }
    }
    all.sort_by_key(preference);
    all
}

/// Smaller is better; the sort is stable.
fn preference(adapter: &wgpu::Adapter) -> usize {
    match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Cpu => 3,
        wgpu::DeviceType::Other => 4,
    }
}

/// Every adapter there is, best first.
pub async fn adapters() -> Vec<AdapterReport> {
    all_adapters().await.iter().map(report).collect()
}

pub(super) fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let info = adapter.get_info();
    let limits = adapter.limits();
    AdapterReport {
        caps: caps(adapter),
        name: info.name,
        backend: info.backend.to_string(),
        device_type: format!("{:?}", info.device_type),
        vendor: info.vendor,
        device: info.device,
        driver: info.driver,
        driver_info: info.driver_info,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
        max_invocations: limits.max_compute_invocations_per_workgroup,
        max_storage_buffers: limits.max_storage_buffers_per_shader_stage,
    }
}

fn caps(adapter: &wgpu::Adapter) -> Caps {
    let features = adapter.features();
    let info = adapter.get_info();
    let sixteen = |p: &wgpu::CooperativeMatrixProperties| {
        (p.m_size, p.n_size, p.k_size) == (16, 16, 16)
            && p.ab_type == wgpu::CooperativeScalarType::F16
            && p.cr_type == wgpu::CooperativeScalarType::F32
    };
    let sizes = (info.subgroup_min_size, info.subgroup_max_size);
    let coop = features.contains(COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP)
        && sizes == (32, 32)
        && adapter.limits().max_compute_workgroup_storage_size >= 48 * 1024
        && adapter.limits().max_compute_invocations_per_workgroup >= 384
        && adapter.cooperative_matrix_properties().iter().any(sixteen);
    // Variants for subgroups of 32 threads have up to 1024 a workgroup. No adapter is known that has the former without the latter.
    let fits = sizes != (32, 32) || adapter.limits().max_compute_invocations_per_workgroup >= 1024;
    Caps {
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: (fits && features.contains(wgpu::Features::SUBGROUP)).then_some(sizes),
        packed_dot: info.backend != wgpu::Backend::Gl,
        coop_matrix: coop,
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
    }
}

pub(super) fn pick<'a>(all: &'a [wgpu::Adapter], choice: &DeviceChoice) -> Option<&'a wgpu::Adapter> {
    match choice {
        DeviceChoice::Named(name) => {
            let names: Vec<String> = all.iter().map(|a| a.get_info().name).collect();
            found(&names, name).map(|i| &all[i])
        }
        _ => all.first(),
    }
}

/// That nothing of `all` is what was chosen; where `WGPU_BACKEND` leaves other backends out, with what they have.
pub(super) async fn no_adapter(all: &[wgpu::Adapter], choice: &DeviceChoice) -> Error {
    let list = |all: &[wgpu::Adapter], name: fn(wgpu::AdapterInfo) -> String| {
        all.iter().map(|a| name(a.get_info())).collect::<Vec<_>>().join(", ")
    };
    let mut wanted = match choice {
        DeviceChoice::Named(name) => format!("named `{name}`"),
        _ => "at all".to_owned(),
    };
    let mut found = Some(list(all, |a| a.name)).filter(|names| !names.is_empty()).unwrap_or_else(|| "none".to_owned());
    let mut help = "Install a Vulkan driver (Debian: apt-get install mesa-vulkan-drivers) or pass";
    let asked = std::env::var("WGPU_BACKEND").unwrap_or_default();
    if let Some(backends) = asked_backends() {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
        // OpenGL's libraries have words of their own on stderr.
        descriptor.backends = !backends & !wgpu::Backends::GL;
        let left = descriptor.backends;
        let others = wgpu::Instance::new(descriptor).enumerate_adapters(left).await;
        wanted += &format!(" of backend `{asked}`");
        if !others.is_empty() {
            found += &format!("; of other backends: {}", list(&others, |a| format!("{} ({})", a.name, a.backend)));
        }
        if !backends.contains(wgpu::Backends::VULKAN) {
            help = "Choose another backend or pass";
        }
    }
    Error::NoAdapter { wanted, found, help }
}

/// Which of these adapters `wanted` is, by index or name.
fn found(names: &[String], wanted: &str) -> Option<usize> {
    let (wanted, number) = (wanted.to_lowercase(), wanted.parse::<usize>().ok());
    let is_named = |name: &String| match number {
        // Names are full of digits: `1` is not to be any adapter that has one.
        Some(_) => name.split_whitespace().any(|word| word == wanted),
        None => name.to_lowercase().contains(&wanted),
    };
    number.filter(|i| *i < names.len()).or_else(|| names.iter().position(is_named))
}

/// Refuses an adapter that offers less than the build lets every shader's first variant, and every plan, take for granted.
pub(super) fn check_baseline(adapter: &str, have: &wgpu::Limits) -> Result<()> {
    let listed = |l: &wgpu::Limits| {
        [
            ("storage buffers a shader", l.max_storage_buffers_per_shader_stage),
            ("invocations a workgroup", l.max_compute_invocations_per_workgroup),
            ("invocations a workgroup along x", l.max_compute_workgroup_size_x),
            ("bytes of workgroup memory", l.max_compute_workgroup_storage_size),
            ("workgroups along an axis", l.max_compute_workgroups_per_dimension),
        ]
    };
    let mut both = listed(&wgpu::Limits::default()).into_iter().zip(listed(have));
    both.try_for_each(|((what, need), (_, have))| check_limit(adapter, what, need.into(), have.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_or_whole_words() {
        let names = ["NVIDIA GeForce RTX 4090", "llvmpipe (LLVM 15.0.6, 256 bits)"].map(str::to_owned);
        for (wanted, index) in [("0", Some(0)), ("1", Some(1)), ("4090", Some(0)), ("rtx", Some(0)), ("LLVM", Some(1))]
        {
            assert_eq!(found(&names, wanted), index, "{wanted}");
        }
        for none in ["2", "5", "15", "409", "radeon"] {
            assert_eq!(found(&names, none), None, "{none}");
        }
    }

    #[test]
    fn adapters_below_the_baseline_are_refused() {
        assert!(check_baseline("a", &wgpu::Limits::default()).is_ok());
        let narrow = wgpu::Limits { max_compute_workgroup_size_x: 128, ..Default::default() };
        let short = wgpu::Limits { max_compute_workgroups_per_dimension: 1000, ..Default::default() };
        for (limits, said) in [(narrow, "along x is 128, need 256"), (short, "along an axis is 1000, need 65535")] {
            let error = check_baseline("a", &limits).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
