//! `wgquant search` and the recipes it writes.

use crate::common::{edit, nano, refusal, run, run_json, says, short_windows, wgquant};

#[test]
fn search_writes_a_recipe_that_quantize_follows() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (model, text, recipe, out) = (nano().display().to_string(), at("text.npy"), at("the r.toml"), at("out"));
    short_windows(text.as_ref(), 2, 64);
    let fixed = [&model[..], "-f", &text, "--sequences", "2", "--sequence-length", "64", "--device", "cpu"];
    let search = |more: &[&str]| [&["search"], &fixed[..], more].concat().iter().map(|s| (*s).to_owned()).collect();
    let args: Vec<String> =
        search(&["-o", &recipe, "--target-bpw", "4.5", "--bits", "3,4,5", "--probes", "1", "--json"]);
    let found = run_json(&args);
    let chosen = &found["chosen"];
    assert!(chosen["bits_per_parameter"].as_f64().unwrap() <= 4.5);
    assert!(found["front"].as_array().unwrap().len() > 20);

    // Another budget, from what was measured.
    let page = at("page.html");
    let args: Vec<String> =
        search(&["-o", &recipe, "--target-size", "950kib", "--bits", "3,4,5", "--probes", "1", "--html", &page]);
    says(&run(&args), &["chosen:", "next: wgquant quantize", &format!(" --recipe '{recipe}' -f FILE")]);
    says(&std::fs::read_to_string(page).unwrap(), &["<polyline", "<circle", "Predicted KL"]);

    // The file answers only the question it was asked.
    let args: Vec<String> = search(&["-o", &recipe, "--target-bpw", "4.5", "--bits", "3,4", "--probes", "1"]);
    says(&refusal(wgquant().args(&args)), &["r.sensitivity.json", "another question"]);
    let args: Vec<String> = search(&["-o", &recipe, "--target-bpw", "2.5", "--bits", "3,4,5", "--probes", "1"]);
    says(&refusal(wgquant().args(&args)), &["budget of 2.5 bits per parameter", "cannot be met", "smallest"]);
    // Changed since, it answers none.
    let edited = at("edited.json");
    let asked = ["--sensitivity", &edited, "--target-bpw", "4.5", "--bits", "3,4,5", "--probes", "1"];
    std::fs::copy(at("the r.sensitivity.json"), &edited).unwrap();
    edit(edited.as_ref(), |survey| survey["modules"][0]["forms"][0]["bytes"] = u64::MAX.into());
    let line = refusal(wgquant().args(search(&asked)));
    says(&line, &["edited.json", "changed or damaged", "backbone.embeddings", "18446744073709551615 bytes"]);
    edit(edited.as_ref(), |survey| survey["modules"][1]["forms"][0]["kl"] = (-5.0).into());
    says(&refusal(wgquant().args(search(&asked))), &["edited.json: `", "has a kl of -5"]);
    let shown = run_json(&["analyze", &model, "--sensitivity", &at("the r.sensitivity.json"), "--json"]);
    says(&shown["details"]["tensors"][0]["sensitivity"].to_string(), &["3/32", "4/32", "5/32"]);

    // Transformed as the presets are.
    says(&std::fs::read_to_string(&recipe).unwrap(), &["out_proj = 32", "down_proj = 32", "relu2 = 0.5", "size = 32"]);

    // A bound on the weights' KL; the model's own is measured beside it.
    let (bound, other, kept) = (chosen["predicted_kl"].to_string(), at("kl.toml"), at("the r.sensitivity.json"));
    let bounded = |more: &[&str]| {
        let asked = ["-o", &other, "--sensitivity", &kept, "--max-kld", &bound, "--bits", "3,4,5", "--probes", "1"];
        search(&[&asked[..], more].concat())
    };
    says(&run(&bounded(&[])), &["predicted KL of the weights", "activations add", "--measure"]);
    says(&run(&bounded(&["--measure"])), &["measured, activations rounded too", "nats on 1 sequences"]);
    let output = wgquant().args(bounded(&["--measure", "--json"])).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let kl = found["measured"]["mean_kl"].as_f64().unwrap();
    let predicted = found["chosen"]["predicted_kl"].as_f64().unwrap();
    assert!(kl > predicted / 10.0 && kl < predicted * 10.0, "{kl} measured, {predicted} predicted");
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert_eq!(warnings.contains("--max-kld"), kl > bound.parse().unwrap(), "{kl} of {bound}: {warnings}");

    let explained = run(&["quantize", &model, "--recipe", &recipe, "--explain"]);
    says(&explained, &["lm_head", "6 bits × f16"]);
    let made = run_json(&[
        "quantize",
        &model,
        "--recipe",
        &recipe,
        "-f",
        &text,
        "--sequences",
        "2",
        "--sequence-length",
        "64",
        "-o",
        &out,
        "--deterministic",
        "--json",
    ]);
    assert!(made["output"]["bytes"].as_u64().unwrap() <= 950 * 1024);
}

