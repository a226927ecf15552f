//! Parameters compiled in instead of read from a uniform buffer (`gpu::Specialise`): every kernel gives what its reference does.

use std::collections::HashMap;

use pollster::block_on;
use wgquant::gpu::{Device, DeviceTensor, Plan, Specialise};
use wgquant::kernels::{self, ENTRIES, check};
use wgquant::shaders::KERNELS;
use wgquant::tensor::DType;

/// Cases of each variant, since each is compiled by itself.
const CASES: usize = 2;

/// A device of its own: what it compiles is nobody else's.
fn device(specialise: Specialise) -> Device {
    let device = super::common::open(std::env::var("WGQUANT_CAPS").ok().as_deref());
    device.gpu().unwrap().set_specialise(specialise);
    device
}

#[test]
fn every_variant_gives_what_its_reference_does() {
    let device = device(Specialise::Often);
    let (mut failures, mut checked) = (Vec::new(), 0);
    let probe = |entry: &check::Entry| entry.name.starts_with("probe_");
    for entry in ENTRIES {
        let mut seen: HashMap<Option<&str>, usize> = HashMap::new();
        for case in entry.cases {
            for variant in check::variants(&device, entry, case) {
                let times = seen.entry(variant).or_default();
                *times += 1;
                if *times > CASES {
                    continue;
                }
                match block_on(check::check_as(&device, entry, case, variant, 1, true)) {
                    // Of what the adapter lacks.
                    Ok(check::Outcome { skipped: Some(_), .. }) if probe(entry) => {}
                    Ok(outcome) => {
                        checked += 1;
                        failures.extend(outcome.failure.or(outcome.skipped));
                    }
                    Err(e) => failures.push(format!("{}/{}: {e}", entry.name, case.name)),
                }
            }
        }
        assert!(!seen.is_empty(), "{} has cases", entry.name);
    }
    println!("{checked} checked on {}", device.name());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let least = CASES * ENTRIES.iter().filter(|e| !probe(e)).count();
    assert!(checked >= least, "{checked} checked, of {least} in the variants that the adapter gets alone");
}

/// What a plan of its `eps` computes of the same `x`.
fn norm(device: &Device, x: &DeviceTensor, eps: f32) -> Vec<u32> {
    let weight = device.upload_f32([4], &[1.0; 4]).unwrap();
    let out = device.alloc(DType::F32, [1, 4]).unwrap();
    let mut plan = Plan::new(device).specialised();
    kernels::rms_norm(&mut plan, x, &weight, &out, eps).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(device.read(&out)).unwrap()
}

/// What does not compile with constants runs without them.
#[test]
fn a_shader_that_constants_break_keeps_its_uniform() {
    let device = device(Specialise::Often);
    let x = device.upload_f32([1, 4], &[0.5, -1.0, 2.0, 0.25]).unwrap();
    let want = norm(&device, &x, 1e-5);
    let kernel = KERNELS.iter().find(|k| k.name == "rms_norm").unwrap();
    for variant in kernel.variants {
        let entry = variant.source.find("@compute").unwrap();
        let begin = entry + variant.source[entry..].find("{\n").unwrap() + 2;
        let (head, body) = variant.source.split_at(begin);
        let broken = format!("{head}    if params.cols > 4u && 1u / (params.cols - 4u) > 9u {{ return; }}\n{body}");
        device.gpu().unwrap().override_source("rms_norm", variant.name, Some(broken)).unwrap();
    }
    assert_eq!(norm(&device, &x, 1e-5), want);
}

/// Pipelines of other parameters are other pipelines.
#[test]
fn plans_of_different_parameters_do_not_share_a_pipeline() {
    let by = [Specialise::Never, Specialise::Often].map(|specialise| {
        let device = device(specialise);
        let x = device.upload_f32([1, 4], &[0.5, -1.0, 2.0, 0.25]).unwrap();
        [1e-5, 4.0, f32::MAX, 1e-5].map(|eps| norm(&device, &x, eps))
    });
    assert_eq!(by[0][0], by[0][3]);
    assert_ne!(by[0][0], by[0][1]);
    for (constant, uniform) in by[1].iter().zip(&by[0]) {
        let [constant, uniform] = [constant, uniform].map(|words| bytemuck::cast_slice::<u32, f32>(words));
        super::common::assert_close(constant, uniform, 1e-12);
    }
}

/// What plans of several lengths share is compiled once and serves all of them.
#[test]
fn what_two_plans_agree_in_serves_a_third() {
    let device = device(Specialise::Often);
    let cols = 36;
    let weight = device.upload_f32([cols], &vec![1.5; cols]).unwrap();
    let values: Vec<f32> = (0..7 * cols).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
    let run = |rows: usize, other: usize| {
        let x = device.upload_f32([rows, cols], &values[..rows * cols]).unwrap();
        let out = device.alloc(DType::F32, [rows, cols]).unwrap();
        let plan = |rows: usize| {
            let [x, out] = [&x, &out].map(|t| t.view(DType::F32, [rows, cols]).unwrap());
            let mut plan = Plan::new(&device);
            kernels::rms_norm(&mut plan, &x, &weight, &out, 1e-5).unwrap();
            plan
        };
        plan(rows).specialised_with(&plan(other)).record().unwrap().run().unwrap();
        block_on(device.read_f32(&out)).unwrap()
    };
    let compiled = || device.gpu().unwrap().compiled();
    let all = run(7, 3);
    assert_eq!(compiled(), 1);
    assert_eq!(run(4, 2), all[..4 * cols]);
    assert_eq!(compiled(), 1, "what is compiled depends on the length");
    // All in common, the length too.
    assert_eq!(run(5, 5), all[..5 * cols]);
    assert_eq!(compiled(), 2, "the length is not compiled in");
    for (row, out) in values.chunks(cols).zip(all.chunks(cols)) {
        let factor = 1.5 / (row.iter().map(|v| v * v).sum::<f32>() / cols as f32 + 1e-5).sqrt();
        let want: Vec<f32> = row.iter().map(|v| v * factor).collect();
        super::common::assert_close(out, &want, 1e-12);
    }
}
