//! `demo`: the first thing a user runs.

use std::fs;

use crate::common::{copy, refusal, run, says, wgquant};

#[test]
fn one_table_json_and_a_page() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("demo");
    let table = run(&["demo", "--out", out.to_str().unwrap()]);
    let names = ["original", "w8a8", "w8a8 + hadamard", "w4a8", "w4a8 + hadamard"];
    says(&table, &names);
    let json: serde_json::Value = serde_json::from_slice(&fs::read(out.join("demo.json")).unwrap()).unwrap();
    let models = json["models"].as_array().unwrap();
    assert_eq!(models.iter().map(|m| m["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    assert!(models.iter().all(|m| m["perplexity_ratio"].as_f64().is_some_and(|r| (0.9..1.3).contains(&r))), "{json}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    says(&page, &["<svg", "w4a8 + hadamard", "prefers-color-scheme"]);
    for outside in ["http://", "https://", "src=", "<script", "<link"] {
        assert!(!page.contains(outside), "the page refers to `{outside}`");
    }
}

#[test]
fn the_demo_replaces_nothing_but_its_own() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("mine"), "precious").unwrap();
    let line = refusal(wgquant().args(["demo", "--device", "cpu", "--out"]).arg(temp.path()));
    says(&line, &["exists and is not the demo's own", "--out"]);
    assert!(temp.path().join("mine").is_file());
}

/// A model that nothing can be measured on is told before the earlier demo is gone.
#[test]
fn an_earlier_demo_stays_until_another_can_begin() {
    let ((_model, model), temp) = (copy(), tempfile::tempdir().unwrap());
    fs::write(temp.path().join(".wgquant-demo"), "").unwrap();
    fs::write(temp.path().join("demo.json"), "{}").unwrap();
    let mut command = wgquant();
    command.args(["demo", "--device", "cpu", "--model"]).arg(model).arg("--out").arg(temp.path());
    says(&refusal(&mut command), &["val_ids_u16.npy"]);
    assert!(temp.path().join("demo.json").is_file());
}

/// No kernel finds memory for its cases.
#[test]
fn a_device_that_fails_is_told_in_json_too() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = wgquant();
    command.args(["demo", "--json", "--memory-limit", "1", "--out"]).arg(temp.path().join("demo"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["failed"].as_u64() > Some(0), "{report}");
}
