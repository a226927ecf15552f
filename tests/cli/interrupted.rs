//! A program that is ended half-way: what it leaves, and what the next one makes of that.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{nano, program, refusal, says, short_windows, wgquant};

/// A quantizer that has begun to write `out`, and has seconds of calibration before it.
fn started(out: &Path, ids: &Path) -> Child {
    short_windows(ids, 64, 1025);
    let mut command = program();
    command.arg("quantize").arg(nano()).arg("-o").arg(out).arg("-f").arg(ids);
    command.args(["--scheme", "w4a8", "--sequences", "64", "--device", "cpu"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while partial(out).is_none_or(|p| !p.join(".lock").exists()) {
        assert!(
            child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120),
            "nothing is written"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// The unfinished sibling of `out`.
fn partial(out: &Path) -> Option<PathBuf> {
    let mut all = fs::read_dir(out.parent().unwrap()).unwrap().map(|e| e.unwrap().path());
    all.find(|p| p.file_name().unwrap().to_str().unwrap().starts_with(".out.partial-"))
}

/// Ends `child` by a signal, which must be what it dies of.
fn end(mut child: Child, name: &str, signal: i32) {
    // The shell's own `kill`: few containers have the program.
    let kill = ["-c", "kill \"$0\" \"$1\"", name, &child.id().to_string()];
    assert!(Command::new("sh").args(kill).status().unwrap().success());
    assert_eq!(child.wait().unwrap().signal(), Some(signal), "{name}");
}

#[test]
fn a_signal_leaves_nothing() {
    let (temp, ids) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::with_suffix(".npy").unwrap());
    // Under `nohup` the last is ignored.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    let hangs_up = ignored.is_some_and(|mask| u64::from_str_radix(mask, 16).unwrap() & 1 == 0);
    let signals = [("-INT", 2), ("-TERM", 15), ("-HUP", 1)];
    for (name, signal) in signals.into_iter().take(if hangs_up { 3 } else { 2 }) {
        let child = started(&temp.path().join("out"), ids.path());
        end(child, name, signal);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "left behind by {name}");
    }
}

#[test]
fn what_a_crash_left_is_removed_by_the_next_run_and_not_while_one_writes() {
    let (temp, ids) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::with_suffix(".npy").unwrap());
    let out = temp.path().join("out");
    let child = started(&out, ids.path());
    let left = partial(&out).unwrap();
    let quantize = || {
        let mut command = wgquant();
        command.arg("quantize").arg(nano()).args(["--scheme", "w8a8", "--device", "cpu", "-o"]).arg(&out);
        command
    };
    let name = left.file_name().unwrap().to_str().unwrap();
    says(&refusal(&mut quantize()), &["another run is writing", name, "choose another"]);
    assert!(left.join(".lock").exists(), "another process's files are removed");
    end(child, "-KILL", 9);
    assert!(left.is_dir());

    let output = quantize().output().unwrap();
    assert!(output.status.success());
    says(&String::from_utf8_lossy(&output.stderr), &[name, "removed", "did not end"]);
    assert!(out.join("model.safetensors").is_file() && !out.join(".lock").exists());
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "something is left");
}

#[test]
fn blocks_that_are_done_are_kept_and_gone_on_from() {
    let (temp, ids) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::with_suffix(".npy").unwrap());
    short_windows(ids.path(), 8, 513);
    let out = temp.path().join("out");
    let args = |more: &[&str]| {
        let mut all = vec!["quantize".into(), nano().into_os_string(), "-o".into(), out.clone().into_os_string()];
        all.extend(["-f".into(), ids.path().as_os_str().to_owned()]);
        all.extend(
            ["--scheme", "w4a8", "--sequences", "8", "--sequence-length", "512", "--device", "cpu"].map(Into::into),
        );
        all.extend(more.iter().map(Into::into));
        all
    };
    let mut child = program().args(args(&[])).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (unfinished, start) = (temp.path().join("out.unfinished"), Instant::now());
    while !unfinished.join("block-0").is_dir() {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(120), "no block is kept");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut stderr = child.stderr.take().unwrap();
    end(child, "-INT", 2);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    says(&said, &["out.unfinished: kept"]);
    let left: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(left, [unfinished.as_path()], "beside what is kept");

    let other = refusal(wgquant().args(args(&["--calibration-seed", "7"])));
    says(&other, &["out.unfinished", "of a run with", "as made.calibration.tokens_sha256", "--restart"]);
    let output = wgquant().args(args(&[])).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    says(&stderr, &["out.unfinished: has", "of 9 blocks; going on behind them"]);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1, "something is left");
    assert!(out.join("model.safetensors").is_file());

    fs::rename(&out, temp.path().join("whole")).unwrap();
    fs::create_dir(&unfinished).unwrap();
    fs::write(unfinished.join("run.json"), "{}").unwrap();
    says(&refusal(wgquant().args(args(&[]))), &["null as tool", "--restart"]);
    assert!(wgquant().args(args(&["--restart"])).output().unwrap().status.success());
    let [first, second] =
        ["out", "whole"].map(|dir| fs::read(temp.path().join(dir).join("model.safetensors")).unwrap());
    assert!(first == second, "an interruption changed the weights");
}
