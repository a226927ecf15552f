//! What the system says of the machine and of this process.

use wgquant::gpu::Caps;

/// Begins [`peak_memory`] anew, where `/proc` can (Linux): from what the process holds now.
pub(super) fn reset_peak_memory() {
    if let Err(e) = std::fs::write("/proc/self/clear_refs", "5") {
        log::debug!("host memory counts from the start of the program: {e}");
    }
}

/// Most memory the process has held since [`reset_peak_memory`], or ever, where `/proc` says.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Name of the processor, where `/proc` says.
pub(super) fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|l| l.strip_prefix("model name")).and_then(|l| l.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// The features in use, by their words.
pub(super) fn caps(caps: &Caps) -> String {
    let words = ["f16", "subgroups", "packed_dot", "coop_matrix"].into_iter().filter(|w| caps.has(w));
    let words: Vec<&str> = words.chain(caps.timestamps.then_some("timestamps")).collect();
    words.join(",")
}
