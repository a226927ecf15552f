//! Self-test before trust: what is checked, what is kept, what replaces a variant that fails.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use wgquant::bench::{Warmer, contests, tune};
use wgquant::calibrate::Windows;
use wgquant::gpu::{Device, Need, Place, Plan, SizeClass, Specialise};
use wgquant::kernels::trust::{Cache, Failure, Trusted, ensure, self_test, telling};
use wgquant::kernels::{ENTRIES, rms_norm};
use wgquant::model::{Group, ModelFile, ModelSource};
use wgquant::quantize::{GptqOptions, QUANTIZER};
use wgquant::recipe::{Bits, Recipe, quantize};
use wgquant::runtime::{Engine, EngineOptions};
use wgquant::shaders::{KERNELS, Variant};
use wgquant::tensor::DType;
use wgquant::transform::{Smooth, Transform};

use crate::common;

/// A device of its own: what is distrusted must not show in other tests.
fn gpu() -> Device {
    common::open(None)
}

const NEEDS: [Need; 2] =
    [Need { kernel: "rms_norm", format: None }, Need { kernel: "matmul_f32", format: Some("w_bf16") }];

fn counts(t: &Trusted) -> (usize, usize, usize) {
    (t.checked, t.cached, t.distrusted.len())
}

#[test]
fn every_variant_has_a_telling_case() {
    for kernel in KERNELS {
        let entry = ENTRIES.iter().find(|e| e.name == kernel.name).unwrap();
        for variant in kernel.variants {
            assert!(!telling(entry, variant).is_empty(), "{}.{} has no case", kernel.name, variant.name);
        }
    }
}

/// With parameters compiled in a shader is other code, which plans that run often have on GPUs.
#[test]
fn what_plans_compile_in_is_checked_too() {
    let kernel = KERNELS.iter().find(|k| k.name == "rms_norm").unwrap();
    let pipelines = |specialise: Specialise| {
        let device = gpu();
        let gpu = device.gpu().unwrap();
        gpu.set_specialise(specialise);
        self_test(&device, kernel, &kernel.variants[0]).unwrap();
        assert_eq!(gpu.specialise(), specialise);
        gpu.compiled()
    };
    assert!(pipelines(Specialise::Often) > pipelines(Specialise::Never));
}

#[test]
fn what_nano_and_the_quantizer_need_passes_here() {
    let device = gpu();
    let file = ModelFile::open(&common::nano()).unwrap();
    let mut needs =
        Engine::new(&device, &file, EngineOptions { context: 64, ..Default::default() }).unwrap().needs().unwrap();
    for kernel in ["embed", "chunk_scan", "mamba2_update", "matvec_f32", "matmul_f32", "argmax", "sample"] {
        assert!(needs.iter().any(|n| n.kernel == kernel), "{kernel} is not among {needs:?}");
    }
    needs.extend(QUANTIZER);
    let done = ensure(&device, &needs, &Cache::none(), &mut self_test).unwrap();
    assert_eq!(counts(&done), (needs.len(), 0, 0));
    // Asked again in this process, nothing is to do, cache or not.
    assert_eq!(counts(&ensure(&device, &needs, &Cache::none(), &mut self_test).unwrap()), (0, 0, 0));
}

#[test]
fn the_reference_needs_no_check() {
    let mut never = |_: &Device, _, _| panic!("checked");
    assert_eq!(counts(&ensure(&Device::Cpu, &NEEDS, &Cache::none(), &mut never).unwrap()), (0, 0, 0));
}

