//! Every shader variant through the translators of every backend, and through the browsers' WGSL compiler. Needs no
//! GPU: what a driver's compiler would refuse on a machine we do not have should show here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::borrow::Cow;
use std::io::ErrorKind;
use std::process::Command;

use naga::back::pipeline_constants::process_overrides;
use naga::back::{glsl, hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, Layouter};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage};
use rayon::prelude::*;
use wgquant::shaders::{KERNELS, Variant};

/// Every variant with its kernel's name.
fn all() -> Vec<(&'static str, &'static Variant)> {
    KERNELS.iter().flat_map(|k| k.variants.iter().map(|v| (k.name, v))).collect()
}

/// `kernel.variant` and what is wrong with each; all at once, so that one run shows all.
fn failures(check: impl Fn(&Variant) -> Result<(), String> + Sync) -> Vec<String> {
    assert!(!all().is_empty());
    all()
        .par_iter()
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

/// As wgpu gives it to Vulkan: 1.3, or 1.6 with the words that need more of the driver.
fn spirv(variant: &Variant, take: impl Fn(&[u32]) -> Result<(), String>) -> Result<(), String> {
    let newer = needs(variant, "subgroups") || needs(variant, "coop_matrix");
    let options = spv::Options { lang_version: if newer { (1, 6) } else { (1, 3) }, ..Default::default() };
    let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: "main".to_owned() };
    translated(variant, |module, info| {
        let words = spv::write_vec(module, info, &options, Some(&pipeline)).map_err(|e| e.to_string())?;
        take(&words)
    })
}

/// Matrices are loaded at multiples of 16 bytes, and a driver may put workgroup variables one right behind the other.
#[test]
fn workgroup_memory_beside_matrices_is_of_whole_16_bytes() {
    let aligned = |module: &Module, _: &ModuleInfo| {
        let mut layouter = Layouter::default();
        layouter.update(module.to_ctx()).map_err(|e| e.to_string())?;
        let shared = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
        let sizes: Vec<_> = shared.map(|(_, v)| (v.name.clone().unwrap_or_default(), layouter[v.ty].size)).collect();
        match sizes.iter().find(|(_, bytes)| bytes % 16 != 0) {
            Some((name, bytes)) => Err(format!("`{name}` has {bytes} bytes")),
            None if sizes.is_empty() => Err("has no workgroup memory".to_owned()),
            None => Ok(()),
        }
    };
    let of_matrices = |v: &Variant| if needs(v, "coop_matrix") { translated(v, aligned) } else { Ok(()) };
    expect_none(&failures(of_matrices));
}

#[test]
fn to_spirv() {
    expect_none(&failures(|variant| spirv(variant, |_| Ok(()))));
}

/// The one false alarm of spirv-val 2025.5 on naga 30's output, VUID-StandaloneSpirv-None-10684: naga puts ArrayStride on
/// arrays of workgroup memory, and offsets and matrix strides on members of structs that no buffer holds, where they mean
/// nothing. They are taken off here, as spirv-val would stop at them and see nothing else; arrays of buffers are runtime
/// arrays and keep theirs, and so do structs in buffers. (VUID-10870, of `subgroupBarrier`, is not met: no shader uses it.)
fn without_idle_layout(words: &[u32]) -> Vec<u32> {
    const DECORATE: u32 = 71;
    const MEMBER_DECORATE: u32 = 72;
    const ARRAY: u32 = 28;
    const RUNTIME_ARRAY: u32 = 29;
    const STRUCT: u32 = 30;
    const POINTER: u32 = 32;
    const ARRAY_STRIDE: u32 = 6;
    // RowMajor, ColMajor, MatrixStride, Offset.
    const LAYOUT: [u32; 4] = [4, 5, 7, 35];
    // Uniform, StorageBuffer.
    const BUFFERS: [u32; 2] = [2, 12];
    let mut instructions = Vec::new();
    let (head, mut rest) = words.split_at(5);
    while let Some(first) = rest.first() {
        let (instruction, after) = rest.split_at((first >> 16) as usize);
        instructions.push(instruction);
        rest = after;
    }
    let of = |op: u32| instructions.iter().filter(move |i| i[0] & 0xffff == op);
    let arrays: Vec<u32> = of(ARRAY).map(|i| i[1]).collect();
    // Types that buffers hold, and then what those are made of.
    let mut held: Vec<u32> = of(POINTER).filter(|i| BUFFERS.contains(&i[2])).map(|i| i[3]).collect();
    let mut at = 0;
    while let Some(&id) = held.get(at) {
        held.extend(of(STRUCT).filter(|i| i[1] == id).flat_map(|i| &i[2..]));
        held.extend(of(ARRAY).chain(of(RUNTIME_ARRAY)).filter(|i| i[1] == id).map(|i| i[2]));
        at += 1;
    }
    let idle = |i: &[u32]| match i[0] & 0xffff {
        DECORATE => i[2] == ARRAY_STRIDE && arrays.contains(&i[1]),
        MEMBER_DECORATE => LAYOUT.contains(&i[3]) && !held.contains(&i[1]),
        _ => false,
    };
    head.iter().chain(instructions.iter().copied().filter(|i| !idle(i)).flatten()).copied().collect()
}

