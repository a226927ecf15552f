//! Every shader variant through the translators of every backend, and through the browsers' WGSL compiler. Needs no
//! GPU: what a driver's compiler would refuse on a machine we do not have should show here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::borrow::Cow;
use std::io::ErrorKind;
use std::process::Command;

use naga::back::pipeline_constants::process_overrides;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::BoundsCheckPolicies;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use rayon::prelude::*;
use wgquant::shaders::{KERNELS, Variant};

/// `kernel.variant` and what is wrong with each; all at once, so that one run shows all.
fn failures(check: impl Fn(&Variant) -> Result<(), String> + Sync) -> Vec<String> {
    let all: Vec<_> = KERNELS.iter().flat_map(|k| k.variants.iter().map(|v| (k.name, v))).collect();
    assert!(!all.is_empty());
    all.par_iter()
        .filter_map(|(kernel, v)| check(v).err().map(|e| format!("{kernel}.{}: {}", v.name, e.trim())))
        .collect()
}

#[track_caller]
fn expect_none(failures: &[String]) {
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn needs(variant: &Variant, word: &str) -> bool {
    variant.needs.contains(&word)
}

/// The source with the directives its capabilities take. naga refuses the one for subgroups, tint insists on it.
fn source(variant: &Variant, subgroups: bool) -> String {
    let directives = [
        ("f16", "enable f16;\n", true),
        ("coop_matrix", "enable wgpu_cooperative_matrix;\n", true),
        ("subgroups", "enable subgroups;\n", subgroups),
    ];
    let wanted =
        directives.iter().filter(|(word, _, wanted)| *wanted && needs(variant, word)).map(|(_, line, _)| *line);
    wanted.chain([variant.source]).collect()
}

/// What the variant may use: nothing beyond WebGPU but the words it names.
fn capabilities(variant: &Variant) -> Capabilities {
    let words = [
        ("f16", Capabilities::SHADER_FLOAT16),
        ("subgroups", Capabilities::SUBGROUP),
        ("coop_matrix", Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16),
    ];
    words
        .iter()
        .filter(|(word, _)| needs(variant, word))
        // `unpack2x16float` and the like are core WGSL: values of f16 in an f32.
        .fold(Capabilities::SHADER_FLOAT16_IN_FLOAT32, |all, (_, capability)| all | *capability)
}

/// Parses, validates, and gives the module with its overrides at their defaults, as a pipeline has it.
fn translated(variant: &Variant, translate: impl Fn(&Module, &ModuleInfo) -> Result<(), String>) -> Result<(), String> {
    let text = source(variant, false);
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
    let info = Validator::new(ValidationFlags::all(), capabilities(variant))
        .validate(&module)
        .map_err(|e| e.emit_to_string(&text))?;
    let (module, info): (Cow<'_, Module>, Cow<'_, ModuleInfo>) =
        process_overrides(&module, &info, None, &Default::default()).map_err(|e| e.to_string())?;
    translate(&module, &info)
}

fn entry() -> Option<(ShaderStage, String)> {
    Some((ShaderStage::Compute, "main".to_owned()))
}

#[test]
fn to_spirv() {
    // Vulkan 1.3's version, which subgroups need here.
    let options = spv::Options { lang_version: (1, 6), ..Default::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_owned() };
    expect_none(&failures(|variant| {
        translated(variant, |module, info| {
            spv::write_vec(module, info, &options, Some(&pipeline)).map(|_| ()).map_err(|e| e.to_string())
        })
    }));
}

#[test]
fn to_metal() {
    let options = msl::Options { lang_version: (3, 1), ..Default::default() };
    let pipeline = msl::PipelineOptions { entry_point: entry(), ..Default::default() };
    expect_none(&failures(|variant| {
        translated(variant, |module, info| {
            let (_, done) = msl::write_string(module, info, &options, &pipeline).map_err(|e| e.to_string())?;
            done.entry_point_names.into_iter().try_for_each(|name| name.map(|_| ()).map_err(|e| e.to_string()))
        })
    }));
}

#[test]
fn to_hlsl() {
    expect_none(&failures(|variant| {
        if needs(variant, "coop_matrix") {
            return Ok(()); // HLSL has none; wgpu never offers them on DX12.
        }
        // 6.2 is the first with 16-bit floats, and 6.4 with packed dot products.
        let shader_model = if needs(variant, "packed_dot") {
            hlsl::ShaderModel::V6_4
        } else if needs(variant, "f16") {
            hlsl::ShaderModel::V6_2
        } else {
            hlsl::ShaderModel::V6_0
        };
        let options = hlsl::Options { shader_model, ..Default::default() };
        let pipeline = hlsl::PipelineOptions { entry_point: entry() };
        translated(variant, |module, info| {
            let mut text = String::new();
            let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
            let done = writer.write(module, info, None).map_err(|e| e.to_string())?;
            done.entry_point_names.into_iter().try_for_each(|name| name.map(|_| ()).map_err(|e| e.to_string()))
        })
    }));
}

#[test]
fn to_glsl() {
    let pipeline =
        glsl::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_owned(), multiview: None };
    // The first versions with compute shaders: of the desktop, and of phones and ANGLE.
    for version in [glsl::Version::Desktop(430), glsl::Version::new_gles(310)] {
        let options = glsl::Options { version, ..Default::default() };
        expect_none(&failures(|variant| {
            if needs(variant, "f16") || needs(variant, "coop_matrix") {
                return Ok(()); // GLSL as naga writes it has neither; wgpu never offers them on GL.
            }
            translated(variant, |module, info| {
                let mut text = String::new();
                glsl::Writer::new(&mut text, module, info, &options, &pipeline, BoundsCheckPolicies::default())
                    .and_then(|mut writer| writer.write().map(|_| ()))
                    .map_err(|e| format!("{version}: {e}"))
            })
        }));
    }
}

/// Chromium's compiler is the second opinion on WGSL, and stricter, about uniform control flow above all.
#[test]
fn tint_accepts() {
    if let Err(e) = Command::new("tint").arg("--help").output() {
        assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
        println!("tint is not on the PATH: WGSL was checked by naga alone");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    expect_none(&failures(|variant| {
        if needs(variant, "coop_matrix") {
            return Ok(()); // wgpu's own extension.
        }
        let text = source(variant, true);
        let file = tempfile::Builder::new().suffix(".wgsl").tempfile_in(&folder).map_err(|e| e.to_string())?;
        std::fs::write(&file, &text).map_err(|e| e.to_string())?;
        let done = Command::new("tint").args(["--format", "wgsl"]).arg(file.path()).output();
        let done = done.map_err(|e| e.to_string())?;
        if done.status.success() {
            return Ok(());
        }
        Err(format!("tint: {}", String::from_utf8_lossy(&done.stderr)))
    }));
}
