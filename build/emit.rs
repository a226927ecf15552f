//! Writes the reflected kernels as Rust: plain data for `src/shaders.rs`, typed launches for `src/kernels/bindings.rs`.

use std::fmt::Write as _;

use crate::reflect::Kernel;

/// `Params`, `Format` and `KERNEL` of every kernel.
pub(crate) fn shaders(kernels: &[Kernel]) -> String {
    let mut out = String::new();
    for k in kernels {
        let _ = writeln!(out, "/// Interface of the kernel `{}`.\n///\n/// ```text", k.name);
        for line in k.doc.lines() {
            let _ = writeln!(out, "/// {line}");
        }
        let _ = writeln!(out, "/// ```\npub mod {} {{", k.name);
        params(&mut out, k);
        formats(&mut out, k);
        kernel(&mut out, k);
        out.push_str("}\n\n");
    }
    let _ = writeln!(out, "/// Every kernel, by name.\npub static KERNELS: [&Kernel; {}] = [", kernels.len());
    for k in kernels {
        let _ = writeln!(out, "    &{}::KERNEL,", k.name);
    }
    out.push_str("];\n");
    out
}

fn params(out: &mut String, k: &Kernel) {
    out.push_str("    /// Uniform parameters.\n    #[repr(C)]\n");
    out.push_str("    #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]\n");
    out.push_str("    pub struct Params {\n");
    for p in &k.params {
        let _ = writeln!(out, "        /// {}\n        pub {}: {},", doc(&p.doc, &p.name), p.name, p.ty);
    }
    out.push_str("    }\n\n");
}

fn doc(text: &str, name: &str) -> String {
    if text.is_empty() { format!("`{name}`") } else { text.replace('[', "\\[") }
}

fn format_words(k: &Kernel) -> Vec<&str> {
    let mut words: Vec<&str> = k.variants.iter().filter_map(|v| v.format.as_deref()).collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn formats(out: &mut String, k: &Kernel) {
    let words = format_words(k);
    if words.is_empty() {
        return;
    }
    out.push_str("    /// Data formats this kernel comes in.\n    #[derive(Clone, Copy, Debug, PartialEq, Eq)]\n");
    out.push_str("    pub enum Format {\n");
    for w in &words {
        let _ = writeln!(out, "        /// `{w}`\n        {},", camel(w));
    }
    out.push_str("    }\n\n    impl Format {\n        /// Every format.\n");
    let all: Vec<String> = words.iter().map(|w| format!("Self::{}", camel(w))).collect();
    let _ = writeln!(out, "        pub const ALL: &'static [Self] = &[{}];\n", all.join(", "));
    out.push_str("        /// The word of `variants.toml`.\n        #[must_use]\n");
    out.push_str("        pub fn word(self) -> &'static str {\n            match self {\n");
    for w in &words {
        let _ = writeln!(out, "                Self::{} => {w:?},", camel(w));
    }
    out.push_str("            }\n        }\n    }\n\n");
}

fn camel(word: &str) -> String {
    word.split('_')
        .map(|part| {
            let mut chars = part.chars();
            chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
        })
        .collect()
}

fn kernel(out: &mut String, k: &Kernel) {
    let _ = writeln!(
        out,
        "    /// Bindings, overrides and variants.\n    pub static KERNEL: super::Kernel = super::Kernel {{\n        name: {:?},\n        bindings: &[",
        k.name
    );
    for b in &k.bindings {
        let _ = writeln!(out, "            super::Binding {{ name: {:?}, writable: {} }},", b.name, b.writable);
    }
    let _ = writeln!(
        out,
        "        ],\n        params: &{:?},",
        k.params.iter().map(|p| (p.name.as_str(), p.ty)).collect::<Vec<_>>()
    );
    let _ = writeln!(out, "        overrides: &{:?},\n        variants: &[", k.overrides);
    for v in &k.variants {
        let _ = writeln!(
            out,
            "            super::Variant {{ name: {:?}, format: {:?}, needs: &{:?}, workgroup_bytes: {}, strides: &{:?}, source: {:?} }},",
            v.name, v.format, v.needs, v.workgroup_bytes, v.strides, v.source
        );
    }
    out.push_str("        ],\n    };\n");
}

/// `Bindings`, `launch` and the call of the CPU reference, for every kernel.
pub(crate) fn bindings(kernels: &[Kernel]) -> String {
    let mut out = String::new();
    for k in kernels {
        let has_format = !format_words(k).is_empty();
        let _ = writeln!(out, "/// Typed launch of `{}`.\npub(crate) mod {} {{", k.name, k.name);
        out.push_str("    use crate::gpu::{CpuCall, DeviceTensor, Grid, Launch, Plan};\n");
        let _ = writeln!(out, "    use crate::shaders::{}::*;\n", k.name);
        out.push_str(
            "    /// One tensor for each binding.\n    #[derive(Clone, Copy)]\n    pub(crate) struct Bindings<'a> {\n",
        );
        for b in &k.bindings {
            let _ =
                writeln!(out, "        /// {}\n        pub(crate) {}: &'a DeviceTensor,", doc(&b.doc, &b.name), b.name);
        }
        out.push_str("    }\n\n");
        let format_arg = if has_format { "format: Format, " } else { "" };
        let format_word = if has_format { "Some(format.word())" } else { "None" };
        let fields: Vec<String> = k.bindings.iter().map(|b| format!("bindings.{}", b.name)).collect();
        let _ = writeln!(
            out,
            "    /// Adds one dispatch to `plan`.\n    ///\n    /// # Errors\n    /// As [`Plan::launch`].\n    pub(crate) fn launch(plan: &mut Plan, {format_arg}params: Params, bindings: Bindings<'_>, grid: Grid) -> crate::Result<()> {{\n        plan.launch(Launch {{\n            kernel: &KERNEL,\n            format: {format_word},\n            params: bytemuck::bytes_of(&params),\n            bindings: &[{}],\n            grid,\n            cpu,\n        }})\n    }}\n",
            fields.join(", ")
        );
        cpu(&mut out, k, has_format);
        out.push_str("}\n\n");
    }
    out
}

fn cpu(out: &mut String, k: &Kernel, has_format: bool) {
    let names: Vec<&str> = k.bindings.iter().map(|b| b.name.as_str()).collect();
    out.push_str("    fn cpu(call: &mut CpuCall<'_, '_>) {\n");
    out.push_str("        let params: Params = bytemuck::pod_read_unaligned(call.params);\n");
    if has_format {
        out.push_str("        let Some(format) = Format::ALL.iter().copied().find(|f| Some(f.word()) == call.format) else {\n            unreachable!(\"launch passes a format\")\n        };\n");
    }
    let _ = writeln!(
        out,
        "        let [{}] = call.bindings else {{ unreachable!(\"launch passes every binding\") }};",
        names.join(", ")
    );
    let mut args = vec!["&params".to_owned()];
    if has_format {
        args.push("format".to_owned());
    }
    for b in &k.bindings {
        args.push(format!("{}.{}{}()", b.name, b.scalar, if b.writable { "_mut" } else { "" }));
    }
    let _ = writeln!(out, "        crate::reference::{0}::{0}({1});\n    }}", k.name, args.join(", "));
}
