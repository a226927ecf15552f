//! The commands that report numbers.

use std::fs;

use serde_json::{Value, json};
use wgquant::transform::Transform;

use crate::common::{nano, refusal, run, run_json, says, short_windows};

/// Perplexity of nano over all its held-out windows (assets/README.md); the first are harder than most.
const NANO_PERPLEXITY: f64 = 14.3136;

#[track_caller]
fn has(report: &Value, keys: &[&str]) {
    for key in keys {
        assert!(report.get(*key).is_some_and(|v| !v.is_null()), "`{key}` is not in {report}");
    }
}

#[test]
fn devices_lists_adapters_with_limits() {
    let report = run_json(&["devices", "--json"]);
    let first = &report["adapters"][0];
    has(first, &["name", "backend", "device_type", "driver", "caps", "max_binding_bytes", "max_buffer_bytes"]);
    says(&run(&["devices"]), &[first["name"].as_str().unwrap(), "CPU reference"]);
}

#[test]
fn doctor_checks_every_kernel() {
    let report = run_json(&["doctor", "--json"]);
    has(
        &report,
        &["adapter", "driver", "backend", "reason", "caps", "details", "passed", "failed", "seconds", "cases"],
    );
    assert_eq!(report["failed"], 0);
    for entry in wgquant::kernels::ENTRIES {
        let ran = report["cases"].as_array().unwrap().iter().filter(|c| c["kernel"] == entry.name).count();
        assert!(ran >= entry.cases.len(), "{} ran {ran} cases", entry.name);
    }
}

#[test]
fn doctor_on_the_reference_says_what_it_did() {
    says(&run(&["doctor", "--device", "cpu"]), &["CPU reference", "rms_norm", "ok", "everything works here"]);
}

#[test]
fn analyze_adds_up() {
    let report = run_json(&["analyze", nano().to_str().unwrap(), "--json"]);
    has(&report, &["model", "bytes", "parameters", "bits_per_parameter", "model_type", "blocks"]);
    assert_eq!(report["blocks"], "M-M*-M-M-");
    let sum = |list: &Value, key: &str| list.as_array().unwrap().iter().map(|p| p[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum(&report["parts"], "bytes"), report["bytes"].as_u64().unwrap());
    assert_eq!(sum(&report["parts"], "parameters"), report["parameters"].as_u64().unwrap());
    let schemes: Vec<&str> =
        report["predictions"].as_array().unwrap().iter().map(|p| p["scheme"].as_str().unwrap()).collect();
    assert_eq!(schemes, ["w8a8", "w4a8", "w4a16"]);
    for prediction in report["predictions"].as_array().unwrap() {
        assert_eq!(sum(&prediction["parts"], "bytes"), prediction["bytes"].as_u64().unwrap());
    }
    says(
        &run(&["analyze", nano().to_str().unwrap()]),
        &["Mamba-2", "attention", "MLP", "embedding", "head", "norms", "w4a16"],
    );
}

#[test]
fn perplexity_of_the_first_windows() {
    let ids = nano().join("val_ids_u16.npy");
    let report =
        run_json(&["perplexity", nano().to_str().unwrap(), "-f", ids.to_str().unwrap(), "--windows", "2", "--json"]);
    has(
        &report,
        &["perplexity", "perplexity_stderr", "nll_per_window", "bits_per_parameter", "bytes", "adapter", "driver"],
    );
    assert_eq!(report["tokens"], 2048);
    let perplexity = report["perplexity"].as_f64().unwrap();
    assert!((perplexity / NANO_PERPLEXITY).ln().abs() < 0.5, "{perplexity}");
}

#[test]
fn devices_agree_on_text_documents_and_tokens() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let text = "The sun was low. A small dog ran over the field, and the children ran after it. ".repeat(3);
    fs::write(file("a.txt"), &text).unwrap();
    fs::write(file("a.jsonl"), format!("{}\n\n", serde_json::json!({ "text": text, "id": 7 }))).unwrap();
    short_windows(temp.path().join("a.npy").as_path(), 2, 40);
    let measure = |name: &str, device: &str| {
        let model = nano();
        let args = ["perplexity", model.to_str().unwrap(), "-f", &file(name), "-c", "32", "--device", device, "--json"];
        run_json(&args)["perplexity"].as_f64().unwrap()
    };
    for name in ["a.txt", "a.jsonl", "a.npy"] {
        let (gpu, cpu) = (measure(name, "gpu"), measure(name, "cpu"));
        assert!((gpu / cpu - 1.0).abs() < 1e-4, "{name}: {gpu} on the GPU, {cpu} on the CPU");
    }
    assert_eq!(measure("a.txt", "cpu"), measure("a.jsonl", "cpu"));
}