#[test]
fn passes_are_kept_and_failures_are_not() {
    let temp = tempfile::tempdir().unwrap();
    let cache = Cache::at(temp.path().join("new/dir"));
    let device = gpu();
    assert_eq!(counts(&ensure(&device, &NEEDS, &cache, &mut |_, _, _| Ok(())).unwrap()), (2, 0, 0));
    let mut never = |_: &Device, _, _| panic!("checked though it had passed");
    assert_eq!(counts(&ensure(&gpu(), &NEEDS, &cache, &mut never).unwrap()), (0, 2, 0));

    // Another shader of that name, as after an update of the program.
    let path = cache.file(device.gpu().unwrap()).unwrap();
    let mut file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let passed = file["passed"].as_object_mut().unwrap();
    let (_, hash) = passed.iter_mut().find(|(name, _)| name.starts_with("rms_norm.")).unwrap();
    *hash = "0123".into();
    std::fs::write(&path, file.to_string()).unwrap();
    assert_eq!(counts(&ensure(&gpu(), &NEEDS, &cache, &mut |_, _, _| Ok(())).unwrap()), (1, 1, 0));

    // Another driver, or a damaged file: everything is checked again.
    for text in [file.to_string().replace("\"driver_info\":\"", "\"driver_info\":\"older "), "{".to_owned()] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(counts(&ensure(&gpu(), &NEEDS, &cache, &mut |_, _, _| Ok(())).unwrap()), (2, 0, 0));
    }

    // Fails once, and is found again by the next.
    let fresh = Cache::at(temp.path().join("fails"));
    let mut fails = |_: &Device, _, _| Err(Failure::Wrong("wrong".to_owned()));
    for _ in 0..2 {
        ensure(&gpu(), &NEEDS, &fresh, &mut fails).unwrap_err();
    }
    assert_eq!(counts(&ensure(&gpu(), &NEEDS, &fresh, &mut |_, _, _| Ok(())).unwrap()), (2, 0, 0));
}

#[test]
fn capabilities_have_a_file_each() {
    let cache = Cache::at("unused");
    let of = |caps| {
        let device = common::open(Some(caps));
        cache.file(device.gpu().unwrap()).unwrap()
    };
    assert_ne!(of("baseline"), of("packed_dot"));
    assert_eq!(of("baseline"), of("baseline"));
}

#[test]
fn a_cache_that_cannot_be_written_is_no_failure() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    for _ in 0..2 {
        assert_eq!(counts(&ensure(&gpu(), &NEEDS, &Cache::at(&file), &mut |_, _, _| Ok(())).unwrap()), (2, 0, 0));
    }
}

#[test]
fn refuses_when_no_variant_passes() {
    let device = gpu();
    let fail = ensure(&device, &NEEDS, &Cache::none(), &mut |_, _, _| Err(Failure::Wrong("NMSE 1.0".to_owned())));
    let line = fail.unwrap_err().to_string();
    let gpu = device.gpu().unwrap();
    for part in [&gpu.adapter.name, &gpu.adapter.driver_info, "`rms_norm`", "NMSE 1.0", "--device cpu", "--trust-gpu"] {
        assert!(line.contains(part), "`{part}` is not in: {line}");
    }
    // And stays refused in this process.
    ensure(&device, &NEEDS, &Cache::none(), &mut |_, _, _| Ok(())).unwrap_err();
}

/// No memory for a check says nothing about a shader. What a limit leaves does not keep it from being checked.
#[test]
fn what_could_not_be_checked_is_not_wrong() {
    let device = gpu();
    let gpu = device.gpu().unwrap();
    gpu.set_memory_limit(gpu.held_bytes() + 1);
    if gpu.room().is_none_or(|room| room.free > 1) {
        return eprintln!("{} does not count what it holds", gpu.adapter.backend);
    }
    let kernel = KERNELS.iter().find(|k| k.name == NEEDS[0].kernel).unwrap();
    let failure = self_test(&device, kernel, &kernel.variants[0]);
    assert!(matches!(failure, Err(Failure::Unchecked(wgquant::Error::OutOfMemory { .. }))), "{failure:?}");
    let mut failure = failure.err();
    let error = ensure(&device, &NEEDS, &Cache::none(), &mut |_, _, _| failure.take().map_or(Ok(()), Err)).unwrap_err();
    assert!(matches!(error, wgquant::Error::OutOfMemory { .. }), "{error}");
    assert_eq!(counts(&ensure(&device, &NEEDS, &Cache::none(), &mut self_test).unwrap()), (2, 0, 0));
    // The limit is there again.
    assert!(device.alloc(DType::F32, [1 << 24]).is_err());
}

/// Where a kernel has a variant for this adapter's capabilities, the one before it takes its place.
#[test]
fn the_next_best_takes_the_place_of_one_that_fails() {
    let device = gpu();
    let caps = device.gpu().unwrap().caps;
    let able = |needs: &[&str]| needs.iter().all(|n| caps.has(n));
    for kernel in KERNELS {
        let variants = kernel.variants;
        for best in variants.iter().filter(|v| !v.needs.is_empty() && able(v.needs)) {
            if variants.iter().filter(|v| v.format == best.format && able(v.needs)).count() < 2 {
                continue;
            }
            let need = Need { kernel: kernel.name, format: best.format };
            let done = ensure(&gpu(), &[need], &Cache::none(), &mut |_, _, v| {
                if v.needs.is_empty() { Ok(()) } else { Err(Failure::Wrong("wrong".to_owned())) }
            });
            let distrusted = done.unwrap().distrusted;
            assert!(distrusted.contains(&format!("{}.{}", kernel.name, best.name)), "{distrusted:?}");
        }
    }
}

