//! `wgquant test-ops`.

use std::fs;
use std::path::Path;

use serde_json::Value;

#[cfg(unix)]
use crate::common::program;
use crate::common::{edit, refusal, run, run_json, says, wgquant};

/// What is wrong with `value` by `schema`, in the keywords that our schema uses; another keyword panics.
fn check(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().unwrap() {
        let fine = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").unwrap();
                check(root, &root["$defs"][name], value, at, wrong);
                true
            }
            "type" => {
                let is = |t: &Value| match t.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("{other}"),
                };
                rule.as_array().map_or_else(|| is(rule), |all| all.iter().any(is))
            }
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "minLength" => value.as_str().unwrap().len() as u64 >= rule.as_u64().unwrap(),
            "maxLength" => value.as_str().unwrap().len() as u64 <= rule.as_u64().unwrap(),
            "required" => rule.as_array().unwrap().iter().all(|k| value.get(k.as_str().unwrap()).is_some()),
            "additionalProperties" => value.as_object().unwrap().keys().all(|k| schema["properties"].get(k).is_some()),
            "properties" => {
                for (key, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        check(root, rule, value, &format!("{at}.{key}"), wrong);
                    }
                }
                true
            }
            "items" => {
                value.as_array().into_iter().flatten().for_each(|v| check(root, rule, v, &format!("{at}[]"), wrong));
                true
            }
            other => panic!("the schema uses `{other}`, which this test does not know"),
        };
        if !fine {
            wrong.push(format!("{at}: {keyword} {rule} for {value}"));
        }
    }
}

fn mistakes(file: &Value) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/test-ops.schema.json");
    let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    check(&schema, &schema, file, "file", &mut wrong);
    wrong
}

#[test]
fn result_files_keep_to_the_schema() {
    let file = run_json(&["test-ops", "test", "-o", "argmax,scale_.*", "--json", "--jobs", "2"]);
    assert_eq!(mistakes(&file), [""; 0]);
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.iter().all(|c| c["status"] == "Pass" || c["status"] == "Skip"), "{file}");
    for entry in wgquant::kernels::ENTRIES.iter().filter(|e| matches!(e.name, "argmax" | "scale_channels")) {
        for case in entry.cases {
            assert!(cases.iter().any(|c| c["case"] == case.name && c["variant"] == "best"), "{}", case.name);
        }
    }
    // The check itself can fail.
    let mut bad = file.clone();
    bad["cases"][0]["status"] = "Good".into();
    bad["adapter"]["vendor"] = "x".into();
    bad["shaders"][0].as_object_mut().unwrap().remove("sha256");
    bad["extra"] = 1.into();
    assert_eq!(mistakes(&bad).len(), 4, "{:?}", mistakes(&bad));
}

/// The files that docs/portability.md is made of.
#[test]
fn committed_results_keep_to_the_schema_and_hold_no_surprise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results/test-ops");
    // The packaged crate is without them.
    if !folder.is_dir() {
        return println!("SKIPPED: {} is absent", folder.display());
    }
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|n| n.extension().is_some_and(|e| e == "json"));
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let file: Value = serde_json::from_slice(&fs::read(&name).unwrap()).unwrap();
        assert_eq!(mistakes(&file), [""; 0], "{}", name.display());
        let read: wgquant::report::test_ops::ResultFile = serde_json::from_value(file).unwrap();
        assert!(read.as_expected() && read.cases.len() > 200, "{}: {:?}", name.display(), read.counts());
    }
}

#[test]
fn perf_measures_peaks_and_speeds() {
    let file = run_json(&["test-ops", "perf", "-o", "relu_squared", "--case", "nano.*|.*8b.*", "--json"]);
    assert_eq!(mistakes(&file), [""; 0]);
    assert!(file["peaks"]["copy_bytes_per_s"].as_f64().unwrap() > 1e6, "{file}");
    assert!(file["peaks"]["fma_ops_per_s"].as_f64().unwrap() > 1e6, "{file}");
    for case in file["cases"].as_array().unwrap().iter().filter(|c| c["status"] != "Skip") {
        let speed = &case["speed"];
        assert!(speed["us"].as_f64().unwrap() > 0.0 && speed["percent_of_copy"].as_f64().unwrap() > 0.0, "{case}");
    }
}

