//! `wgquant chat`, with standard input as a pipe.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::bad_models::damage;
use crate::common::{copy, nano, refusal, run_json, says, wgquant};

const TEMPLATE: &str = "<s>{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}\
                        {% if add_generation_prompt %}assistant:{% endif %}";

/// What a conversation gave: exit code, stdout and stderr.
fn talk(model: &Path, args: &[&str], lines: &str) -> (i32, String, String) {
    let mut command = wgquant();
    command.arg("chat").arg(model).args(["--device", "cpu", "--context", "96"]).args(args).write_stdin(lines);
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What `generate` says after a conversation.
fn answer(prompt: &str, args: &[&str]) -> String {
    let nano = nano();
    let generate = ["generate", nano.to_str().unwrap(), "--device", "cpu", "--json", "-p", prompt];
    run_json(&[&generate[..], args].concat())["text"].as_str().unwrap().to_owned()
}

#[test]
fn each_answer_follows_all_that_was_said() {
    let (_temp, dir) = copy();
    fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    let first = "<s>system: Be kind.\nuser: Where is the king, my lord?\nassistant:";
    let one = answer(first, &["-n", "8"]);
    let two = answer(&format!("{first}{one}\nuser: What did the old man say?\nassistant:"), &["-n", "8"]);
    let again = answer("<s>system: Be kind.\nuser: What did the old man say?\nassistant:", &["-n", "8"]);
    assert_ne!(two, again, "the first answer should matter");
    // Empty lines are nothing, and a last line needs no end.
    let lines = "Where is the king, my lord?\n\n/help\nWhat did the old man say?\r\n/clear\nWhat did the old man say?";
    let (code, said, words) = talk(&dir, &["--system", "Be kind.", "-n", "8"], lines);
    assert_eq!((code, said), (0, format!("{one}\n{two}\n{again}\n")), "{words}");
    says(&words, &["/clear  begins", "8 tokens after ", " tokens/s, first after "]);
    assert!(!words.contains("> ") && !words.contains("Ctrl-D ends it"), "nobody is asked: {words}");
    // Draws go by the seed, those of the second answer by the next.
    let draws = ["-n", "6", "--temp", "0.9", "--top-k", "30", "--top-p", "0.9", "--seed"];
    let one = answer("<s>user: Tell me.\nassistant:", &[&draws[..], &["7"]].concat());
    let two =
        answer(&format!("<s>user: Tell me.\nassistant:{one}\nuser: More\nassistant:"), &[&draws[..], &["8"]].concat());
    let (code, said, words) = talk(&dir, &[&draws[..], &["7"]].concat(), "Tell me.\nMore\n/exit\nIs this read?\n");
    assert_eq!((code, said), (0, format!("{one}\n{two}\n")), "{words}");
}

/// The token that ends an answer has no text, and the conversation goes on after it.
#[test]
fn an_answer_ends_where_the_model_ends_it() {
    let (_temp, dir) = copy();
    fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    let said = answer("<s>user: Tell me.\nassistant:", &["-n", "4"]);
    let tokenizer = tokenizers::Tokenizer::from_file(dir.join("tokenizer.json")).unwrap();
    let ids = tokenizer.encode(said.as_str(), false).unwrap().get_ids().to_vec();
    let end = *ids.last().unwrap();
    let before = tokenizer.decode(&ids[..ids.iter().position(|id| *id == end).unwrap()], true).unwrap();
    fs::write(dir.join("generation_config.json"), json!({ "eos_token_id": [2, end] }).to_string()).unwrap();
    let (code, got, words) = talk(&dir, &[], "Tell me.\n");
    assert_eq!((code, got.trim()), (0, before.trim()), "{words}");
    says(&words, &["; the model ended it"]);
}

/// What the context does not hold is left out, and the conversation is as it was.
#[test]
fn a_conversation_may_be_too_long() {
    let (_temp, dir) = copy();
    fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    let long = "the sea ".repeat(60);
    let (code, said, words) = talk(&dir, &["-n", "5"], &format!("Tell me.\n{long}\nMore\n"));
    assert_eq!(code, 1, "{words}");
    says(&words, &["the conversation has 2", " tokens with this line", "the context of 96", "/clear"]);
    assert_eq!(said, talk(&dir, &["-n", "5"], "Tell me.\nMore\n").1);
    // One answer takes what there is.
    let (code, _, words) = talk(&dir, &[], "Tell me.\nMore\n/clear\nTell me.\n");
    assert_eq!(code, 1, "{words}");
    assert_eq!(words.matches("; the context of 96 is full, /clear begins anew").count(), 2, "{words}");
}

#[test]
fn what_cannot_be_talked_with_is_refused_at_once() {
    let (_temp, dir) = copy();
    let refused = |args: &[&str]| refusal(wgquant().arg("chat").arg(&dir).args(args).write_stdin("Hello\n"));
    says(&refused(&[]), &["holds no chat template", "chat_template.jinja", "`wgquant generate` continues plain text"]);
    fs::write(dir.join("chat_template.jinja"), "{% if %}").unwrap();
    says(&refused(&[]), &["chat template: syntax error"]);
    let no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x";
    fs::write(dir.join("chat_template.jinja"), no_system).unwrap();
    says(&refused(&["--system", "Be kind."]), &["no system role"]);
    fs::write(dir.join("chat_template.jinja"), TEMPLATE).unwrap();
    fs::remove_file(dir.join("tokenizer.json")).unwrap();
    says(&refused(&[]), &["holds no tokenizer.json"]);
}

/// A template may refuse a line, and a model make no numbers of one: neither has an answer.
#[test]
fn a_line_without_an_answer_is_told() {
    let (_temp, dir) = copy();
    let picky =
        format!("{{% if 'bad' in messages[-1].content %}}{{{{ raise_exception('not that') }}}}{{% endif %}}{TEMPLATE}");
    fs::write(dir.join("chat_template.jinja"), picky).unwrap();
    let (code, said, words) = talk(&dir, &["-n", "3"], "a bad word\nTell me.\n");
    assert_eq!((code, said), (1, answer("<s>user: Tell me.\nassistant:", &["-n", "3"]) + "\n"), "{words}");
    says(&words, &["wgquant: chat template: ", "not that"]);
    damage(&dir, "lm_head.weight", |b| b.fill(0x7f));
    let (code, said, words) = talk(&dir, &[], "Tell me.\n");
    assert_eq!((code, said.as_str()), (1, ""), "{words}");
    says(&words, &["the logits are no numbers"]);
}
