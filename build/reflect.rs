//! Parses and validates every variant of a kernel with naga and reads its interface.

use naga::valid::{Capabilities, FunctionInfo, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Expression, Function, Handle, ScalarKind, Statement, StorageAccess, TypeInner};

use crate::preprocess::{Library, Sources, preprocess};

/// Baseline WebGPU: what every kernel must fit at its override defaults.
const MAX_STORAGE_BUFFERS: usize = 8;
const MAX_WORKGROUP_BYTES: u32 = 16 * 1024;
/// What `Caps::coop_matrix` asks of an adapter besides the matrices; every driver has as much.
const MAX_COOP_WORKGROUP_BYTES: u32 = 48 * 1024;
const MAX_COOP_INVOCATIONS: u32 = 384;
/// What `Caps::subgroups` promises where all of them have 32 threads.
const MAX_WARPS_INVOCATIONS: u32 = 1024;
const MAX_INVOCATIONS: u32 = 256;

pub(crate) struct Kernel {
    pub name: String,
    pub doc: String,
    pub params: Vec<Param>,
    pub bindings: Vec<Binding>,
    pub overrides: Vec<(String, f64)>,
    pub variants: Vec<Variant>,
}

#[derive(PartialEq, Clone)]
pub(crate) struct Param {
    pub name: String,
    pub ty: &'static str,
    pub doc: String,
}

#[derive(PartialEq, Clone)]
pub(crate) struct Binding {
    pub name: String,
    pub writable: bool,
    /// Scalar type of the elements.
    pub scalar: &'static str,
    pub doc: String,
}

pub(crate) struct Variant {
    pub name: String,
    pub format: Option<String>,
    pub needs: Vec<String>,
    pub source: String,
    pub workgroup_bytes: u32,
    /// Bytes of an element of each binding.
    pub strides: Vec<u32>,
}

struct Interface {
    params: Vec<Param>,
    bindings: Vec<Binding>,
    overrides: Vec<(String, f64)>,
    workgroup_bytes: u32,
    strides: Vec<u32>,
}

pub(crate) fn kernel(
    name: &str,
    sources: &Sources,
    library: &Library,
    table: Option<&toml::Value>,
) -> Result<Kernel, String> {
    let mut kernel: Option<Kernel> = None;
    let plain = sources.get("").ok_or_else(|| format!("shaders: there is no {name}.wgsl"))?;
    let mut unused: Vec<&String> = sources.keys().filter(|form| !form.is_empty()).collect();
    for (variant_name, words) in variant_words(name, table)? {
        let form = sources.iter().rfind(|(form, _)| !form.is_empty() && variant_name.starts_with(form.as_str()));
        let (file, source) = form.map_or((name.to_owned(), plain), |(form, text)| (format!("{name}.{form}"), text));
        unused.retain(|u| form.is_none_or(|(form, _)| *u != form));
        let text = preprocess(&file, source, library, &words)?;
        let at = format!("shaders/{file}.wgsl, variant {variant_name}");
        let interface = reflect(&text, &words).map_err(|e| format!("{at}: {e}"))?;
        let (needs, formats): (Vec<_>, Vec<_>) =
            words.into_iter().partition(|w| crate::CAPABILITIES.contains(&w.as_str()));
        if formats.len() > 1 {
            return Err(format!("{at}: more than one format word {formats:?}"));
        }
        let variant = Variant {
            name: variant_name,
            format: formats.into_iter().next(),
            needs,
            source: text,
            workgroup_bytes: interface.workgroup_bytes,
            strides: interface.strides,
        };
        match &mut kernel {
            None => {
                kernel = Some(Kernel {
                    name: name.to_owned(),
                    doc: head_comment(plain),
                    params: interface.params,
                    bindings: interface.bindings,
                    overrides: interface.overrides,
                    variants: vec![variant],
                });
            }
            Some(k) => {
                let same = |a: &[Binding], b: &[Binding]| {
                    a.len() == b.len()
                        && a.iter()
                            .zip(b)
                            .all(|(a, b)| (&a.name, a.writable, a.scalar) == (&b.name, b.writable, b.scalar))
                };
                if k.params != interface.params || !same(&k.bindings, &interface.bindings) {
                    return Err(format!("{at}: its interface differs from variant {}", k.variants[0].name));
                }
                if k.overrides != interface.overrides {
                    return Err(format!("{at}: its overrides differ from variant {}", k.variants[0].name));
                }
                k.variants.push(variant);
            }
        }
    }
    let kernel = kernel.ok_or_else(|| format!("shaders/variants.toml: [{name}] lists no variant"))?;
    if let Some(form) = unused.first() {
        return Err(format!("shaders/{name}.{form}.wgsl: no variant of [{name}] has a name that starts with {form}"));
    }
    // Some formats may have no use for one.
    let used = |p: &Param| kernel.variants.iter().any(|v| v.source.contains(&format!("params.{}", p.name)));
    if let Some(param) = kernel.params.iter().find(|p| !used(p)) {
        return Err(format!("shaders/{name}.wgsl: Params.{} is not used", param.name));
    }
    // The host relies on it: whatever an adapter lacks, each format runs. A probe of a capability is skipped without it.
    for v in &kernel.variants {
        if !name.starts_with("probe_")
            && !kernel.variants.iter().any(|other| other.format == v.format && other.needs.is_empty())
        {
            let format = v.format.as_deref().map_or("it".to_owned(), |f| format!("format {f}"));
            return Err(format!("shaders/variants.toml: [{name}] needs a variant of {format} without capabilities"));
        }
    }
    Ok(kernel)
}