#[test]
fn every_format_and_filter() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let mut args: Vec<String> =
        ["test-ops", "test", "-b", "cpu", "-o", "scale_channels", "-p", "cols=1\\b"].map(str::to_owned).into();
    // A result takes the place of the file of its name, whole: what else was that file stays.
    fs::write(file("kept"), "as it was").unwrap();
    fs::hard_link(file("kept"), file("a.json")).unwrap();
    let names = ["a.json", "a.xml", "a.csv", "a.html"];
    names.iter().for_each(|n| args.extend(["-O".to_owned(), file(n)]));
    says(&run(&args), &["CPU reference", "scale_channels", "1 of 1 cases as expected (1 Pass), seed 1"]);
    let text = |name: &str| fs::read_to_string(file(name)).unwrap();
    let json: Value = serde_json::from_str(&text("a.json")).unwrap();
    assert_eq!((json["cases"].as_array().unwrap().len(), &json["cases"][0]["case"]), (1, &Value::from("one_column")));
    says(
        &text("a.xml"),
        &["<testsuite name=\"scale_channels.best\" tests=\"1\" failures=\"0\"", "name=\"one_column\""],
    );
    assert_eq!(text("a.csv").lines().count(), 2);
    says(&text("a.csv"), &["\"rows=300, cols=1\"", ",Pass,"]);
    says(&text("a.html"), &["<!doctype html>", "class=\"c Pass\"", "one_column (rows=300, cols=1): Pass"]);
    assert_eq!(text("kept"), "as it was");
}