/// The flags that make what the presets have: activations in groups, rotated in blocks as large.
#[test]
fn quantize_in_groups_and_blocks_of_32() {
    let temp = tempfile::tempdir().unwrap();
    let (model, out) = (nano(), temp.path().join("a32"));
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    let groups = ["--activations", "dynamic", "--activation-group", "32", "--rotate-block", "32"];
    run(&[&["quantize", model, "-o", out, "--scheme", "w4a8", "--group-size", "32"][..], &groups].concat());
    let recipe = fs::read_to_string(format!("{out}/wgquant_recipe.toml")).unwrap();
    for line in ["out_proj = 32", "down_proj = 32", "[rule.activations.int8]\nsize = 32"] {
        assert!(recipe.contains(line), "no `{line}` in {recipe}");
    }
}

#[test]
fn quantize_then_compare() {
    let temp = tempfile::tempdir().unwrap();
    let (out, ids) = (temp.path().join("w8a8"), temp.path().join("ids.npy"));
    let (model, out, ids) = (nano(), out.to_str().unwrap(), ids.to_str().unwrap());
    short_windows(ids.as_ref(), 2, 129);
    let model = model.to_str().unwrap();
    let text =
        run(&["quantize", model, "-o", out, "--scheme", "W8A8", "--embedding", "16", "--rotate-sites", "down_proj"]);
    says(&text, &["before", "after", "smaller", &format!("wgquant perplexity {out} -f FILE --base {model}")]);
    for file in [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "wgquant_manifest.json",
        "wgquant_recipe.toml",
    ] {
        assert!(std::path::Path::new(out).join(file).is_file(), "{file}");
    }
    let report = run_json(&["perplexity", out, "-f", ids, "--base", model, "--json"]);
    has(
        &report,
        &["perplexity", "perplexity_ratio", "mean_kl", "top1_agreement", "bits_per_parameter", "adapter", "driver"],
    );
    has(&report["base"], &["perplexity", "nll_per_window"]);
    has(&report["base_model"], &["bytes", "bits_per_parameter"]);
    let number = |key: &str| report[key].as_f64().unwrap();
    assert!((number("perplexity_ratio") - 1.0).abs() < 0.05, "{report}");
    assert!(number("mean_kl") > 0.0 && number("mean_kl") < 0.05, "{report}");
    assert!(number("top1_agreement") > 0.9 && number("bits_per_parameter") < 10.0, "{report}");
    let same = run_json(&["perplexity", model, "-f", ids, "--base", model, "--json"]);
    assert_eq!((same["mean_kl"].as_f64(), same["top1_agreement"].as_f64()), (Some(0.0), Some(1.0)));
    // The first 1024 positions are all there are here.
    let range = &report["kl_by_position"][0];
    assert_eq!(
        (range["from"].as_u64(), range["to"].as_u64(), range["tokens"].as_u64()),
        (Some(0), Some(128), Some(256))
    );
    assert!((range["mean_kl"].as_f64().unwrap() / number("mean_kl") - 1.0).abs() < 1e-9, "{report}");
    let int4 = run_json(&["perplexity", model, "-f", ids, "--base", model, "--kv", "int4", "--json"]);
    let kl = int4["mean_kl"].as_f64().unwrap();
    assert!(kl > 1e-6 && kl < 0.02, "int4 keys and values alone: {kl}");
    let f16 = run_json(&["perplexity", model, "-f", ids, "--base", model, "--scan", "f16", "--json"]);
    let kl = f16["mean_kl"].as_f64().unwrap();
    assert!(kl > 1e-12 && kl < 1e-6, "a scan in f16 alone: {kl}");
}