/// `(variant, words)` in file order; a kernel that is not listed has one variant, `base`.
fn variant_words(name: &str, table: Option<&toml::Value>) -> Result<Vec<(String, Vec<String>)>, String> {
    let Some(table) = table else { return Ok(vec![("base".to_owned(), Vec::new())]) };
    let bad = || format!("shaders/variants.toml: [{name}] must be `variant = [\"word\", ...]` lines");
    let table = table.as_table().ok_or_else(bad)?;
    table
        .iter()
        .map(|(variant, words)| {
            let words = words.as_array().ok_or_else(bad)?;
            let words = words.iter().map(|w| w.as_str().map(str::to_owned).ok_or_else(bad));
            Ok((variant.clone(), words.collect::<Result<Vec<_>, _>>()?))
        })
        .collect()
}

fn reflect(text: &str, words: &[String]) -> Result<Interface, String> {
    let has = |word: &str| words.iter().any(|w| w == word);
    // As the device adds them (src/gpu/pipeline.rs), on one line so that messages count lines as the files do.
    let enables = [("f16", "enable f16; "), ("coop_matrix", "enable wgpu_cooperative_matrix; ")];
    let enables: String = enables.iter().filter(|(word, _)| has(word)).map(|(_, line)| *line).collect();
    let text = &(enables + text);
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;
    // Emulated forms are for tests on drivers that store components; whole vectors would take those minutes to compile.
    if let Some(function) = function_that_stores(&module, &info, shared_component).filter(|_| !has("coop_emulated")) {
        return Err(format!(
            "{function} stores a component of a vector that other threads see, which may store the others, too (WGSL, memory locations); \
             store a whole vector, or use scalars"
        ));
    }
    // FXC, which DirectX 12 has, knows neither f16 nor subgroups.
    let for_fxc = !["f16", "coop_matrix", "coop_emulated"].iter().any(|word| has(word));
    if let Some(function) = function_that_stores(&module, &info, own_component).filter(|_| for_fxc) {
        return Err(format!(
            "{function} stores a component that a variable tells of a vector of its own; FXC would unroll all loops around (wgpu 4436)"
        ));
    }
    // With overrides at their defaults, array and workgroup sizes are numbers.
    let (resolved, _) = naga::back::pipeline_constants::process_overrides(&module, &info, None, &Default::default())
        .map_err(|e| e.to_string())?;

    let [entry] = module.entry_points.as_slice() else { return Err("needs exactly one entry point".into()) };
    if entry.name != "main" {
        return Err(format!("entry point is `{}`, not `main`", entry.name));
    }
    let invocations: u32 = resolved.entry_points[0].workgroup_size.iter().product();
    let coop = has("coop_matrix") || has("coop_emulated");
    // Emulated forms are for tests, which choose the drivers they run on.
    let most = match (has("warps") || has("coop_emulated"), coop) {
        (true, _) => MAX_WARPS_INVOCATIONS,
        (_, true) => MAX_COOP_INVOCATIONS,
        _ => MAX_INVOCATIONS,
    };
    if invocations > most {
        return Err(format!("{invocations} invocations a workgroup, at most {most} are portable"));
    }

    let uses = info.get_entry_point(0);
    let mut numbered = Vec::new();
    let mut params = None;
    let mut workgroup_bytes = 0;
    for (handle, var) in module.global_variables.iter() {
        let name = var.name.clone().unwrap_or_default();
        match var.space {
            AddressSpace::WorkGroup => {
                let ty = resolved.global_variables.iter().find(|(_, v)| v.name == var.name).map(|(_, v)| v.ty);
                let ty = ty.unwrap_or(var.ty);
                workgroup_bytes += resolved.types[ty].inner.size(resolved.to_ctx());
            }
            AddressSpace::Storage { access } => {
                let at = var.binding.as_ref().map_or(0, |b| b.binding);
                let TypeInner::Array { base, stride, .. } = module.types[var.ty].inner else {
                    return Err(format!("binding `{name}` is not an array"));
                };
                let scalar = scalar_name(&module.types[base].inner)
                    .ok_or_else(|| format!("binding `{name}`: elements must be (vectors of) u32, i32 or f32"))?;
                let writable = access.contains(StorageAccess::STORE);
                let doc = trailing_comment(text, &format!(" {name}:"));
                numbered.push((at, Binding { name: name.clone(), writable, scalar, doc }, stride));
            }
            AddressSpace::Uniform => {
                let at = var.binding.as_ref().map_or(0, |b| b.binding);
                if name != "params" {
                    return Err(format!("uniform `{name}`: the only uniform is `params: Params`"));
                }
                params = Some((at, read_params(&module, var.ty, text)?));
            }
            _ => continue,
        }
        if uses[handle].is_empty() {
            return Err(format!("`{name}` is not used"));
        }
    }
    let most = if coop { MAX_COOP_WORKGROUP_BYTES } else { MAX_WORKGROUP_BYTES };
    if workgroup_bytes > most {
        return Err(format!("{workgroup_bytes} bytes of workgroup memory, {most} are portable"));
    }
    if numbered.len() > MAX_STORAGE_BUFFERS {
        return Err(format!("{} storage buffers, {MAX_STORAGE_BUFFERS} are portable", numbered.len()));
    }
    let (params_at, params) = params.ok_or("needs `var<uniform> params: Params`")?;
    numbered.sort_by_key(|(at, ..)| *at);
    let in_order = numbered.iter().enumerate().all(|(i, (at, ..))| *at == i as u32);
    if !in_order || params_at as usize != numbered.len() {
        return Err("bindings must be numbered 0.. without gaps, `params` last".into());
    }
    let (bindings, strides): (Vec<Binding>, Vec<u32>) = numbered.into_iter().map(|(_, b, stride)| (b, stride)).unzip();
    if bindings.windows(2).any(|w| w[0].writable && !w[1].writable) {
        return Err("inputs come before outputs".into());
    }
    Ok(Interface { params, bindings, overrides: read_overrides(&resolved, &module)?, workgroup_bytes, strides })
}

