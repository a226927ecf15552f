//! Made-up models and measuring speed: no speed is asserted, only that what is printed is whole and possible.

use std::fs;

use serde_json::Value;

use crate::common::{copy, nano, refusal, run, run_json, says, short_windows, wgquant};

const SMALL: [&str; 6] = ["bench", "--synth", "nano", "--layers", "4", "--warm-up=0"];

fn bench(args: &[&str]) -> Vec<Value> {
    let records = run_json(&[&SMALL[..], args, &["-o", "json"]].concat());
    records.as_array().expect("an array").clone()
}

#[track_caller]
fn positive(record: &Value, keys: &[&str]) {
    for key in keys {
        let value = record[*key].as_f64().unwrap_or_else(|| panic!("no number `{key}` in {record}"));
        assert!(value > 0.0 && value.is_finite(), "{key} is {value}");
    }
}

/// Each form that recipes write: it loads, runs, and gives finite results; the same seed gives the same bytes.
#[test]
fn a_model_made_up_runs_and_is_the_same_again() {
    let temp = tempfile::tempdir().unwrap();
    let ids = temp.path().join("ids.npy");
    short_windows(&ids, 1, 20);
    for (i, scheme) in
        ["bf16", "w8a8", "w4a8-g32", "w4a8-g64-a32", "preset-w4a8", "preset-mixed"].into_iter().enumerate()
    {
        let dir = |name: &str| temp.path().join(format!("{i}-{name}")).display().to_string();
        let make = |out: &str, seed: &str| {
            let args = ["synth", "--like", "nano", "--layers", "4", "--scheme", scheme, "--seed", seed, "-o", out];
            run_json(&[&args[..], &["--json"]].concat())
        };
        let (first, again, other) = (dir("first"), dir("again"), dir("other"));
        let made = make(&first, "7");
        make(&again, "7");
        make(&other, "8");
        let weights = |dir: &str| fs::read(format!("{dir}/model.safetensors")).unwrap();
        assert!(weights(&first) == weights(&again), "{scheme}: the same seed, other bytes");
        assert!(weights(&first) != weights(&other), "{scheme}: another seed, the same bytes");
        assert_eq!(made["layers"], 4);
        assert!(made["bytes"].as_u64().unwrap() <= weights(&first).len() as u64);

        let ids = ids.display().to_string();
        let report = run_json(&["perplexity", &first, "-f", &ids, "--json"]);
        let perplexity = report["perplexity"].as_f64().or(report["model"]["perplexity"].as_f64());
        let perplexity = perplexity.unwrap_or_else(|| panic!("{scheme}: no finite perplexity: {report}"));
        // Knows nothing: near the vocabulary of 2048, give or take what random logits of deviation 1 do.
        assert!((500.0..20_000.0).contains(&perplexity), "{scheme}: {perplexity}");
    }
}

/// What is held in memory for `bench` and what `synth` writes are one model: the same bytes on the device.
#[test]
fn a_file_and_a_model_in_memory_measure_alike() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("model").display().to_string();
    let scheme = ["--scheme", "preset-w4a8"];
    run(&[&["synth", "--like", "nano", "--layers", "4", "-o", &dir][..], &scheme].concat());
    let file = run_json(&["bench", "-m", &dir, "-p", "0", "-n", "2", "-r", "1", "--warm-up=0", "-o", "json"]);
    let memory = bench(&[&["-p", "0", "-n", "2", "-r", "1"][..], &scheme].concat());
    for key in ["weight_bytes", "peak_vram_bytes", "token_bytes", "model_n_params"] {
        assert_eq!(file[0][key], memory[0][key], "{key}");
    }
}