/// Plans follow: a distrusted variant is left for another, and where there is none the plan says what it runs.
#[test]
fn plans_avoid_what_is_distrusted() {
    let device = gpu();
    let label = |device: &Device| {
        let mut plan = wgquant::gpu::Plan::new(device);
        let x = device.alloc(DType::F32, [2, 8]).unwrap();
        let weight = device.alloc(DType::F32, [8]).unwrap();
        let out = device.alloc(DType::F32, [2, 8]).unwrap();
        rms_norm(&mut plan, &x, &weight, &out, 1e-5).unwrap();
        plan.labels().next().unwrap()
    };
    let kernel = KERNELS.iter().find(|k| k.name == "rms_norm").unwrap();
    let best = label(&device);
    let name = kernel.variants.iter().find(|v| best == format!("rms_norm.{}", v.name)).unwrap().name;
    device.gpu().unwrap().set_trust("rms_norm", name, false);
    let gpu = device.gpu().unwrap();
    let others = kernel.variants.iter().filter(|v| v.name != name && v.needs.iter().all(|n| gpu.caps.has(n))).count();
    assert_eq!(label(&device) != best, others > 0);
}

/// Quantizes nano with statistics, GPTQ and quantized activations upstream; `check` stands for the self-test.
fn calibrated(out: &Path, check: fn(&str, &Variant) -> Result<(), Failure>) -> (wgquant::Result<()>, BTreeSet<String>) {
    // Without matrix units, which make moments in other kernels.
    let device = common::open(Some("f16,subgroups,packed_dot"));
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = asked.clone();
    device.gpu().unwrap().set_guard(Arc::new(move |device: &Device, need| {
        let mut checker = |_: &Device, kernel: &'static wgquant::shaders::Kernel, variant: &'static Variant| {
            seen.lock().unwrap().insert(kernel.name.to_owned());
            check(kernel.name, variant)
        };
        ensure(device, &[need], &Cache::none(), &mut checker).map(|_| ())
    }));
    let file = ModelFile::open(&common::nano()).unwrap();
    let smooth = Smooth { norms: Some(0.5.into()), ..Smooth::NONE };
    let transform = Transform { smooth, ..Transform::NONE };
    let base = Recipe::uniform(file.config(), Bits::W8A8, Group::Channel, true, DType::BF16, transform);
    let recipe = Recipe { gptq: Some(GptqOptions { scale_steps: 4, sweeps: 1, ..Default::default() }), ..base };
    let ids: Vec<u32> = (0..80).map(|i| 3 + (i * 31) % 2000).collect();
    let made = quantize(&file, &recipe, &device, Some(("text", &Windows(vec![ids]))), out, &|_| {}).map(|_| ());
    for kernel in KERNELS {
        for variant in kernel.variants.iter().filter(|v| check(kernel.name, v).is_err()) {
            assert_ne!(device.gpu().unwrap().trusts(kernel.name, variant.name), Some(true), "{}", kernel.name);
        }
    }
    let asked = asked.lock().unwrap().clone();
    (made, asked)
}

/// Everything that a calibrated run dispatches is asked about, and where a kernel has a plain form, it takes the place
/// of one that fails.
#[test]
fn calibration_and_gptq_dispatch_nothing_unchecked() {
    let temp = tempfile::tempdir().unwrap();
    let plain =
        |_: &str, v: &Variant| if v.needs.is_empty() { Ok(()) } else { Err(Failure::Wrong("wrong".to_owned())) };
    let (made, asked) = calibrated(&temp.path().join("out"), plain);
    made.unwrap();
    let wanted = [
        "channel_stats",
        "gram",
        "gptq_block",
        "gptq_refine",
        "rank_update",
        "rms_norm",
        "quantize_tokens",
        "matmul_f32",
        "matmul_w8a8",
        "chunk_scan",
        "attention",
        "rms_norm_gated",
    ];
    for kernel in wanted {
        assert!(asked.contains(kernel), "{kernel} is not among {asked:?}");
    }
}

