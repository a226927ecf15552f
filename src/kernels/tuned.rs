//! Choices of variants by measurement, as a file: made by `bench::tune`, kept beside what passed the self-test, and
//! followed until adapter, driver, capabilities, program or a shader change.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::trust::{Cache, hash, key};
use crate::error::{Error, Result};
use crate::files;
use crate::gpu::{Gpu, Need, Place, SizeClass};
use crate::shaders::{KERNELS, Variant};

/// Version of the file's layout.
const VERSION: u64 = 1;

/// What was chosen for launches of a kernel, format and size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Kernel.
    pub kernel: String,
    /// Data format, of kernels that have formats.
    pub format: Option<String>,
    /// Launches of up to `4^class` workgroups, and more than a quarter of that.
    pub class: u32,
    /// The variant that plans take.
    pub variant: String,
    /// Microseconds of each candidate, medians; the first is what plans take where nothing was chosen.
    pub us: Vec<(String, f64)>,
    /// SHA-256 of the chosen shader's source.
    pub shader: String,
}

/// SHA-256 of a variant's source and needs.
#[must_use]
pub fn shader_hash(variant: &Variant) -> String {
    hash(&[variant.source, &variant.needs.join(" ")])
}

/// What a file of choices is to hold. Choices that are there, of another model for instance, stay where they apply and there is none
/// new for the same launches.
#[must_use]
pub fn file(gpu: &Gpu, path: &Path, choices: &[Choice]) -> Value {
    // What is no such file, or of another adapter or program, gives way.
    let held = load(gpu, path).unwrap_or_default();
    let choices = merged(held.into_iter().filter(|c| place(c).is_some()), choices);
    json!({ "version": VERSION, "key": key(gpu), "choices": choices })
}

/// Can [`write()`] write `path`? To be asked before anything is timed; makes its directory where there is none.
///
/// # Errors
/// [`Error::Io`].
pub fn writable(path: &Path) -> Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
    let made = dir.map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| files::writable(path)).map_err(|e| Error::io(path, e))
}

/// Writes a file of choices, whole or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: &Path, file: &Value) -> Result<()> {
    files::replace(path, |f| f.write_all(format!("{file:#}\n").as_bytes())).map_err(|e| Error::io(path, e))
}

/// `held`, but for what `new` is for too, and `new`.
fn merged(held: impl Iterator<Item = Choice>, new: &[Choice]) -> Vec<Choice> {
    let by_launch = |c: Choice| ((c.kernel.clone(), c.format.clone(), c.class), c);
    held.chain(new.iter().cloned()).map(by_launch).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Reads a file of choices. Those that no longer apply, as their shader has changed, are left out, and a warning says how many.
///
/// # Errors
/// [`Error::Io`]; [`Error::Argument`] for what is no such file, or one of another adapter, driver or program.
pub fn read(gpu: &Gpu, path: &Path) -> Result<HashMap<Place, &'static str>> {
    let choices = load(gpu, path)?;
    let left = choices.iter().filter(|c| place(c).is_none()).count();
    if left > 0 {
        let (all, file) = (choices.len(), path.display());
        log::warn!("{left} of {all} choices of {file} no longer apply: run `wgquant tune` again");
    }
    Ok(choices.iter().filter_map(place).collect())
}

/// All choices of a file.
fn load(gpu: &Gpu, path: &Path) -> Result<Vec<Choice>> {
    let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let wrong = |reason: String| Error::argument(path.display().to_string(), reason);
    let mut file: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    if file["version"] != VERSION {
        return Err(wrong(format!("is of version {}, not {VERSION}", file["version"])));
    }
    if file["key"] != key(gpu) {
        let of = &file["key"]["adapter"];
        return Err(wrong(format!(
            "was measured on {} ({} {}) by version {}, with other features or limits than here: run `wgquant tune` again",
            of["name"], of["driver"], of["driver_info"], file["key"]["wgquant"]
        )));
    }
    serde_json::from_value(file["choices"].take()).map_err(|e| wrong(e.to_string()))
}

/// A choice by what is compiled in; `None` where the shader is not the one measured.
fn place(choice: &Choice) -> Option<(Place, &'static str)> {
    let kernel = KERNELS.iter().find(|k| k.name == choice.kernel)?;
    let of = |v: &&Variant| v.format == choice.format.as_deref() && v.name == choice.variant;
    let variant = kernel.variants.iter().find(of).filter(|v| shader_hash(v) == choice.shader);
    if variant.is_none() {
        log::debug!("tuned {}.{}: the shader has changed", choice.kernel, choice.variant);
    }
    let variant = variant?;
    Some(((Need { kernel: kernel.name, format: variant.format }, SizeClass(choice.class)), variant.name))
}

/// Follows the user's own choices for this adapter, if there are any; what cannot be read is not followed.
pub fn follow(gpu: &Gpu, cache: &Cache) {
    let Some(path) = cache.tuned(gpu).filter(|p| p.is_file()) else { return };
    match load(gpu, &path) {
        Ok(choices) => gpu.set_choices(choices.iter().filter_map(place).collect()),
        Err(e) => log::debug!("{e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_choices_take_the_place_of_those_for_the_same_launches_only() {
        let choice = |kernel: &str, class, variant: &str| Choice {
            kernel: kernel.to_owned(),
            format: None,
            class,
            variant: variant.to_owned(),
            us: Vec::new(),
            shader: String::new(),
        };
        let held = [choice("b", 1, "old"), choice("a", 2, "old")];
        let got = merged(held.into_iter(), &[choice("b", 1, "new"), choice("b", 2, "new")]);
        assert_eq!(got, [choice("a", 2, "old"), choice("b", 1, "new"), choice("b", 2, "new")]);
    }
}