/// KL is less on text that calibrates: where there is other text, the recipe found is measured on that.
#[test]
fn what_is_measured_says_whether_it_calibrates() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let model = nano().display().to_string();
    let search = |windows: usize, more: &[&str]| {
        let (text, recipe) = (at("text.npy"), at(&format!("{windows}.toml")));
        short_windows(text.as_ref(), windows, 16);
        let fixed =
            ["search", &model, "-f", &text, "-o", &recipe, "--target-bpw", "5", "--bits", "4", "--device", "cpu"];
        run(&[&fixed[..], &["--sequences", "1", "--sequence-length", "16", "--probes", "1"], more].concat())
    };
    says(&search(1, &["--measure"]), &["nats on 1 sequences, 15 tokens, that also calibrate"]);
    says(&search(2, &["--measure"]), &["nats on 1 sequences, 15 tokens, that do not calibrate"]);
    // What calibrates is the same without it: what was kept answers.
    says(&search(2, &[]), &["activations add", "text that does not calibrate"]);
}

/// Blocks of the rotations are as large as the activations' groups, unless they are told.
#[test]
fn search_rotates_whole_tokens_where_they_have_one_scale() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (model, text) = (nano().display().to_string(), at("text.npy"));
    short_windows(text.as_ref(), 1, 16);
    for (i, (flags, lines)) in [
        (&["--activation-group", "channel"][..], ["out_proj = 128", "down_proj = 672"]),
        (&["--activation-group", "channel", "--rotate-block", "16"], ["out_proj = 16", "down_proj = 16"]),
    ]
    .into_iter()
    .enumerate()
    {
        let recipe = at(&format!("{i}.toml"));
        let fixed = ["search", &model, "-f", &text, "-o", &recipe, "--target-bpw", "5", "--bits", "4"];
        let short = ["--sequences", "1", "--sequence-length", "16", "--probes", "1", "--device", "cpu"];
        run(&[&fixed[..], &short, flags].concat());
        says(&std::fs::read_to_string(recipe).unwrap(), &[lines[0], lines[1], "int8 = \"channel\""]);
    }
}

