//! Mutation tests: a deliberately broken shader must fail at least one of its kernel's cases. What survives is a hole
//! in the cases, not in the shader.

#[path = "../common/mod.rs"]
mod common;
mod list;
mod unwritten;

use std::collections::BTreeSet;
use std::time::Instant;

use list::{MUTANTS, Mutant, Shows};
use pollster::block_on;
use wgquant::gpu::{Device, Gpu};
use wgquant::kernels::ENTRIES;
use wgquant::kernels::check::{Case, check, variants};
use wgquant::shaders::{KERNELS, Variant};

/// A device of our own: mutants must not get into the pipelines of another test.
fn open_with(caps: &str) -> Device {
    common::open(Some(caps))
}

/// The plain variants run on it: the mutations are written against them.
fn open() -> Device {
    open_with("baseline")
}

/// What a kernel needs in every variant: nothing but for probes.
fn always_needs(kernel: &str) -> &'static [&'static str] {
    let kernel = KERNELS.iter().find(|k| k.name == kernel).expect("the kernel exists");
    if kernel.variants.iter().any(|v| v.needs.is_empty()) { &[] } else { kernel.variants[0].needs }
}

/// The variant that it is of, if it is of one.
fn variant(mutant: &Mutant) -> Option<&'static Variant> {
    let kernel = KERNELS.iter().find(|k| k.name == mutant.kernel).expect("the kernel exists");
    kernel.variants.iter().find(|v| Some(v.name) == mutant.variant)
}

/// What its variant needs, for a mutant of one; else as [`always_needs`]. No adapter has what makes a form emulated.
fn needs(mutant: &Mutant) -> Vec<&'static str> {
    let needs = variant(mutant).map_or(always_needs(mutant.kernel), |v| v.needs);
    needs.iter().copied().filter(|need| *need != "coop_emulated").collect()
}

/// The variants that the mutant is of and whose source has the text, which must be there once. Where a barrier is missing,
/// workgroup memory begins as rubbish: it could hold what the barrier owes, from a mutant or a case before.
fn mutated(mutant: &Mutant) -> Result<Vec<(&'static Variant, String)>, String> {
    let kernel = KERNELS.iter().find(|k| k.name == mutant.kernel).expect("the kernel exists");
    let of = |v: &&Variant| mutant.variant.map_or(v.needs == always_needs(kernel.name), |name| v.name == name);
    let having = kernel.variants.iter().filter(of).filter(|v| v.source.contains(mutant.from));
    let change = |v: &'static Variant| {
        if v.source.matches(mutant.from).count() != 1 {
            return Err(format!("{}: {} has `{}` more than once", name_of(mutant), v.name, mutant.from));
        }
        let source = v.source.replace(mutant.from, mutant.to);
        let filled = Some(&source).filter(|_| mutant.shows == Shows::InSoftware).and_then(|s| unwritten::filled(s));
        Ok((v, filled.unwrap_or(source)))
    };
    let found: Vec<_> = having.map(change).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(format!("{}: the shader has no `{}`", name_of(mutant), mutant.from));
    }
    Ok(found)
}

/// The first case that fails, smallest first; `None` when the mutant survives them all.
fn caught_by(device: &Device, mutant: &Mutant) -> Option<&'static str> {
    let entry = ENTRIES.iter().find(|e| e.name == mutant.kernel).expect("the kernel is registered");
    let mut cases: Vec<&Case> = entry.cases.iter().collect();
    cases.sort_by_key(|c| (entry.work)(&c.args()).ops);
    cases.into_iter().map(|case| (case, block_on(check(device, entry, case, mutant.variant, 1)))).find_map(
        |(case, outcome)| {
            // A mutant that does not compile tests nothing.
            let outcome = outcome.unwrap_or_else(|e| panic!("{}/{}: {e}", mutant.kernel, mutant.name));
            assert_eq!(outcome.skipped, None, "{}/{}", mutant.kernel, mutant.name);
            outcome.failure.map(|_| case.name)
        },
    )
}

fn with_mutant<T>(gpu: &Gpu, mutant: &Mutant, run: impl FnOnce() -> T) -> T {
    let sources = mutated(mutant).unwrap_or_else(|e| panic!("{e}"));
    for (variant, source) in &sources {
        gpu.override_source(mutant.kernel, variant.name, Some(source.clone())).unwrap();
    }
    let result = run();
    for (variant, _) in &sources {
        gpu.override_source(mutant.kernel, variant.name, None).unwrap();
    }
    result
}

