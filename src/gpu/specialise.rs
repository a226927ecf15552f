//! Parameters as constants of a pipeline instead of a uniform buffer. A compiler then leaves out branches, divisions and
//! loops of one turn, and needs fewer registers: on an H100 a token of an 8B model takes 8 % less time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use super::plan::{Dispatch, Plan, Step};
use crate::shaders::Kernel;

/// Which plans have their parameters compiled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Specialise {
    /// None: the default on software drivers, which compile for longer than they would gain, and in browsers, whose compilers were
    /// not tried with it.
    #[default]
    Never,
    /// Those that run often ([`super::Plan::specialised`]).
    Often,
}

/// What an adapter does, which tests change: are plans' parameters compiled in that run often?
#[derive(Debug)]
pub(super) struct Specialising(AtomicBool);

impl Specialising {
    pub(super) fn new(software: bool) -> Self {
        Self(AtomicBool::new(!software && !cfg!(target_arch = "wasm32")))
    }

    pub(super) fn set(&self, to: Specialise) {
        self.0.store(to == Specialise::Often, Ordering::Relaxed);
    }

    fn get(&self) -> Specialise {
        if self.applies(true) { Specialise::Often } else { Specialise::Never }
    }

    /// Are parameters of a plan that runs `often`, or not, compiled in?
    pub(super) fn applies(&self, often: bool) -> bool {
        often && self.0.load(Ordering::Relaxed)
    }
}

impl super::Gpu {
    /// Decides which plans that are recorded from now on have their parameters compiled in.
    pub fn set_specialise(&self, to: Specialise) {
        self.specialising.set(to);
    }

    /// Which plans have their parameters compiled in.
    #[must_use]
    pub fn specialise(&self) -> Specialise {
        self.specialising.get()
    }
}

/// Which numbers of a launch's `Params` are compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fixed(u64);

impl Fixed {
    pub(super) const ALL: Self = Self(u64::MAX);
    pub(super) const NONE: Self = Self(0);

    /// Those that two launches have in common.
    fn alike(a: &[u8], b: &[u8]) -> Self {
        let pairs = a.chunks_exact(4).zip(b.chunks_exact(4)).take(64).enumerate();
        Self(pairs.filter(|(_, (a, b))| a == b).fold(0, |all, (i, _)| all | 1 << i))
    }

    /// Those of both.
    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn has(self, number: usize) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }

    /// What tells a pipeline from others of its variant; nothing where nothing is compiled in.
    pub(super) fn key(self, params: &[u8]) -> Vec<u8> {
        let fixed = params.chunks_exact(4).enumerate().filter(|(i, _)| self.has(*i));
        fixed.flat_map(|(i, bytes)| std::iter::once(i as u8).chain(bytes.iter().copied())).collect()
    }
}

impl Plan {
    /// It will run often: recording may compile its parameters in, where that pays ([`Specialise`]).
    #[must_use]
    pub fn specialised(mut self) -> Self {
        self.often = true;
        self
    }

    /// Of its parameters those are compiled in that `other`, the same for another number of tokens, has as well: so what is compiled
    /// serves any number. Launches of one kernel are paired in order; of what does the rest of one (`Plan::beside`) those are that it shares with it.
    #[must_use]
    pub fn specialised_with(mut self, other: &Self) -> Self {
        let mut others: HashMap<&str, VecDeque<&Dispatch>> = HashMap::new();
        for step in &other.steps {
            if let Step::Dispatch(d) = step
                && !d.beside
            {
                others.entry(d.kernel.name).or_default().push_back(d);
            }
        }
        let (mut fixed, mut params) = (Fixed::NONE, Vec::new());
        for step in &mut self.steps {
            if let Step::Dispatch(d) = step {
                if d.beside {
                    d.fixed = fixed.and(Fixed::alike(&d.params, &params));
                } else {
                    let pair = others.get_mut(d.kernel.name).and_then(VecDeque::pop_front);
                    d.fixed = pair.map_or(Fixed::NONE, |pair| Fixed::alike(&d.params, &pair.params));
                    (fixed, params) = (d.fixed, d.params.clone());
                }
            }
        }
        self.specialised()
    }
}