/// Two results of one name: the later would replace the earlier.
#[test]
fn search_writes_no_two_things_to_one_file() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    std::fs::create_dir(at("sub")).unwrap();
    for (outputs, flags) in [
        (["-o", &at("a.json"), "--sensitivity", &at("a.json")], ["--sensitivity", "--output"]),
        (["-o", &at("a.toml"), "--html", &at("sub/../a.toml")], ["--html", "--output"]),
        (["-o", &at("a.toml"), "--html", &at("a.sensitivity.json")], ["--html", "--sensitivity"]),
    ] {
        let mut command = wgquant();
        command.arg("search").arg(nano()).args(["-f", "none.txt", "--target-bpw", "4", "--device", "cpu"]);
        let line = refusal(command.args(outputs));
        says(&line, &["is the file of", flags[0], flags[1]]);
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

/// Nor one to what is no file, be it by the name that is its own by default: a pipe would be waited for, a link replaced.
#[cfg(unix)]
#[test]
fn what_is_measured_is_kept_in_a_file() {
    let temp = tempfile::tempdir().unwrap();
    let link = temp.path().join("r.sensitivity.json");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let mut command = wgquant();
    command.arg("search").arg(nano()).args(["-f", "none.txt", "--target-bpw", "4", "--device", "cpu", "-o"]);
    let line = refusal(command.arg(temp.path().join("r.toml")));
    says(&line, &["--sensitivity", "r.sensitivity.json", "would be replaced by a file"]);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn presets_need_no_file_and_say_what_they_do() {
    for preset in ["w8a8", "w4a8", "mixed"] {
        let explained = run(&["quantize", &nano().display().to_string(), "--recipe", preset, "--explain"]);
        says(&explained, &["in_proj", "lm_head", "int8"]);
        let shown = run(&["analyze", &nano().display().to_string(), "--sizes-only", "--recipe", preset]);
        says(&shown, &[&format!("recipe {preset}")]);
    }
}

#[test]
fn the_recipe_in_the_readme_is_one() {
    let readme = include_str!("../../README.md");
    let recipe = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("readme.toml");
    std::fs::write(&path, recipe).unwrap();
    let model = nano().display().to_string();
    let explained = run(&["quantize", &model, "--explain", "--recipe", path.to_str().unwrap()]);
    says(&explained, &["5 bits", "int8 a group of 32", "2: re:.*\\.out_proj$, lm_head"]);
}

/// What a recipe leaves out is none, rules too: weights stay floats, and the model is the rewritten one.
#[test]
fn a_recipe_may_have_no_rules() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name).display().to_string();
    let (model, recipe) = (nano().display().to_string(), at("r.toml"));
    std::fs::write(&recipe, "float = \"f32\"\n[transform]\nfold_norms = true\nonline = { down_proj = 32 }\n").unwrap();
    let explained = run(&["quantize", &model, "--recipe", &recipe, "--explain"]);
    says(&explained, &["lm_head", "f32", "none"]);
    run(&["quantize", &model, "--recipe", &recipe, "-o", &at("out"), "--device", "cpu"]);
    let written = std::fs::read_to_string(at("out/wgquant_recipe.toml")).unwrap();
    let again = run(&["quantize", &model, "--recipe", &at("out/wgquant_recipe.toml"), "--explain"]);
    assert_eq!(again, explained, "{written}");
    let shown = run_json(&["analyze", &at("out"), "--sizes-only", "--json"]);
    assert_eq!(shown["quantized"], false);
    // Of which `quantize` makes nothing more.
    assert_eq!(shown["predictions"], serde_json::json!([]));
    let refused = shown["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 3);
    refused.iter().for_each(|r| says(r["reason"].as_str().unwrap(), &["rotated already"]));
}

#[test]
fn a_rule_that_matches_nothing_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("out");
    let model = nano().display().to_string();
    run(&["quantize", &model, "--scheme", "w4a8", "-o", &out.display().to_string(), "--device", "cpu"]);
    let recipe = std::fs::read_to_string(out.join("wgquant_recipe.toml")).unwrap();
    let path = temp.path().join("r.toml");
    let refused = |what: &str, with: &str, words: &[&str]| {
        assert!(recipe.contains(what), "`{what}` is not in {recipe}");
        std::fs::write(&path, recipe.replacen(what, with, 1)).unwrap();
        let line = refusal(wgquant().args(["quantize", &model, "--explain", "--recipe"]).arg(&path));
        says(&line, &[&[path.to_str().unwrap()][..], words].concat());
        line
    };
    refused("\"Embedding\"", "\"re:.*gate_proj$\"", &["gate_proj", "matches no module"]);
    refused("\"Linear\"", "\"Linear\", \"re:.*gate_proj$\"", &["rule 0", "`re:.*gate_proj$` matches no module"]);
    refused("\"Linear\"", "\"re:(\"", &["rule 0", "`re:(`: no usable pattern", "unclosed group"]);
    refused("float = ", "flaot = ", &["line 1, `flaot = ", "unknown field"]);
    refused("int8 = \"channel\"", "int8 = { size = 0 }", &["rule 0", "activations", "size 0"]);
    refused(
        "int8 = \"channel\"",
        "int8 = { size = 2 }",
        &["activations of `", "no group of up to 2", "8 codes of 4 bits"],
    );
    refused("activations = \"float\"", "activations = { int8 = \"channel\" }", &["rule 1", "the embedding alone"]);
    refused("residual = 0", "residual = \"given\"", &["recipe: rotation", "`given`"]);
    for (what, with) in [("float = \"bf16\"", "float = \"f8\""), ("plain = \"bf16\"", "plain = \"u32\"")] {
        let line = refused(what, with, &[with, "expected one of `f32`, `f16`, `bf16`"]);
        assert!(!line.contains("i4"), "{line}");
    }
    refused("bits = 4", "bits = 0", &["rule 0: bits: 0, not 2 to 8"]);
    // What is nowhere is of no line.
    refused("float = \"bf16\"\n", "", &["r.toml: missing field `float`"]);
    let rule = "[[rule]]\nmodules = [\"lm_head\"]\nactivations = { int8 = \"channel\" }\n\n[[rule]]";
    refused("[[rule]]", rule, &["rule 0", "activations", "stay floats"]);
    for (line, words) in [
        ("[gptq]\ndamping = -1.0", &["gptq.damping", "-1, not above 0 and up to 1"][..]),
        ("[gptq]\ndamping = nan", &["gptq.damping", "NaN"]),
        ("[gptq]\nscale_steps = 0", &["gptq.scale_steps"]),
        ("[gptq]\nscale_steps = 999999999999", &["gptq.scale_steps", "999999999999, at most 1000"]),
        ("[gptq]\nsweeps = 4000000000", &["gptq.sweeps", "4000000000, at most 1000"]),
        ("[transform.smooth]\nrelu2 = 2.0", &["smooth", "2 is not within 0 and 1"]),
    ] {
        refused("[transform]", &format!("{line}\n\n[transform]"), words);
    }
    refused("sequences = 128", "sequences = 0", &["calibration.sequences", "0, at least 1"]);
    refused("down_proj = 672", "down_proj = 100", &["block 100 over width 672"]);

    // Rules that later ones all override do nothing.
    std::fs::write(&path, recipe.replacen("[[rule]]", &rule.replace("{ int8 = \"channel\" }", "\"float\""), 1))
        .unwrap();
    let output = wgquant().args(["quantize", &model, "--explain", "--recipe"]).arg(&path).output().unwrap();
    says(&String::from_utf8(output.stderr).unwrap(), &["rule 0 (lm_head) holds nowhere"]);
    let error = refusal(wgquant().args(["quantize", &model, "--explain", "--recipe", "w3a8"]));
    says(&error, &["w3a8", "w8a8, w4a8, mixed", "No such file"]);
}

/// vLLM makes one layer of them; it refuses what is rotated at run time in any case.
#[test]
fn queries_keys_and_values_in_several_forms_are_warned_of() {
    let temp = tempfile::tempdir().unwrap();
    let (model, path) = (nano(), temp.path().join("r.toml"));
    let warned = |rotated: &str| {
        let rule = |modules: &str, bits: usize| {
            let weights = format!("{{ bits = {bits}, group = {{ size = 32 }}, scales = {{ plain = \"bf16\" }} }}");
            format!("[[rule]]\nmodules = ['{modules}']\nweights = {weights}\n")
        };
        let rules = rule("Linear", 4) + &rule(r"re:.*\.[kv]_proj$", 8);
        std::fs::write(&path, format!("float = \"bf16\"\n{rotated}{rules}")).unwrap();
        let output = wgquant().arg("quantize").arg(&model).args(["--explain", "--recipe"]).arg(&path).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    says(&warned(""), &["3.mixer.q_proj` and", "3.mixer.k_proj` differ in form", "not for vLLM"]);
    let rotated = warned("[transform.online]\nout_proj = 32\n");
    assert!(!rotated.contains("vLLM"), "{rotated}");
}