/// The worst on the terminal and all with -v; all in the output, with a hash, the same bytes each time.
#[test]
fn quantize_shows_and_keeps_what_gptq_lost() {
    let temp = tempfile::tempdir().unwrap();
    let (model, ids) = (nano(), temp.path().join("ids.npy"));
    short_windows(&ids, 3, 65);
    let quantize_ids = |ids: &std::path::Path, name: &str, more: &[&str]| {
        let out = temp.path().join(name);
        let fixed = ["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "-f", ids.to_str().unwrap()];
        let rest = ["--scheme", "w4a8", "--sequences", "2", "--sequence-length", "64", "--deterministic"];
        let text = run(&[&fixed[..], &rest[..], more].concat());
        (text, std::fs::read(out.join("wgquant_losses.json")).unwrap(), out)
    };
    let quantize = |name: &str, more: &[&str]| quantize_ids(&ids, name, more);
    let rows = |text: &str| text.lines().filter(|l| l.contains(".mixer.") || l.contains("lm_head")).count();
    let ((short, bytes, out), (long, again, _)) = (quantize("a", &[]), quantize("b", &["-v"]));
    says(&short, &["outputs that it aims at, rounding lost", "-v: all", "Damping"]);
    assert_eq!(rows(&short), 5, "{short}");
    assert!(bytes == again, "two runs give two tables");
    let table: Value = serde_json::from_slice(&bytes).unwrap();
    let modules = table["modules"].as_array().unwrap();
    assert_eq!((table["format"].as_u64(), modules.len()), (Some(1), rows(&long)), "{long}");
    assert!(!long.contains("-v: all") && modules.len() > 5);
    let in_proj = modules.iter().find(|m| m["module"].as_str().unwrap().ends_with("in_proj")).unwrap();
    let segments: Vec<&String> = in_proj["segments"].as_object().unwrap().keys().collect();
    assert_eq!(segments, ["z", "x", "B", "C", "dt"]);
    for module in modules {
        assert!(module["loss"].as_f64().unwrap() > 0.0 && module["seconds"].is_null(), "{module}");
    }
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("wgquant_manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["files"]["wgquant_losses.json"]["bytes"], bytes.len());
    // Where it was computed, and on which tokens: as `calibrate` hashes them.
    let stats = temp.path().join("stats");
    let fixed = ["calibrate", model.to_str().unwrap(), "-f", ids.to_str().unwrap(), "-o", stats.to_str().unwrap()];
    let same = ["--sequences", "2", "--sequence-length", "64", "--device", "cpu", "--json"];
    let part = run_json(&[&fixed[..], &same].concat())["parts"][0].clone();
    let (file, hash) = (&part["file"], &part["tokens_sha256"]);
    let made = json!({ "file": file, "sequences": 2, "tokens_sha256": hash });
    assert_eq!(
        manifest["made"],
        json!({ "device": "CPU reference", "calibration": made, "source_transform": Transform::NONE })
    );
    assert_eq!(file, "ids.npy", "its name and not its path");

    let card = fs::read_to_string(out.join("README.md")).unwrap();
    says(&card, &["by GPTQ. Calibrated on 2 sequences, 128 tokens, of `ids.npy`."]);

    // Under another name the same tokens give the same bytes, the card's and the manifest's word for the file aside.
    let renamed = temp.path().join("renamed.npy");
    fs::rename(&ids, &renamed).unwrap();
    let (_, _, other) = quantize_ids(&renamed, "c", &[]);
    for entry in fs::read_dir(&out).unwrap().map(|e| e.unwrap()) {
        let [one, two] = [&out, &other].map(|dir| {
            let bytes = fs::read(dir.join(entry.file_name())).unwrap();
            let text = match entry.file_name().to_str() {
                Some("README.md") => String::from_utf8(bytes).unwrap(),
                Some("wgquant_manifest.json") => {
                    let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
                    manifest["files"]["README.md"].take();
                    manifest.to_string()
                }
                _ => return bytes,
            };
            text.replace("renamed.npy", "ids.npy").into_bytes()
        });
        assert!(one == two, "{:?}", entry.file_name());
    }
}

/// Weights that take the memory of floats are told of once each, by who runs the model: not by GPTQ, which uploads them for a while. And
/// little text is told of, once, where it is little.
#[test]
fn warnings_come_once_and_from_who_can_mend_it() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (model, recipe, little, out, enough) =
        (nano().display().to_string(), at("recipe.toml"), at("little.npy"), at("out"), at("enough.npy"));
    short_windows(little.as_ref(), 2, 65);
    // 672 inputs three times.
    short_windows(enough.as_ref(), 8, 253);
    let rule = "modules = [\"Linear\"]\nweights = { bits = 6, group = { size = 32 }, scales = { nested = 6 } }\n";
    fs::write(&recipe, format!("float = \"bf16\"\n[gptq]\nsweeps = 0\nscale_steps = 1\n[[rule]]\n{rule}")).unwrap();
    let said = |args: &[&str]| {
        let output = crate::common::wgquant().args(args).args(["--device", "cpu"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        stderr
    };
    let quantize = |out: &str, text: &str, length: &str| {
        let cut = ["--sequences", "8", "--sequence-length", length];
        said(&[&["quantize", &model, "-o", out, "--recipe", &recipe, "-f", text], &cut[..]].concat())
    };
    let (short, long) = (quantize(&out, &little, "64"), quantize(&at("more"), &enough, "252"));
    let count = |text: &str, words: &str| text.lines().filter(|line| line.contains(words)).count();
    says(&short, &["calibration: 128 tokens for weights of up to 672 inputs; GPTQ may do worse than --method rtn"]);
    assert_eq!((count(&short, "tokens for weights of"), count(&long, "tokens for weights of")), (1, 0), "{long}");
    assert_eq!((count(&short, "held as f32"), count(&long, "held as f32")), (0, 0), "{short}");
    let run = said(&["generate", &out, "-p", "The sea", "-n", "1"]);
    assert_eq!((count(&run, "in_proj of layer 0: a weight of 6 bits"), count(&run, "held as f32")), (1, 21), "{run}");
}

#[test]
fn diff_passes_on_nano_and_fails_by_tolerance() {
    let temp = tempfile::tempdir().unwrap();
    let (model, dump) = (nano(), temp.path().join("a.safetensors"));
    let (model, dump) = (model.to_str().unwrap(), dump.to_str().unwrap());
    let report = run_json(&["diff", model, "-p", "The sea", "--dump", dump, "--json"]);
    has(&report, &["run", "against", "tokens", "ops"]);
    assert!(report["culprit"].is_null() && report["ops"].as_array().unwrap().len() > 90, "{report}");
    // The reference is written without anything to compare it with.
    let own = temp.path().join("reference.safetensors");
    let own = own.to_str().unwrap();
    let args = ["diff", model, "--device", "cpu", "-p", "The sea"];
    says(&run(&[&args[..], &["--dump", own]].concat()), &["one decode step written to", "reference.safetensors"]);
    says(&refusal(crate::common::wgquant().args(args)), &["--against cpu", "--dump alone"]);
    assert_eq!(run_json(&["diff", model, "--against", own, "--json"])["culprit"], Value::Null);
    // The dump of one device against the other, without a prompt.
    let text = run(&["diff", model, "--device", "cpu", "--against", dump, "--all"]);
    says(&text, &["in_proj", "attention", "decode: scan", "largest errors", "within their tolerances"]);
    let strict = crate::common::wgquant().args(["diff", model, "-p", "The sea", "--tolerance", "0"]).output().unwrap();
    assert_eq!(strict.status.code(), Some(1));
    says(&String::from_utf8_lossy(&strict.stdout), &["FAILED", "first op past its tolerance: layer 0"]);
}

/// Ops are compared in one pass, however long the prompt is.
#[test]
fn diff_takes_long_prompts() {
    let (temp, model) = (tempfile::tempdir().unwrap(), nano());
    let (model, dump) = (model.to_str().unwrap(), temp.path().join("long.safetensors"));
    let (dump, prompt) = (dump.to_str().unwrap(), "The sea. ".repeat(75));
    let cpu = ["diff", model, "--device", "cpu", "--json", "--against"];
    for rest in [&[model, "-p", prompt.as_str(), "--dump", dump][..], &[dump]] {
        let report = run_json(&[&cpu[..], rest].concat());
        assert!(report["tokens"].as_u64().unwrap() > 256, "{}", report["tokens"]);
    }
}

#[test]
fn diff_of_a_quantized_model_ranks_its_ops() {
    let temp = tempfile::tempdir().unwrap();
    let (model, out) = (nano(), temp.path().join("w4a8"));
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    run(&["quantize", model, "-o", out, "--scheme", "w4a8"]);
    let text = run(&["diff", out, "-p", "The sea", "--against", model, "--all"]);
    says(&text, &["other basis", "in_proj", "largest errors", "within their tolerances", "could not be compared"]);
    says(&run(&["diff", out, "-p", "The sea", "--all"]), &["in_proj.codes", "within their tolerances"]);
    // The original's activations in a file are another model's, too.
    let dump = temp.path().join("a.safetensors");
    let dump = dump.to_str().unwrap();
    run(&["diff", model, "-p", "The sea", "--device", "cpu", "--against", "gpu", "--dump", dump]);
    says(&run(&["diff", out, "--against", dump, "--all"]), &["other basis", "within their tolerances"]);
}

/// Which ops can be compared the recipes of both models say, and a dump says it of its own.
#[test]
fn diff_judges_what_no_rewrite_changed() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (model, ids, dump) = (nano().display().to_string(), temp.path().join("ids.npy"), at("a.safetensors"));
    let (model, dump) = (model.as_str(), dump.as_str());
    short_windows(&ids, 3, 65);
    let diff = |out: &str, more: &[&str]| run(&[&["diff", out, "--device", "cpu", "--against"], more].concat());
    let write = |name: &str, recipe: &str| {
        let (file, out) = (at(&format!("{name}.toml")), at(name));
        fs::write(&file, format!("{recipe}[[rule]]\nmodules = [\"Linear\"]\n")).unwrap();
        let calibration = ["-f", ids.to_str().unwrap(), "--sequences", "2", "--sequence-length", "64"];
        let text = ["quantize", model, "-o", &out, "--device", "cpu", "--recipe", &file];
        run(&[&text[..], if recipe.contains("smooth") { &calibration[..] } else { &[] }].concat());
        out
    };
    let plain = write("plain", "float = \"bf16\"\n");
    let text = diff(&plain, &[model, "-p", "The big dog", "--dump", dump]);
    says(&text, &["within their tolerances"]);
    assert!(!text.contains("could not be compared"), "{text}");

    let smooth = write("smooth", "float = \"f32\"\n[transform.smooth]\nrelu2 = 0.5\nvalues = 0.5\n");
    let compared = |more: &[&str]| {
        let report: Value = serde_json::from_str(&diff(&smooth, &[more, &["--json"]].concat())).unwrap();
        let ops = report["ops"].as_array().unwrap().iter().filter(|op| op["verdict"] == "ok");
        ops.map(|op| op["op"].as_str().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    for against in [&[model, "-p", "The big dog"][..], &[plain.as_str(), "-p", "The big dog"], &[dump]] {
        let ops = compared(against);
        assert!(ops.contains("in_proj") && ops.contains("down_proj") && !ops.contains("up_proj"), "{ops:?}");
    }
    let recipe = temp.path().join("smooth/wgquant_recipe.toml");
    fs::write(&recipe, "float = 3\n").unwrap();
    let mut command = crate::common::wgquant();
    command.args(["diff", &smooth, "--device", "cpu", "--against", model, "-p", "The big dog"]);
    says(&refusal(&mut command), &["smooth/wgquant_recipe.toml", "line 1", "float = 3"]);
    fs::remove_file(&recipe).unwrap();
    let ops = compared(&[model, "-p", "The big dog"]);
    assert!(ops.contains("down_proj") && !ops.contains("in_proj") && !ops.contains("up_proj"), "{ops:?}");
}

#[test]
fn the_self_test_is_remembered() {
    let temp = tempfile::tempdir().unwrap();
    let model = nano();
    let generate = || {
        let mut command = crate::common::wgquant();
        command.env("WGQUANT_CACHE_DIR", temp.path()).env("RUST_LOG", "wgquant=debug");
        let output = command.arg("generate").arg(&model).args(["-p", "The sea", "-n", "2"]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).contains("self-test: ")
    };
    assert_eq!((generate(), generate()), (true, false));
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}
