//! Questions as lm-evaluation-harness has them: one a line of JSON in the fields of its tasks, asked in its tasks' words.
//!
//! Each becomes [`Request`]s, a context and a continuation whose log-likelihood is asked for, by the templates of the tasks of the same names
//! (lm-evaluation-harness 0.4.13, version 1.0 of each task).

use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::calibrate::json_lines;
use crate::error::{Error, Result};

/// Fields of questions, by which a file's kind is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schema {
    /// `question`, `choices` (`text` and `label`) and `answerKey`.
    Arc,
    /// `question_stem`, `choices` and `answerKey`.
    Openbookqa,
    /// `goal`, `sol1`, `sol2` and `label`.
    Piqa,
    /// `activity_label`, `ctx_a`, `ctx_b`, `endings` and `label`.
    Hellaswag,
    /// `sentence` with a `_`, `option1`, `option2` and `answer`.
    Winogrande,
    /// `text`, of which the last word is to be foretold.
    Lambada,
    /// `query`, `choices` and `gold`, asked as they are: what the others become.
    MultipleChoice,
}

/// A context and what may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the model has read.
    pub context: String,
    /// What it gives a likelihood of; begins with a space.
    pub continuation: String,
    /// Characters of the choice, by which `acc_norm` divides.
    pub chars: usize,
}

/// One line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The line, from 1.
    pub line: usize,
    /// What the line says.
    pub json: Value,
    /// Its choices; of [`Schema::Lambada`] one.
    pub requests: Vec<Request>,
    /// Index of the right one.
    pub answer: usize,
}

impl Schema {
    /// All, with a field that no other's questions have, or two.
    const TOLD_BY: [(Self, &'static [&'static str]); 7] = [
        (Self::Openbookqa, &["question_stem"]),
        (Self::Arc, &["question", "answerKey"]),
        (Self::Piqa, &["goal", "sol1"]),
        (Self::Hellaswag, &["endings"]),
        (Self::Winogrande, &["sentence", "option1"]),
        (Self::MultipleChoice, &["query", "choices"]),
        (Self::Lambada, &["text"]),
    ];

    fn of(line: &Value) -> Result<Self, String> {
        let found = Self::TOLD_BY.iter().find(|(_, keys)| keys.iter().all(|key| line.get(key).is_some()));
        let schema = found.map(|(schema, _)| *schema);
        schema.ok_or_else(|| {
            let known: Vec<String> =
                Self::TOLD_BY.iter().map(|(_, keys)| format!("`{}`", keys.join("` and `"))).collect();
            format!("is no question: it has none of {}", known.join(", "))
        })
    }

    /// Does a longer choice count by its characters, too (`acc_norm`)?
    #[must_use]
    pub fn has_norm(self) -> bool {
        !matches!(self, Self::Winogrande | Self::Lambada)
    }

    fn question(self, line: Value) -> Result<(Vec<Request>, usize), String> {
        match self {
            Self::Arc => read::<Arc>(self, line)?.question(),
            Self::Openbookqa => read::<OpenBookQa>(self, line)?.question(),
            Self::Piqa => read::<Piqa>(self, line)?.question(),
            Self::Hellaswag => read::<HellaSwag>(self, line)?.question(),
            Self::Winogrande => read::<WinoGrande>(self, line)?.question(),
            Self::Lambada => read::<Lambada>(self, line)?.question(),
            Self::MultipleChoice => read::<MultipleChoice>(self, line)?.question(),
        }
    }
}

/// Reads the questions of a `.jsonl` or `.ndjson`, at most `limit`: all of one kind, which the first one's fields tell.
///
/// # Errors
/// [`Error::Io`]; [`Error::BadCheckpoint`] naming the line and what is wrong with it.
pub fn questions(path: &Path, limit: Option<usize>) -> Result<(Schema, Vec<Question>)> {
    let (mut schema, mut read) = (None, Vec::new());
    json_lines(path, &mut |line, value| {
        if limit.is_some_and(|limit| read.len() >= limit) {
            return Ok(());
        }
        let bad = |what: String| Error::bad(path, format!("line {line} {what}"));
        let kind = schema.map_or_else(|| Schema::of(&value), Ok).map_err(bad)?;
        schema = Some(kind);
        let (requests, answer) = kind.question(value.clone()).map_err(bad)?;
        if answer >= requests.len() {
            return Err(bad(format!("says that choice {answer} is right, of {} from 0", requests.len())));
        }
        if let Some(i) = requests.iter().position(|r| r.chars == 0) {
            return Err(bad(format!("has an empty choice, {i} from 0")));
        }
        read.push(Question { line, json: value, requests, answer });
        Ok(())
    })?;
    schema.map(|schema| (schema, read)).ok_or_else(|| Error::bad(path, "holds no question"))
}

fn read<T: for<'a> Deserialize<'a>>(schema: Schema, line: Value) -> Result<T, String> {
    serde_json::from_value(line).map_err(|e| format!("is no question with the fields of {schema:?}: {e}"))
}