/// `source` with these numbers of `params` in place of the uniform's. What has no literal, as infinity, stays there.
pub(super) fn specialised(source: &str, kernel: &Kernel, params: &[u8], fixed: Fixed) -> String {
    const USE: &str = "params.";
    let values = kernel.params.iter().zip(params.chunks_exact(4)).enumerate();
    let values: HashMap<&str, String> = values
        .filter(|(i, _)| fixed.has(*i))
        .filter_map(|(_, ((name, ty), bytes))| Some((*name, literal(ty, bytes)?)))
        .collect();
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut out, mut rest) = (String::with_capacity(source.len()), source);
    while let Some(at) = rest.find(USE) {
        let (before, after) = (&rest[..at], &rest[at + USE.len()..]);
        let name = &after[..after.find(|c| !part_of_name(c)).unwrap_or(after.len())];
        out += before;
        match values.get(name).filter(|_| !before.ends_with(part_of_name)) {
            Some(value) => out += value,
            None => out.extend([USE, name]),
        }
        rest = &after[name.len()..];
    }
    out + rest
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
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::kernels;
    use crate::shaders::rms_norm_matvec::{KERNEL, Params};
    use crate::tensor::DType;

    #[test]
    fn numbers_take_the_uniforms_place_and_nothing_else_changes() {
        let params = Params { n: 1, cols: 4096, group: 128, scale_bits: 16, x_group: 4096, epilogue: 2, eps: 1e-5 };
        let source = "let a = params.cols / params.group_of + my_params.cols; f(params.eps, params.n); // params.cols";
        let made = |params: &Params, fixed| specialised(source, &KERNEL, bytemuck::bytes_of(params), fixed);
        let all = "let a = 4096u / params.group_of + my_params.cols; f(f32(1e-5), 1u); // 4096u";
        assert_eq!(made(&params, Fixed::ALL), all);
        assert_eq!(made(&params, Fixed::NONE), source);
        let other = Params { n: 7, ..params };
        let alike = Fixed::alike(bytemuck::bytes_of(&params), bytemuck::bytes_of(&other));
        assert_eq!(made(&params, alike), all.replace("1u)", "params.n)"));
        let keys = [params, other].map(|p| alike.key(bytemuck::bytes_of(&p)));
        assert_eq!(keys[0], keys[1]);
        assert_ne!(alike.key(bytemuck::bytes_of(&Params { cols: 8, ..params })), keys[0]);
        assert!(Fixed::NONE.key(bytemuck::bytes_of(&params)).is_empty());
        let unbounded = Params { eps: f32::INFINITY, ..params };
        assert_eq!(made(&unbounded, Fixed::ALL), all.replace("f32(1e-5)", "params.eps"));
    }

    /// A plan of some tokens may have a launch more than one of others, which does the rest of the one before.
    #[test]
    fn launches_are_paired_without_what_does_their_rest() {
        let device = Device::Cpu;
        let tensor = |rows: usize| device.alloc(DType::F32, [rows, 8]).unwrap();
        let (weight, eps) = (tensor(1), 1e-5);
        let plan = |rows: usize, in_two: bool| {
            let mut plan = Plan::new(&device);
            let norm = |plan: &mut Plan, eps| kernels::rms_norm(plan, &tensor(rows), &weight, &tensor(rows), eps);
            norm(&mut plan, eps).unwrap();
            if in_two {
                plan.beside(|plan| norm(plan, 0.5)).unwrap();
            }
            norm(&mut plan, 1.0).unwrap();
            plan
        };
        let fixed = |plan: Plan| {
            let of = |step: Step| if let Step::Dispatch(d) = step { Some(d.fixed) } else { None };
            plan.steps.into_iter().filter_map(of).collect::<Vec<_>>()
        };
        let [one, two] = [false, true].map(|in_two| plan(6, in_two));
        let both = [fixed(one.specialised_with(&plan(3, true))), fixed(two.specialised_with(&plan(3, false)))];
        // Of rows, columns and epsilon the last two; the rest has another epsilon.
        let bits = |all: &[Fixed]| all.iter().map(|fixed| fixed.0).collect::<Vec<_>>();
        assert_eq!([bits(&both[0]), bits(&both[1])], [vec![0b110, 0b110], vec![0b110, 0b010, 0b110]]);
    }
}
