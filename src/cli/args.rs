//! Arguments that several commands share.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};
use pollster::block_on;
use wgquant::checkpoint::locate;
use wgquant::gpu::{Device, DeviceChoice, Need};
use wgquant::kernels::trust::{self, Cache};
use wgquant::kernels::tuned;
use wgquant::report::bytes;

/// What wgpu knows; it ignores other words in `WGPU_BACKEND`, which would then choose a device nobody asked for.
const BACKENDS: [&str; 11] =
    ["vulkan", "vk", "dx12", "d3d12", "metal", "mtl", "opengl", "gles", "gl", "webgpu", "noop"];

/// The device of who names none.
pub(super) const DEVICE: &str = "gpu";

/// Where to run.
#[derive(Clone, Debug, Args)]
pub(super) struct GpuArgs {
    /// `gpu` (the best there is), `cpu` (the reference), or an adapter's index or part of its name
    #[arg(long, value_name = "gpu|cpu|NAME", default_value = DEVICE, env = "WGQUANT_DEVICE")]
    pub(super) device: String,
    /// Use only these features of the adapter: `baseline` (none) or a list of f16, subgroups, packed_dot,
    /// coop_matrix
    #[arg(long, value_name = "LIST", env = "WGQUANT_CAPS")]
    pub(super) caps: Option<String>,
    /// Take it that the GPU has this much memory for us, such as 8GiB or 500MB (k, m, g, t and kib .. are powers of
    /// 1024, kb .. of 1000), instead of what its driver says
    #[arg(long, value_name = "SIZE", env = "WGQUANT_MEMORY_LIMIT", value_parser = size)]
    pub(super) memory_limit: Option<u64>,
    /// Follow these choices of kernels' variants, made by `wgquant tune -o FILE`, or none [default: what `wgquant tune` kept
    /// for this GPU]
    #[arg(long, value_name = "FILE|off", env = "WGQUANT_TUNE")]
    pub(super) tune: Option<String>,
    /// Skip the self-test of the GPU: use its results even where they are known to be wrong
    #[arg(long)]
    pub(super) trust_gpu: bool,
}

impl GpuArgs {
    /// Opens the device.
    pub(super) fn open(&self) -> Result<Device> {
        check_backend()?;
        let choice = DeviceChoice::from(self.device.as_str());
        if choice == DeviceChoice::Cpu {
            let usual = usual("WGQUANT_DEVICE").is_some() && self.usual_device();
            self.refuse_without_gpu(if usual { "WGQUANT_DEVICE=cpu" } else { "--device cpu" })?;
        }
        let device = block_on(Device::open(&choice, self.caps.as_deref()))?;
        if let Some((gpu, limit)) = device.gpu().zip(self.memory_limit) {
            gpu.set_memory_limit(limit);
        }
        match (device.gpu(), self.tune.as_deref()) {
            (None, _) | (_, Some("off")) => {}
            (Some(gpu), None) => tuned::follow(gpu, &Cache::user()),
            (Some(gpu), Some(file)) => gpu.set_choices(tuned::read(gpu, Path::new(file))?),
        }
        if let Some(gpu) = device.gpu().filter(|g| g.adapter.is_software()) {
            log::info!("{} is a software driver: the results are right, the speed is not a GPU's", gpu.adapter.name);
        }
        Ok(device)
    }