#[test]
fn support_and_lists() {
    says(&run(&["test-ops", "support", "-o", "embed"]), &["embed.f32: yes", "embed.bf16: yes"]);
    let support = |more: &[&'static str]| [&["test-ops", "support", "-b", "cpu", "-o", "embed"][..], more].concat();
    let json = run_json(&support(&["--json"]));
    assert_eq!((&json["adapter"]["backend"], &json["variants"][0]["kernel"]), (&"cpu".into(), &"embed".into()));
    assert_eq!(json, run_json(&support(&["--output", "json"])));
    assert_eq!(run(&support(&["--output", "console"])), run(&support(&[])));
    // What only cases have.
    for flag in
        ["--baseline=none.csv", "-j4", "--timeout=1", "--seed=9", "--large", "--case=x", "-Ox.json", "--output=csv"]
    {
        let output = wgquant().args(support(&[flag])).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{flag}");
        says(&String::from_utf8(output.stderr).unwrap(), &["error: ", "For more information, try '--help'"]);
    }
    let list = run(&["test-ops", "test", "--list-ops", "-o", "embed"]);
    assert!(list.starts_with("embed\n  ") && !list.contains("absmax"), "{list}");
    let list = |args: &[&str]| run(&[&["test-ops", "test", "--list-ops"][..], args].concat());
    let one = list(&["-o", "embed_codes", "--case", "nano.*", "-p", "rows=5\\b"]);
    assert_eq!(one, "embed_codes\n  nano (rows=5, vocab=512, cols=128, ids=512)\n");
    let large = list(&["-o", "matmul_w8a8", "--case", "square.*", "--large"]);
    assert_eq!(large, "matmul_w8a8\n  square_4096 (m=4096, n=4096, k=4096)\n");
}

/// What keeps adapters out is named, and those that are there with it.
#[test]
fn a_backend_that_this_system_lacks() {
    let backend = if cfg!(target_vendor = "apple") { "dx12" } else { "metal" };
    let adapter = run_json(&["devices", "--json"])["adapters"][0].clone();
    let line = refusal(wgquant().args(["test-ops", "test", "-o", "embed", "-b", backend]));
    says(&line, &["no GPU adapter at all", &format!("of backend `{backend}`; found: none"), "--device cpu\n"]);
    assert!(!line.contains("Vulkan driver") && !line.contains("exit status"), "{line}");
    if adapter["backend"] != "gl" {
        says(&line, &["of other backends: ", adapter["name"].as_str().unwrap()]);
    }
}

#[test]
fn a_baseline_expects_failures() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("known.csv");
    fs::write(&path, "adapter,driver,kernel,case,variant,reason\nCPU,,scale_channels,one_column,,why not\n").unwrap();
    let args = ["test-ops", "test", "-b", "cpu", "-o", "scale_channels", "--baseline", path.to_str().unwrap()];
    let output = wgquant().args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    says(&text, &["UnexpectedPass scale_channels/one_column [best]: passes; the baseline says: why not"]);
    says(&text, &["--seed 1 --backend cpu\n"]);
    fs::write(&path, "adapter,driver,kernel,case,variant,reason\nno such adapter,,.*,,,why\n").unwrap();
    run(&args);
    // Whatever the adapter is and the filters leave.
    let lines =
        ",,scale_channels,one_colum,,why\nno such,,scale_chanels,,,why\nno such,,matmul_w8a8,square_4096,,why\n";
    fs::write(&path, format!("adapter,driver,kernel,case,variant,reason\n{lines}")).unwrap();
    let output = wgquant().args(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    says(&stderr, &["known.csv: line 2: there is no such kernel", "known.csv: line 3: there is no such kernel"]);
    assert!(!stderr.contains("line 4") && !stderr.contains("matches no case"), "{stderr}");
    fs::write(&path, "adapter\n").unwrap();
    says(&refusal(wgquant().args(args)), &["known.csv", "line 1: the head is `adapter`"]);
}

/// Runs with faults injected (`src/cli/test_ops/child.rs`); exit code, stdout.
fn injected(faults: &str, args: &[&str]) -> (Option<i32>, String) {
    let mut command = wgquant();
    command.env("WGQUANT_INJECT_FAULT", faults).args(["test-ops", "test", "-o", "scale_channels"]).args(args);
    command.args(["--case", "nano_tokens|odd_cols|one_column|nemotron_8b_token"]);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// A child that dies, hangs or loses its device is the result of its case, and the others are run all the same.
#[test]
fn crashes_hangs_and_lost_devices_are_results() {
    let names = ["nano_tokens", "odd_cols", "one_column"];
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let faults =
        format!("scale_channels/{}=abort;scale_channels/{}=hang;scale_channels/{}=lost", names[0], names[1], names[2]);
    let (json, xml, known, once) = (file("a.json"), file("a.xml"), file("known.csv"), file("once"));
    let (code, text) = injected(&faults, &["--timeout", "10", "-O", &json, "-O", &xml]);
    assert_eq!(code, Some(1), "{text}");
    says(&text, &[&format!("Crash scale_channels/{}", names[0]), &format!("Timeout scale_channels/{}", names[1])]);
    let result: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(mistakes(&result), [""; 0]);
    let statuses: Vec<&str> =
        result["cases"].as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap()).collect();
    assert_eq!(statuses[..3], ["Crash", "Timeout", "Crash"]);
    assert!(statuses.len() == 4 && statuses[3..].iter().all(|s| *s == "Pass"), "{statuses:?}");
    let message = |i: usize| result["cases"][i]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message(0).contains("SIGABRT") || cfg!(not(unix)), "{}", message(0));
    says(&message(1), &["not done after 10 s"]);
    says(&message(2), &["device lost"]);
    says(&fs::read_to_string(&xml).unwrap(), &["failures=\"3\"", "type=\"Crash\"", "type=\"Timeout\""]);

    // As a baseline expects; one that passes is told; one that dies once only is a flake.
    let head = "adapter,driver,kernel,case,variant,reason\n";
    fs::write(&known, format!("{head},,scale_channels,{}|{},,dies\n", names[0], names[1])).unwrap();
    let faults = format!("scale_channels/{}=abort;scale_channels/{}=abort-once:{once}", names[0], names[2]);
    let (code, text) = injected(&faults, &["--baseline", &known, "--json"]);
    let result: Value = serde_json::from_str(&text).unwrap();
    let statuses: Vec<&str> =
        result["cases"].as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap()).collect();
    assert_eq!((code, &statuses[..3]), (Some(1), &["ExpectedFail", "UnexpectedPass", "Flake"][..]));
    fs::write(&known, format!("{head},,scale_channels,{},,dies\n", names[0])).unwrap();
    assert_eq!(injected(&faults, &["--baseline", &known]).0, Some(0));
}

