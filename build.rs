//! Turns `shaders/*.wgsl` into Rust: preprocess → validate → reflect → emit.
//!
//! WGSL owns every kernel's interface. A shader that does not parse, does not validate, breaks a
//! portable limit or disagrees with its variants stops the build with a message naming it.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/preprocess.rs"]
mod preprocess;
#[path = "build/reflect.rs"]
mod reflect;

use std::path::{Path, PathBuf};

/// Words of `variants.toml` that are adapter capabilities; any other word is a data format. No adapter has
/// `coop_emulated`: tests ask for such variants by name.
const CAPABILITIES: [&str; 6] = ["f16", "subgroups", "warps", "packed_dot", "coop_matrix", "coop_emulated"];

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=shaders");
    commit();
    match run() {
        Ok(()) => {}
        Err(message) => {
            // Printed as it is: naga's message carries source lines.
            eprintln!("{message}");
            std::process::exit(1);
        }
    }
}

/// `WGQUANT_COMMIT`, for results: of a release that is built in a clone of this repository, where there is git. Debug builds
/// have none: they would be built anew after every commit.
fn commit() {
    if std::env::var("PROFILE").as_deref() != Ok("release") || !Path::new(".git").exists() {
        return;
    }
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return };
    println!("cargo::rustc-env=WGQUANT_COMMIT={commit}");
    // Grows with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn run() -> Result<(), String> {
    let shaders = Path::new("shaders");
    let out_dir = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let variants: toml::Table =
        read(&shaders.join("variants.toml"))?.parse().map_err(|e| format!("shaders/variants.toml: {e}"))?;
    let library = preprocess::Library::load(&shaders.join("shared"))?;

    let mut kernels = Vec::new();
    for (name, sources) in &preprocess::sources(shaders)? {
        kernels.push(reflect::kernel(name, sources, &library, variants.get(name))?);
    }
    for name in variants.keys() {
        if !kernels.iter().any(|k| &k.name == name) {
            return Err(format!("shaders/variants.toml: there is no shaders/{name}.wgsl"));
        }
    }
    write(&out_dir.join("shaders.rs"), &emit::shaders(&kernels))?;
    write(&out_dir.join("bindings.rs"), &emit::bindings(&kernels))
}

/// Sorted, so that the output is reproducible.
fn wgsl_files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|e| e.ok().map(|e| e.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "wgsl"))
        .collect();
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
