//! Shaders whose workgroup memory begins as rubbish: what a kernel reads of it, it has written.

/// `source` with all workgroup variables filled before `main` does anything, floats with NaN; `None` where there are none.
pub(crate) fn filled(source: &str) -> Option<String> {
    let declared = source.lines().filter_map(|l| l.strip_prefix("var<workgroup> ")?.split_once(';'));
    let fills: Vec<String> = declared.map(|(declaration, _)| fill(declaration)).collect();
    if fills.is_empty() {
        return None;
    }
    let main = source.find("fn main(").expect("a shader has `main`");
    let body = main + source[main..].find(") {").expect("`main` has a body") + ") {".len();
    let (head, rest) = source.split_at(body);
    let rubbish = format!(
        "fn rubbish() {{\n    var bits = 0x7fc00000u;\n    let nan = bitcast<f32>(bits);\n{}}}\n",
        fills.concat()
    );
    Some(format!("{head}\n    rubbish();\n    workgroupBarrier();{rest}\n{rubbish}"))
}

/// A statement that fills the variable declared as `name: type`.
fn fill(declaration: &str) -> String {
    let (name, ty) = declaration.split_once(": ").expect("a type");
    match ty.strip_prefix("array<").and_then(|t| t.strip_suffix('>')).and_then(|t| t.split_once(", ")) {
        Some((element, length)) => {
            let set = set(&format!("{name}[i]"), element);
            format!("    for (var i = 0u; i < u32({length}); i++) {{\n        {set}\n    }}\n")
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
