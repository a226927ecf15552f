//! `wgquant calibrate` and `wgquant analyze` with its statistics.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{copy, edit, nano, refusal, run, run_json, says, short_windows, wgquant};

fn args(output: &str, more: &[&str]) -> Vec<String> {
    let (model, ids) = (nano(), nano().join("val_ids_u16.npy"));
    let fixed = ["calibrate", model.to_str().unwrap(), "-f", ids.to_str().unwrap(), "-o", output];
    let rest = ["--sequence-length", "160", "--device", "cpu", "--json"];
    fixed.iter().chain(&rest).chain(more).map(|s| (*s).to_owned()).collect()
}

/// Two runs into one file would each lose what the other has gathered, and features of the adapter are part of what a run is.
#[test]
fn a_file_is_of_one_run() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("stats.safetensors");
    let path = out.to_str().unwrap();
    let claim = wgquant::files::claim(&out).unwrap();
    let error = wgquant::files::claim(&out).err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
    let line = refusal(wgquant().args(args(path, &["--sequences", "1"])));
    says(&line, &["--output", path, "another run is writing it"]);
    drop(claim);
    let (model, ids) = (nano(), nano().join("val_ids_u16.npy"));
    let (model, ids) = (model.to_str().unwrap(), ids.to_str().unwrap());
    let on_gpu = ["calibrate", model, "-f", ids, "-o", path, "--sequence-length", "64", "--sequences"];
    run(&[&on_gpu[..], &["1"]].concat());
    let line = refusal(wgquant().args(on_gpu).args(["2", "--resume", "--caps", "baseline"]).env("RUST_LOG", "error"));
    says(&line, &["cannot go on from it", "device", "with baseline"]);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

/// Killed as soon as it has saved something, then resumed: the bytes of an undisturbed run.
#[test]
fn killed_and_resumed_it_is_the_same() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, part) = (temp.path().join("whole"), temp.path().join("part"));
    run(&args(whole.to_str().unwrap(), &["--sequences", "6"]));
    let more = ["--sequences", "6", "--save-every", "1"];
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin!("wgquant"))
        .args(args(part.to_str().unwrap(), &more))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !part.is_file() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let stderr = refusal(wgquant().args(args(part.to_str().unwrap(), &more)));
    says(&stderr, &["exists", "--resume"]);
    run(&args(part.to_str().unwrap(), &["--sequences", "6", "--resume"]));
    assert!(fs::read(&whole).unwrap() == fs::read(&part).unwrap());
    // Another draw cannot go on from it.
    let other = args(part.to_str().unwrap(), &["--sequences", "6", "--resume", "--seed", "1"]);
    says(&refusal(wgquant().args(other)), &["cannot go on", "seed", "0", "1"]);
}

/// Files that cannot be added up are refused before anything is gathered, those that can are added to what is there.
#[test]
fn merging_keeps_what_was_there_and_refuses_other_models() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a"), path("b"));
    run(&args(&a, &["--sequences", "1"]));
    run(&args(&b, &["--sequences", "1", "--seed", "1"]));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |name: &str| fs::metadata(name).unwrap().permissions().mode();
        fs::write(path("plain"), "x").unwrap();
        assert_eq!(mode(&a), mode(&path("plain")), "as readable as any new file");
    }
    let model = nano();
    let merge = ["calibrate", model.to_str().unwrap(), "--merge", &b, "-o", &a];
    says(&refusal(wgquant().args(merge)), &["exists", "--resume"]);
    let merged = run_json(&[&merge[..], &["--resume", "--json"]].concat());
    assert_eq!(merged["parts"].as_array().unwrap().len(), 2, "{merged}");

    let (_other, dir) = copy();
    edit(&dir.join("config.json"), |json| json["note"] = "another".into());
    let mut more = args(&path("c"), &["--sequences", "1", "--merge", &b]);
    more[1] = dir.to_str().unwrap().to_owned();
    says(&refusal(wgquant().args(&more)), &["model", "nano", &b]);
    let line = refusal(wgquant().args(args(&path("c"), &["--covariance", "--merge", &b])));
    says(&line, &["covariance", "true", "false"]);
    says(&refusal(wgquant().args(args(&path("c"), &["--merge", &path("none")]))), &["none", "No such file"]);
    says(&refusal(wgquant().args(args(&path("no/c"), &["--sequences", "1"]))), &["--output", "no such directory"]);
    let line = refusal(wgquant().args(args(&path("c"), &["--merge", &b, "--merge", &b])));
    says(&line, &["text", "val_ids_u16.npy", "the same tokens"]);
    // What would be gathered is looked at, too, and not only the name of its text.
    let more = args(&path("c"), &["--sequences", "1", "--seed", "1", "--save-every", "1", "--merge", &b]);
    let line = refusal(wgquant().env("RUST_LOG", "error").args(more));
    says(&line, &[&b, "cannot be added", "text", "val_ids_u16.npy", "the same tokens"]);
    let line = refusal(wgquant().args(args(&b, &["--sequences", "2", "--seed", "1", "--resume", "--merge", &b])));
    says(&line, &["--merge", &b, "is the --output"]);
    assert!(!temp.path().join("c").exists());
}

