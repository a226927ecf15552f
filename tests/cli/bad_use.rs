//! Wrong use: flags, files and devices.

use std::fs;
use std::process::{Command as Process, Stdio};

use crate::common::{nano, program, refusal, run, says, short_windows, wgquant};

#[test]
fn help_names_every_command() {
    let help = run(&["--help"]);
    let commands = ["demo", "doctor", "devices", "analyze", "quantize", "perplexity", "generate", "diff"];
    says(&help, &commands);
    for command in commands {
        says(&run(&[command, "--help"]), &["Usage: wgquant", "--json"]);
    }
    says(&run(&["--version"]), &[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn wrong_flags_are_exit_code_2() {
    for args in [
        &["quantize", "m", "-o", "d", "--scheme", "w3a3"][..],
        &["quantize", "m", "--scheme", "w8a8"],
        &["quantize", "m", "-o", "d", "--scheme", "w8a8", "--group-size", "0"],
        &["quantize", "m", "-o", "d", "--scheme", "w8a8", "--embedding", "4"],
        &["quantize", "m", "-o", "d", "--scheme", "w8a8", "--rotate-sites", "head"],
        &["search", "m", "-f", "f", "--group-size", "32"],
        &["search", "m", "-f", "f", "--target-size", "4 cows"],
        &["search", "m", "-f", "f", "--probes", "0"],
        &["perplexity", "m", "-f", "f", "--windows", "0"],
        &["perplexity", "m", "-f", "f", "--max-ppl-increase", "0.1"],
        &["nonsense"],
        &[],
    ] {
        let output = wgquant().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
    }
}

/// Where one of two is needed, both are named.
#[test]
fn what_is_missing_is_named_with_what_may_be_instead() {
    for (args, either) in [
        (&["generate", "m"][..], ["--prompt", "--file"]),
        (&["quantize", "m", "--scheme", "w8a8"], ["--output", "--explain"]),
        (&["quantize", "m", "-o", "d"], ["--scheme", "--recipe"]),
        (&["calibrate", "m"], ["--file", "--merge"]),
        (&["synth", "--like", "nano"], ["--output", "--in-memory"]),
        (&["bench"], ["--model", "--synth"]),
        (&["tune"], ["MODEL", "--synth"]),
    ] {
        let output = wgquant().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let words = String::from_utf8(output.stderr).unwrap();
        // Above the line of usage, which names every flag of some commands.
        let (missing, _) = words.split_once("Usage").unwrap();
        says(missing, &["required", either[0], either[1]]);
    }
}

#[test]
fn output_that_exists_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("mine"), "precious").unwrap();
    let mut command = wgquant();
    command.arg("quantize").arg(nano()).arg("-o").arg(temp.path()).args(["--scheme", "w8a8", "--device", "cpu"]);
    says(&refusal(&mut command), &[temp.path().to_str().unwrap(), "exists"]);
    assert_eq!(fs::read_to_string(temp.path().join("mine")).unwrap(), "precious");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn residual_rotation_needs_folding() {
    let mut command = wgquant();
    command.arg("quantize").arg(nano()).args(["-o", "no", "--scheme", "w8a8", "--fold-norms", "false"]);
    says(&refusal(&mut command), &["--fold-norms false", "--rotate-sites out_proj,down_proj"]);
}

#[test]
fn rotations_in_blocks_that_do_not_fit() {
    for (block, width) in [("64", "672"), ("0", "256"), ("28", "256")] {
        let mut command = wgquant();
        command.arg("quantize").arg(nano()).args(["-o", "no", "--scheme", "w8a8", "--rotate-block", block]);
        command.args(["--device", "cpu"]);
        says(&refusal(&mut command), &[&format!("block {block} over width {width}")]);
    }
}

/// Flags that would do nothing, or something else.
#[test]
fn flags_that_cannot_have_an_effect_are_refused() {
    for (flags, words) in [
        (&["w4a16", "--activations", "static"][..], &["--activations", "no inputs are int8"][..]),
        (&["w8a8", "--rotate", "none", "--rotate-sites", "residual"], &["--rotate-sites", "--rotate none"]),
        (&["w8a8", "--rotate", "none", "--rotate-block", "32"], &["--rotate-block", "--rotate none"]),
        (&["w8a8", "--group-size", "32"], &["--group-size 32", "no weight has such groups"]),
        (&["w4a8", "--group-size", "100"], &["--group-size 100", "no weight", "64"]),
        // 128 is nearer and can be, so those are not said to be the nearest.
        (&["w4a8", "--group-size", "120"], &["--group-size 120", "no weight", "would have 64, 96 instead"]),
        (
            &["w8a8", "--activations", "dynamic", "--activation-group", "7"],
            &["--activation-group 7", "would have 4 instead"],
        ),
    ] {
        let mut command = wgquant();
        command.arg("quantize").arg(nano()).args(["--explain", "--scheme"]).args(flags);
        says(&refusal(&mut command), words);
    }
    // The CPU is what it asks for, and what all commands are told gives way.
    for (device, usual, refused) in
        [("nope", "gpu", true), ("cpu", "nope", false), ("nope", "nope", false), ("gpu", "nope", false)]
    {
        let mut command = wgquant();
        command.env("WGQUANT_DEVICE", usual).arg("quantize").arg(nano()).args(["--scheme", "w8a8", "--explain"]);
        command.args(["--deterministic", "--device", device]);
        match refused {
            true => says(&refusal(&mut command), &["--device nope: has no effect with --deterministic"]),
            false => assert_eq!(command.output().unwrap().status.code(), Some(0), "{device}"),
        }
    }
    let some = ["--scheme", "w8a8", "--activations", "dynamic", "--activation-group", "48", "--explain"];
    let output = wgquant().arg("quantize").arg(nano()).args(some).output().unwrap();
    says(&String::from_utf8(output.stderr).unwrap(), &["warning: --activation-group 48", "have 32 instead"]);
}

/// Nothing is drawn, rounded or calibrated that they could change.
#[test]
fn flags_of_what_is_not_done_are_refused() {
    let explain = ["quantize", "--explain", "--scheme", "w4a8"];
    let merge = ["calibrate", "--merge", "x"];
    let commands: [(&[&str], [&str; 2], [&str; 2]); 18] = [
        (&["generate", "-p", "x"], ["--top-k", "5"], ["--top-k 5", "--temp 0"]),
        (&["generate", "-p", "x"], ["--top-p", "0.5"], ["--top-p 0.5", "--temp 0"]),
        (&["generate", "-p", "x"], ["-s", "3"], ["--seed 3", "--temp 0"]),
        (&["chat"], ["--top-k", "5"], ["--top-k 5", "--temp 0"]),
        (&["generate", "-p", "x"], ["--state-window", "4"], ["--state-window 4", "--state f32"]),
        (&["perplexity", "-f"], ["x", "--no-state-rotation"], ["--no-state-rotation", "--state f32"]),
        (&["analyze", "--state", "int8"], ["--state-seed", "3"], ["--state-seed 3", "--state int8"]),
        (&["search", "--bits", "8,16", "-f"], ["x", "--groups=64"], ["--groups", "--bits"]),
        (&["bench"], ["--state-seed", "3"], ["--state-seed 3", "--state f32"]),
        (&explain, ["--sequences", "4"], ["--sequences 4", "--file"]),
        (&explain, ["--sequence-length", "4"], ["--sequence-length 4", "--file"]),
        (&explain, ["--calibration-seed", "4"], ["--calibration-seed 4", "--file"]),
        (&merge, ["--sequences", "4"], ["--sequences 4", "--file"]),
        (&merge, ["--sequence-length", "4"], ["--sequence-length 4", "--file"]),
        (&merge, ["--seed", "4"], ["--seed 4", "--file"]),
        (&merge, ["--min-length", "4"], ["--min-length 4", "--file"]),
        (&merge, ["--save-every", "4"], ["--save-every 4", "--file"]),
        (&merge[..2], ["x", "--covariance"], ["--covariance", "--file"]),
    ];
    for (command, flag, words) in commands {
        let model: &[&str] = if command[0] == "bench" { &["-m"] } else { &[] };
        let mut program = wgquant();
        program.arg(command[0]).args(model).arg(nano()).args(&command[1..]).args(flag);
        says(&refusal(&mut program), &[words[0], "has no effect", words[1]]);
    }
}

#[test]
fn no_such_adapter() {
    let line = refusal(wgquant().args(["doctor", "--device", "nosuchgpu"]));
    says(&line, &["no GPU adapter named `nosuchgpu`", "found: ", "--device cpu"]);
    // No index, and no part of a name either: adapters' names have digits.
    for number in ["99", "5"] {
        let line = refusal(wgquant().args(["doctor", "--device", number]));
        says(&line, &[&format!("no GPU adapter named `{number}`")]);
    }
}

#[test]
fn no_adapter_at_all() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let mut command = wgquant();
    command.env("WGPU_BACKEND", "vulkan").env_remove("WGQUANT_DEVICE");
    // Older loaders know only the second name.
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    command.arg("quantize").arg(nano()).arg("-o").arg(&out).args(["--scheme", "w8a8"]);
    says(&refusal(&mut command), &["no GPU adapter at all", "found: none", "mesa-vulkan-drivers", "--device cpu"]);
    assert!(!out.exists());
}

#[test]
fn static_activations_need_text() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let refused = |args: &[&str]| {
        let mut command = wgquant();
        command
            .arg("quantize")
            .arg(nano())
            .arg("-o")
            .arg(&out)
            .args(["--scheme", "w8a8", "--device", "cpu"])
            .args(args);
        refusal(&mut command)
    };
    says(&refused(&["--activations", "static"]), &["fixed scale", "static", "needs calibration text", "--file"]);
    let percentile = ["--activations", "dynamic", "--activation-percentile", "99.9"];
    says(&refused(&percentile), &["--activation-percentile", "only static"]);
    assert!(!out.exists());
}

