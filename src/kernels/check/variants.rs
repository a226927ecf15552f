//! Which variants a case says something about.

use super::{Case, Entry, Setup};
use crate::error::Result;
use crate::gpu::{Caps, Device, Plan};
use crate::shaders::{KERNELS, Variant};

/// Variants in which to check a case on a device: the best for the adapter, then each that it can run and that the case
/// says something about.
#[must_use]
pub fn variants(device: &Device, entry: &Entry, case: &Case) -> Vec<Option<&'static str>> {
    let concerned = concerned(entry, case);
    let forced = available(device, entry.name).into_iter().filter(|v| concerned.contains(v)).map(Some);
    std::iter::once(None).chain(forced).collect()
}

/// Variants among which capabilities choose, of those that need none or one that the adapter has.
#[must_use]
pub fn available(device: &Device, kernel: &str) -> Vec<&'static str> {
    let can = |v: &&Variant| device.gpu().is_some_and(|g| g.can_run(v));
    choices(kernel).iter().filter(can).map(|v| v.name).collect()
}

/// Those of `variants` that need a capability the adapter does not have, and which. What only tests run is no lack.
#[must_use]
pub fn lacking(variants: &'static [Variant], caps: &Caps) -> Vec<(&'static str, String)> {
    let missing = |needs: &[&'static str]| needs.iter().copied().filter(|n| !caps.has(n)).collect::<Vec<_>>();
    let variants = variants.iter().filter(|v| !v.emulated());
    variants.map(|v| (v.name, missing(v.needs).join(", "))).filter(|(_, m)| !m.is_empty()).collect()
}

/// Variants of a format in which the case launches its kernel; forced into another, it would run what it runs anyway. Each
/// shader once: where formats `family_..` share one, the first's cases check it.
#[must_use]
pub fn concerned(entry: &Entry, case: &Case) -> Vec<&'static str> {
    let all = choices(entry.name);
    let several = all.iter().any(|v| v.format != all[0].format);
    let plan = several.then(|| planned(entry, case, None).ok()).flatten();
    let formats = plan.map(|p| p.needs().filter(|n| n.kernel == entry.name).map(|n| n.format).collect::<Vec<_>>());
    let of = |v: &&Variant| formats.as_ref().is_none_or(|f| f.contains(&v.format));
    all.iter().filter(of).filter(|v| !repeated(all, v)).map(|v| v.name).collect()
}

/// Is it the shader of a variant before it by another name? Formats `family_..` are one in several shapes, which only some
/// capabilities tell apart.
fn repeated(all: &[Variant], variant: &Variant) -> bool {
    let family = |v: &Variant| v.format.and_then(|f| f.split('_').next());
    let same = |v: &&Variant| family(v) == family(variant) && v.same_shader(variant);
    all.iter().find(same).is_some_and(|first| first.name != variant.name)
}

/// Variants among which capabilities choose: none of a kernel whose variants all need the same.
#[must_use]
pub fn choices(kernel: &str) -> &'static [Variant] {
    let found = KERNELS.iter().find(|k| k.name == kernel).map_or(&[][..], |k| k.variants);
    if found.iter().any(|v| v.needs != found[0].needs) { found } else { &[] }
}

/// `kernel.variant` of what a case dispatches where `variant` is asked for. Touches no GPU.
///
/// # Errors
/// Whatever setting up gives.
pub fn labels(entry: &Entry, case: &Case, variant: &'static str) -> Result<Vec<String>> {
    Ok(planned(entry, case, Some(variant))?.labels().collect())
}

/// What a case launches. Its inputs may be zeros.
fn planned(entry: &Entry, case: &Case, variant: Option<&'static str>) -> Result<Plan> {
    let mut setup = Setup { dry: true, ..Setup::new(&Device::Cpu, variant, 1) };
    if (entry.setup)(&mut setup, &case.args()).is_err() {
        // Some are about their values.
        setup = Setup::new(&Device::Cpu, variant, 1);
        (entry.setup)(&mut setup, &case.args())?;
    }
    Ok(setup.plan)
}