/// What was given beside names and seed decides, too.
#[test]
fn the_command_that_runs_a_case_again_is_whole() {
    let limited = ["-o", "scale_channels", "--case", "one_column", "--memory-limit", "1", "--tune", "off"];
    let output = wgquant().args(["test-ops", "test"]).args(limited).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    says(&text, &["the memory limit is 1 bytes", " --seed 1 --memory-limit 1 --tune off\n"]);
    let mut command = wgquant();
    command.env("WGQUANT_INJECT_FAULT", "matmul_w8a8/square_4096=abort").args(["test-ops", "test", "--large"]);
    command.args(["-o", "matmul_w8a8", "--case", "square_4096", "--variant", "best", "--caps", "baseline"]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    says(&text, &["Crash matmul_w8a8/square_4096", "--variant best --seed 1 --caps baseline --large\n"]);
}

/// What was timed is worth keeping where the peaks that it would be compared with are not known.
#[test]
fn perf_keeps_its_times_without_peaks() {
    let mut command = wgquant();
    command.env("WGQUANT_INJECT_FAULT", "peaks=abort");
    command.args(["test-ops", "perf", "-o", "relu_squared", "--case", "one_element", "--variant", "best", "--json"]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    says(&stderr, &["warning: the peaks of copies and multiply-adds were not measured"]);
    let file: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(mistakes(&file), [""; 0]);
    let speed = &file["cases"][0]["speed"];
    assert!(file["peaks"].is_null() && speed["us"].as_f64() > Some(0.0), "{file}");
    assert_eq!(speed["percent_of_copy"], 0.0);
}

/// `wgquant .. | head`: whoever has read enough still gets the verdict.
#[cfg(unix)]
#[test]
fn a_failed_check_is_exit_code_1_though_nobody_reads() {
    let unread = |args: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        program().args(args).stdout(writer).stderr(std::process::Stdio::null()).status().unwrap().code()
    };
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (a, b, known) = (file("a.json"), file("b.json"), file("known.csv"));
    fs::write(&known, "adapter,driver,kernel,case,variant,reason\n,,scale_channels,,,why not\n").unwrap();
    let test = ["test-ops", "test", "-b", "cpu", "-o", "scale_channels", "--case", "one_column", "--json"];
    assert_eq!(unread(&[&test[..], &["-O", &a]].concat()), Some(0));
    assert_eq!(unread(&[&test[..], &["--baseline", &known]].concat()), Some(1), "a failure that did not come");
    fs::copy(&a, &b).unwrap();
    edit(b.as_ref(), |file| file["cases"][0]["status"] = "Crash".into());
    assert_eq!(unread(&["test-ops", "compare", &a, &a]), Some(0));
    assert_eq!(unread(&["test-ops", "compare", &a, &b]), Some(1));
}

/// What the adapter lacks is skipped, visibly, in every format.
#[test]
fn what_the_adapter_lacks_is_a_skip() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let mut args: Vec<String> =
        ["test-ops", "test", "-o", "probe_subgroup", "--caps", "baseline", "-v"].map(str::to_owned).into();
    ["a.json", "a.xml", "a.csv", "a.html"].iter().for_each(|n| args.extend(["-O".to_owned(), file(n)]));
    says(&run(&args), &["Skip: adapter `", "lacks subgroups", "(5 Skip)"]);
    let doctor: Value = run_json(&["doctor", "--caps", "baseline", "--json"]);
    let skipped = doctor["cases"].as_array().unwrap().iter().filter(|c| c["skipped"].is_string());
    assert_eq!((skipped.count(), &doctor["skipped"], &doctor["failed"]), (5, &5.into(), &0.into()));
    let short = run(&["test-ops", "test", "-o", "probe_subgroup", "--caps", "baseline"]);
    says(&short, &["Skip probe_subgroup [best]: adapter `", "lacks subgroups", "(5 cases)"]);
    for name in ["a.json", "a.xml", "a.csv", "a.html"] {
        says(&fs::read_to_string(file(name)).unwrap(), &["Skip", "lacks subgroups"]);
    }
    let json: Value = serde_json::from_slice(&fs::read(file("a.json")).unwrap()).unwrap();
    assert_eq!(mistakes(&json), [""; 0]);
    assert!(json["cases"].as_array().unwrap().iter().all(|c| c["status"] == "Skip" && c["nmse"].is_null()), "{json}");
}

