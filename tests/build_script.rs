//! What build.rs accepts and refuses: it is the guard of every shader's interface.

#![allow(dead_code, reason = "the build script's modules are included whole")]
#![allow(unreachable_pub, reason = "likewise")]

use std::path::{Path, PathBuf};

#[path = "../build/preprocess.rs"]
mod preprocess;
#[path = "../build/reflect.rs"]
mod reflect;

// What build.rs gives its modules.
const CAPABILITIES: [&str; 6] = ["f16", "subgroups", "warps", "packed_dot", "coop_matrix", "coop_emulated"];

fn wgsl_files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(dir).map_err(|e| e.to_string())?.map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "wgsl")).collect();
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

fn library() -> preprocess::Library {
    preprocess::Library::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/shared"))).unwrap()
}

const GOOD: &str = "
struct Params {
    count: u32, // elements
}

@group(0) @binding(0) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [count]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.count {
        out[id.x] = x[id.x];
    }
}
";

fn reflect(source: &str, variants: &str) -> Result<reflect::Kernel, String> {
    reflect_forms(&[("", source)], variants)
}

fn reflect_forms(sources: &[(&str, &str)], variants: &str) -> Result<reflect::Kernel, String> {
    let table: toml::Table = variants.parse().unwrap();
    let sources = sources.iter().map(|(form, text)| ((*form).to_owned(), (*text).to_owned())).collect();
    reflect::kernel("k", &sources, &library(), table.get("k"))
}

#[track_caller]
fn refused(source: &str, variants: &str, message: &str) {
    let error = reflect(source, variants).err().unwrap_or_else(|| panic!("accepted; expected: {message}"));
    assert!(error.contains("shaders/k.wgsl") || error.contains("variants.toml"), "names no file: {error}");
    assert!(error.contains(message), "{error}");
}

#[test]
fn reads_an_interface() {
    let k = reflect(GOOD, "").unwrap();
    let bindings: Vec<_> = k.bindings.iter().map(|b| (b.name.as_str(), b.writable, b.scalar, b.doc.as_str())).collect();
    assert_eq!(bindings, [("x", false, "f32", "[count]"), ("out", true, "f32", "[count]")]);
    assert_eq!((k.params[0].name.as_str(), k.params[0].ty, k.params[0].doc.as_str()), ("count", "u32", "elements"));
    assert_eq!(k.variants.len(), 1);
}

#[test]
fn reads_overrides_and_workgroup_memory() {
    let source = GOOD
        .replace("@workgroup_size(64)", "@workgroup_size(WG)")
        .replace(
            "@group(0) @binding(0)",
            "override WG: u32 = 64;\nvar<workgroup> s: array<f32, WG>;\n@group(0) @binding(0)",
        )
        .replace("out[id.x] = x[id.x]", "s[0] = x[id.x]; out[id.x] = s[0]");
    let k = reflect(&source, "").unwrap();
    assert_eq!(k.overrides, [("WG".to_owned(), 64.0)]);
    assert_eq!(k.variants[0].workgroup_bytes, 256);
    refused(&source.replace("= 64", "= 512"), "", "512 invocations");
}

#[test]
fn refuses_what_does_not_fit() {
    refused(&GOOD.replace("x[id.x];", "x[id.y"), "", "expected");
    refused(&GOOD.replace("out[id.x] = x[id.x]", "out[id.x] = 1.0"), "", "`x` is not used");
    refused(&GOOD.replace("id.x < params.count", "id.x < arrayLength(&x)"), "", "`params` is not used");
    refused(&GOOD.replace("count: u32,", "count: u32,\n spare: u32,"), "", "Params.spare is not used");
    refused(
        &GOOD.replace("count: u32,", "count: vec4<u32>,").replace("params.count", "params.count.x"),
        "",
        "must be u32, i32 or f32",
    );
    refused(&GOOD.replace("fn main", "fn other"), "", "entry point is `other`");
    refused(&GOOD.replace("@binding(2)", "@binding(3)"), "", "numbered 0.. without gaps");
    refused(&GOOD.replace("(64)", "(512)"), "", "512 invocations a workgroup");
    let swapped = GOOD
        .replace("@binding(0)", "@binding(9)")
        .replace("@binding(1)", "@binding(0)")
        .replace("@binding(9)", "@binding(1)");
    refused(&swapped, "", "inputs come before outputs");
    let greedy = GOOD
        .replace("@group(0) @binding(0)", "var<workgroup> s: array<f32, 5000>;\n@group(0) @binding(0)")
        .replace("= x[id.x]", "= x[id.x] + s[id.x]");
    refused(&greedy, "", "20000 bytes of workgroup memory");
}

