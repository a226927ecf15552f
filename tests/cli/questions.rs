//! `wgquant eval`.

use std::fs;

use serde_json::Value;

use crate::common::{copy, edit, nano, refusal, run, run_json, says, wgquant};

const VERSE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/questions/verse.jsonl");
const CONTINUATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/questions/continuation.jsonl");

/// The same model says the same, and every question is written down.
#[test]
fn a_model_beside_itself() {
    let temp = tempfile::tempdir().unwrap();
    let samples = temp.path().join("samples.jsonl");
    let model = nano();
    let (model, log) = (model.to_str().unwrap(), samples.to_str().unwrap());
    let args = ["eval", model, "-f", VERSE, "-f", CONTINUATION, "--base", model, "--limit", "3", "--device", "cpu"];
    let report = run_json(&[&args[..], &["--json", "--log-samples", log, "--max-acc-drop", "0"]].concat());
    let tasks = report["tasks"].as_array().unwrap();
    assert_eq!(tasks.iter().map(|t| t["task"].as_str().unwrap()).collect::<Vec<_>>(), ["verse", "continuation"]);
    for task in tasks {
        assert_eq!((&task["questions"], &task["acc"]), (&3.into(), &task["base"]["acc"]), "{task}");
        assert_eq!((task["acc_difference"].as_f64(), task["same_answer"].as_f64()), (Some(0.0), Some(1.0)), "{task}");
        assert!(task["acc_norm"].is_f64() && task["acc_stderr"].is_f64() && task.get("perplexity").is_none(), "{task}");
    }
    assert_eq!((&report["model"], &report["base_model"]["model"]), (&model.into(), &model.into()));
    let lines: Vec<Value> =
        fs::read_to_string(&samples).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for line in &lines {
        assert_eq!(line["log_likelihoods"].as_array().unwrap().len(), 4, "{line}");
        assert_eq!(line["log_likelihoods"], line["base"]["log_likelihoods"], "{line}");
    }
    let right = lines[..3].iter().filter(|l| l["chosen"] == l["answer"]).count();
    assert!((tasks[0]["acc"].as_f64().unwrap() - right as f64 / 3.0).abs() < 1e-12);
    says(&run(&args), &["verse", "acc_norm", "continuation", "Same answer, %", "100.0", "6 questions in"]);
}

/// To a model without opinion shorter choices are likelier.
#[test]
fn the_gate_fails_a_worse_model() {
    let (temp, dir) = copy();
    let file = temp.path().join("easy.jsonl");
    // nano is sure of the longer one.
    let line = r#"{"query":"And God said, Let there","choices":["x","be light"],"gold":1}"#;
    fs::write(&file, format!("{line}\n{line}\n")).unwrap();
    fill_head(&dir, 0);
    let (model, file) = (nano(), file.to_str().unwrap().to_owned());
    let command = |model: &std::path::Path, base: &std::path::Path, most: &str| {
        let mut command = wgquant();
        command.arg("eval").arg(model).arg("--base").arg(base);
        command.args(["-f", &file, "--device", "cpu", "--max-acc-drop", most]);
        command.output().unwrap()
    };
    let worse = command(&dir, &model, "0.5");
    let words = String::from_utf8(worse.stderr).unwrap();
    says(&words, &["quality gate: accuracy of easy is 100.00 points below the base's, 50.00 are allowed"]);
    assert_eq!(worse.status.code(), Some(1));
    assert!(command(&dir, &model, "1").status.success());
    assert!(command(&model, &dir, "0").status.success());
}

/// A model whose values overflow has no accuracy, on either side of a comparison, and passes no gate.
#[test]
fn the_gate_fails_logits_that_are_no_numbers() {
    let (_temp, dir) = copy();
    fill_head(&dir, 0x7f);
    for (model, base) in [(&dir, &nano()), (&nano(), &dir)] {
        let mut command = wgquant();
        command.arg("eval").arg(model).arg("--base").arg(base).args(["-f", VERSE, "--limit", "1", "--device", "cpu"]);
        let output = command.args(["--json", "--max-acc-drop", "1"]).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let warning =
            format!("warning: {}: gives logits that are no numbers, first for line 1 of verse", dir.display());
        says(&stderr, &[&warning, "quality gate"]);
        let task = &serde_json::from_str::<Value>(&stdout).unwrap()["tasks"][0];
        assert!(task["acc_difference"].is_null(), "{task}");
        assert_eq!((task["acc"].is_null(), task["base"]["acc"].is_null()), (model == &dir, base == &dir), "{task}");
    }
}

/// Sets all bytes of the model's head: with zeros all tokens are as likely.
fn fill_head(dir: &std::path::Path, byte: u8) {
    let path = dir.join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let [from, to] = [0, 1].map(|i| header + tensors["lm_head.weight"]["data_offsets"][i].as_u64().unwrap() as usize);
    bytes[from..to].fill(byte);
    fs::write(&path, bytes).unwrap();
}