#[test]
fn records_have_the_keys_of_llama_bench_and_ours() {
    let records =
        bench(&["--scheme", "w4a8", "-p", "5,9", "-n", "3", "-pg", "4,2", "-d", "0,2", "-ub", "8", "-r", "2"]);
    assert_eq!(records.len(), 8);
    let of = |i: usize| ["n_prompt", "n_gen", "n_depth"].map(|k| records[i][k].as_u64().unwrap());
    assert_eq!([of(0), of(1), of(2), of(3)], [[5, 0, 0], [9, 0, 0], [0, 3, 0], [4, 2, 0]]);
    assert_eq!(of(7), [4, 2, 2]);
    for record in &records {
        positive(
            record,
            &[
                "model_size",
                "model_n_params",
                "n_batch",
                "n_ubatch",
                "n_threads",
                "avg_ns",
                "avg_ts",
                "median_ts",
                "peak_vram_bytes",
                "weight_bytes",
                "kv_bytes",
                "state_bytes",
                "scratch_bytes",
                "load_s",
                "copy_bytes_per_s",
                "fma_ops_per_s",
                "dot_ops_per_s",
            ],
        );
        for key in ["build_commit", "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "devices"] {
            assert!(!record[key].as_str().unwrap().is_empty(), "{key}");
        }
        for key in [
            "build_number",
            "type_k",
            "type_v",
            "type_scan",
            "type_state",
            "stddev_ns",
            "stddev_ts",
            "driver",
            "driver_info",
        ] {
            assert!(!record[key].is_null(), "{key}");
        }
        let time = record["test_time"].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
        let (ns, ts) = (record["samples_ns"].as_array().unwrap(), record["samples_ts"].as_array().unwrap());
        assert_eq!([ns.len(), ts.len()], [2, 2]);
        let tokens = record["n_prompt"].as_f64().unwrap() + record["n_gen"].as_f64().unwrap();
        for (ns, ts) in ns.iter().zip(ts) {
            let product = ns.as_f64().unwrap() * 1e-9 * ts.as_f64().unwrap();
            assert!((product / tokens - 1.0).abs() < 1e-3, "{product} tokens for {tokens}");
        }
        let parts = ["weight_bytes", "kv_bytes", "state_bytes", "scratch_bytes"].map(|k| record[k].as_u64().unwrap());
        assert_eq!(parts.iter().sum::<u64>(), record["peak_vram_bytes"].as_u64().unwrap());
        for key in ["matrix_ops_per_s", "matrix_share", "held_vram_bytes"] {
            assert!(record.get(key).is_some(), "{key} is not there, not even as null");
        }
    }
    if records[0]["backends"] == "vulkan" {
        let bytes = |r: &Value, key: &str| r[key].as_u64().unwrap_or_else(|| panic!("no {key} in {r}"));
        let largest = records.iter().map(|r| bytes(r, "peak_vram_bytes")).max().unwrap();
        for record in &records {
            let held = bytes(record, "held_vram_bytes");
            assert!(held >= largest, "an engine for all tests takes {largest} bytes, {held} were held");
        }
    }
    positive(&records[0], &["ttft_ns", "token_ops", "fma_share", "dot_share"]);
    positive(&records[2], &["token_bytes", "bandwidth_share"]);
    assert!(records[0]["token_bytes"].is_null() && records[2]["ttft_ns"].is_null());
    if cfg!(target_os = "linux") {
        positive(&records[0], &["peak_ram_bytes"]);
    }
}