/// A choice for each text, behind one context.
fn choices(context: &str, texts: &[String]) -> Vec<Request> {
    let request = |text: &String| Request {
        context: context.to_owned(),
        continuation: format!(" {text}"),
        chars: text.chars().count(),
    };
    texts.iter().map(request).collect()
}

/// A number, or digits in quotes, as some files have it.
fn index(value: &Value, first: usize) -> Result<usize, String> {
    let number = match value {
        Value::String(digits) => digits.trim().parse().ok(),
        other => other.as_u64().and_then(|n| usize::try_from(n).ok()),
    };
    let index = number.and_then(|n| n.checked_sub(first));
    index.ok_or_else(|| format!("names no right choice: {value}, where a number from {first} is needed"))
}

#[derive(Deserialize)]
struct Labelled {
    text: Vec<String>,
    label: Vec<String>,
}

impl Labelled {
    fn question(&self, context: &str, key: &str) -> Result<(Vec<Request>, usize), String> {
        if self.text.len() != self.label.len() {
            return Err(format!("has {} choices and {} labels", self.text.len(), self.label.len()));
        }
        let answer = self.label.iter().position(|label| label == key.trim_start());
        let answer = answer.ok_or_else(|| format!("has no choice `{key}`, only {}", self.label.join(", ")))?;
        Ok((choices(context, &self.text), answer))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arc {
    question: String,
    choices: Labelled,
    answer_key: String,
}

impl Arc {
    fn question(&self) -> Result<(Vec<Request>, usize), String> {
        self.choices.question(&format!("Question: {}\nAnswer:", self.question), &self.answer_key)
    }
}

#[derive(Deserialize)]
struct OpenBookQa {
    question_stem: String,
    choices: Labelled,
    #[serde(rename = "answerKey")]
    answer_key: String,
}

impl OpenBookQa {
    fn question(&self) -> Result<(Vec<Request>, usize), String> {
        self.choices.question(&self.question_stem, &self.answer_key)
    }
}

#[derive(Deserialize)]
struct Piqa {
    goal: String,
    sol1: String,
    sol2: String,
    label: Value,
}

impl Piqa {
    fn question(self) -> Result<(Vec<Request>, usize), String> {
        let context = format!("Question: {}\nAnswer:", self.goal);
        Ok((choices(&context, &[self.sol1, self.sol2]), index(&self.label, 0)?))
    }
}

#[derive(Deserialize)]
struct HellaSwag {
    activity_label: String,
    ctx_a: String,
    ctx_b: String,
    endings: Vec<String>,
    label: Value,
}

impl HellaSwag {
    fn question(&self) -> Result<(Vec<Request>, usize), String> {
        let context = format!("{}: {} {}", self.activity_label, self.ctx_a, capitalized(&self.ctx_b));
        let endings: Vec<String> = self.endings.iter().map(|text| without_brackets(text)).collect();
        Ok((choices(&without_brackets(&context), &endings), index(&self.label, 0)?))
    }
}

/// A large letter first, small ones after, as Python's `capitalize` has it.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars.as_str().to_lowercase().chars()).collect())
}

#[allow(clippy::unwrap_used, reason = "a constant")]
static BRACKETS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[.*?\]").unwrap());

/// Without the marks of the how-to texts that HellaSwag's come from, in the harness' order.
fn without_brackets(text: &str) -> String {
    BRACKETS.replace_all(&text.trim().replace(" [title]", ". "), "").replace("  ", " ")
}

#[derive(Deserialize)]
struct WinoGrande {
    sentence: String,
    option1: String,
    option2: String,
    answer: Value,
}

impl WinoGrande {
    /// The options end the context here; what follows is the same.
    fn question(&self) -> Result<(Vec<Request>, usize), String> {
        let (before, after) = self.sentence.split_once('_').ok_or("has no `_` in its sentence")?;
        let request = |option: &String| Request {
            context: format!("{before}{option}"),
            continuation: format!(" {}", after.trim()),
            chars: after.trim().chars().count(),
        };
        Ok(([&self.option1, &self.option2].map(request).to_vec(), index(&self.answer, 1)?))
    }
}

#[derive(Deserialize)]
struct Lambada {
    text: String,
}

impl Lambada {
    fn question(&self) -> Result<(Vec<Request>, usize), String> {
        let (context, word) = self.text.rsplit_once(' ').ok_or("has no two words")?;
        Ok((choices(context, &[word.to_owned()]), 0))
    }
}

#[derive(Deserialize)]
struct MultipleChoice {
    query: String,
    choices: Vec<String>,
    gold: Value,
}

impl MultipleChoice {
    fn question(&self) -> Result<(Vec<Request>, usize), String> {
        Ok((choices(&self.query, &self.choices), index(&self.gold, 0)?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn read_lines(lines: &str, limit: Option<usize>) -> Result<(Schema, Vec<Question>)> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("q.jsonl");
        std::fs::write(&path, lines).unwrap();
        questions(&path, limit)
    }

    /// A line's kind, its contexts and continuations, and the right one.
    fn asked(line: &str) -> (Schema, Vec<(String, String)>, usize) {
        let (schema, mut read) = read_lines(line, None).unwrap();
        let question = read.remove(0);
        (schema, question.requests.into_iter().map(|r| (r.context, r.continuation)).collect(), question.answer)
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec()
    }

    /// As the harness' `arc_easy.yaml` and so on have them.
    #[test]
    fn questions_in_the_harness_words() {
        let arc = r#"{"id":"x","question":"Why?","choices":{"text":["so","no"],"label":["1","2"]},"answerKey":"2"}"#;
        let context = "Question: Why?\nAnswer:";
        assert_eq!(asked(arc), (Schema::Arc, pairs([(context, " so"), (context, " no")]), 1));
        let book = r#"{"question_stem":"Fog is","choices":{"text":["wet","dry"],"label":["A","B"]},"answerKey":" A"}"#;
        assert_eq!(asked(book), (Schema::Openbookqa, pairs([("Fog is", " wet"), ("Fog is", " dry")]), 0));
        let piqa = r#"{"goal":"Why?","sol1":"so","sol2":"no","label":1}"#;
        assert_eq!(asked(piqa), (Schema::Piqa, pairs([(context, " so"), (context, " no")]), 1));
        let wino = r#"{"sentence":"A hit B so _ fell  ","option1":"A","option2":"B","answer":"2"}"#;
        let want = pairs([("A hit B so A", " fell"), ("A hit B so B", " fell")]);
        assert_eq!(asked(wino), (Schema::Winogrande, want, 1));
        let lambada = r#"{"text":"one two three"}"#;
        assert_eq!(asked(lambada), (Schema::Lambada, pairs([("one two", " three")]), 0));
        let own = r#"{"query":"2 + 2 =","choices":["3","4","5"],"gold":1}"#;
        let want = pairs([("2 + 2 =", " 3"), ("2 + 2 =", " 4"), ("2 + 2 =", " 5")]);
        assert_eq!(asked(own), (Schema::MultipleChoice, want, 1));
    }

    /// Values by the harness' own `hellaswag/utils.py`, run on this line.
    #[test]
    fn marks_go_and_capitals_come() {
        let line = r#"{"activity_label":"Baking","ctx_a":"[header] Mix [title] Stir","ctx_b":"the COOK [step] waits","endings":[" eats.  Then","[substeps] is [x] gone"],"label":"1"}"#;
        let context = "Baking: Mix. Stir The cook waits";
        assert_eq!(asked(line), (Schema::Hellaswag, pairs([(context, " eats. Then"), (context, "  is gone")]), 1));
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = r#"{"goal":"g","sol1":"a","sol2":"b","label":0}"#;
        for (line, said) in [
            ("{}", "line 3 is no question with the fields of Piqa: missing field `goal`"),
            (r#"{"goal":"g","sol1":"a","sol2":"b","label":2}"#, "line 3 says that choice 2 is right, of 2 from 0"),
            (r#"{"goal":"g","sol1":"a","sol2":"b","label":-1}"#, "line 3 names no right choice: -1"),
            (r#"{"goal":"g","sol1":"a","sol2":"b","label":""}"#, "line 3 names no right choice: \"\""),
            (r#"{"goal":"g","sol1":"","sol2":"b","label":1}"#, "line 3 has an empty choice, 0 from 0"),
            ("{", "line 3: EOF"),
        ] {
            let error = read_lines(&format!("{good}\n\n{line}\n"), None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
            // What is not asked for is not looked at, but must be JSON.
            assert_eq!(read_lines(&format!("{good}\n\n{line}\n"), Some(1)).is_ok(), line != "{");
        }
        for (line, said) in [
            (r#"{"a":1}"#, "line 1 is no question: it has none of `question_stem`, `question` and `answerKey`"),
            (r#"{"sentence":"no gap","option1":"a","option2":"b","answer":"1"}"#, "line 1 has no `_`"),
            (r#"{"sentence":"_ x","option1":"a","option2":"b","answer":"0"}"#, "names no right choice: \"0\""),
            (r#"{"question":"q","choices":{"text":["a"],"label":["A"]},"answerKey":"B"}"#, "has no choice `B`, only A"),
            (r#"{"question":"q","choices":{"text":["a"],"label":[]},"answerKey":"B"}"#, "has 1 choices and 0 labels"),
            (
                r#"{"question":{"stem":"q"},"answerKey":"A"}"#,
                "line 1 is no question with the fields of Arc: invalid type: map",
            ),
            (r#"{"text":"word"}"#, "line 1 has no two words"),
            ("", "holds no question"),
        ] {
            let error = read_lines(line, None).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