/// Data sets have files of one name, each in a directory of its own.
#[test]
fn files_of_one_name_are_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let file = |dir: &str| {
        fs::create_dir(temp.path().join(dir)).unwrap();
        let path = temp.path().join(dir).join("test.jsonl");
        fs::write(&path, r#"{"query":"x","choices":["y","z"],"gold":0}"#).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (arc, piqa, model) = (file("arc"), file("piqa"), nano());
    let args = ["eval", model.to_str().unwrap(), "--device", "cpu", "-f", &arc, "-f"];
    let report = run_json(&[&args[..], &[&piqa, "--json"]].concat());
    assert_eq!([0, 1].map(|i| &report["tasks"][i]["task"]), ["arc/test", "piqa/test"]);
    let again = temp.path().join("piqa/../arc/test.jsonl");
    says(&refusal(wgquant().args(args).arg(&again)), &["--file", again.to_str().unwrap(), "is given twice"]);
}

#[test]
fn what_is_no_question_is_refused() {
    let (temp, dir) = copy();
    let file = temp.path().join("q.jsonl");
    fs::write(&file, "{\"prompt\": \"x\"}\n").unwrap();
    let eval = |model: &std::path::Path| {
        let mut command = wgquant();
        command.arg("eval").arg(model).arg("-f").arg(&file);
        command
    };
    says(&refusal(&mut eval(&dir)), &["q.jsonl", "line 1 is no question"]);
    fs::write(&file, "{\"text\": \"two words\"}\n").unwrap();
    says(&refusal(eval(&dir).args(["--base", "x", "--max-acc-drop", "nan"])), &["--max-acc-drop NaN"]);
    says(
        &refusal(eval(&dir).args(["--log-samples", "/nowhere/x"])),
        &["--log-samples /nowhere/x", "no such directory"],
    );
    edit(&dir.join("config.json"), |config| config["vocab_size"] = 7.into());
    let words = refusal(eval(&nano()).arg("--base").arg(&dir));
    assert!(words.contains("implies [7, 128]"), "{words}");
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    edit(&dir.join("config.json"), |config| config["vocab_size"] = 2048.into());
    says(&refusal(&mut eval(&dir)), &["questions are text", "no tokenizer.json"]);
    // What is asked is not written over.
    let before = fs::read(&file).unwrap();
    says(&refusal(eval(&nano()).arg("--log-samples").arg(&file)), &["--log-samples", "is the file of questions"]);
    assert_eq!(fs::read(&file).unwrap(), before);
    let ids = nano().join("val_ids_u16.npy");
    let words = refusal(wgquant().arg("eval").arg(nano()).arg("-f").arg(&ids));
    says(&words, &["val_ids_u16.npy", "holds token ids", ".jsonl"]);
}

/// What comes before a question is as good as written into it.
#[test]
fn examples_are_what_the_context_begins_with() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, lines: String| {
        let path = temp.path().join(name);
        fs::write(&path, lines).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let asked = fs::read_to_string(VERSE).unwrap();
    let lines: Vec<Value> = asked.lines().take(4).map(|line| serde_json::from_str(line).unwrap()).collect();
    let (example, rest) = lines.split_first().unwrap();
    let text = |q: &Value| format!("Question: {}\nAnswer:", q["question"].as_str().unwrap());
    let right =
        |q: &Value| q["choices"]["label"].as_array().unwrap().iter().position(|l| *l == q["answerKey"]).unwrap();
    let before = format!("{} {}\n\n", text(example), example["choices"]["text"][right(example)].as_str().unwrap());
    let written = |q: &Value| {
        let query = before.clone() + &text(q);
        serde_json::json!({ "query": query, "choices": q["choices"]["text"], "gold": right(q) }).to_string() + "\n"
    };
    let shown = file("shown.jsonl", example.to_string());
    let plain = file("plain.jsonl", rest.iter().map(|q| q.to_string() + "\n").collect());
    let long = file("long.jsonl", rest.iter().map(written).collect());
    let said = |args: &[&str]| -> (Value, Vec<Value>) {
        let samples = temp.path().join("samples.jsonl");
        let model = nano();
        let fixed = ["eval", model.to_str().unwrap(), "--device", "cpu", "--json", "--log-samples"];
        let report = run_json(&[&fixed[..], &[samples.to_str().unwrap()], args].concat());
        let lines = fs::read_to_string(&samples).unwrap();
        let of = |line: &str| serde_json::from_str::<Value>(line).unwrap()["log_likelihoods"].clone();
        (report["tasks"][0].clone(), lines.lines().map(of).collect())
    };
    let (report, with) = said(&["-f", &plain, "--num-fewshot", "1", "--fewshot-file", &shown]);
    assert_eq!((&report["num_fewshot"], &report["fewshot_seed"]), (&1.into(), &1234.into()));
    assert_eq!(report["fewshot_file"], shown);
    assert_eq!(with, said(&["-f", &long]).1);
    let (none, without) = said(&["-f", &plain, "--num_fewshot", "0"]);
    assert_eq!(none["num_fewshot"], 0);
    assert!(with.len() == 3 && (0..3).all(|i| with[i] != without[i]), "examples change nothing");
    let model = nano();
    let args = ["eval", model.to_str().unwrap(), "-f", &plain, "--num-fewshot", "2", "--device", "cpu"];
    says(&run(&args), &["plain, 2-shot"]);

    let refused = |args: &[&str], words: &[&str]| {
        says(&refusal(wgquant().arg("eval").arg(nano()).args(["--device", "cpu"]).args(args)), words);
    };
    refused(&["-f", &plain, "--num-fewshot", "3"], &["plain.jsonl: has 2 questions beside one", "3 examples"]);
    refused(&["-f", &plain, "--num-fewshot", "1", "--fewshot-file", &long], &["long.jsonl", "MultipleChoice", "Arc"]);
    let two = ["-f", &plain, "--num-fewshot", "1", "--fewshot-file", &shown, "--fewshot-file", &plain];
    refused(&two, &["--fewshot-file: 2 for 1 files of questions"]);
}
