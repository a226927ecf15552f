//! The shaders' interfaces and sources, as build.rs read them from `shaders/*.wgsl`.

/// A kernel: one shader with its interface and variants.
#[derive(Debug)]
pub struct Kernel {
    /// File, module and function name.
    pub name: &'static str,
    /// Storage buffers in binding order; the uniform `params` follows them.
    pub bindings: &'static [Binding],
    /// Names and types, `u32`, `i32` or `f32`, of the members of `Params`.
    pub params: &'static [(&'static str, &'static str)],
    /// Pipeline-overridable constants and their defaults.
    pub overrides: &'static [(&'static str, f64)],
    /// In the order of `variants.toml`: later ones win.
    pub variants: &'static [Variant],
}

/// One storage buffer of a kernel.
#[derive(Debug)]
pub struct Binding {
    /// Name in WGSL.
    pub name: &'static str,
    /// Does the kernel write it?
    pub writable: bool,
}

/// One form of a kernel's code.
#[derive(Debug)]
pub struct Variant {
    /// Name in `variants.toml`.
    pub name: &'static str,
    /// Data format it is for, where the kernel has several.
    pub format: Option<&'static str>,
    /// Capabilities it needs.
    pub needs: &'static [&'static str],
    /// Workgroup memory at override defaults.
    pub workgroup_bytes: u32,
    /// Bytes of an element of each binding, in their order.
    pub strides: &'static [u32],
    /// WGSL, preprocessed.
    pub source: &'static str,
}

/// The word that no adapter has: of forms that only tests ask for.
pub(crate) const EMULATED: &str = "coop_emulated";

impl Variant {
    /// Is it the other's shader? Formats may differ where an adapter has some capability, and be one where it lacks that.
    #[must_use]
    pub fn same_shader(&self, other: &Self) -> bool {
        self.source == other.source && self.needs == other.needs
    }

    /// Is it a form that no adapter is given, for tests?
    #[must_use]
    pub fn emulated(&self) -> bool {
        self.needs.contains(&EMULATED)
    }
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
