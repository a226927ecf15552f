//! Self-test before trust: the variants a model needs are checked on an adapter once, with known answers.
//!
//! A variant that fails is avoided by every later plan ([`Gpu::set_trust`]); the next best takes its place. Passes are
//! kept in a [`Cache`] until adapter, driver, capabilities, program, shader or cases change. Failures are not kept: a
//! fault that has gone must not be remembered, and one that has not costs milliseconds to find again.

mod cache;

use std::sync::Arc;

use pollster::block_on;

pub use cache::Cache;
pub(super) use cache::{hash, key};

use super::ENTRIES;
use super::check::{self, Case, Entry};
use crate::error::{Error, Result};
use crate::gpu::{Device, Gpu, Guard, Need, Specialise};
use crate::shaders::{KERNELS, Kernel, Variant};

/// Cases run for each variant: the two largest within [`BUDGET`], whose ragged ends and several workgroups tell most.
const CASES: usize = 2;
/// Operations a case may cost: a few milliseconds of the f64 reference.
const BUDGET: usize = 2_000_000;
/// Seed of the inputs.
const SEED: u64 = 1;

/// Why a variant did not pass.
#[derive(Debug)]
pub enum Failure {
    /// It is wrong here, and how, in one line.
    Wrong(String),
    /// Nothing was found out: there was no memory for the check, or the device was lost.
    Unchecked(Error),
}

/// Checks one variant of a kernel.
pub type Checker<'a> = dyn FnMut(&Device, &'static Kernel, &'static Variant) -> Result<(), Failure> + 'a;

/// What [`ensure`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted {
    /// Variants checked now.
    pub checked: usize,
    /// Variants that had passed before.
    pub cached: usize,
    /// `kernel.variant` of those found wrong.
    pub distrusted: Vec<String>,
}

/// Makes sure that what `needs` names is computed rightly on `device`, and warns of each variant that is not and is
/// replaced. Plans made later use only what passed. The CPU reference needs no check.
///
/// # Errors
/// [`Error::Untrusted`] when no variant passes that the adapter can run; what kept a variant from being checked.
pub fn ensure(device: &Device, needs: &[Need], cache: &Cache, checker: &mut Checker<'_>) -> Result<Trusted> {
    let mut done = Trusted::default();
    let Some(gpu) = device.gpu() else { return Ok(done) };
    let mut passed = cache.load(gpu);
    let before = passed.len();
    let result = needs.iter().try_for_each(|need| {
        let Some(kernel) = KERNELS.iter().find(|k| k.name == need.kernel) else { return Ok(()) };
        settle(device, gpu, kernel, need.format, &mut passed, &mut done, checker)
    });
    if passed.len() > before || done.checked > 0 {
        cache.store(gpu, &passed);
    }
    result.map(|()| done)
}

/// For [`Gpu::set_guard`]: as [`ensure`] with [`self_test`], of what plans come to. A pipeline that is made up as it
/// goes, such as calibration's, thus runs no variant unchecked.
#[must_use]
pub fn guard(cache: Cache) -> Arc<Guard> {
    Arc::new(move |device, need| ensure(device, &[need], &cache, &mut self_test).map(|_| ()))
}

/// Finds the best variant of one kernel and format that passes.
fn settle(
    device: &Device,
    gpu: &Gpu,
    kernel: &'static Kernel,
    format: Option<&'static str>,
    passed: &mut cache::Passed,
    done: &mut Trusted,
    checker: &mut Checker<'_>,
) -> Result<()> {
    let mut failures = Vec::new();
    let runs = |v: &&Variant| v.format == format && gpu.can_run(v);
    // Those chosen by measurement run instead of the best where they pass; where not, plans take the best.
    let chosen = gpu.chosen_for(Need { kernel: kernel.name, format });
    for variant in kernel.variants.iter().filter(|v| runs(v) && chosen.contains(&v.name)) {
        passes(device, gpu, kernel, variant, passed, done, checker, &mut failures)?;
    }
    failures.clear();
    for variant in kernel.variants.iter().rev().filter(runs) {
        if passes(device, gpu, kernel, variant, passed, done, checker, &mut failures)? {
            if !failures.is_empty() {
                let label = format!("{}.{}", kernel.name, variant.name);
                log::warn!("adapter `{}`: shader {label} takes its place", gpu.adapter.name);
            }
            return Ok(());
        }
    }
    Err(Error::Untrusted {
        adapter: gpu.adapter.name.clone(),
        driver: format!("{} {}, {}", gpu.adapter.driver, gpu.adapter.driver_info, gpu.adapter.backend),
        kernel: format.map_or_else(|| kernel.name.to_owned(), |f| format!("{} of {f}", kernel.name)),
        failure: failures.join("; "),
    })
}

