//! What is left of each kernel when capabilities are missing or masked, and what a device refuses.

use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, ENTRIES, check};
use wgquant::shaders::KERNELS;
use wgquant::tensor::DType;

/// Every capability alone, none, and all.
const MASKS: [&str; 6] =
    ["baseline", "f16", "subgroups", "packed_dot", "coop_matrix", "f16,subgroups,packed_dot,coop_matrix"];

fn masked(mask: &str) -> Device {
    super::common::open(Some(mask))
}

#[test]
fn every_format_of_every_kernel_runs_under_every_mask() {
    for mask in MASKS {
        let allowed = |needs: &[&str]| needs.iter().all(|n| mask.split(',').any(|m| m == *n));
        for kernel in KERNELS.iter().filter(|k| !k.name.starts_with("probe_")) {
            for v in kernel.variants {
                let runs = kernel.variants.iter().any(|o| o.format == v.format && allowed(o.needs));
                assert!(runs, "{} of format {:?} has no variant under `{mask}`", kernel.name, v.format);
            }
        }
    }
}

/// Each mask's choices that no other test makes: one case of every kernel that has variants. The cases of
/// `baseline` and of all capabilities run in the kernels' own tests, which force each variant.
#[test]
fn masked_devices_choose_what_they_may_and_compute_it_right() {
    for mask in MASKS {
        let device = masked(mask);
        let gpu = device.gpu().expect("tests need a GPU");
        for kernel in KERNELS.iter().filter(|k| k.variants.iter().any(|v| !v.needs.is_empty())) {
            let entry = ENTRIES.iter().find(|e| e.name == kernel.name).unwrap();
            let outcome = block_on(check::check(&device, entry, &entry.cases[1], None, 1)).unwrap();
            assert_eq!(outcome.failure, None, "under `{mask}`");
            let can = kernel.variants.iter().any(|v| v.needs.iter().all(|n| gpu.caps.has(n)));
            assert_eq!(outcome.skipped.is_some(), !can, "{} under `{mask}`: {:?}", kernel.name, outcome.skipped);
            if !can {
                assert!(kernel.name.starts_with("probe_"), "{} is skipped under `{mask}`", kernel.name);
                continue;
            }
            let chosen = kernel.variants.iter().find(|v| outcome.variant == format!("{}.{}", kernel.name, v.name));
            let chosen = chosen.unwrap_or_else(|| panic!("{} is no variant of {}", outcome.variant, kernel.name));
            let could: Vec<_> = kernel.variants.iter().filter(|v| v.format == chosen.format).collect();
            let best = could.iter().rev().find(|v| v.needs.iter().all(|n| gpu.caps.has(n))).unwrap();
            assert_eq!(chosen.name, best.name, "{} under `{mask}`", kernel.name);
            // `warps` is of adapters whose subgroups are always of 32.
            let asked = |n: &&str| mask.split(',').any(|m| m == if *n == "warps" { "subgroups" } else { n });
            assert!(chosen.needs.iter().all(asked), "{} under `{mask}`", chosen.name);
        }
    }
}

#[test]
fn every_reduction_and_integer_product_has_both_forms() {
    let with = |word: &str| -> Vec<&str> {
        KERNELS.iter().filter(|k| k.variants.iter().any(|v| v.needs.contains(&word))).map(|k| k.name).collect()
    };
    let uses = |text: &str| -> Vec<&str> {
        KERNELS.iter().filter(|k| k.variants.iter().any(|v| v.source.contains(text))).map(|k| k.name).collect()
    };
    assert_eq!(with("subgroups"), uses("subgroup_id"));
    assert_eq!(with("packed_dot"), uses("dot4I8Packed"));
    for kernel in KERNELS {
        for v in kernel.variants.iter().filter(|v| !v.needs.contains(&"subgroups")) {
            assert!(!v.source.contains("subgroup_"), "{}.{} uses subgroups unasked", kernel.name, v.name);
        }
    }
}

/// Launches and copies refuse tensors of another device, in plans as in submissions, and a GPU recordings of the CPU.
#[test]
fn what_is_on_another_device_is_refused() {
    let (cpu, gpu) = (Device::Cpu, super::common::gpu());
    let tensor = |device: &Device| device.alloc(DType::F32, [1, 4]).unwrap();
    let refuses = |done: Result<(), Error>| assert!(done.unwrap_err().to_string().contains("on another device"));
    for (device, other) in [(&cpu, &gpu), (&gpu, &cpu)] {
        let [own, strange] = [device, other].map(tensor);
        let mut plan = Plan::new(device);
        refuses(kernels::relu_squared(&mut plan, &strange, &own));
        refuses(kernels::relu_squared(&mut plan, &own, &strange));
        refuses(device.submission().clear(&strange));
        for (from, to) in [(&own, &strange), (&strange, &own)] {
            refuses(plan.copy(from, to));
            refuses(device.submission().copy(from, to));
        }
    }
    let recording = Plan::new(&cpu).record().unwrap();
    refuses(gpu.submission().run(&recording));
}

/// Of a view the rows that it has, in the order of the submission.
#[test]
fn zeros_come_in_their_turn() {
    for device in [Device::Cpu, super::common::gpu()] {
        let all = device.upload_words(DType::U32, [4, 2], &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let kept = device.alloc(DType::U32, [2, 2]).unwrap();
        let middle = all.rows(1, 2).unwrap();
        let mut submission = device.submission();
        submission.copy(&middle, &kept).unwrap();
        submission.clear(&middle).unwrap();
        submission.submit().unwrap();
        assert_eq!(block_on(device.read(&all)).unwrap(), [1, 2, 0, 0, 0, 0, 7, 8]);
        assert_eq!(block_on(device.read(&kept)).unwrap(), [3, 4, 5, 6]);
    }
}
