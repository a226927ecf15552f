//! `#import name`, `#ifdef WORD...` (any of them), `#ifndef WORD...` (none), `#else`, `#endif`. Nothing else.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The files of one kernel: `k.wgsl` under the empty name, and `k.form.wgsl` under `form` for the variants whose names
/// start with it.
pub(crate) type Sources = BTreeMap<String, String>;

/// The kernels of a directory, by name.
pub(crate) fn sources(dir: &Path) -> Result<BTreeMap<String, Sources>, String> {
    let mut kernels: BTreeMap<String, Sources> = BTreeMap::new();
    for path in crate::wgsl_files(dir)? {
        let stem = path.file_stem().and_then(|s| s.to_str()).ok_or("shader name is not UTF-8")?;
        let (name, form) = stem.split_once('.').unwrap_or((stem, ""));
        kernels.entry(name.to_owned()).or_default().insert(form.to_owned(), crate::read(&path)?);
    }
    Ok(kernels)
}

/// The files of `shaders/shared`: functions and constants, never bindings.
pub(crate) struct Library(BTreeMap<String, String>);

impl Library {
    pub(crate) fn load(dir: &Path) -> Result<Self, String> {
        let mut files = BTreeMap::new();
        for path in crate::wgsl_files(dir)? {
            let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
            let text = crate::read(&path)?;
            if text.contains("@group") {
                return Err(format!("{}: shared files have no bindings", path.display()));
            }
            files.insert(name, text);
        }
        Ok(Self(files))
    }
}

/// `source` with its imports in place and the branches that `words` select.
pub(crate) fn preprocess(file: &str, source: &str, library: &Library, words: &[String]) -> Result<String, String> {
    let mut out = String::new();
    expand(file, source, library, words, &mut HashSet::new(), &mut out)?;
    Ok(out)
}

fn expand(
    file: &str,
    source: &str,
    library: &Library,
    words: &[String],
    seen: &mut HashSet<String>,
    out: &mut String,
) -> Result<(), String> {
    // One entry for each open #ifdef: is its current branch taken?
    let mut branches: Vec<bool> = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let at = |what: &str| format!("shaders/{file}.wgsl:{}: {what}", number + 1);
        let mut parts = line.split_whitespace();
        match parts.next() {
            Some(directive @ ("#ifdef" | "#ifndef")) => {
                let asked: Vec<&str> = parts.collect();
                if asked.is_empty() {
                    return Err(at("#ifdef needs a word"));
                }
                let defined = words.iter().any(|w| asked.contains(&w.as_str()));
                branches.push(defined == (directive == "#ifdef"));
                if branches.len() > 2 {
                    return Err(at("more than two #ifdef levels: make a new file"));
                }
            }
            Some("#else") => {
                let last = branches.last_mut().ok_or_else(|| at("#else without #ifdef"))?;
                *last = !*last;
            }
            Some("#endif") => {
                branches.pop().ok_or_else(|| at("#endif without #ifdef"))?;
            }
            _ if branches.contains(&false) => {}
            Some("#import") => {
                let name = parts.next().ok_or_else(|| at("#import needs a name"))?;
                if seen.insert(name.to_owned()) {
                    let text = library.0.get(name).ok_or_else(|| at(&format!("no shaders/shared/{name}.wgsl")))?;
                    expand(&format!("shared/{name}"), text, library, words, seen, out)?;
                }
            }
            Some(other) if other.starts_with('#') => return Err(at(&format!("unknown directive {other}"))),
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    if branches.is_empty() { Ok(()) } else { Err(format!("shaders/{file}.wgsl: #ifdef without #endif")) }
}
