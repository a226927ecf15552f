//! Parameters as constants of a pipeline instead of a uniform buffer. A compiler then leaves out branches, divisions and
//! loops of one turn, and needs fewer registers: on an H100 a token of an 8B model takes 8 % less time.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::shaders::Kernel;

/// Which plans have their parameters compiled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Specialise {
    /// None: the default on software drivers, which compile for longer than they would gain, and in browsers, whose compilers were
    /// not tried with it.
    #[default]
    Never,
    /// Those that run often ([`super::Plan::specialised`]).
    Often,
    /// Every plan: for tests.
    Always,
}

/// What an adapter does, which tests change.
#[derive(Debug)]
pub(super) struct Specialising(AtomicU8);

impl Specialising {
    pub(super) fn new(software: bool) -> Self {
        let never = software || cfg!(target_arch = "wasm32");
        Self(AtomicU8::new(if never { Specialise::Never } else { Specialise::Often } as u8))
    }

    pub(super) fn set(&self, to: Specialise) {
        self.0.store(to as u8, Ordering::Relaxed);
    }

    /// Are parameters of a plan that runs `often`, or not, compiled in?
    pub(super) fn applies(&self, often: bool) -> bool {
        let now = self.0.load(Ordering::Relaxed);
        now == Specialise::Always as u8 || (often && now == Specialise::Often as u8)
    }
}

impl super::Gpu {
    /// Decides which plans that are recorded from now on have their parameters compiled in.
    pub fn set_specialise(&self, to: Specialise) {
        self.specialising.set(to);
    }
}

/// `source` with these bytes of `Params` in place of the uniform; `None` where a number has no literal.
pub(super) fn specialised(source: &str, kernel: &Kernel, params: &[u8]) -> Option<String> {
    const UNIFORM: &str = "var<uniform> params: Params;";
    let end = source.find(UNIFORM)? + UNIFORM.len();
    let start = source[..end].rfind('\n').map_or(0, |line| line + 1);
    let values = kernel.params.iter().zip(params.chunks_exact(4)).map(|(ty, bytes)| literal(ty, bytes));
    let values = values.collect::<Option<Vec<_>>>()?.join(", ");
    Some(format!("{}const params = Params({values});{}", &source[..start], &source[end..]))
}

fn literal(ty: &str, bytes: &[u8]) -> Option<String> {
    let bits = u32::from_le_bytes(bytes.try_into().ok()?);
    match ty {
        "u32" => Some(format!("{bits}u")),
        "i32" => Some(format!("i32({})", bits as i32)),
        _ => Some(f32::from_bits(bits)).filter(|v| v.is_finite()).map(|v| format!("f32({v:?})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shaders::rms_norm_matvec::{KERNEL, Params};

    #[test]
    fn parameters_take_the_uniforms_place_and_nothing_else_changes() {
        let params = Params { n: 1, cols: 4096, group: 128, scale_bits: 16, x_group: 4096, epilogue: 2, eps: 1e-5 };
        let source = KERNEL.variants[0].source;
        let got = specialised(source, &KERNEL, bytemuck::bytes_of(&params)).unwrap();
        assert!(got.contains("\nconst params = Params(1u, 4096u, 128u, 16u, 4096u, 2u, f32(1e-5));\n"));
        assert_eq!(got.lines().count(), source.lines().count());
        assert_eq!(got.lines().zip(source.lines()).filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn what_has_no_literal_stays_a_uniform() {
        let params =
            Params { n: 1, cols: 4096, group: 128, scale_bits: 16, x_group: 4096, epilogue: 2, eps: f32::INFINITY };
        assert_eq!(specialised(KERNEL.variants[0].source, &KERNEL, bytemuck::bytes_of(&params)), None);
    }
}