#[test]
fn compare_shows_what_differs() {
    let temp = tempfile::tempdir().unwrap();
    let (a, b) = (temp.path().join("a.json"), temp.path().join("b.json"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    run(&["test-ops", "test", "-b", "cpu", "-o", "absmax,argmax", "-O", a]);
    fs::copy(a, b).unwrap();
    says(&run(&["test-ops", "compare", a, b]), &["0 end otherwise"]);
    edit(b.as_ref(), |file| {
        file["adapter"]["driver_info"] = "2.0".into();
        file["shaders"][0]["sha256"] = "0".repeat(64).into();
        file["cases"][0]["nmse"] = 1e-9.into();
    });
    let text = run(&["test-ops", "compare", a, b]);
    says(&text, &["adapter.driver_info", "2.0", "Shader source", "000000000000", "NMSE", "1.0e-9", "0 end otherwise"]);
    edit(b.as_ref(), |file| {
        file["cases"][0]["status"] = "Crash".into();
        file["cases"].as_array_mut().unwrap().pop();
    });
    let output = wgquant().args(["test-ops", "compare", a, b]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(&String::from_utf8(output.stdout).unwrap(), &["Crash", "(missing)", "2 end otherwise"]);
    edit(b.as_ref(), |file| {
        let cases = file["cases"].as_array_mut().unwrap().iter_mut();
        cases.filter(|c| c["kernel"] == "absmax").for_each(|c| c["status"] = "Skip".into());
    });
    let output = wgquant().args(["test-ops", "compare", a, b]).output().unwrap();
    let count = wgquant::kernels::ENTRIES.iter().find(|e| e.name == "absmax").unwrap().cases.len();
    says(
        &String::from_utf8(output.stdout).unwrap(),
        &[&format!("absmax [best], {count} cases"), "0 ran in both files"],
    );
    edit(b.as_ref(), |file| file["schema_version"] = 2.into());
    says(&refusal(wgquant().args(["test-ops", "compare", a, b])), &["b.json: schema_version is 2, expected 1"]);
}

#[test]
fn mistakes_are_refused() {
    let of = |args: &[&str]| refusal(wgquant().args(["test-ops", "test"]).args(args));
    says(&of(&["-o", "nothing"]), &["`nothing` matches no kernel"]);
    says(&of(&["-b", "no such adapter"]), &["opening the device", "no such adapter"]);
    says(&of(&["-b", "cpu", "--case", "none_such"]), &["no case matches the filters"]);
    says(&of(&["-O", "a.what"]), &["a.what", "add --output"]);
    says(&of(&["-o", "argmax", "--tune", "no/such.json"]), &["opening the device", "no/such.json"]);
    says(&of(&["-b", "cpu", "--device", "another"]), &["--backend cpu", "--device another"]);
}

/// -b is of this run, a device in the environment of all.
#[test]
fn a_backend_takes_the_place_of_the_device_in_the_environment() {
    let mut command = wgquant();
    command.env("WGQUANT_DEVICE", "no such adapter").args(["test-ops", "test", "-b", "cpu", "-o", "scale_channels"]);
    let output = command.args(["--case", "one_column"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    says(&String::from_utf8(output.stdout).unwrap(), &["CPU reference", "1 of 1 cases as expected"]);
}
