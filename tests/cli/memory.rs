//! What a model takes is said before it is loaded, and refused with numbers where it does not fit.

use wgquant::report::bytes;

use crate::common::{nano, says, wgquant};

const PROMPT: [&str; 4] = ["-p", "The", "-n", "2"];

fn generate(limit: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = wgquant();
    command.arg("generate").arg(nano()).args(PROMPT).args(["--memory-limit", limit]).args(more);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn too_little_is_refused_with_both_numbers() {
    let (code, stdout, stderr) = generate("3MiB", &[]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    says(
        &stderr,
        &[
            "the model takes",
            "weights",
            "keys and values",
            "states",
            "activations",
            " MiB are free (of the memory limit set)",
        ],
    );
    says(&stderr, &["--memory-limit", "nano"]);
}

#[test]
fn the_plan_is_said_on_stderr_only() {
    let (code, stdout, stderr) = generate("200MiB", &["--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    serde_json::from_str::<serde_json::Value>(&stdout).unwrap();
    says(&stderr, &["memory: ", " in all (weights ", " MiB free of the memory limit set"]);
}

#[test]
fn a_size_that_is_none_is_refused() {
    let (code, _, stderr) = generate("much", &[]);
    assert_eq!(code, Some(2));
    says(&stderr, &["`much` is no size"]);
}

/// `bench` says what it will take, and what it then holds is that.
#[test]
fn bench_says_the_plan_and_keeps_it() {
    let mut command = wgquant();
    command.args(["bench", "--synth", "nano", "--layers", "4", "-p", "4", "-n", "0", "-r", "1", "--warm-up=0"]);
    let output = command.args(["-o", "json"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let records: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let held = records[0]["peak_vram_bytes"].as_u64().unwrap();
    says(&stderr, &[&format!("memory: {} in all", bytes(held))]);
}