/// Each -b with each -ub, on an engine of its own; -ub above -b is -b.
#[test]
fn sizes_of_passes_are_lists() {
    let sizes = ["-b", "8,4", "-ub", "2,16"];
    let records = bench(&[&["-p", "6", "-n", "1", "-r", "1"][..], &sizes].concat());
    let of = |r: &Value| ["n_batch", "n_ubatch", "n_prompt"].map(|k| r[k].as_u64().unwrap());
    let rows = [[8, 2], [8, 16], [4, 2], [4, 16]].map(|[b, ub]| [[b, ub, 6], [b, ub, 0]]);
    assert_eq!(records.iter().map(of).collect::<Vec<_>>(), rows.concat());
    let scratch = |i: usize| records[i]["scratch_bytes"].as_u64().unwrap();
    assert!(scratch(4) < scratch(6) && scratch(6) < scratch(2), "passes of 2, 4 and 8 tokens");
    assert_eq!(scratch(0), scratch(4), "passes of 2 tokens");
    // The columns are there where sizes differ.
    let table = |args: &[&str]| run(&[&SMALL[..], &["-p", "4", "-n", "0", "-r", "1"], args].concat());
    let both = table(&sizes);
    says(&both, &["| n_batch | n_ubatch | ", "|       4 |       16 | "]);
    let one = table(&["-b", "4", "-ub", "2,3"]);
    assert!(one.contains("| n_ubatch |") && !one.contains("n_batch |"), "{one}");
    assert!(!table(&["-b", "4"]).contains("batch"));
    // What a pass costs does not depend on how long another may be.
    let tables = bench(&["-p", "4", "-n", "1", "-r", "1", "--ops", "-ub", "2,3"]);
    assert_eq!(tables.iter().map(|t| t["tokens"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn ops_add_up() {
    let tables = bench(&["--scheme", "w8a8", "-p", "6", "-n", "1", "-d", "3", "-r", "2", "--ops"]);
    assert_eq!(tables.len(), 2);
    for (table, (pass, tokens)) in tables.iter().zip([("decode", 1), ("prompt", 6)]) {
        assert_eq!((table["pass"].as_str(), table["tokens"].as_u64()), (Some(pass), Some(tokens)));
        assert_eq!(table["depth"], 3);
        let rows = table["rows"].as_array().unwrap();
        let calls: u64 = rows.iter().map(|r| r["calls"].as_u64().unwrap()).sum();
        assert_eq!(calls, table["launches"].as_u64().unwrap());
        let us: f64 = rows.iter().map(|r| r["us"].as_f64().unwrap()).sum();
        assert!(us > 0.0 && (us / table["sum_us"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{us}");
        positive(table, &["pass_us", "copy_bytes_per_s"]);
        let share: f64 = rows.iter().map(|r| r["share"].as_f64().unwrap()).sum();
        assert!((share - 1.0).abs() < 1e-6, "{share}");
        assert!(
            rows.iter().any(|r| r["op"].as_str().unwrap().starts_with("mat") && r["tflop_per_s"].as_f64() > Some(0.0))
        );
    }
    let pair = bench(&["-p", "0", "-n", "0", "-pg", "6,2", "-r", "1", "--ops"]);
    let of = |t: &Value| (t["pass"].as_str().unwrap().to_owned(), t["tokens"].as_u64(), t["depth"].as_u64());
    let all: Vec<_> = pair.iter().map(of).collect();
    assert_eq!(all, [("prompt".to_owned(), Some(6), Some(0)), ("decode".to_owned(), Some(1), Some(6))]);
    let csv = run(&[&SMALL[..], &["-p", "6", "-n", "0", "-r", "1", "--ops", "-o", "csv"]].concat());
    let rows = tables[1]["rows"].as_array().unwrap();
    says(csv.lines().next().unwrap(), &["model_type", "pass_us", "op", "sizes", "gb_per_s"]);
    assert!(csv.lines().count() > 10 && csv.contains(rows[0]["op"].as_str().unwrap()), "{csv}");
    let text = run(&[&SMALL[..], &["-p", "0", "-n", "1", "-r", "1", "--ops"]].concat());
    says(&text, &["decode of 1 token", "| op", "of copy", "matvec_w8a8"]);
}

#[test]
fn sequences_are_timed_together() {
    let args = ["--scheme", "w4a8", "-p", "4", "-n", "3", "-pg", "2,3", "-npl", "1,3", "-d", "2", "-r", "2"];
    let records = bench(&args);
    let of = |r: &Value| ["n_prompt", "n_gen", "n_parallel"].map(|k| r[k].as_u64().unwrap());
    let all: Vec<_> = records.iter().map(of).collect();
    assert_eq!(all, [[4, 0, 1], [0, 3, 1], [2, 3, 1], [0, 3, 3], [2, 3, 3]]);
    for (record, tokens) in records.iter().zip([4.0, 3.0, 5.0, 9.0, 15.0]) {
        for (ns, ts) in [("samples_ns", "samples_ts")].map(|(n, t)| (&record[n][1], &record[t][1])) {
            let product = ns.as_f64().unwrap() * 1e-9 * ts.as_f64().unwrap();
            assert!((product / tokens - 1.0).abs() < 1e-3, "{product} tokens for {tokens}");
        }
        let each = record["sequence_ts"].as_f64().unwrap() * record["n_parallel"].as_f64().unwrap();
        assert!((each / record["median_ts"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
    positive(&records[4], &["ttft_ns"]);
    let bytes = |i: usize| records[i]["token_bytes"].as_u64().unwrap();
    assert!(bytes(3) < bytes(1), "sequences share the weights: {} and {}", bytes(3), bytes(1));
    let args = ["-p", "0", "-n", "1", "-r", "1", "--parallel", "2"];
    says(&run(&[&SMALL[..], &args].concat()), &["tg1 x 2", "| ", " each "]);
    let tables = bench(&["-p", "0", "-n", "1", "-npl", "1,4", "-r", "1", "--ops"]);
    assert_eq!([&tables[0]["sequences"], &tables[1]["sequences"]], [1, 4]);
    let ops: Vec<&str> = tables[1]["rows"].as_array().unwrap().iter().map(|r| r["op"].as_str().unwrap()).collect();
    assert!(ops.iter().any(|op| op.starts_with("matmul_w8a8.few")), "{ops:?}");
}

#[test]
fn tables_lines_and_csv() {
    let args = |form: &'static str| [&SMALL[..], &["-p", "4", "-n", "2", "-r", "1", "-o", form]].concat();
    let table = run(&args("md"));
    says(&table, &["| model", "params |", "pp4", "tg2", " ± ", "% copy", "GB/s"]);
    let lines = run(&args("jsonl"));
    let names: Vec<u64> =
        lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["n_gen"].as_u64().unwrap()).collect();
    assert_eq!(names, [0, 2]);
    let csv = run(&args("csv"));
    let head = csv.lines().next().unwrap();
    says(head, &["build_commit,", "avg_ts", "stddev_ns"]);
    assert_eq!(csv.lines().count(), 3);
    // Several flags are one list; floats are measured by multiply-adds, a small model in small units.
    let floats = run(&[&SMALL[..], &["--scheme", "bf16", "-p", "4", "-p", "6", "-n", "0", "-r", "1"]].concat());
    says(&floats, &["pp4", "pp6", "% fma", " MiB |", " M |"]);
}

/// Of an adapter that has matrix units, too, they are masked.
#[test]
fn no_matrix_units_no_floor_of_theirs() {
    let args = ["--scheme", "w8a8", "-p", "16", "-n", "0", "-r", "1", "--caps", "baseline"];
    let record = &bench(&args)[0];
    assert!(record["matrix_ops_per_s"].is_null() && record["matrix_share"].is_null(), "{record}");
    let table = run(&[&SMALL[..], &args].concat());
    assert!(table.contains("% dot") && !table.contains("matrix"), "{table}");
}

#[test]
fn cache_types_are_those_of_llama_bench() {
    let short = ["-p", "4", "-n", "0", "-r", "1"];
    let record = &bench(&[&short[..], &["-ctk", "f16", "-ctv", "f16"]].concat())[0];
    let same = &bench(&[&short[..], &["--kv", "f16"]].concat())[0];
    assert_eq!([&record["type_k"], &record["type_v"]], ["f16", "f16"]);
    assert_eq!(record["kv_bytes"], same["kv_bytes"]);
    says(&refused(&["-ctk", "f16", "-ctv", "f32"]), &["--cache-type-k", "--cache-type-v", "one format"]);
    says(&refused(&["-ctk", "f16"]), &["--cache-type-v"]);
    says(&refused(&["-ctk", "f16", "-ctv", "f16", "--kv", "f16"]), &["--cache-type-k", "--kv"]);
    says(&refused(&["-ctk", "q8_0", "-ctv", "q8_0"]), &["q8_0", "int8"]);
}

#[test]
fn a_delay_is_waited_before_each_test() {
    let start = std::time::Instant::now();
    bench(&["-p", "4,5", "-n", "0", "-r", "1", "--delay", "1.5"]);
    assert!(start.elapsed().as_secs_f64() >= 3.0);
    for wrong in ["-1", "1e20"] {
        says(&refused(&[&format!("--delay={wrong}")]), &["--delay", &format!("`{wrong}`"), "number of seconds"]);
    }
}

#[test]
fn wrong_use_is_told() {
    let says_of = |args: &[&str], parts: &[&str]| says(&refusal(wgquant().args(args)), parts);
    let out = ["-o", "/nonexistent/out"];
    let synth = |args: &[&'static str]| [&["synth"], args, &out].concat();
    says_of(&synth(&["--like", "gpt2"]), &["--like: `gpt2`", "nemotron-h-8b", "mamba2-2.7b"]);
    says_of(
        &["bench", "--synth", "gpt2", "-p", "1", "-n", "0"],
        &["--synth: `gpt2`", "mamba2-2.7b", "or the directory"],
    );
    says_of(&synth(&["--like", "nano", "--scheme", "w3a3"]), &["`w3a3`", "w4a8-g32-a32", "preset-mixed"]);
    for word in ["w4a8-a0", "w4a16-a32", "w4a8-x32", "w4a8-a32-a32", "w4a8-", "w4a8-aé"] {
        says_of(&synth(&["--like", "nano", "--scheme", word]), &[&format!("`{word}`")]);
    }
    for word in ["w4a8-a7", "w4a8-g0", "w4a8-g100000", "w8a8-a680"] {
        says_of(&synth(&["--like", "nano", "--scheme", word]), &[&format!("`{word}`"), "multiple of 8", "672"]);
    }
    says_of(&synth(&["--like", "nano", "--layers", "10"]), &["10", "1 to 9"]);
    says_of(&["bench", "--synth", "nano", "-p", "0", "-n", "0"], &["nothing to measure"]);
    says_of(&["bench", "-m", "/nonexistent"], &["/nonexistent", "does not exist"]);
}

/// What would be ignored, and what could not be written after hours.
#[test]
fn flags_that_would_do_nothing_are_refused() {
    let model = nano().display().to_string();
    let says_of = |args: &[&str], parts: &[&str]| {
        let output = wgquant().args(args).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
        says(&String::from_utf8(output.stderr).unwrap(), parts);
    };
    for flag in [["--scheme", "bf16"], ["--layers", "2"], ["--seed", "1"]] {
        says_of(&[&["bench", "-m", &model][..], &flag].concat(), &["--model", flag[0]]);
        says_of(&[&["tune", &model][..], &flag].concat(), &["MODEL", flag[0]]);
    }
    for (flag, parts) in [
        (["-ngl", "99"], ["-ngl", "--device"]),
        (["-t", "8"], ["-t", "RAYON_NUM_THREADS"]),
        (["-fa", "1"], ["-fa", "attention"]),
        (["-oe", "md"], ["-oe", "-o"]),
        (["-ub", "8,0"], ["`8,0`", "--ubatch-size"]),
        (["-b", "0"], ["`0`", "--batch-size"]),
    ] {
        says_of(&[&["bench", "-m", &model][..], &flag].concat(), &parts);
    }
    for flag in [&["--delay", "1"][..], &["--no-warmup"]] {
        says_of(&[&["bench", "-m", &model, "--ops"][..], flag].concat(), &[flag[0], "--ops"]);
    }
    for wrong in ["--warm-up=nan", "--warm-up=inf", "--warm-up=-1"] {
        says_of(&["bench", "-m", &model, wrong], &["--warm-up", "number of seconds"]);
        says_of(&["tune", &model, wrong], &["--warm-up", "number of seconds"]);
    }
    let file = "/nonexistent/out.file";
    says_of(&["bench", "-m", &model, "--sweep", "--html", file], &["--html", file, "no such directory"]);
    says_of(&["tune", &model, "-o", file], &["--output", file, "no such directory"]);
}

/// The second model has a weight that is no number, which shows when it is loaded.
#[test]
fn what_was_measured_before_an_error_is_printed() {
    let (_temp, bad) = copy();
    let weights = bad.join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes());
    fs::write(&weights, bytes).unwrap();
    for (form, lines) in [("md", 5), ("jsonl", 1), ("csv", 2), ("json", 0)] {
        let mut command = wgquant();
        command.arg("bench").arg("-m").arg(nano()).arg("-m").arg(&bad);
        let args = ["-p", "4", "-n", "0", "-r", "1", "--device", "cpu", "-o", form];
        let output = command.args(args).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(2), "{form}");
        says(&String::from_utf8(output.stderr).unwrap(), &["holds NaN"]);
        // The copy is of the same type and size.
        assert!(form != "md" || stdout.contains(&format!("({}) ", nano().display())), "{stdout}");
        match form {
            "json" => assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap().as_array().unwrap().len(), 1),
            _ => assert_eq!(stdout.lines().count(), lines, "{form}: {stdout}"),
        }
    }
}

/// A small model after a large one is not said to take what the large one took.
#[cfg(target_os = "linux")]
#[test]
fn host_memory_is_of_each_model() {
    if fs::write("/proc/self/clear_refs", "5").is_err() {
        return eprintln!("this system does not let a process begin its peak anew");
    }
    let temp = tempfile::tempdir().unwrap();
    let large = temp.path().join("large").display().to_string();
    run(&["synth", "--like", "small", "--scheme", "f32", "-o", &large]);
    let small = nano().display().to_string();
    let args = ["-p", "2", "-n", "0", "-r", "1", "--device", "cpu", "-o", "json"];
    let records = run_json(&[&["bench", "-m", &large, "-m", &small][..], &args].concat());
    let peak = |i: usize| records[i]["peak_ram_bytes"].as_u64().unwrap();
    assert!(peak(1) < peak(0), "{} after {}", peak(1), peak(0));
}

/// Buffers for the copy that tells the device's bandwidth would be larger than that.
#[test]
fn a_small_memory_limit_leaves_room_to_measure() {
    // A software driver copies 32 MiB; a GPU 1 GiB, and the self-tests of its matrix units take 64 MiB and more.
    let software = run_json(&["devices", "--json"])["adapters"][0]["device_type"] == "Cpu";
    let limit = if software { "40MiB" } else { "400MiB" };
    run(&[&SMALL[..], &["-p", "4", "-n", "0", "-r", "1", "--memory-limit", limit]].concat());
}

/// The shape of a model on disk, with other weights.
#[test]
fn a_directory_gives_its_shape() {
    let like = nano().display().to_string();
    let made = run_json(&["synth", "--like", &like, "--scheme", "f32", "--in-memory", "--json"]);
    assert_eq!(made["layers"], 9);
    assert_eq!(made["bytes"].as_u64().unwrap(), 4 * made["parameters"].as_u64().unwrap());
}

/// Each test beside the first of its kind, in every form; no speed is asserted but that they belong together.
#[test]
fn a_sweep_shows_how_cost_grows() {
    let temp = tempfile::tempdir().unwrap();
    let page = temp.path().join("sweep.html").display().to_string();
    let sweep = ["--sweep", "-p", "8-32*2", "-r", "2", "--html", &page];
    let records = bench(&sweep);
    let sizes: Vec<u64> = records.iter().map(|r| r["n_prompt"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [8, 16, 32], "prompts alone, unless -n says otherwise");
    let memory: Vec<u64> = records.iter().map(|r| r["peak_vram_bytes"].as_u64().unwrap()).collect();
    assert!(memory.is_sorted() && memory[0] < memory[2], "each test's own: {memory:?}");
    assert_eq!(records[0]["relative"], 1.0);
    for record in &records {
        positive(record, &["ms_per_token", "relative", "median_ts"]);
        let (ms, rate) = (record["ms_per_token"].as_f64().unwrap(), record["median_ts"].as_f64().unwrap());
        assert!((ms * rate / 1e3 - 1.0).abs() < 1e-9);
        assert_eq!(record["grows"], "prompt");
        let relative = rate / records[0]["median_ts"].as_f64().unwrap();
        assert!((record["relative"].as_f64().unwrap() - relative).abs() < 1e-12);
    }
    let html = fs::read_to_string(&page).unwrap();
    says(&html, &["<svg ", "Tokens a second by tokens of the prompt", "<circle ", "pp32"]);
    assert_eq!(html.matches("<circle ").count(), 3);
    assert!(!html.contains("<script") && !html.contains("http"), "nothing is fetched");
    let table = run(&[&SMALL[..], &["--sweep", "-p", "0", "-n", "2", "-npl", "1,2", "-r", "1"]].concat());
    says(&table, &["ms/token", "relative", "tg2 x 2", "1.000"]);
    // Passes of one size are compared with each other.
    let records = bench(&["--sweep", "-p", "8,16", "-r", "1", "-ub", "4,8", "--html", &page]);
    let first: Vec<bool> = records.iter().map(|r| r["relative"] == 1.0).collect();
    assert!(first[0] && first[2], "{first:?}");
    says(&fs::read_to_string(&page).unwrap(), &[" -ub 4", " -ub 8", "<th>n_ubatch</th>"]);
}

#[test]
fn a_page_wants_a_sweep() {
    says(&refused(&["--html", "x.html"]), &["--sweep"]);
}

fn refused(args: &[&str]) -> String {
    let output = wgquant().args(SMALL).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

/// Nothing is timed for a cache that cannot be written.
#[test]
fn choices_that_could_not_be_kept_are_not_measured() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut tune = wgquant();
    tune.env("WGQUANT_CACHE_DIR", file.path()).env("RUST_LOG", "error").args(["tune", "--synth", "nano"]);
    says(&refusal(tune.args(["--layers", "4", "-r", "1"])), &["could not be kept", "-o FILE", "tune-"]);
}

/// The choice written is a candidate, measured, and followed when it is asked for: also one that nobody would make.
#[test]
fn choices_are_measured_written_and_followed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("tune.json");
    let file = path.display().to_string();
    let model = ["--synth", "nano", "--layers", "4", "--scheme", "w4a8"];
    let tune = ["--ubatch-size", "40", "-r", "1", "--warm-up=0", "-o", &file, "--json"];
    let mut printed = run_json(&[&["tune"][..], &model, &tune].concat());
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(printed, written);
    let choices = printed["choices"].as_array_mut().unwrap();
    assert!(!choices.is_empty(), "this adapter has no two variants of anything");
    for choice in choices.iter() {
        let us = choice["us"].as_array().unwrap();
        assert!(us.len() > 1 && us.iter().all(|c| c[1].as_f64().unwrap() >= 0.0), "{choice}");
        assert!(us.iter().any(|c| c[0] == choice["variant"]), "{choice}");
    }
    let ops = |tune: &str| {
        let args = ["-p", "40", "-n", "1", "-r", "1", "--ops", "--tune", tune, "--scheme", "w4a8"];
        bench(&args).iter().flat_map(|t| t["rows"].as_array().unwrap().clone()).collect::<Vec<_>>()
    };
    let named = |rows: &[Value], label: &str| rows.iter().any(|r| r["op"] == label);
    // As written, then with a matrix-vector product chosen that is plain code.
    let at = choices.iter().position(|c| c["kernel"] == "matvec_w4a8").expect("tokens are made");
    let (kernel, chosen) = ("matvec_w4a8", choices[at]["variant"].as_str().unwrap().to_owned());
    assert!(named(&ops(&file), &format!("{kernel}.{chosen}")), "{chosen} is not followed");
    let default = choices[at]["us"][0][0].as_str().unwrap().to_owned();
    assert!(named(&ops("off"), &format!("{kernel}.{default}")), "{default} is what plans take");
    // A file of another shader is not followed; one of another adapter is refused.
    choices.iter_mut().for_each(|c| c["shader"] = "of another version".into());
    fs::write(&path, printed.to_string()).unwrap();
    assert!(named(&ops(&file), &format!("{kernel}.{default}")));
    let stale = wgquant().args(SMALL).args(["-p", "1", "-n", "0", "-r", "1", "--tune", &file]).output().unwrap();
    let all = printed["choices"].as_array().unwrap().len();
    says(&String::from_utf8(stale.stderr).unwrap(), &[&format!("{all} of {all} choices of {file} no longer apply")]);
    printed["key"]["adapter"]["name"] = "another".into();
    fs::write(&path, printed.to_string()).unwrap();
    says(&refused(&["--tune", &file]), &["another", "run `wgquant tune` again"]);
}