/// Is this variant right, by what is known or else by a check? Notes what comes of it.
#[allow(clippy::too_many_arguments, reason = "what settle has, all distinct types")]
fn passes(
    device: &Device,
    gpu: &Gpu,
    kernel: &'static Kernel,
    variant: &'static Variant,
    passed: &mut cache::Passed,
    done: &mut Trusted,
    checker: &mut Checker<'_>,
    failures: &mut Vec<String>,
) -> Result<bool> {
    let (label, proof) = (format!("{}.{}", kernel.name, variant.name), proof(kernel, variant));
    let right = match gpu.trusts(kernel.name, variant.name) {
        Some(right) => right,
        None if passed.get(&label) == Some(&proof) => {
            done.cached += 1;
            true
        }
        None => {
            done.checked += 1;
            // A limit is for the model, of which a small one takes less than some cases do.
            match gpu.beside_the_limit(|| checker(device, kernel, variant)) {
                Ok(()) => true,
                Err(Failure::Wrong(how)) => {
                    log::warn!("adapter `{}`: shader {label} is wrong here and is not used: {how}", gpu.adapter.name);
                    failures.push(format!("{label}: {how}"));
                    done.distrusted.push(label.clone());
                    false
                }
                Err(Failure::Unchecked(error)) => return Err(error),
            }
        }
    };
    gpu.set_trust(kernel.name, variant.name, right);
    if right {
        passed.insert(label, proof);
    } else {
        passed.remove(&label);
        if failures.is_empty() {
            failures.push(format!("{label} failed before"));
        }
    }
    Ok(right)
}

/// What a pass is a pass of: the shader's source and the names of the kernel's cases, with parameters compiled in, too.
fn proof(kernel: &Kernel, variant: &Variant) -> String {
    let cases = ENTRIES.iter().find(|e| e.name == kernel.name).map_or(&[][..], |e| e.cases);
    let names: Vec<&str> = cases.iter().map(|c| c.name).collect();
    cache::hash(&[variant.source, &variant.needs.join(" "), &names.join(" "), "compiled in"])
}

/// The checker of the program: runs telling cases of the variant against the reference, and where plans have their parameters
/// compiled in ([`Specialise`]) so, too: that is other code. Blocks on the device: not for browsers, which await [`check::check`]
/// themselves.
///
/// # Errors
/// [`Failure`]; a variant that does not compile or run here is wrong.
pub fn self_test(device: &Device, kernel: &'static Kernel, variant: &'static Variant) -> Result<(), Failure> {
    let found = ENTRIES.iter().find(|e| e.name == kernel.name);
    let cases = found.map_or_else(Vec::new, |entry| telling(entry, variant));
    if cases.is_empty() {
        return Err(Failure::Wrong("no case runs it".to_owned()));
    }
    run(device, variant, &cases, false)?;
    if device.gpu().is_none_or(|gpu| gpu.specialise() == Specialise::Never) {
        return Ok(());
    }
    // Of these plans alone: another thread may be recording its own.
    run(device, variant, &cases, true).map_err(|failure| match failure {
        Failure::Wrong(how) => Failure::Wrong(format!("with its parameters compiled in: {how}")),
        unchecked @ Failure::Unchecked(_) => unchecked,
    })
}

fn run(
    device: &Device,
    variant: &Variant,
    cases: &[(&'static Entry, &'static Case)],
    often: bool,
) -> Result<(), Failure> {
    for (entry, case) in cases {
        let outcome = block_on(check::check_as(device, entry, case, Some(variant.name), SEED, often));
        let outcome = outcome.map_err(|error| match error {
            Error::OutOfMemory { .. } => Failure::Unchecked(error),
            _ if device.gpu().is_some_and(|gpu| gpu.lost().is_some()) => Failure::Unchecked(error),
            _ => Failure::Wrong(error.to_string()),
        })?;
        // What was not run is not to be trusted.
        if let Some(wrong) = outcome.failure.or(outcome.skipped) {
            return Err(Failure::Wrong(wrong));
        }
    }
    Ok(())
}

/// The cases [`self_test`] runs for a variant; empty when none dispatches it.
#[must_use]
pub fn telling(entry: &'static Entry, variant: &Variant) -> Vec<(&'static Entry, &'static Case)> {
    let label = format!("{}.{}", entry.name, variant.name);
    let mut cases: Vec<(usize, &'static Case)> =
        entry.cases.iter().map(|case| ((entry.work)(&case.args()).ops, case)).collect();
    // The largest within the budget first; where there is none, the smallest.
    cases.sort_by_key(|(ops, _)| if *ops <= BUDGET { BUDGET - ops } else { *ops });
    let dispatches = |case: &Case| check::labels(entry, case, variant.name).is_ok_and(|labels| labels.contains(&label));
    let within = cases.iter().take_while(|(ops, _)| *ops <= BUDGET).filter(|(_, case)| dispatches(case)).take(CASES);
    let mut chosen: Vec<_> = within.map(|(_, case)| (entry, *case)).collect();
    if chosen.is_empty() {
        chosen.extend(cases.iter().find(|(_, case)| dispatches(case)).map(|(_, case)| (entry, *case)));
    }
    chosen
}