/// What a run ended with holds what it added, too.
#[test]
fn a_run_that_merges_is_done_when_it_is_done() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (a, b, out) = (path("a"), path("b"), path("out"));
    run(&args(&a, &["--sequences", "1"]));
    run(&args(&b, &["--sequences", "1", "--seed", "1"]));
    let merge =
        |sequences| args(&out, &["--sequences", sequences, "--seed", "2", "--merge", &a, "--merge", &b, "--resume"]);
    let first = run_json(&merge("1"));
    let before = fs::read(&out).unwrap();
    assert_eq!((run_json(&merge("1")), first["parts"].as_array().unwrap().len()), (first, 3));
    assert!(fs::read(&out).unwrap() == before);
    // More of its text can no longer be told from what was added.
    says(&refusal(wgquant().args(merge("2"))), &["cannot go on from it", "number of texts"]);
    assert!(fs::read(&out).unwrap() == before);
}

/// No command begins to work with ids that the model has no rows for.
#[test]
fn ids_of_another_tokenizer_are_refused_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let (model, ids, out) = (nano(), path("ids.npy"), path("out"));
    let (model, ids, out) = (model.to_str().unwrap(), ids.as_str(), out.as_str());
    short_windows(ids.as_ref(), 2, 16);
    let mut bytes = fs::read(ids).unwrap();
    let last = bytes.len() - 2;
    bytes[last..].copy_from_slice(&2048u16.to_le_bytes());
    fs::write(ids, bytes).unwrap();
    let drawn = ["-f", ids, "--device", "cpu", "--sequences", "2", "--sequence-length", "16", "-o", out];
    let commands: [(&[&str], &[&str]); 4] = [
        (&["calibrate", model, "--save-every", "1"], &drawn),
        (&["quantize", model, "--scheme", "w8a8"], &drawn),
        (&["search", model, "--target-bpw", "4"], &drawn),
        (&["perplexity", model], &drawn[..4]),
    ];
    for (command, more) in commands {
        let line = refusal(wgquant().args(command).args(more));
        says(&line, &["ids.npy: holds token id 2048", &format!("{model} is of 2048"), "another tokenizer's"]);
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

/// Token ids have no documents that could be left out.
#[test]
fn the_length_of_documents_is_no_matter_of_token_ids() {
    let temp = tempfile::tempdir().unwrap();
    let stats = temp.path().join("stats");
    let output = wgquant().args(args(stats.to_str().unwrap(), &["--sequences", "1", "--min-length", "9"])).output();
    let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
    says(&stderr, &["val_ids_u16.npy", "holds no documents", "9 tokens"]);
    assert!(stats.is_file());
}

#[test]
fn analyze_shows_statistics_and_sensitivity() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let report = run_json(&args(&path("stats"), &["--sequences", "2"]));
    assert_eq!(report["parts"][0]["sequences"], 2);
    let kept = |module: &str| {
        let form = |bits, loss| {
            let format = json!({ "bits": bits, "group": { "size": 32 }, "scales": { "nested": 6 } });
            json!({ "format": format, "bytes": 1, "loss": loss, "kl": 0.5 })
        };
        let forms = [form(4, 0.25), form(5, 0.001), json!({ "format": null, "bytes": 1, "loss": 0.0, "kl": 0.0 })];
        json!({ "fingerprint": "", "modules": [{ "name": module, "forms": forms }] }).to_string()
    };
    fs::write(path("losses"), kept("backbone.layers.0.mixer.in_proj")).unwrap();
    let model = nano();
    let all = ["analyze", model.to_str().unwrap(), "--stats", &path("stats"), "--sensitivity", &path("losses")];
    let analysis = run_json(&[&all[..], &["--json", "--html", &path("page.html")]].concat());
    let rows = analysis["details"]["tensors"].as_array().unwrap();
    // 4 Mamba-2 blocks of 7 parts, 4 MLPs of 2, attention of 4, embedding and head.
    assert_eq!(rows.len(), 4 * 7 + 4 * 2 + 4 + 2);
    let part = |name: &str| rows.iter().find(|r| r["part"] == name).unwrap();
    assert_eq!(part("in_proj.B")["shape"], json!([64, 128]));
    assert_eq!(part("in_proj.B")["sensitivity"], json!({ "4/32": 0.25, "5/32": 0.001 }));
    assert_eq!(part("out_proj")["sensitivity"], Value::Null);
    assert_eq!(part("k_proj")["input"], part("q_proj")["input"]);
    let sum = |name: &str, i: usize| {
        rows.iter()
            .filter(|r| r["part"].as_str().unwrap().starts_with(name))
            .map(|r| r["predicted"][i].as_u64().unwrap())
            .sum::<u64>()
    };
    // w8a8: a byte a weight and a bf16 scale a row.
    assert_eq!(sum("in_proj", 0), 4 * 648 * (128 + 2));
    assert_eq!(analysis["details"]["dynamics"].as_array().unwrap().len(), 4);
    let page = fs::read_to_string(path("page.html")).unwrap();
    says(
        &page,
        &[
            "in_proj.dt",
            "Inputs of linear layers",
            "Sensitivity",
            "Memory of the Mamba-2 blocks",
            "prefers-color-scheme:dark",
        ],
    );
    assert!(!page.contains("<script") && !page.contains("http"));
    fs::write(path("losses"), kept("nothing")).unwrap();
    says(&refusal(wgquant().args(all)), &["sensitivity", "nothing"]);
    fs::write(path("losses"), "{}").unwrap();
    says(&refusal(wgquant().args(all)), &["losses", "wgquant search"]);
}