/// Threads that store components of one vector may undo each other's, on Metal for one.
#[test]
fn refuses_stores_of_components_that_threads_share() {
    let with = |store: &str| {
        GOOD.replace("@group(0) @binding(0)", "var<workgroup> s: array<vec4<f32>, 64>;\n@group(0) @binding(0)")
            .replace("fn main", "fn put(i: u32, v: f32) {\nfor (var k = 0u; k < 2u; k++) {\nSTORE\n}\n}\n\nfn main")
            .replace("@compute @workgroup_size(64)\nfn put", "fn put")
            .replace("\nfn main", "\n@compute @workgroup_size(64)\nfn main")
            .replace("STORE", store)
            .replace("out[id.x] = x[id.x]", "put(id.x, x[id.x]); out[id.x] = s[0].x")
    };
    refused(&with("s[i / 4u][i % 4u] = v;"), "", "put stores a component");
    refused(&with("if i == 1u { s[i].x = v; }"), "", "put stores a component");
    assert!(reflect(&with("s[i] = vec4(v);"), "").is_ok());
    assert!(reflect(&with("var own = s[i]; own.x = v; s[i] = own;"), "").is_ok());
    let storage = GOOD.replace("out: array<f32>", "out: array<vec4<f32>>").replace("out[id.x] =", "out[id.x].y =");
    refused(&storage, "", "main stores a component");
    // FXC would unroll the loop around it.
    let own = with("var own = s[i]; own[k] = v; s[i] = own;");
    refused(&own, "", "put stores a component that a variable tells");
    refused(&with("var own: mat2x2<f32>; own[k].y = v; s[i] = vec4(own[0], own[1]);"), "", "that a variable tells");
    assert!(reflect(&with("var own: array<f32, 2>; own[k] = v; s[i] = vec4(own[0]);"), "").is_ok());
    assert!(reflect(&own, "[k]\na = [\"coop_emulated\"]").is_err_and(|e| e.contains("without capabilities")));
}

#[test]
fn variants_select_branches_and_keep_the_interface() {
    let source = GOOD.replace("x[id.x];", "x[id.x]\n#ifdef w_f16\n * 2.0\n#else\n * 3.0\n#endif\n;");
    let k = reflect(&source, "[k]\na = [\"w_f32\"]\nb = [\"w_f16\"]\nc = [\"w_f16\", \"subgroups\"]").unwrap();
    let got: Vec<_> = k.variants.iter().map(|v| (v.name.as_str(), v.format.as_deref(), v.needs.len())).collect();
    assert_eq!(got, [("a", Some("w_f32"), 0), ("b", Some("w_f16"), 0), ("c", Some("w_f16"), 1)]);
    assert!(k.variants[0].source.contains("3.0") && !k.variants[0].source.contains("2.0"));
    assert!(k.variants[1].source.contains("2.0") && !k.variants[1].source.contains("#"));
    refused(&source, "[k]\na = [\"w_f32\", \"w_f16\"]", "more than one format");
    refused(&source, "[k]\na = [\"w_f32\"]\nb = [\"w_f16\", \"subgroups\"]", "a variant of format w_f16 without");
    refused(GOOD, "[k]\na = [\"packed_dot\"]", "a variant of it without");
    let table: toml::Table = "k = { a = [\"packed_dot\"] }".parse().unwrap();
    let sources = [(String::new(), GOOD.to_owned())].into();
    let probe = reflect::kernel("probe_k", &sources, &library(), table.get("k"));
    assert!(probe.is_ok(), "a probe may need a capability");
    // One format may have no use for a number that another needs.
    let one = GOOD
        .replace("count: u32,", "count: u32,\n times: f32,")
        .replace("x[id.x];", "x[id.x]\n#ifdef w_f16\n * params.times\n#endif\n;");
    assert!(reflect(&one, "[k]\na = [\"w_f32\"]\nb = [\"w_f16\"]").is_ok());
    refused(&one, "[k]\na = [\"w_f32\"]", "Params.times is not used");
    let other = GOOD
        .replace("x: array<f32>", "x: array<\n#ifdef w_u\nu32\n#else\nf32\n#endif\n>")
        .replace("x[id.x];", "f32(x[id.x]);");
    refused(&other, "[k]\na = []\nb = [\"w_u\"]", "interface differs");
}

