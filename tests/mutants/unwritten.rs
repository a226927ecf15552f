//! Shaders whose workgroup memory begins as rubbish: what a kernel reads of it, it has written.

/// `source` with all workgroup variables filled before `main` does anything, floats with NaN; `None` where there are none.
pub(crate) fn filled(source: &str) -> Option<String> {
    let declared = source.lines().filter_map(|l| l.strip_prefix("var<workgroup> ")?.split_once(';'));
    let fills: Vec<String> = declared.map(|(declaration, _)| fill(declaration)).collect();
    if fills.is_empty() {
        return None;
    }
    let size = source.split_once("@workgroup_size(").and_then(|(_, s)| s.split_once(')')).expect("a workgroup size").0;
    let rubbish = format!(
        "fn rubbish(thread: u32) {{\n    let threads = u32({});\n    var bits = 0x7fc00000u;\n    let nan = bitcast<f32>(bits);\n{}}}\n",
        size.replace(',', " *"),
        fills.concat()
    );
    let (head, rest) = source.split_once("fn main(").expect("a shader has `main`");
    let (parameters, body) = rest.split_once(") {").expect("`main` has a body");
    let (more, thread) = thread(parameters);
    Some(format!(
        "{head}fn main({more}{parameters}) {{\n    rubbish({thread});\n    workgroupBarrier();{body}\n{rubbish}"
    ))
}

/// What `main` takes besides its `parameters` to know its thread, and that thread.
fn thread(parameters: &str) -> (&'static str, &str) {
    const INDEX: &str = "@builtin(local_invocation_index) ";
    if parameters.contains("place: Place") {
        return ("", "place.thread");
    }
    match parameters.split_once(INDEX).and_then(|(_, p)| p.split_once(':')) {
        Some((name, _)) => ("", name),
        None => ("@builtin(local_invocation_index) filler: u32, ", "filler"),
    }
}

/// A statement that fills the variable declared as `name: type`: of an array, each thread fills its share.
fn fill(declaration: &str) -> String {
    let (name, ty) = declaration.split_once(": ").expect("a type");
    match ty.strip_prefix("array<").and_then(|t| t.strip_suffix('>')).and_then(|t| t.split_once(", ")) {
        Some((element, length)) => {
            let set = set(&format!("{name}[i]"), element);
            format!("    for (var i = thread; i < u32({length}); i += threads) {{\n        {set}\n    }}\n")
        }
        None => format!("    {}\n", set(name, ty)),
    }
}

fn set(place: &str, ty: &str) -> String {
    match ty {
        "atomic<u32>" => format!("atomicStore(&{place}, bits);"),
        t if t.contains("f16") => format!("{place} = {t}(f16(nan));"),
        t if t.contains("f32") => format!("{place} = {t}(nan);"),
        t => format!("{place} = {t}(bits);"),
    }
}