/// The name of a function one of whose stores, by its pointer, is `refused`.
fn function_that_stores(
    module: &naga::Module,
    info: &ModuleInfo,
    refused: fn(&naga::Module, &Function, &FunctionInfo, Handle<Expression>) -> bool,
) -> Option<String> {
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    let entries = module.entry_points.iter().enumerate().map(|(i, entry)| (&entry.function, info.get_entry_point(i)));
    let found = functions.chain(entries).find(|(function, info)| {
        pointers(&function.body).into_iter().any(|pointer| refused(module, function, info, pointer))
    });
    found.map(|(function, _)| function.name.clone().unwrap_or_else(|| "main".to_owned()))
}

/// A component of a vector in memory that threads share. Such a store may be one of the whole vector, and is on Metal (gpuweb issue 2112),
/// so of threads that store next to each other only one is heard.
fn shared_component(module: &naga::Module, _: &Function, info: &FunctionInfo, pointer: Handle<Expression>) -> bool {
    let inner = info[pointer].ty.inner_with(&module.types);
    matches!(inner, TypeInner::ValuePointer { space: AddressSpace::WorkGroup | AddressSpace::Storage { .. }, .. })
}

/// A component of a thread's own vector or matrix that only a variable tells.
fn own_component(module: &naga::Module, function: &Function, info: &FunctionInfo, pointer: Handle<Expression>) -> bool {
    let (base, by_variable) = match function.expressions[pointer] {
        Expression::Access { base, index } => (base, !matches!(function.expressions[index], Expression::Literal(_))),
        Expression::AccessIndex { base, .. } => (base, false),
        _ => return false,
    };
    let of_a_vector = match *info[base].ty.inner_with(&module.types) {
        TypeInner::Pointer { base, .. } => {
            matches!(module.types[base].inner, TypeInner::Vector { .. } | TypeInner::Matrix { .. })
        }
        TypeInner::ValuePointer { .. } => true,
        _ => false,
    };
    (by_variable && of_a_vector) || own_component(module, function, info, base)
}