#[test]
fn forms_of_a_kernel_are_files_of_their_own() {
    let coop = GOOD.replace("x[id.x];", "f32(f16(x[id.x]));");
    let forms = [("", GOOD), ("coop", coop.as_str())];
    let k = reflect_forms(&forms, "[k]\na = []\ncoop = [\"f16\"]\ncoop_b = [\"f16\", \"coop_emulated\"]").unwrap();
    assert!(!k.variants[0].source.contains("f16("));
    assert!(k.variants[1..].iter().all(|v| v.source.contains("f16(")));
    let error = |forms, variants| reflect_forms(forms, variants).err().unwrap();
    assert!(error(&forms, "[k]\na = []").contains("shaders/k.coop.wgsl"));
    assert!(error(&forms[1..], "").contains("no k.wgsl"));
    let bad = coop.replace("f32(f16", "f32(f17");
    assert!(error(&[("", GOOD), ("coop", &bad)], "[k]\na = []\ncoop = [\"f16\"]").contains("shaders/k.coop.wgsl"));
}

/// Matrices come with 48 KiB of workgroup memory.
#[test]
fn cooperative_matrices_may_take_more_workgroup_memory() {
    let greedy = |words: usize| {
        let memory = format!("var<workgroup> s: array<f32, {words}>;\n@group(0) @binding(0)");
        GOOD.replace("@group(0) @binding(0)", &memory).replace("= x[id.x]", "= x[id.x] + s[id.x]")
    };
    let variants = "[k]\na = []\ncoop = [\"coop_matrix\"]";
    reflect_forms(&[("", GOOD), ("coop", &greedy(12288))], variants).unwrap();
    let error = reflect_forms(&[("", GOOD), ("coop", &greedy(12289))], variants).err().unwrap();
    assert!(error.contains("49156 bytes of workgroup memory, 49152"), "{error}");
}

#[test]
fn preprocessor_names_file_and_line() {
    let words: Vec<String> = vec![];
    let run = |s: &str| preprocess::preprocess("k", s, &library(), &words);
    assert_eq!(run("a\n#ifdef q\nb\n#endif\nc").unwrap(), "a\nc\n");
    assert_eq!(run("#ifndef q\nb\n#endif").unwrap(), "b\n");
    let r = ["r".to_owned()];
    let with_r = |s: &str| preprocess::preprocess("k", s, &library(), &r).unwrap();
    assert_eq!(with_r("#ifdef q r\na\n#else\nb\n#endif"), "a\n");
    assert_eq!(with_r("#ifndef q r\na\n#else\nb\n#endif"), "b\n");
    assert_eq!(with_r("#ifdef q s\na\n#else\nb\n#endif"), "b\n");
    for (source, message) in [
        ("\n#import nothing", "k.wgsl:2: no shaders/shared/nothing.wgsl"),
        ("#endif", "k.wgsl:1: #endif without #ifdef"),
        ("#ifdef a", "#ifdef without #endif"),
        ("#ifdef", "k.wgsl:1: #ifdef needs a word"),
        ("#include x", "k.wgsl:1: unknown directive #include"),
        ("#ifdef a\n#ifdef b\n#ifdef c", "k.wgsl:3: more than two #ifdef levels"),
    ] {
        let error = run(source).unwrap_err();
        assert!(error.contains(message), "{error}");
    }
    let twice = run("#import index\n#import index").unwrap();
    assert_eq!(twice.matches("fn linear_workgroup").count(), 1);
}

#[test]
fn every_shader_of_the_crate_reflects() {
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders"));
    let variants: toml::Table = read(&dir.join("variants.toml")).unwrap().parse().unwrap();
    let kernels = preprocess::sources(dir).unwrap();
    for (name, sources) in &kernels {
        reflect::kernel(name, sources, &library(), variants.get(name)).unwrap();
    }
    assert_eq!(kernels.len(), wgquant::shaders::KERNELS.len());
}