#[test]
fn unknown_capability_and_backend() {
    says(&refusal(wgquant().args(["doctor", "--caps", "tensor_cores"])), &["--caps", "`tensor_cores`", "baseline"]);
    // It would be `baseline`, which nobody asked for.
    says(&refusal(wgquant().args(["doctor", "--caps="])), &["--caps", "names no capability", "baseline"]);
    says(&refusal(wgquant().env("WGPU_BACKEND", "cuda").arg("doctor")), &["WGPU_BACKEND", "`cuda`", "vulkan"]);
}

/// As compose files and matrices of CI have it.
#[test]
fn variables_set_to_nothing_are_not_set() {
    let names = ["DEVICE", "CAPS", "MEMORY_LIMIT", "TUNE", "CACHE_DIR", "HOST", "PORT", "API_KEY"];
    let unset = || {
        let mut command = wgquant();
        command.envs(names.map(|name| (format!("WGQUANT_{name}"), ""))).env("WGPU_BACKEND", "");
        // Nothing is kept in a home.
        command.env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        command
    };
    // Neither does it count beside -b as a device.
    for more in [&[][..], &["-b", "cpu"]] {
        let output = unset().args(["test-ops", "support", "-o", "embed"]).args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    says(&refusal(unset().arg("serve").arg(nano()).args(["--api-key", ""])), &["--api-key: is empty"]);
}

/// The reference has no features, no limit and no variants. What the environment says is for all commands.
#[test]
fn what_is_said_of_a_gpu_needs_one() {
    let temp = tempfile::tempdir().unwrap();
    let (model, out) = (nano().display().to_string(), temp.path().join("out").display().to_string());
    let quantize = ["quantize", &model, "--scheme", "w8a8", "--deterministic", "-o", &out];
    let generate = ["generate", &model, "-p", "x", "-n", "1", "--device", "cpu"];
    let test = ["test-ops", "test", "-o", "scale_channels", "--case", "one_column", "-b", "cpu"];
    let diff = ["diff", &model, "-p", "x", "--device", "cpu", "--against", &model];
    for (command, because) in [
        (&quantize[..], "--deterministic"),
        (&generate, "--device cpu"),
        (&test, "--backend cpu"),
        (&["test-ops", "support", "--device", "cpu"], "--device cpu"),
        (&["doctor", "--device", "cpu"], "--device cpu"),
        (&diff, "--device cpu"),
    ] {
        for flag in [["--caps", "baseline"], ["--memory-limit", "8.00 GiB"], ["--tune", "no/such.json"]] {
            let words = format!("{}: has no effect with {because}", flag.join(" "));
            says(&refusal(wgquant().args(command).args(flag)), &[&words]);
        }
    }
    for command in [&generate[..], &test] {
        let mut all = wgquant();
        all.envs([("WGQUANT_CAPS", "baseline"), ("WGQUANT_MEMORY_LIMIT", "8GiB"), ("WGQUANT_TUNE", "no/such.json")]);
        let output = all.args(command).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Which is what happens.
    run(&[&generate[..], &["--tune", "off"]].concat());
    // A limit is of the run that has a GPU.
    run(&["diff", &model, "-p", "x", "--memory-limit", "8GiB"]);
    assert!(!std::path::Path::new(&out).exists());
}

#[test]
fn data_that_cannot_be_used() {
    let temp = tempfile::tempdir().unwrap();
    let refused = |name: &str, text: &[u8]| {
        let file = temp.path().join(name);
        fs::write(&file, text).unwrap();
        let line = refusal(wgquant().arg("perplexity").arg(nano()).args(["--device", "cpu", "-f"]).arg(&file));
        says(&line, &[name]);
        line
    };
    says(&refused("a.jsonl", b"{\"text\": \"fine\"}\n{\"words\": 1}\n"), &["line 2", "`text`"]);
    says(&refused("b.jsonl", b"not json\n"), &["line 1"]);
    says(&refused("c.npy", b"not numpy"), &["u16 or u32"]);
    says(&refused("d.txt", b""), &["at least two tokens"]);
    // However the header is written.
    for (words, said) in [
        ("{'descr': '<u2', 'fortran_order': False, 'shape': (4611686018427387904, 129), }", "4611686018427387904"),
        (
            "{\"descr\": \"<u2\", \"fortran_order\": False, \"shape\": (4611686018427387904, 129)}",
            "4611686018427387904",
        ),
        ("{'descr': '<u2', 'fortran_order': False, 'shape' :  (4611686018427387904, 129), }", "4611686018427387904"),
        ("{'descr': '<u2', 'fortran_order': False, }", "says no shape"),
    ] {
        let header = format!("{words:<117}\n");
        let endless = [b"\x93NUMPY\x01\x00\x76\x00", header.as_bytes(), &[0; 64]].concat();
        says(&refused("e.npy", &endless), &["u16 or u32", said]);
    }
    let line = refusal(wgquant().arg("perplexity").arg(nano()).args(["-f", "/nonexistent.txt"]));
    says(&line, &["/nonexistent.txt", "No such file"]);
}

#[test]
fn sampling_out_of_range() {
    for args in [
        ["--temp", "-1"],
        ["--temp", "NaN"],
        ["--temp", "1e-40"],
        ["--temp", "3e38"],
        ["--top-p", "0"],
        ["--top-p", "1.5"],
    ] {
        let [flag, value] = args;
        let value = format!("{flag}={value}");
        says(&refusal(wgquant().arg("generate").arg(nano()).args(["-p", "x", &value])), &[flag]);
    }
}

#[test]
fn quality_gate_is_exit_code_1() {
    let temp = tempfile::tempdir().unwrap();
    let (ids, model) = (temp.path().join("ids.npy"), temp.path().join("w4a8"));
    short_windows(&ids, 1, 33);
    let quantize = ["--scheme", "w4a8", "--rotate", "none", "--group-size", "channel", "--device", "cpu", "-o"];
    let quantized = wgquant().arg("quantize").arg(nano()).args(quantize).arg(&model).output().unwrap();
    assert!(quantized.status.success());
    let mut command = wgquant();
    command.arg("perplexity").arg(&model).arg("--base").arg(nano()).arg("-f").arg(&ids).args(["--device", "cpu"]);
    let passed = command.args(["--max-ppl-increase", "100"]).output().unwrap();
    assert_eq!(passed.status.code(), Some(0));
    // The model as the base of the original turns the ratio around: one of the two directions must fail at 0.
    let gate = |model: &std::path::Path, base: &std::path::Path| {
        let mut command = wgquant();
        command.arg("perplexity").arg(model).arg("--base").arg(base).arg("-f").arg(&ids).args(["--device", "cpu"]);
        command.args(["--max-ppl-increase", "0"]).output().unwrap()
    };
    let both = [gate(&model, &nano()), gate(&nano(), &model)];
    let mut codes: Vec<Option<i32>> = both.iter().map(|o| o.status.code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    let failed = both.iter().find(|o| o.status.code() == Some(1)).unwrap();
    assert!(!failed.stdout.is_empty(), "the numbers are printed all the same");
    says(&String::from_utf8_lossy(&failed.stderr), &["wgquant: quality gate", "is allowed"]);
}

#[test]
fn a_limit_that_is_none_is_named() {
    let mut command = wgquant();
    command.arg("perplexity").arg(nano()).args(["-f", "x", "--base", "y", "--max-ppl-increase=-1"]);
    says(&refusal(&mut command), &["--max-ppl-increase -1"]);
}

/// `wgquant .. | head`: the reader leaves, and that is fine.
#[cfg(unix)]
#[test]
fn closed_pipe_is_success() {
    let mut child = Process::new(assert_cmd::cargo::cargo_bin!("wgquant"))
        .arg("analyze")
        .arg(nano())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// What could not be said is not what could not be done.
#[cfg(target_os = "linux")]
#[test]
fn full_standard_output_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let mut command = crate::common::program();
    command.arg("quantize").arg(nano()).args(["--scheme", "w8a8", "--rotate", "none", "--device", "cpu", "-o"]);
    command.arg(&out).stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let line = String::from_utf8(output.stderr).unwrap();
    says(&line, &[out.to_str().unwrap(), "is written", "standard output", "No space left"]);
    assert!(out.join("wgquant_manifest.json").is_file());
}

/// Whoever cannot be told in words is told by the exit code.
#[cfg(target_os = "linux")]
#[test]
fn a_full_stderr_changes_no_exit_code() {
    let model = nano();
    let model = model.to_str().unwrap();
    let commands: [(&[&str], i32); 2] =
        [(&["generate", model, "-p", "x", "-n", "2", "--device", "cpu"], 0), (&["analyze", "/nonexistent"], 2)];
    for (args, code) in commands {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = program().args(args).stdout(Stdio::null()).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn diff_refuses_what_it_cannot_compare() {
    let refused = |args: &[&str]| refusal(wgquant().arg("diff").arg(nano()).args(args));
    says(&refused(&[]), &["--prompt", "is needed"]);
    says(&refused(&["-p", "x", "--device", "cpu"]), &["--against cpu", "--against-caps"]);
    says(&refused(&["-p", "x", "--tolerance", "NaN"]), &["--tolerance NaN"]);
    let file = ["--against", "/nonexistent.safetensors", "--against-caps", "baseline"];
    says(&refused(&file), &["--against-caps baseline", "--against /nonexistent.safetensors"]);
    let mut limited = wgquant();
    limited.env("RUST_LOG", "error").arg("diff").arg(nano()).args(["-p", "x", "--device", "cpu", "--against", "gpu"]);
    says(&refusal(limited.args(["--memory-limit", "1MiB"])), &["the model takes", "of the memory limit set"]);
    says(&refused(&["-p", "x", "--against", "/nonexistent.safetensors"]), &["/nonexistent.safetensors"]);
    says(
        &refused(&["-p", "x", "--device", "cpu", "--against", "no/such"]),
        &["--against no/such: is no directory", "no GPU adapter named `no/such`"],
    );
    says(
        &refused(&["-p", "x", "--device", "cpu", "--against", "cpu", "--against-caps", "baseline"]),
        &["--against-caps baseline", "CPU"],
    );
    let golden = "tests/fixtures/nano_golden.safetensors";
    says(&refused(&["-p", "x", "--against", golden]), &[golden, "another prompt", "21 and 42"]);
}

/// What a model consists of is no place for a result.
#[test]
fn outputs_do_not_replace_a_model() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("nano");
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(nano()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
    }
    let model = dir.to_str().unwrap();
    for (command, name) in [
        (&["diff", model, "-p", "x", "--device", "cpu", "--against", "nosuchgpu", "--dump"][..], "model.safetensors"),
        (&["analyze", model, "--html"], "config.json"),
        (&["search", model, "-f", "none.txt", "--device", "cpu", "--target-bpw", "4", "-o"], "tokenizer.json"),
    ] {
        let before = fs::read(dir.join(name)).unwrap();
        says(&refusal(wgquant().args(command).arg(dir.join(name))), &[name, "would replace a file of the model"]);
        assert!(fs::read(dir.join(name)).unwrap() == before, "{name}");
    }
}

/// Nothing is measured for a result that could not be written, and nothing but a file is replaced.
#[test]
fn outputs_that_are_no_files() {
    let temp = tempfile::tempdir().unwrap();
    let place = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let ids = place("ids.npy");
    short_windows(ids.as_ref(), 1, 9);
    let (text, model) = (ids.as_str(), nano());
    let model = model.to_str().unwrap();
    let calibrate = ["calibrate", model, "-f", text, "--device", "cpu", "--sequence-length", "8", "-o"];
    let commands: [&[&str]; 6] = [
        &["diff", model, "-p", "x", "--device", "cpu", "--against", "nosuchgpu", "--dump"],
        &["analyze", model, "--html"],
        &["tune", model, "-o"],
        &["search", model, "-f", text, "--device", "cpu", "--html"],
        &["search", model, "-f", text, "--device", "cpu", "--target-bpw", "4", "-o"],
        &calibrate,
    ];
    for command in commands {
        let refused = |file: &str| refusal(wgquant().args(command).arg(file));
        says(&refused(&place("none/file")), &["none/file", "there is no such directory"]);
        says(&refused(&place("new/")), &["new/", "is no file's name"]);
    }
    #[cfg(unix)]
    {
        let (pipe, link) = (place("pipe"), place("link"));
        std::os::unix::net::UnixListener::bind(&pipe).unwrap();
        std::os::unix::fs::symlink(&ids, &link).unwrap();
        for (command, file) in commands[..5].iter().flat_map(|c| [(c, &pipe), (c, &link)]) {
            says(&refusal(wgquant().args(*command).arg(file)), &[file, "would be replaced by a file"]);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), if cfg!(unix) { 3 } else { 1 });
}

/// The cursor of a sequence is a 32-bit number.
#[test]
fn contexts_beyond_counting() {
    let mut command = wgquant();
    command.env("RUST_LOG", "error").arg("generate").arg(nano()).args(["-p", "x", "--device", "cpu"]);
    says(&refusal(command.args(["-n", "4294967295"])), &["context of 4294967", "at most 4294967294"]);
}
