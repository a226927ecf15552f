//! The rules of the house that no compiler checks: a kernel is four files, imports go one way, and the commands that pages
//! show exist and have the flags shown.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use wgquant::kernels::ENTRIES;

/// Each module may import from those left of it; `error` and `tensor` know each other.
const ORDER: [&str; 24] = [
    "error",
    "files",
    "tensor",
    "pack",
    "hadamard",
    "shaders",
    "reference",
    "gpu",
    "kernels",
    "checkpoint",
    "model",
    "runtime",
    "calibrate",
    "transform",
    "quantize",
    "recipe",
    "synth",
    "eval",
    "serve",
    "analyze",
    "search",
    "bench",
    "report",
    "cli",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` that end in `.rs`.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Names of the shaders; `k.coop.wgsl` is another form of `k`.
fn shaders() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("shaders")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    files.filter(|f| f.ends_with(".wgsl")).map(|f| f.split('.').next().unwrap().to_owned()).collect()
}

#[test]
fn a_kernel_is_four_files_of_one_name() {
    let tests = fs::read_to_string(root().join("tests/kernels/main.rs")).unwrap();
    let mut missing = Vec::new();
    for kernel in shaders() {
        let files = ["src/kernels", "src/reference", "tests/kernels"].map(|dir| format!("{dir}/{kernel}.rs"));
        missing.extend(files.into_iter().filter(|f| !root().join(f).is_file()));
        if !tests.lines().any(|l| l.trim() == format!("mod {kernel};")) {
            missing.push(format!("`mod {kernel};` in tests/kernels/main.rs"));
        }
    }
    assert!(missing.is_empty(), "missing: {}", missing.join(", "));
}

#[test]
fn every_shader_has_cases() {
    let registered: BTreeSet<String> = ENTRIES.iter().map(|e| e.name.to_owned()).collect();
    assert_eq!(registered, shaders(), "kernels::ENTRIES and shaders/*.wgsl");
    for entry in ENTRIES {
        let names: BTreeSet<&str> = entry.cases.iter().map(|c| c.name).collect();
        assert!(names.len() >= 2 && names.len() == entry.cases.len(), "{} needs two cases of two names", entry.name);
    }
}

/// The module a file of `src` belongs to.
fn module(file: &Path) -> String {
    let first = file.strip_prefix(root().join("src")).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn imports_go_one_way() {
    let import = Regex::new(r"\b(?:crate|wgquant)::(?:\{([^}]*)\}|([a-z_]+))").unwrap();
    let place = |module: &str| ORDER.iter().position(|m| *m == module);
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")) {
        let from = module(&file);
        if matches!(from.as_str(), "lib" | "main") {
            continue;
        }
        let at = place(&from).unwrap_or_else(|| panic!("`{from}` has no place in the order of modules"));
        let text = fs::read_to_string(&file).unwrap();
        // Tests may look anywhere; comments may point anywhere.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<&str> = code.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        for found in import.captures_iter(&code.join("\n")) {
            let list = found.get(1).or(found.get(2)).map_or("", |m| m.as_str());
            for to in list.split(',').filter_map(|part| part.trim().split("::").next()) {
                let device = matches!(to, "gpu" | "kernels") && matches!(from.as_str(), "checkpoint" | "model");
                let pair = from == "error" && to == "tensor";
                if device || (!pair && place(to).is_some_and(|to| to > at)) {
                    wrong.push(format!("{} imports {to}", file.strip_prefix(root()).unwrap().display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the program says of a command.
fn help(command: &[&str]) -> String {
    let program = assert_cmd::cargo::cargo_bin!("wgquant");
    let done = assert_cmd::Command::new(program).args(command).arg("--help").output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}

/// Commands that a help lists.
fn commands(help: &str) -> BTreeSet<&str> {
    let listed = help.lines().skip_while(|l| !l.starts_with("Commands:")).skip(1).take_while(|l| !l.is_empty());
    listed.filter_map(|l| l.strip_prefix("  ")?.split(' ').next()).collect()
}

/// Code of a page, blocks and spans, and rows of tables that begin with a command, whose other cells are about it.
fn code(page: &str) -> Vec<String> {
    let (blocks, text) = (page.split("```").skip(1).step_by(2), page.split("```").step_by(2));
    let spans = text.clone().flat_map(|text| text.split('`').skip(1).step_by(2)).map(|span| span.replace('\n', " "));
    let rows = text.flat_map(str::lines).filter_map(|line| line.strip_prefix("| `")).map(str::to_owned);
    blocks.map(|block| block.replace("\\\n", " ")).chain(spans).chain(rows).collect()
}

#[test]
fn commands_of_the_pages_exist_and_have_their_flags() {
    let all = help(&[]);
    let flag = Regex::new(r"--[a-z][a-z0-9-]*").unwrap();
    // At the start of a line of code, after a path or a prompt.
    let used = Regex::new(r"(?m)(?:^\s*(?:\$ )?|[./a-z]/)wgquant ([a-z-]+)([^\n#]*)").unwrap();
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path());
    let docs = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let mut seen = [0, 0];
    for page in docs.chain(["README.md", "ARCHITECTURE.md"].map(|name| root().join(name))) {
        for code in code(&fs::read_to_string(&page).unwrap()) {
            for found in used.captures_iter(&code) {
                let (command, rest) = (&found[1], &found[2]);
                assert!(commands(&all).contains(command), "{}: `wgquant {command}` is no command", page.display());
                let mut said = help(&[command]);
                let below = rest.split_whitespace().next().filter(|word| commands(&said).contains(word));
                if let Some(below) = below {
                    said = help(&[command, below]);
                }
                let has: BTreeSet<&str> = flag.find_iter(&said).map(|m| m.as_str()).collect();
                for asked in flag.find_iter(rest).map(|m| m.as_str()) {
                    assert!(has.contains(asked), "{}: `wgquant {command}` has no {asked}", page.display());
                    seen[1] += 1;
                }
                seen[0] += 1;
            }
        }
    }
    assert!(seen[0] > 20 && seen[1] > 40, "the pages show {} commands with {} flags", seen[0], seen[1]);
}

/// Small files: a reader should see one whole.
#[test]
fn files_are_small() {
    for file in rust_files(&root().join("src")) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines; split it", file.display());
    }
}