/// Year and number of the first spirv-val that is asked: older ones (Debian 12 has 2023.1) do not know cooperative matrices.
const SPIRV_VAL: (u32, u32) = (2024, 1);

/// What `spirv-val --version` begins with: `SPIRV-Tools v2025.5 ..`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let (year, rest) = text.strip_prefix("SPIRV-Tools v")?.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((year.parse().ok()?, rest[..digits].parse().ok()?))
}

/// spirv-val of `target/tools` (`scripts/spirv-val.sh` puts it there) or of the PATH, where it is new enough.
fn spirv_val() -> Option<Command> {
    let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/cmeel.prefix/bin/spirv-val");
    let new_enough = |program: &&str| {
        let said = Command::new(program).arg("--version").output();
        said.is_ok_and(|o| version_of(&String::from_utf8_lossy(&o.stdout)).is_some_and(|v| v >= SPIRV_VAL))
    };
    [ours, "spirv-val"].into_iter().find(new_enough).map(Command::new)
}

/// Says by name what a missing program leaves unchecked; `WGQUANT_REQUIRE_*` makes that a failure.
fn missing(program: &str, variable: &str) {
    assert!(std::env::var_os(variable).is_none_or(|v| v != "1"), "{variable}=1, but there is no {program}");
    println!("SKIPPED: no {program}; {} shader variants were not put through it", all().len());
}

#[test]
fn spirv_val_accepts() {
    if spirv_val().is_none() {
        return missing("spirv-val of 2024.1 or later", "WGQUANT_REQUIRE_SPIRV_VAL");
    }
    let folder = tempfile::tempdir().unwrap();
    expect_none(&failures(|variant| {
        spirv(variant, |words| {
            let target = if words[1] >= 0x0001_0600 { "vulkan1.3" } else { "vulkan1.1" };
            let file = tempfile::Builder::new().suffix(".spv").tempfile_in(&folder).map_err(|e| e.to_string())?;
            let bytes: Vec<u8> = without_idle_layout(words).iter().flat_map(|w| w.to_le_bytes()).collect();
            std::fs::write(&file, bytes).map_err(|e| e.to_string())?;
            let done = spirv_val().unwrap().args(["--target-env", target]).arg(file.path()).output();
            let done = done.map_err(|e| e.to_string())?;
            if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
        })
    }));
}

#[test]
fn versions_of_spirv_val() {
    assert_eq!(version_of("SPIRV-Tools v2023.1 unknown hash, 2023-02-15"), Some((2023, 1)));
    assert_eq!(version_of("SPIRV-Tools v2025.1~rc1 unknown hash"), Some((2025, 1)));
    assert_eq!(version_of("SPIRV-Tools v2025.5 v2025.5-0-g1234\nTargets:"), Some((2025, 5)));
    assert_eq!(version_of("clang 19.1.0"), None);
}

/// The check can fail: a buffer's array without its stride.
#[test]
fn spirv_val_refuses() {
    let Some(mut program) = spirv_val() else {
        return missing("spirv-val of 2024.1 or later", "WGQUANT_REQUIRE_SPIRV_VAL");
    };
    let kernel = KERNELS.iter().find(|k| k.name == "relu_squared").unwrap();
    let stride_off = |words: &[u32]| {
        let at = (5..words.len() - 3).find(|i| words[*i] == 0x0004_0047 && words[i + 2] == 6).unwrap();
        let kept = [&words[..at], &words[at + 4..]].concat();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, kept.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        let done = program.args(["--target-env", "vulkan1.1"]).arg(file.path()).output().unwrap();
        assert!(!done.status.success(), "accepted an array without a stride");
        Ok(())
    };
    let stride_off = std::cell::RefCell::new(stride_off);
    spirv(&kernel.variants[0], |words| stride_off.borrow_mut()(words)).unwrap();
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
        return missing("tint", "WGQUANT_REQUIRE_TINT");
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
