//! Flags that say what is rotated, on models that have some of the widths and blocks only.

use std::fs;

use serde_json::json;
use wgquant::model::{Activations, Linear, ModelFile, ModelSource};

use crate::common::{edit, nano, refusal, run, says, tiny, wgquant};

/// The line that `quantize --explain` refuses these flags with.
#[track_caller]
fn refused(file: &ModelFile, flags: &[&str]) -> String {
    let mut command = wgquant();
    command.env("RUST_LOG", "error").arg("quantize").arg(file.checkpoint().dir()).arg("--explain").args(flags);
    refusal(&mut command)
}

/// The recipe that `quantize` follows with these flags.
#[track_caller]
fn recipe(file: &ModelFile, flags: &[&str]) -> String {
    let temp = tempfile::tempdir().unwrap();
    let (model, out) = (file.checkpoint().dir().display().to_string(), temp.path().join("out").display().to_string());
    run(&[&["quantize", &model, "-o", &out, "--device", "cpu"], flags].concat());
    fs::read_to_string(temp.path().join("out/wgquant_recipe.toml")).unwrap()
}

#[test]
fn flags_that_rotate_nothing_are_refused() {
    let file = ModelFile::open(&nano()).unwrap();
    for (flags, words) in [
        (&["--rotate", "none", "--seed", "7"][..], ["--seed 7", "--rotate none"]),
        (&["--rotate", "klt", "--seed", "7"], ["--seed 7", "random signs"]),
        (&["--rotate-sites", "out_proj,down_proj", "--seed", "7"], ["--seed 7", "random signs"]),
        (&["--rotate-sites", "residual,values", "--rotate-block", "32"], ["--rotate-block 32", "at run time"]),
        (&["--rotate-sites", "out_proj", "--rotate", "klt"], ["--rotate klt", "residual"]),
        (&["--rotate-sites", "values", "--rotate", "klt-hadamard"], ["--rotate klt-hadamard", "residual"]),
    ] {
        let line = refused(&file, &[&["--scheme", "w8a8"], flags].concat());
        says(&line, &[words[0], "has no effect", words[1]]);
    }
    for flags in [&["--seed", "7"][..], &["--rotate-sites", "keys", "--seed", "7"]] {
        let model = nano().display().to_string();
        run(&[&["quantize", &model, "--explain", "--scheme", "w8a8"], flags].concat());
    }
}

#[test]
fn sites_of_no_block_are_refused() {
    let (_temp, file) = tiny(json!({ "hybrid_override_pattern": "MM", "num_hidden_layers": 2 }));
    for (site, blocks) in [("down_proj", "MLP"), ("values", "attention"), ("keys", "attention")] {
        let line = refused(&file, &["--scheme", "w8a8", "--rotate-sites", &format!("residual,{site}")]);
        says(&line, &[&format!("--rotate-sites {site}"), "has no effect", &format!("without {blocks} blocks")]);
    }
    // Of those that are rotated unless told, the ones there are.
    assert!(!recipe(&file, &["--scheme", "w8a8"]).contains("down_proj"));
    let (_temp, file) = tiny(json!({ "hybrid_override_pattern": "--", "num_hidden_layers": 2 }));
    let line = refused(&file, &["--scheme", "w8a8", "--rotate-sites", "out_proj"]);
    says(&line, &["--rotate-sites out_proj", "without Mamba-2 blocks"]);
}

/// A width without a Hadamard matrix is in nobody's way who does not rotate all of it.
#[test]
fn only_what_is_rotated_needs_a_matrix() {
    let (_temp, file) = tiny(json!({ "intermediate_size": 1888 }));
    let sites = ["--rotate-sites", "residual,out_proj"];
    says(&refused(&file, &["--scheme", "w8a8"]), &["intermediate_size 1888", "--rotate-block", "--rotate-sites"]);
    says(&recipe(&file, &[&["--scheme", "w8a8"], &sites[..]].concat()), &["residual = 0", "out_proj = 24"]);
    let blocks = recipe(&file, &["--scheme", "w8a8", "--rotate-block", "8"]);
    says(&blocks, &["residual = 0", "out_proj = 8", "down_proj = 8"]);
    let preset = recipe(&file, &["--recipe", "w8a8", "--method", "rtn"]);
    says(&preset, &["residual = 0", "out_proj = 24", "down_proj = 32"]);

    let (_temp, file) = tiny(json!({ "hidden_size": 118 }));
    let mut command = wgquant();
    command.arg("quantize").arg(file.checkpoint().dir()).args(["-o", "no", "--scheme", "w8a8", "--device", "cpu"]);
    says(&refusal(command.args(["--rotate", "klt"])), &["KLT", "needs calibration text"]);
}

/// The embedding of a tied model is its head, and stays as that is.
#[test]
fn an_embedding_that_is_the_head_too() {
    let (_temp, file) = tiny(json!({ "tie_word_embeddings": true }));
    let tied = ["--scheme", "w4a16", "--group-size", "channel", "--rotate", "none"];
    let eight = ["--embedding", "8"];
    says(&refused(&file, &[&tied[..], &eight].concat()), &["--embedding 8", "head", "w4a16", "--fold-norms true"]);
    assert!(!recipe(&file, &tied).contains("Embedding"));
    says(&recipe(&file, &[&tied[..], &eight, &["--fold-norms", "true"]].concat()), &["\"Embedding\""]);
}

/// A head of its own in the file of a model whose configuration ties it: said once, and what is made has it.
#[test]
fn a_tied_configuration_with_a_head_of_its_own() {
    let (temp, file) = tiny(json!({}));
    let (dir, out) = (file.checkpoint().dir(), temp.path().join("out"));
    edit(&dir.join("config.json"), |config| config["tie_word_embeddings"] = json!(true));
    let mut command = wgquant();
    command.arg("quantize").arg(dir).arg("-o").arg(&out);
    let output = command.args(["--scheme", "w8a8", "--rotate", "none", "--device", "cpu"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr.matches("tie_word_embeddings is true").count(), 1, "{stderr}");
    says(&stderr, &["config.json", "another `lm_head` than `backbone.embeddings`"]);
    let made = ModelFile::open(&out).unwrap();
    let config = made.checkpoint().config();
    assert!(made.head().unwrap().is_some() && made.parameters() == file.parameters());
    assert!(config["tie_word_embeddings"] == false && config["wgquant"]["untied_head"].is_null(), "{config}");
}

/// Of an embedding that is the head too, what is written and explained says how the head's inputs are rounded.
#[test]
fn an_embedding_that_is_the_head_has_its_inputs() {
    let (temp, file) = tiny(json!({ "tie_word_embeddings": true }));
    let (model, out) = (file.checkpoint().dir().display().to_string(), temp.path().join("out"));
    let (to, scheme) = (out.display().to_string(), ["--scheme", "w8a8", "--rotate", "none"]);
    let explained = run(&[&["quantize", &model, "--explain"][..], &scheme].concat());
    let line = explained.lines().find(|line| line.contains("backbone.embeddings")).unwrap();
    says(line, &["8 bits", "int8 a token"]);
    run(&[&["quantize", &model, "-o", &to, "--device", "cpu"][..], &scheme].concat());
    let Linear::Quantized(q) = ModelFile::open(&out).unwrap().embedding().unwrap() else { panic!("floats") };
    assert_eq!(q.activations, Activations::TOKEN);
}
