//! The card of a quantized model, as Hugging Face's hub reads it.

use std::fs;

use serde_json::json;

use crate::common::{copy, edit, run, run_json, says};

/// Quantizes a copy of nano by these flags; gives the card and the model's bits per parameter. `change` is made to the copy.
fn card(flags: &[&str], change: impl FnOnce(&std::path::Path)) -> (String, f64) {
    let (temp, model) = copy();
    change(&model);
    let out = temp.path().join("out");
    let (model, out) = (model.to_str().unwrap(), out.to_str().unwrap());
    run(&[&["quantize", model, "-o", out, "--scheme", "w8a8"], flags].concat());
    run(&["verify", out]);
    let card = fs::read_to_string(format!("{out}/README.md")).unwrap();
    assert!(!card.contains(temp.path().to_str().unwrap()), "{card}");
    let bits = run_json(&["analyze", out, "--sizes-only", "--json"])["bits_per_parameter"].as_f64().unwrap();
    (card, bits)
}

#[test]
fn what_the_hub_is_told() {
    let (card, bits) = card(&["--rotate", "none", "--embedding", "16"], |model| {
        // What it was once tuned from is not what this is made of.
        edit(&model.join("config.json"), |c| c["_name_or_path"] = json!("lab/nano"));
        fs::write(model.join("README.md"), "---\nlicense: apache-2.0\nlanguage: en\n---\nThe original's words.")
            .unwrap();
    });
    let front = "---\nlicense: \"apache-2.0\"\n\
                 tags:\n- wgquant\n- compressed-tensors\n- nemotron_h\n---\n";
    assert!(card.starts_with(front), "{card}");
    assert!(!card.contains("The original's words") && !card.contains("language"), "{card}");
    says(
        &card,
        &[
            "# `model`, quantized\n\nMade of `model` by wgquant ",
            &format!("| bits per parameter | 16.00 | {bits:.2} |"),
            "| 8 bits | channel | bf16 | int8 a token |",
            "| bf16 |  |  | float | embeddings (1) |",
            "rounded to nearest",
            "compressed-tensors format",
            "wgquant verify DIR",
            "wgquant perplexity DIR -f TEXT --base ORIGINAL\n",
        ],
    );
}

/// A model of floats is not said to be rounded.
#[test]
fn what_is_only_rotated() {
    let (temp, model) = copy();
    let (recipe, out) = (temp.path().join("r.toml"), temp.path().join("out"));
    fs::write(&recipe, "float = \"f32\"\n[transform]\nfold_norms = true\nresidual = 3\n").unwrap();
    let args = ["quantize", model.to_str().unwrap(), "-o", out.to_str().unwrap(), "--recipe", recipe.to_str().unwrap()];
    run(&args);
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    says(&card, &["# `model`, transformed\n", "Weights are floats. Before, exactly: "]);
    assert!(!card.contains("quantized") && !card.contains("rounded"), "{card}");
}

/// Nothing is said that is not known, and nobody is told to load what others cannot.
#[test]
fn what_the_hub_is_not_told() {
    let (card, _) = card(&[], |model| {
        edit(&model.join("config.json"), |c| c["_name_or_path"] = json!("/home/someone/nano"));
    });
    assert!(card.starts_with("---\ntags:\n- wgquant\n- nemotron_h\n---\n"), "{card}");
    says(
        &card,
        &["Made of `model` by", "are rotated as the model runs", "`quant_method` is null", "--base ORIGINAL\n"],
    );
    assert!(!card.contains("/home/someone"), "{card}");
}