#[test]
fn calibration_and_gptq_refuse_a_kernel_that_is_wrong_in_every_variant() {
    for (kernel, check) in [
        (
            "gptq_refine",
            (|k, _| if k == "gptq_refine" { Err(Failure::Wrong("NMSE 1".to_owned())) } else { Ok(()) })
                as fn(&str, &Variant) -> _,
        ),
        ("gram", |k, _| if k == "gram" { Err(Failure::Wrong("NMSE 1".to_owned())) } else { Ok(()) }),
        ("channel_stats", |k, _| if k == "channel_stats" { Err(Failure::Wrong("NMSE 1".to_owned())) } else { Ok(()) }),
        ("chunk_scan", |k, _| if k == "chunk_scan" { Err(Failure::Wrong("NMSE 1".to_owned())) } else { Ok(()) }),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let (made, _) = calibrated(&temp.path().join("out"), check);
        let line = made.unwrap_err().to_string();
        assert!(line.contains(&format!("`{kernel}")) && line.contains("NMSE 1"), "{line}");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "something is left of it");
    }
}

/// `kernel.variant` that a plan takes for a norm of `rows` rows.
fn norm(device: &Device, rows: usize) -> String {
    let x = device.alloc(DType::F32, [rows, 64]).unwrap();
    let (weight, out) = (device.alloc(DType::F32, [64]).unwrap(), device.alloc(DType::F32, [rows, 64]).unwrap());
    let mut plan = Plan::new(device);
    rms_norm(&mut plan, &x, &weight, &out, 1e-5).unwrap();
    plan.labels().next().unwrap()
}

/// A variant chosen by measurement runs for launches of its size, once it has passed; where it fails, the best does.
#[test]
fn choices_are_followed_unless_they_are_wrong() {
    let need = NEEDS[0];
    for right in [true, false] {
        let device = gpu();
        let best = norm(&device, 16);
        let gpu = device.gpu().unwrap();
        let kernel = KERNELS.iter().find(|k| k.name == need.kernel).unwrap();
        let others = kernel.variants.iter().filter(|v| v.needs.iter().all(|n| gpu.caps.has(n)));
        let Some(other) = others.map(|v| v.name).find(|v| !best.ends_with(&format!(".{v}"))) else {
            println!("{} has one variant of {}", device.name(), need.kernel);
            return;
        };
        let of_16: Place = (need, SizeClass(2));
        gpu.set_choices([(of_16, other)].into());
        let mut checked = Vec::new();
        let mut checker = |_: &Device, _, v: &'static Variant| {
            checked.push(v.name);
            if right || v.name != other { Ok(()) } else { Err(Failure::Wrong("wrong".to_owned())) }
        };
        let done = ensure(&device, &[need], &Cache::none(), &mut checker).unwrap();
        assert_eq!(counts(&done), (2, 0, usize::from(!right)), "the choice and what takes its place");
        assert_eq!(checked[0], other);
        assert_eq!(norm(&device, 16), if right { format!("{}.{other}", need.kernel) } else { best.clone() });
        assert_eq!(norm(&device, 1), best, "another size");
    }
}

/// What does not compile here is not timed, as the self-test leaves it out of plans; what plans take must.
#[test]
fn tuning_leaves_out_what_does_not_compile() {
    let device = gpu();
    let contests = || {
        let (x, out) = (device.alloc(DType::F32, [16, 64]).unwrap(), device.alloc(DType::F32, [16, 64]).unwrap());
        let weight = device.alloc(DType::F32, [64]).unwrap();
        let mut plan = Plan::new(&device);
        rms_norm(&mut plan, &x, &weight, &out, 1e-5).unwrap();
        contests(&[plan])
    };
    let Some(contest) = contests().pop() else {
        return println!("{} has one variant of rms_norm", device.name());
    };
    let names: Vec<&str> = contest.by.iter().map(|(variant, _)| variant.name).collect();
    let warmer = Warmer::new(&device, 0.0).unwrap();
    let tune = || tune(contests(), &warmer, 1, 0.03, &mut |_| ());
    let breaks = |name| device.gpu().unwrap().override_source("rms_norm", name, Some("no shader".to_owned())).unwrap();
    breaks(names[1]);
    let choices = tune().unwrap();
    let timed: Vec<&str> = choices[0].us.iter().map(|(name, _)| name.as_str()).collect();
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != names[1]).collect();
    assert_eq!(timed, others);
    breaks(names[0]);
    let error = tune().unwrap_err().to_string();
    assert!(error.contains(&format!("rms_norm.{}", names[0])), "{error}");
}
