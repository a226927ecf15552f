//! `generate`.

use std::fs;

use serde_json::json;

use crate::common::{copy, nano, refusal, run, run_json, says, wgquant};

const PROMPT: &str = "The little boat";

fn generate(args: &[&str]) -> String {
    let model = nano();
    run(&[&["generate", model.to_str().unwrap(), "-p", PROMPT, "-n", "12"], args].concat())
}

#[test]
fn text_on_stdout_speed_on_stderr() {
    let output = wgquant().arg("generate").arg(nano()).args(["-p", PROMPT, "-n", "12"]).output().unwrap();
    let (text, footer) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.starts_with(PROMPT) && text.len() > PROMPT.len() + 5, "{text}");
    assert!(footer.contains("tokens/s") && !text.contains("tokens/s"), "{footer}");
}

#[test]
fn devices_continue_alike() {
    assert_eq!(generate(&[]), generate(&["--device", "cpu"]));
}

#[test]
fn seeds_decide() {
    let draw = |seed| generate(&["--temp", "1", "--top-k", "50", "--top-p", "0.95", "-s", seed]);
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn json_is_the_whole_result() {
    let model = nano();
    let report = run_json(&["generate", model.to_str().unwrap(), "-p", PROMPT, "-n", "4", "--json"]);
    assert_eq!((report["prompt"].as_str(), report["tokens"].as_u64()), (Some(PROMPT), Some(4)));
    assert!(report["text"].as_str().is_some_and(|t| !t.is_empty()));
    assert!(report["adapter"].is_string() && report["tokens_per_second"].as_f64().is_some_and(|s| s > 0.0));
    // The CPU has made the second token before the first is seen: between the two there is nothing to time.
    let two = ["generate", model.to_str().unwrap(), "-p", PROMPT, "-n", "2", "--device", "cpu", "--json"];
    let report = run_json(&two);
    assert_eq!((report["tokens"].as_u64(), report["tokens_per_second"].is_null()), (Some(2), true), "{report}");
}

/// transformers stops by `generation_config.json`.
#[test]
fn sequences_end_where_generation_config_says() {
    let (_temp, dir) = copy();
    let tokens =
        || run_json(&["generate", dir.to_str().unwrap(), "-p", PROMPT, "-n", "12", "--json"])["tokens"].as_u64();
    assert_eq!(tokens(), Some(12));
    let all: Vec<u32> = (0..2048).collect();
    fs::write(dir.join("generation_config.json"), json!({ "eos_token_id": all }).to_string()).unwrap();
    assert!(tokens() < Some(2), "{:?}", tokens());
}

#[test]
fn prompts_come_from_files_and_standard_input() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("prompt.txt");
    fs::write(&path, format!("{PROMPT}\r\n")).unwrap();
    let path = path.to_str().unwrap();
    let read = |args: &[&str], stdin: &str| {
        let output =
            wgquant().arg("generate").arg(nano()).args(["-n", "12"]).args(args).write_stdin(stdin).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = generate(&[]);
    assert_eq!(read(&["-f", path], ""), text);
    assert_eq!(read(&["-f", "-"], &format!("{PROMPT}\n")), text);
    let both = read(&["-f", "-", "-f", path, "-p", "Once upon a time"], PROMPT);
    assert!(both.starts_with("Once upon a time") && both.matches(text.trim_end()).count() == 2, "{both}");
    let refused = |args: &[&str]| refusal(wgquant().arg("generate").arg(nano()).args(args));
    says(&refused(&["-f", "no/such.txt"]), &["--file", "no/such.txt"]);
    says(&refused(&["-f", "-", "-f", "-"]), &["--file", "once"]);
}

#[test]
fn several_prompts_are_continued_together() {
    let model = nano();
    let other = "Once upon a time";
    let args = |prompts: &[&'static str]| {
        let prompts: Vec<&str> = prompts.iter().flat_map(|p| ["-p", p]).collect();
        run_json(&[&["generate", model.to_str().unwrap(), "-n", "5", "--json"][..], &prompts].concat())
    };
    let together = args(&[PROMPT, other, PROMPT]);
    let sequences = together["sequences"].as_array().unwrap();
    assert_eq!(sequences.len(), 3);
    for (sequence, prompt) in sequences.iter().zip([PROMPT, other, PROMPT]) {
        let alone = args(&[prompt]);
        for key in ["prompt", "text", "prompt_tokens", "tokens"] {
            assert_eq!(sequence[key], alone[key], "{prompt}: {key}");
        }
    }
    assert!(together["tokens_per_second"].as_f64() > Some(0.0));
}