/// Where the statements of a block store.
fn pointers(block: &naga::Block) -> Vec<Handle<Expression>> {
    let of = |statement: &Statement| match statement {
        Statement::Store { pointer, .. } => vec![*pointer],
        Statement::Block(body) => pointers(body),
        Statement::If { accept, reject, .. } => [pointers(accept), pointers(reject)].concat(),
        Statement::Switch { cases, .. } => cases.iter().flat_map(|case| pointers(&case.body)).collect(),
        Statement::Loop { body, continuing, .. } => [pointers(body), pointers(continuing)].concat(),
        _ => Vec::new(),
    };
    block.iter().flat_map(of).collect()
}

fn read_params(module: &naga::Module, ty: naga::Handle<naga::Type>, text: &str) -> Result<Vec<Param>, String> {
    let TypeInner::Struct { members, .. } = &module.types[ty].inner else {
        return Err("`params` must be a struct".into());
    };
    members
        .iter()
        .map(|m| {
            let name = m.name.clone().unwrap_or_default();
            let inner = &module.types[m.ty].inner;
            let ty = match inner {
                TypeInner::Scalar(_) => scalar_name(inner),
                _ => None,
            };
            let ty = ty.ok_or_else(|| format!("Params.{name}: members must be u32, i32 or f32"))?;
            Ok(Param { doc: trailing_comment(text, &format!(" {name}:")), name, ty })
        })
        .collect()
}

fn read_overrides(resolved: &naga::Module, module: &naga::Module) -> Result<Vec<(String, f64)>, String> {
    module
        .overrides
        .iter()
        .map(|(_, o)| {
            let name = o.name.clone().ok_or("overrides must have a name")?;
            let constant = resolved.constants.iter().find(|(_, c)| c.name == o.name).map(|(_, c)| c.init);
            let value = constant.and_then(|init| match resolved.global_expressions[init] {
                naga::Expression::Literal(naga::Literal::U32(v)) => Some(f64::from(v)),
                naga::Expression::Literal(naga::Literal::I32(v)) => Some(f64::from(v)),
                naga::Expression::Literal(naga::Literal::F32(v)) => Some(f64::from(v)),
                _ => None,
            });
            Ok((name.clone(), value.ok_or_else(|| format!("override {name} needs a default"))?))
        })
        .collect()
}

fn scalar_name(inner: &TypeInner) -> Option<&'static str> {
    let scalar = match inner {
        TypeInner::Scalar(s) | TypeInner::Vector { scalar: s, .. } | TypeInner::Atomic(s) => s,
        _ => return None,
    };
    match (scalar.kind, scalar.width) {
        (ScalarKind::Uint, 4) => Some("u32"),
        (ScalarKind::Sint, 4) => Some("i32"),
        (ScalarKind::Float, 4) => Some("f32"),
        _ => None,
    }
}

/// The `// comment` behind the first line that holds `needle`.
fn trailing_comment(text: &str, needle: &str) -> String {
    let line = text.lines().find(|l| !l.trim_start().starts_with("//") && l.contains(needle));
    line.and_then(|l| l.split_once("//")).map(|(_, c)| c.trim().to_owned()).unwrap_or_default()
}

/// The comment a shader opens with.
fn head_comment(source: &str) -> String {
    let lines = source.lines().take_while(|l| l.starts_with("//"));
    lines.map(|l| l.trim_start_matches('/').trim()).collect::<Vec<_>>().join("\n")
}
