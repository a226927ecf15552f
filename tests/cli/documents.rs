//! What texts calibration reads: JSON lines, conversations, Parquet.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{copy, edit, nano, refusal, run_json, says, short_windows, wgquant};

/// Repetitions: some 100 tokens, in sequences so short that hardly any is left out at the end.
const LONG: usize = 20;

/// What was read of `text` by the tokenizer of `model`: counts and the hash of all token ids.
fn parts(model: &Path, text: &Path) -> Value {
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("stats");
    let fixed = ["calibrate", model.to_str().unwrap(), "-f", text.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let more = ["--sequence-length", "3", "--sequences", "1000", "--device", "cpu", "--json"];
    let mut report = run_json(&[&fixed[..], &more[..]].concat());
    report["parts"][0]["file"].take();
    report["parts"].take()
}

fn conversation(n: usize) -> Value {
    json!([{ "role": "user", "content": "the boat ".repeat(n) }, { "role": "assistant", "content": "a bird" }])
}

fn lines(path: &Path, lines: &[Value]) {
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(path, text.join("\n")).unwrap();
}

#[test]
fn jsonl_with_messages_and_short_documents() {
    let temp = tempfile::tempdir().unwrap();
    let text = temp.path().join("chat.jsonl");
    let line = |n: usize| serde_json::json!({ "messages": [{ "role": "user", "content": "the boat ".repeat(n) }, { "role": "assistant", "content": "a bird" }] });
    fs::write(
        &text,
        format!("{}\n{}\n\n{}\n", line(100), line(1), serde_json::json!({ "text": "the sea ".repeat(100) })),
    )
    .unwrap();
    let model = nano();
    let out = temp.path().join("stats");
    let fixed = ["calibrate", model.to_str().unwrap(), "-f", text.to_str().unwrap(), "-o", out.to_str().unwrap()];
    let more = ["--sequence-length", "40", "--sequences", "3", "--min-length", "30", "--device", "cpu", "--json"];
    let report = run_json(&[&fixed[..], &more[..]].concat());
    assert_eq!(report["parts"][0]["tokens"], 120);
    fs::write(&text, r#"{"messages": [{"role": "user"}]}"#).unwrap();
    fs::remove_file(&out).unwrap();
    says(&refusal(wgquant().args(fixed)), &["line 1", "content"]);
    fs::write(&text, line(1).to_string()).unwrap();
    let most = ["--sequence-length", "40", "--min-length", "300"];
    let output = wgquant().args(fixed).args(most).output().unwrap();
    says(&String::from_utf8_lossy(&output.stderr), &["no sequence of 40 tokens in documents of 300 or more"]);
}

/// By the model's own template, whose text is what is tokenized: no token before the one it begins with.
#[test]
fn conversations_go_by_the_chat_template() {
    let (temp, model) = copy();
    let (chat, text) = (temp.path().join("chat.jsonl"), temp.path().join("text.jsonl"));
    lines(&chat, &[json!({ "messages": conversation(LONG) })]);
    let plain = parts(&model, &chat);
    lines(&text, &[json!({ "text": format!("{}\n\na bird", "the boat ".repeat(LONG)) })]);
    assert_eq!(plain, parts(&model, &text), "without a template");
    // In parts, and with a message that only calls a tool, as many data sets have them.
    let in_parts = temp.path().join("parts.jsonl");
    let mut spoken = conversation(LONG);
    let said = spoken[0]["content"].take();
    spoken[0]["content"] = json!([{ "type": "text", "text": said }]);
    lines(&in_parts, &[json!({ "messages": [spoken[0], { "role": "assistant", "content": null }, spoken[1]] })]);
    assert_eq!(plain, parts(&model, &in_parts), "parts without a template");
    fs::copy(nano().join("tokenizer_config.json"), model.join("tokenizer_config.json")).unwrap();
    edit(&model.join("tokenizer_config.json"), |c| {
        c["chat_template"] =
            json!("{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}");
    });
    let templated = parts(&model, &chat);
    lines(&text, &[json!({ "text": format!("<s>user: {}</s>assistant: a bird</s>", "the boat ".repeat(LONG)) })]);
    assert_eq!(templated, parts(&model, &text), "with a template");
    assert_ne!(templated, plain);
    lines(&in_parts, &[json!({ "messages": spoken })]);
    assert_eq!(templated, parts(&model, &in_parts), "parts with a template");
    edit(&model.join("tokenizer_config.json"), |c| c["chat_template"] = json!("{{ raise_exception('no such role') }}"));
    let args = ["calibrate", model.to_str().unwrap(), "-f", chat.to_str().unwrap(), "-o", "never"];
    says(&refusal(wgquant().args(args)), &["line 1", "no such role"]);
}

const WITH_TOOLS: &str =
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

/// What a line has as `tools`, the model's template may tell of.
#[test]
fn tools_go_to_the_chat_template() {
    let (temp, model) = copy();
    fs::write(model.join("chat_template.jinja"), WITH_TOOLS).unwrap();
    let (chat, text) = (temp.path().join("chat.jsonl"), temp.path().join("text.jsonl"));
    let said = format!("{}a bird", "the boat ".repeat(LONG));
    for (tools, told) in [
        (json!([{ "name": "sum" }]), r#"[{"name": "sum"}]"#),
        (json!(null), ""),
        (json!(r#"[{"name": "sum"}]"#), r#"[{"name": "sum"}]"#),
    ] {
        lines(&chat, &[json!({ "messages": conversation(LONG), "tools": tools })]);
        lines(&text, &[json!({ "text": format!("{told}{said}") })]);
        assert_eq!(parts(&model, &chat), parts(&model, &text), "{tools}");
    }
}

/// A template is looked at where there is a conversation, and a tokenizer where there is text.
#[test]
fn what_a_text_has_no_need_of_may_be_wrong() {
    let (temp, model) = copy();
    let template = |source: &str| fs::write(model.join("chat_template.jinja"), source).unwrap();
    template(&format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(20_000)));
    let (text, ids) = (temp.path().join("text.jsonl"), temp.path().join("ids.npy"));
    lines(&text, &[json!({ "text": "the boat ".repeat(LONG) })]);
    assert_eq!(parts(&model, &text), parts(&nano(), &text));
    lines(&text, &[json!({ "messages": conversation(LONG) })]);
    let args = ["calibrate", model.to_str().unwrap(), "-f", text.to_str().unwrap(), "-o", "never"];
    says(&refusal(wgquant().args(args)), &["line 1", "chat template", "240021 bytes", "at most 65536"]);
    template("{% if %}");
    says(&refusal(wgquant().args(args)), &["line 1", "chat template", "syntax error"]);
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    short_windows(&ids, 4, 9);
    assert_eq!(parts(&model, &ids)[0]["tokens"], 12);
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_without_the_feature_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let text = temp.path().join("a.parquet");
    fs::write(&text, "PAR1").unwrap();
    let model = nano();
    let args = ["calibrate", model.to_str().unwrap(), "-f", text.to_str().unwrap(), "-o", "never"];
    says(&refusal(wgquant().args(args)), &["a.parquet", "--features parquet", "JSON lines"]);
}

#[cfg(feature = "parquet")]
mod from_parquet {
    use std::sync::Arc;

    use parquet::column::writer::ColumnWriter;
    use parquet::data_type::ByteArray;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    /// Columns of strings, by definition and repetition levels where they have any.
    type Column<'a> = (&'a [&'a str], Option<Vec<i16>>, Option<Vec<i16>>);

    fn write(path: &Path, schema: &str, columns: &[Column<'_>]) {
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let compression = parquet::basic::Compression::SNAPPY;
        let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
        let mut file = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, properties).unwrap();
        let mut group = file.next_row_group().unwrap();
        for (strings, definitions, repetitions) in columns {
            let values: Vec<ByteArray> = strings.iter().map(|s| ByteArray::from(*s)).collect();
            let mut column = group.next_column().unwrap().unwrap();
            let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else { panic!("no strings") };
            typed.write_batch(&values, definitions.as_deref(), repetitions.as_deref()).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        file.close().unwrap();
    }

    #[test]
    fn reads_the_column_text() {
        let temp = tempfile::tempdir().unwrap();
        let (table, text) = (temp.path().join("a.parquet"), temp.path().join("a.jsonl"));
        let (sea, boat) = ("the sea ".repeat(LONG), "a boat ".repeat(LONG));
        let ids = (&["1", "2"][..], None, None);
        write(
            &table,
            "message m { required binary id (UTF8); required binary text (UTF8); }",
            &[ids.clone(), (&[&sea, &boat], None, None)],
        );
        lines(&text, &[json!({ "text": sea }), json!({ "text": boat })]);
        assert_eq!(parts(&nano(), &table), parts(&nano(), &text));

        let refused = |schema: &str, columns: &[Column<'_>], words: &[&str]| {
            write(&table, schema, columns);
            let model = nano();
            let args = ["calibrate", model.to_str().unwrap(), "-f", table.to_str().unwrap(), "-o", "never"];
            says(&refusal(wgquant().args(args)), words);
        };
        refused("message m { required binary id (UTF8); }", &[ids], &["no column `text`", "its columns are id"]);
        let absent = (&["x"][..], Some(vec![1, 0]), None);
        refused("message m { optional binary text (UTF8); }", &[absent], &["row 1", "no string `text`"]);
    }

    #[test]
    fn reads_the_column_messages() {
        let temp = tempfile::tempdir().unwrap();
        let (table, text) = (temp.path().join("a.parquet"), temp.path().join("a.jsonl"));
        let boat = "the boat ".repeat(LONG);
        let schema = "message m { required group messages (LIST) { repeated group list { required group element {
            required binary role (UTF8); required binary content (UTF8); } } } }";
        let levels = || (Some(vec![1, 1]), Some(vec![0, 1]));
        let column = |strings| {
            let (definitions, repetitions) = levels();
            (strings, definitions, repetitions)
        };
        let said = [boat.as_str(), "a bird"];
        let columns = || vec![column(&["user", "assistant"][..]), column(&said)];
        write(&table, schema, &columns());
        lines(&text, &[json!({ "messages": conversation(LONG) })]);
        assert_eq!(parts(&nano(), &table), parts(&nano(), &text));

        // With the column of tools beside it.
        let (_copy, model) = copy();
        fs::write(model.join("chat_template.jinja"), WITH_TOOLS).unwrap();
        let tools = " required group tools (LIST) { repeated group list { required group element {
            required binary name (UTF8); } } } }";
        let schema = format!("{}{tools}", schema.strip_suffix('}').unwrap());
        write(&table, &schema, &[columns(), vec![(&["sum"][..], Some(vec![1]), Some(vec![0]))]].concat());
        lines(&text, &[json!({ "messages": conversation(LONG), "tools": [{ "name": "sum" }] })]);
        assert_eq!(parts(&model, &table), parts(&model, &text));
    }

    #[test]
    fn refuses_what_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let table = temp.path().join("a.parquet");
        fs::write(&table, "PAR1 and nothing").unwrap();
        let model = nano();
        let args = ["calibrate", model.to_str().unwrap(), "-f", table.to_str().unwrap(), "-o", "never"];
        says(&refusal(wgquant().args(args)), &["a.parquet", "as Parquet"]);
    }
}

/// As editors on Windows write them: a byte order mark is no text, and an extension may have capitals.
#[test]
fn byte_order_marks_and_capitals() {
    let temp = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = temp.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let text = "the boat ".repeat(LONG);
    let line = json!({ "text": text });
    let plain = parts(&nano(), &file("plain.txt", text.clone()));
    for (name, text) in [("bom.txt", text), ("plain.jsonl", line.to_string()), ("CAPITALS.JSONL", line.to_string())] {
        let marked = format!("\u{feff}{text}");
        assert_eq!(parts(&nano(), &file(name, marked)), plain, "{name}");
        assert_eq!(parts(&nano(), &file(name, text)), plain, "{name}");
    }
}