    /// Checks what will run on the device, unless that was done before or `--trust-gpu` forgoes it. What runs beyond
    /// `needs` is checked when a plan first comes to it.
    pub(super) fn check(&self, device: &Device, needs: &[Need]) -> Result<()> {
        if self.trust_gpu {
            return Ok(());
        }
        if let Some(gpu) = device.gpu() {
            gpu.set_guard(trust::guard(Cache::user()));
        }
        let start = Instant::now();
        let done = trust::ensure(device, needs, &Cache::user(), &mut trust::self_test)?;
        if done.checked > 0 {
            log::debug!("self-test: {} shaders in {:.2} s", done.checked, start.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// Is the device the one of all commands, by the environment or by default?
    pub(super) fn usual_device(&self) -> bool {
        self.device == usual("WGQUANT_DEVICE").as_deref().unwrap_or(DEVICE)
    }

    /// Refuses what is said of a GPU where there is none, because of the flag `because`. What the environment says is for all
    /// commands; and no choices of variants are what the CPU follows.
    pub(super) fn refuse_without_gpu(&self, because: &str) -> Result<()> {
        let given = |value: Option<&String>, name: &str| value.filter(|v| usual(name).as_ref() != Some(*v)).cloned();
        let caps = given(self.caps.as_ref(), "WGQUANT_CAPS").map(|caps| format!("--caps {caps}"));
        let usual_limit = usual("WGQUANT_MEMORY_LIMIT").and_then(|text| size(&text).ok());
        let limit =
            self.memory_limit.filter(|n| usual_limit != Some(*n)).map(|n| format!("--memory-limit {}", bytes(n)));
        let tune =
            given(self.tune.as_ref(), "WGQUANT_TUNE").filter(|file| file != "off").map(|file| format!("--tune {file}"));
        refuse([caps, limit, tune], &format!("with {because}"))
    }

    /// Flags beside --device that decide what runs, with their values, where they were given.
    pub(super) fn more(&self) -> Vec<(&'static str, String)> {
        let limit = self.memory_limit.map(|n| n.to_string());
        let all = [("--caps", self.caps.clone()), ("--memory-limit", limit), ("--tune", self.tune.clone())];
        all.into_iter().filter_map(|(flag, value)| Some((flag, value?))).collect()
    }

    /// Why that device.
    pub(super) fn reason(&self) -> String {
        match DeviceChoice::from(self.device.as_str()) {
            DeviceChoice::Best => "the best there is (order: discrete, integrated, virtual, software)".to_owned(),
            DeviceChoice::Cpu => "--device cpu".to_owned(),
            DeviceChoice::Named(name) => format!("--device {name}"),
        }
    }
}

/// What the environment says for all commands; what is empty says nothing.
fn usual(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A model: its directory, or its name in the Hugging Face cache.
pub(super) fn model() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(locate)
}

/// Bytes: `8GiB`, `500 MiB`, `1.5GB`, `1000000`. k, m, g and t are powers of 1024, as kib, mib, gib and tib are; kb, mb, gb
/// and tb are powers of 1000.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let at = lower.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(at);
    let power = |letter: char, base: f64| "kmgt".find(letter).map(|i| base.powi(i as i32 + 1));
    let factor = match unit.trim().chars().collect::<Vec<_>>()[..] {
        [] | ['b'] => Some(1.0),
        [letter] | [letter, 'i', 'b'] => power(letter, 1024.0),
        [letter, 'b'] => power(letter, 1000.0),
        _ => None,
    };
    match (number.parse::<f64>(), factor) {
        (Ok(n), Some(factor)) if n > 0.0 => Ok((n * factor) as u64),
        _ => Err(format!("`{text}` is no size such as 8GiB, 500MiB or 1.5GB")),
    }
}

/// Seconds to wait or work for.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s: &f64| Duration::try_from_secs_f64(*s).is_ok());
    seconds.ok_or_else(|| format!("`{text}` is no number of seconds from 0 to 2^64"))
}

/// Refuses the first of `flags` that was given, each with its value: it has no effect `because` of something else.
pub(super) fn refuse(flags: impl IntoIterator<Item = Option<String>>, because: &str) -> Result<()> {
    match flags.into_iter().flatten().next() {
        Some(flag) => bail!("{flag}: has no effect {because}"),
        None => Ok(()),
    }
}

/// Refuses a limit of what a model may lose that is none; `flag` names it.
pub(super) fn check_fraction(flag: &str, limit: Option<f64>) -> Result<()> {
    match limit.filter(|limit| !limit.is_finite() || *limit < 0.0) {
        Some(limit) => bail!("{flag} {limit}: is no fraction of 0 or more, such as 0.01"),
        None => Ok(()),
    }
}

/// Refuses a `WGPU_BACKEND` that wgpu would ignore.
pub(super) fn check_backend() -> Result<()> {
    let Ok(list) = std::env::var("WGPU_BACKEND") else { return Ok(()) };
    for word in list.split(',').map(|w| w.trim().to_ascii_lowercase()).filter(|w| !w.is_empty()) {
        if !BACKENDS.contains(&word.as_str()) {
            bail!("WGPU_BACKEND: `{word}` is no backend; use vulkan, metal, dx12 or gl, or unset it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{seconds, size};

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("8GiB"), Ok(8 << 30));
        assert_eq!(size("1.5 mib"), Ok(3 << 19));
        assert_eq!(size("2GB"), Ok(2_000_000_000));
        assert_eq!(size("17"), Ok(17));
        assert_eq!((size("4g"), size("4gb")), (Ok(4 << 30), Ok(4_000_000_000)));
        assert_eq!((size("3 kb"), size("1t")), (Ok(3000), Ok(1 << 40)));
        for wrong in ["", "GiB", "8 cows", "-1", "1.2.3", "0", "4gibb", "1e999"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    /// What passes is a `Duration`.
    #[test]
    fn seconds_can_be_waited() {
        assert_eq!((seconds("0"), seconds("1.5")), (Ok(0.0), Ok(1.5)));
        for wrong in ["1e20", "-1", "nan", "inf", "", "soon"] {
            assert!(seconds(wrong).is_err_and(|e| e.contains(&format!("`{wrong}`"))), "{wrong}");
        }
    }
}
