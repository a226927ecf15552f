//! Which variants have passed on which adapter, in the user's cache directory. Never the cause of a failure: what
//! cannot be read is checked again, what cannot be written is not kept.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::gpu::Gpu;

/// `kernel.variant` and the hash of what passed.
pub(super) type Passed = BTreeMap<String, String>;

/// Version of the file's layout.
const VERSION: u64 = 1;

/// A directory of one file an adapter, driver and set of capabilities.
#[derive(Clone, Debug)]
pub struct Cache(Option<PathBuf>);

impl Cache {
    /// The user's: `WGQUANT_CACHE_DIR`, or `wgquant` below `XDG_CACHE_HOME`, `LOCALAPPDATA` or `~/.cache`.
    #[must_use]
    pub fn user() -> Self {
        Self(directory(|name| std::env::var_os(name).filter(|v| !v.is_empty())))
    }

    /// In this directory, which is made when it is first written.
    #[must_use]
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self(Some(dir.into()))
    }

    /// Keeps nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// The file of an adapter, if anything is kept.
    #[must_use]
    pub fn file(&self, gpu: &Gpu) -> Option<PathBuf> {
        self.of("selftest", gpu)
    }

    /// Where choices of variants are kept for an adapter ([`crate::kernels::tuned`]).
    #[must_use]
    pub fn tuned(&self, gpu: &Gpu) -> Option<PathBuf> {
        self.of("tune", gpu)
    }

    fn of(&self, what: &str, gpu: &Gpu) -> Option<PathBuf> {
        let name = hash(&[&key(gpu).to_string()]);
        self.0.as_ref().map(|dir| dir.join(format!("{what}-{}.json", &name[..16])))
    }

    pub(super) fn load(&self, gpu: &Gpu) -> Passed {
        let Some(path) = self.file(gpu) else { return Passed::new() };
        let read = || -> Result<Passed, String> {
            let text = std::fs::read(&path).map_err(|e| e.to_string())?;
            let mut file: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
            if file["version"] != VERSION || file["key"] != key(gpu) {
                return Err("is of another version or adapter".to_owned());
            }
            serde_json::from_value(file["passed"].take()).map_err(|e| e.to_string())
        };
        read().unwrap_or_else(|e| {
            log::debug!("self-test cache {}: {e}", path.display());
            Passed::new()
        })
    }

    pub(super) fn store(&self, gpu: &Gpu, passed: &Passed) {
        let Some(path) = self.file(gpu) else { return };
        let file = json!({ "version": VERSION, "key": key(gpu), "passed": passed });
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            // Two programs may write at once.
            crate::files::replace(&path, |to| writeln!(to, "{file:#}"))
        };
        if let Err(e) = write() {
            log::debug!("self-test cache {}: {e}", path.display());
        }
    }
}

/// Everything a result hangs on but the shader: with the translator's checks it is another program.
pub(in crate::kernels) fn key(gpu: &Gpu) -> Value {
    let checks = crate::gpu::shader_checks();
    let mut key =
        json!({ "adapter": gpu.adapter, "caps": gpu.caps, "checks": checks, "wgquant": env!("CARGO_PKG_VERSION") });
    // Metal names no driver: its shader compiler comes with the system.
    if gpu.adapter.driver.is_empty()
        && gpu.adapter.driver_info.is_empty()
        && let Some(build) = std::fs::read_to_string(SYSTEM_VERSION).ok().as_deref().and_then(build_of)
    {
        key["system"] = json!(build);
    }
    key
}

/// Where macOS says which it is; there is no such file elsewhere.
const SYSTEM_VERSION: &str = "/System/Library/CoreServices/SystemVersion.plist";

/// The build of macOS that its property list names: another one for each update.
fn build_of(list: &str) -> Option<&str> {
    let (_, after) = list.split_once("<key>ProductBuildVersion</key>")?;
    let (_, value) = after.split_once("<string>")?;
    value.split_once("</string>").map(|(build, _)| build.trim())
}

fn directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let below = |name: &str| variable(name).map(|v| PathBuf::from(v).join("wgquant"));
    variable("WGQUANT_CACHE_DIR")
        .map(PathBuf::from)
        .or_else(|| below("XDG_CACHE_HOME"))
        .or_else(|| below("LOCALAPPDATA"))
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cache/wgquant")))
}

/// SHA-256 of the parts, in hexadecimal; ends of parts count.
pub(in crate::kernels) fn hash(parts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    sha.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_follows_the_environment() {
        let of = |set: &[(&str, &str)]| {
            directory(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("HOME", "/h")]), Some("/h/.cache/wgquant".into()));
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Some("/x/wgquant".into()));
        assert_eq!(of(&[("WGQUANT_CACHE_DIR", "/w"), ("XDG_CACHE_HOME", "/x")]), Some("/w".into()));
    }

    #[test]
    fn build_is_read_from_the_property_list() {
        let list = "<dict>\n\t<key>BuildID</key>\n\t<string>A1</string>\n\t<key>ProductBuildVersion</key>\n\t<string>24G90</string>\n\
                    \t<key>ProductCopyright</key>\n\t<string>1983-2025</string>\n</dict>";
        assert_eq!(build_of(list), Some("24G90"));
        assert_eq!(build_of("<key>ProductVersion</key><string>15.6</string>"), None);
    }

    #[test]
    fn ends_of_parts_count() {
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