#[test]
fn every_mutant_has_its_place() {
    let lost: Vec<String> = MUTANTS.iter().filter_map(|mutant| mutated(mutant).err()).collect();
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// Where an adapter lacks f16, the mutants of variants that need none are run all the same.
#[test]
fn mutants_need_what_their_variants_need() {
    let of = |kernel, variant| {
        needs(MUTANTS.iter().find(|m| (m.kernel, m.variant) == (kernel, Some(variant))).expect("a mutant"))
    };
    assert_eq!(of("matmul_f32", "tiled_f32"), [""; 0]);
    assert_eq!(of("rms_norm_quantize", "warps_emulated"), [""; 0]);
    assert_eq!(of("chunk_entering", "coop_emulated"), ["f16"]);
    assert!(of("attention", "coop").contains(&"coop_matrix"));
    let without = MUTANTS.iter().filter(|m| m.variant.is_some() && !needs(m).contains(&"f16")).count();
    assert!(without > 50, "{without} mutants of one variant need no f16");
}

#[test]
fn no_mutant_survives() {
    let (plain, subgroups, halves) = (open(), open_with("subgroups"), open_with("f16"));
    let matrices = open_with("f16,subgroups,coop_matrix");
    let software = plain.gpu().expect("a GPU").adapter.device_type == "Cpu";
    let (mut caught, mut run, mut survivors) = (0, 0, Vec::new());
    let mut not_run = Vec::new();
    for mutant in MUTANTS {
        let start = Instant::now();
        let device = match mutant.variant {
            Some(_) if needs(mutant).contains(&"coop_matrix") => &matrices,
            Some(_) => &halves,
            None if always_needs(mutant.kernel).is_empty() => &plain,
            None => &subgroups,
        };
        let gpu = device.gpu().expect("a GPU");
        let threads = variant(mutant).map_or(0, common::threads);
        if needs(mutant).iter().any(|n| !gpu.caps.has(n)) || threads > gpu.adapter.max_invocations {
            not_run.push(name_of(mutant));
            continue;
        }
        run += 1;
        let by = with_mutant(gpu, mutant, || caught_by(device, mutant));
        let took = start.elapsed().as_secs_f64();
        // Few lines, so that a survivor is not lost among what a runner cuts from a long output.
        if by.is_none() || took > 5.0 {
            println!("{}: {} ({took:.1} s)", name_of(mutant), by.unwrap_or("SURVIVED"));
        }
        caught += usize::from(by.is_some());
        if by.is_none() && (software || mutant.shows == Shows::Always) {
            survivors.push(name_of(mutant));
        }
    }
    println!("mutation score {caught} of {run} on {}", plain.name());
    println!("not run, as the adapter lacks what they need: {}", not_run.join(", "));
    assert!(survivors.is_empty(), "survived all cases: {}", survivors.join(", "));
}

fn name_of(mutant: &Mutant) -> String {
    format!("{}/{}", mutant.kernel, mutant.name)
}

/// With its own source again a kernel passes: the failures above are the mutations'.
#[test]
fn the_original_passes_after_a_mutant() {
    let device = open();
    let gpu = device.gpu().expect("a GPU");
    let mutant = MUTANTS.iter().find(|m| m.kernel == "scale_channels").unwrap();
    assert!(with_mutant(gpu, mutant, || caught_by(&device, mutant)).is_some());
    assert_eq!(caught_by(&device, mutant), None);
}

#[test]
fn every_kernel_has_a_mutant_and_names_are_unique() {
    let of: BTreeSet<&str> = MUTANTS.iter().map(|m| m.kernel).collect();
    let all: BTreeSet<&str> = KERNELS.iter().map(|k| k.name).collect();
    assert_eq!(of, all);
    let names: BTreeSet<_> = MUTANTS.iter().map(|m| (m.kernel, m.name)).collect();
    assert_eq!(names.len(), MUTANTS.len());
    assert!(MUTANTS.len() >= 20);
}

#[test]
fn a_source_of_no_shader_is_refused() {
    let device = open();
    let error = device.gpu().expect("a GPU").override_source("rms_norm", "fast", None).unwrap_err();
    assert!(error.to_string().contains("no shader rms_norm.fast"), "{error}");
}

/// WGSL's workgroup memory begins as zeros, at a price that a driver may be told to save: no kernel needs them.
#[test]
fn no_kernel_reads_workgroup_memory_that_it_has_not_written() {
    let device = common::open(None);
    let gpu = device.gpu().expect("a GPU");
    let (mut run, mut failures) = (0, Vec::new());
    for entry in ENTRIES {
        let kernel = KERNELS.iter().find(|k| k.name == entry.name).expect("the kernel exists");
        let sources = kernel.variants.iter().filter_map(|v| Some((v.name, unwritten::filled(v.source)?)));
        let replaced: Vec<_> = sources
            .map(|(variant, source)| gpu.override_source(kernel.name, variant, Some(source)).map(|()| variant).unwrap())
            .collect();
        for case in entry.cases.iter().filter(|_| !replaced.is_empty()) {
            for variant in variants(&device, entry, case) {
                let outcome = block_on(check(&device, entry, case, variant, 1));
                let outcome = outcome.unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
                run += usize::from(outcome.skipped.is_none());
                if let Some(failure) = outcome.failure {
                    failures.push(format!("{}/{}: {failure}", outcome.variant, case.name));
                }
            }
        }
        for variant in replaced {
            gpu.override_source(kernel.name, variant, None).unwrap();
        }
    }
    println!("{run} cases on {}", device.name());
    assert!(run > 500, "{run} cases");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
