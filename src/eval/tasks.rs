//! Questions put to a model as lm-evaluation-harness does: of each choice the log-likelihood behind its context.

use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::examples::{Examples, Pool};
use super::perplexity::Progress;
use super::questions::{Request, Schema, questions};
use super::stats::mean_and_error;
use crate::calibrate::{TextEncoder, missing_bos};
use crate::error::{Error, Result};
use crate::runtime::{Engine, LogProbs};

/// The questions of a file, as token ids.
pub struct Task {
    name: String,
    schema: Schema,
    examples: Examples,
    questions: Vec<Ready>,
}

/// A question ready to be asked.
struct Ready {
    line: usize,
    choices: Vec<Choice>,
    answer: usize,
}

/// Token ids of a context and of what may follow it, at least one each.
struct Choice {
    context: Vec<u32>,
    continuation: Vec<u32>,
    chars: usize,
}

impl Task {
    /// Reads a file of questions, at most `limit`, and makes token ids of them, each behind its `examples`. Contexts begin with `bos`, if there is
    /// one, as the harness' do with `add_bos_token`.
    ///
    /// # Errors
    /// As [`questions`]; [`Error::BadCheckpoint`] naming the line of which no token could be scored, or the file that has too few examples, or
    /// such of another kind.
    pub fn read(
        path: &Path,
        encoder: &TextEncoder,
        bos: Option<u32>,
        limit: Option<usize>,
        examples: &Examples,
    ) -> Result<Self> {
        // Examples are of the whole file.
        let (schema, mut read) = questions(path, limit.filter(|_| examples.count == 0))?;
        let mut pool = Pool::new(examples, path, schema, &read)?;
        read.truncate(limit.unwrap_or(usize::MAX));
        let mut ready = Vec::with_capacity(read.len());
        for mut question in read {
            if let Some(pool) = &mut pool {
                let before = pool.before(&question)?;
                question.requests.iter_mut().for_each(|request| request.context.insert_str(0, &before));
            }
            let choice = |request| encoded(path, encoder, bos, request, question.line);
            let choices = question.requests.iter().map(choice).collect::<Result<_>>()?;
            ready.push(Ready { line: question.line, choices, answer: question.answer });
        }
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { name, schema, examples: examples.clone(), questions: ready })
    }

    /// Names `tasks` of `files`, of which no two are the same, by as much of their paths as tells them apart.
    pub fn tell_apart(tasks: &mut [Self], files: &[PathBuf]) {
        tasks.iter_mut().zip(names(files)).for_each(|(task, name)| task.name = name);
    }

    /// The file's name without its ending, or what [`Task::tell_apart`] made of it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Questions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.questions.len()
    }

    fn choices(&self) -> impl Iterator<Item = &Choice> {
        self.questions.iter().flat_map(|question| &question.choices)
    }

    /// Tokens of the longest context with its continuation.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.choices().map(|c| c.context.len() + c.continuation.len()).max().unwrap_or(0)
    }

    /// The first token id that is not in a vocabulary of so many.
    #[must_use]
    pub fn beyond(&self, vocab: usize) -> Option<u32> {
        self.choices().flat_map(|c| c.context.iter().chain(&c.continuation)).copied().find(|id| *id as usize >= vocab)
    }
}

/// Of each file its name without its ending, with as much before it as no other path ends in; where others differ in the ending alone,
/// with that.
fn names(files: &[PathBuf]) -> Vec<String> {
    let part = |c: Component<'_>| match c {
        Component::Normal(part) => Some(part.to_string_lossy().into_owned()),
        _ => None,
    };
    let parts = |file: &Path| file.components().filter_map(part).collect::<Vec<_>>();
    let bare: Vec<_> = files.iter().map(|file| parts(&file.with_extension(""))).collect();
    let whole: Vec<_> = files.iter().map(|file| parts(file)).collect();
    let shortest = |all: &[Vec<String>], i: usize| {
        let of_others = |end: &[String]| (0..all.len()).any(|j| j != i && all[j].ends_with(end));
        let mut ends = (0..all[i].len()).rev().map(|from| &all[i][from..]);
        ends.find(|end| !of_others(end)).map(|end| end.join("/"))
    };
    let name = |i: usize| shortest(&bare, i).or_else(|| shortest(&whole, i));
    files.iter().enumerate().map(|(i, file)| name(i).unwrap_or_else(|| file.display().to_string())).collect()
}

/// The ids of both texts as one, of which as many are context as it has by itself. Spaces that end a context begin what follows it, as
/// tokens of words do.
fn encoded(path: &Path, encoder: &TextEncoder, bos: Option<u32>, request: &Request, line: usize) -> Result<Choice> {
    let context = request.context.trim_end();
    let whole = format!("{}{}", request.context, request.continuation);
    let (mut context, whole) = (encoder.encode(path, context)?, encoder.encode(path, &whole)?);
    let bad = |what: &str| Error::bad(path, format!("line {line}: {what}"));
    let continuation = whole.get(context.len()..).filter(|ids| !ids.is_empty());
    let continuation = continuation.ok_or_else(|| bad("a choice has no token of its own behind its context"))?.to_vec();
    context.splice(..0, missing_bos(bos, &whole));
    if context.is_empty() {
        return Err(bad("nothing comes before a choice, and the model has no beginning-of-sequence token"));
    }
    Ok(Choice { context, continuation, chars: request.chars })
}

/// What a model says of a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Of each choice, nats.
    pub log_likelihoods: Vec<f64>,
    /// Is the most likely token always the choice's?
    pub is_greedy: Vec<bool>,
    /// The likeliest choice, the first of equal ones; none where a likelihood is no number.
    pub chosen: Option<usize>,
    /// Likewise by likelihood over characters.
    pub chosen_norm: Option<usize>,
}

impl Answer {
    fn new(log_likelihoods: Vec<f64>, is_greedy: Vec<bool>, choices: &[Choice]) -> Self {
        let by_chars = log_likelihoods.iter().zip(choices).map(|(l, c)| l / c.chars as f64).collect::<Vec<_>>();
        let (chosen, chosen_norm) = (largest(&log_likelihoods), largest(&by_chars));
        Self { log_likelihoods, is_greedy, chosen, chosen_norm }
    }

    /// Are all likelihoods numbers? They are not where values of the model overflow.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.log_likelihoods.iter().all(|l| l.is_finite())
    }

    /// Right, by what is counted of questions of a kind; and by characters. NaN where the model said nothing that counts, so that no
    /// score comes of it.
    fn right(&self, schema: Schema, answer: usize) -> [f64; 2] {
        if !self.counts() {
            return [f64::NAN; 2];
        }
        let chosen = match schema {
            Schema::Lambada => self.is_greedy[0],
            _ => self.chosen == Some(answer),
        };
        [chosen, self.chosen_norm == Some(answer)].map(|right| f64::from(u8::from(right)))
    }

    /// Do two models say the same?
    fn same(&self, other: &Self, schema: Schema) -> bool {
        self.counts()
            && other.counts()
            && match schema {
                Schema::Lambada => self.is_greedy == other.is_greedy,
                _ => self.chosen == other.chosen,
            }
    }
}

fn largest(values: &[f64]) -> Option<usize> {
    if values.iter().any(|v| v.is_nan()) {
        return None;
    }
    (0..values.len()).rev().max_by(|a, b| values[*a].total_cmp(&values[*b]))
}

/// Asks one question. Choices behind the same context go on from it: it is read once.
async fn ask(engine: &mut Engine, choices: &[Choice]) -> Result<Answer> {
    let (mut log_likelihoods, mut is_greedy) = (Vec::new(), Vec::new());
    for same in choices.chunk_by(|a, b| a.context == b.context) {
        engine.reset()?;
        engine.feed(&same[0].context)?;
        let firsts: Vec<u32> = same.iter().map(|choice| choice.continuation[0]).collect();
        let firsts = engine.score_next(&firsts).await?;
        // Of single tokens nothing is fed.
        if same.iter().filter(|choice| choice.continuation.len() > 1).count() > 1 {
            engine.put(0)?;
        }
        let mut moved = false;
        for (Choice { continuation, .. }, first) in same.iter().zip(firsts) {
            let fed = &continuation[..continuation.len() - 1];
            let mut said = vec![first];
            if !fed.is_empty() {
                if moved {
                    engine.take(0)?;
                }
                moved = true;
                said.extend(engine.score(fed, &continuation[1..], 1).await?);
            }
            log_likelihoods.push(said.iter().map(|said| said.token.value).sum());
            is_greedy.push(said.iter().all(LogProbs::is_greedy));
        }
    }
    Ok(Answer::new(log_likelihoods, is_greedy, choices))
}

/// What a model scores on a task. Errors are sample deviation / sqrt(questions), none for one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Share of questions answered right; of [`Schema::Lambada`] of words that greedy generation writes.
    pub acc: f64,
    /// Its standard error.
    pub acc_stderr: Option<f64>,
    /// Share answered right by likelihood over characters, where [`Schema::has_norm`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_norm: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acc_norm_stderr: Option<f64>,
    /// Of [`Schema::Lambada`], exp of the mean negative log-likelihood of a last word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Its standard error (delta method).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_stderr: Option<f64>,
}

fn mean(values: impl Iterator<Item = f64>) -> (f64, Option<f64>) {
    let values: Vec<f64> = values.collect();
    mean_and_error(&values, &vec![1.0; values.len()])
}

impl Scores {
    fn of(task: &Task, answers: &[Answer]) -> Self {
        let right = |i: usize| task.questions.iter().zip(answers).map(move |(q, a)| a.right(task.schema, q.answer)[i]);
        let (acc, acc_stderr) = mean(right(0));
        let norm = task.schema.has_norm().then(|| mean(right(1)));
        let words = (task.schema == Schema::Lambada).then(|| mean(answers.iter().map(|a| -a.log_likelihoods[0])));
        Self {
            acc,
            acc_stderr,
            acc_norm: norm.map(|n| n.0),
            acc_norm_stderr: norm.and_then(|n| n.1),
            perplexity: words.map(|w| w.0.exp()),
            perplexity_stderr: words.and_then(|(nll, error)| Some(error? * nll.exp())),
        }
    }
}

/// A model's scores beside another's of the same questions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// The base's scores.
    pub base: Scores,
    /// The model's `acc` less the base's.
    pub acc_difference: f64,
    /// Its standard error, from the differences of single questions.
    pub acc_difference_stderr: Option<f64>,
    /// Share of questions to which both say the same, right or wrong, by `acc`.
    pub same_answer: f64,
}

impl Paired {
    fn of(task: &Task, base: &[Answer], model: &[Answer]) -> Self {
        let pairs = || task.questions.iter().zip(base.iter().zip(model));
        let right = |a: &Answer, answer| a.right(task.schema, answer)[0];
        let (acc_difference, acc_difference_stderr) =
            mean(pairs().map(|(q, (b, m))| right(m, q.answer) - right(b, q.answer)));
        let (same_answer, _) = mean(pairs().map(|(_, (b, m))| f64::from(u8::from(m.same(b, task.schema)))));
        Self { base: Scores::of(task, base), acc_difference, acc_difference_stderr, same_answer }
    }
}

/// What came of a task.
#[derive(Clone, Debug, Serialize)]
pub struct TaskResult {
    /// The file's name without its ending.
    pub task: String,
    /// What its questions are like.
    pub schema: Schema,
    /// Questions asked.
    pub questions: usize,
    /// What came before each.
    #[serde(flatten)]
    pub examples: Examples,
    /// The model's scores.
    #[serde(flatten)]
    pub scores: Scores,
    /// Beside the base's.
    #[serde(flatten)]
    pub paired: Option<Paired>,
    /// Of all that was asked, of both models.
    pub seconds: f64,
}

/// One question and what was said.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The file's name without its ending.
    pub task: String,
    /// Its line, from 1.
    pub line: usize,
    /// Index of the right choice.
    pub answer: usize,
    /// What the model says.
    #[serde(flatten)]
    pub said: Answer,
    /// What the base says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Answer>,
}

/// Asks a model, and a base beside it, all questions of a task. Of sequences beside the engines' own the first
/// is gone after.
///
/// # Errors
/// [`Error::Argument`] where a model's vocabulary or context is too small; as [`Engine::score`] and [`Engine::set_sequences`].
pub async fn evaluate(
    model: &mut Engine,
    mut base: Option<&mut Engine>,
    task: &Task,
    progress: Progress<'_>,
) -> Result<(TaskResult, Vec<Sample>)> {
    for engine in std::iter::once(&mut *model).chain(base.as_deref_mut()) {
        let vocab = engine.config().vocab_size;
        if let Some(id) = task.beyond(vocab) {
            return Err(Error::argument(&task.name, format!("token id {id} in a vocabulary of {vocab}")));
        }
        if engine.sequences() == 0 {
            engine.set_sequences(1)?;
        }
    }
    let start = Instant::now();
    let (mut said, mut said_by_base) = (Vec::new(), Vec::new());
    for (i, question) in task.questions.iter().enumerate() {
        if let Some(base) = base.as_deref_mut() {
            said_by_base.push(ask(base, &question.choices).await?);
        }
        said.push(ask(model, &question.choices).await?);
        progress(i + 1, task.count());
    }
    let seconds = start.elapsed().as_secs_f64();
    let paired = base.is_some().then(|| Paired::of(task, &said_by_base, &said));
    let scores = Scores::of(task, &said);
    let (name, schema, questions, examples) = (task.name.clone(), task.schema, task.count(), task.examples.clone());
    let mut of_base = said_by_base.into_iter();
    let sample = |(question, said): (&Ready, Answer)| Sample {
        task: task.name.clone(),
        line: question.line,
        answer: question.answer,
        said,
        base: of_base.next(),
    };
    let samples = task.questions.iter().zip(said).map(sample).collect();
    Ok((TaskResult { task: name, schema, questions, examples, scores, paired, seconds }, samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_files_apart() {
        let of = |files: &[&str]| names(&files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["/q/arc/test.jsonl", "/q/piqa/dev.v2.jsonl"]), ["test", "dev.v2"]);
        assert_eq!(of(&["/q/arc/test.jsonl", "/q/piqa/test.jsonl", "/q/dev.jsonl"]), ["arc/test", "piqa/test", "dev"]);
        assert_eq!(of(&["/a/q/test.jsonl", "/b/q/test.jsonl"]), ["a/q/test", "b/q/test"]);
        assert_eq!(of(&["/q/test.jsonl", "/q/test.json"]), ["test.jsonl", "test.json"]);
        assert_eq!(of(&["/q/test.jsonl", "/a/q/test.jsonl"]), ["/q/test.jsonl", "a/q/test"]);
    }

    #[test]
    fn the_first_of_the_largest() {
        assert_eq!(largest(&[-2.0, -1.0, -1.0]), Some(1));
        assert_eq!(largest(&[-1.0, f64::NEG_INFINITY]), Some(0));
        assert_eq!(largest(&[-1.0, f64::NAN]), None);
        assert_eq!(largest(&[]), None);
    }

    /// Four questions of three choices, answered by hand.
    #[test]
    fn scores_by_hand() {
        let choice = |chars| Choice { context: vec![1], continuation: vec![2], chars };
        let ready = |answer| Ready { line: 1, choices: vec![choice(1), choice(10)], answer };
        let task = |schema| Task {
            name: "t".to_owned(),
            schema,
            examples: Examples::NONE,
            questions: [0, 0, 1, 1].map(ready).into(),
        };
        let said = |all: [[f64; 2]; 4]| {
            all.map(|l| Answer::new(l.to_vec(), vec![l[0] > -2.0, false], &task(Schema::Arc).questions[0].choices))
        };
        // Chosen 0, 1, 0, 1; by characters 0, 1, 1, 1.
        let model = said([[-1.0, -20.0], [-3.0, -2.0], [-2.0, -3.0], [-9.0, -8.0]]);
        // Chosen 0, 0, 0, 1.
        let base = said([[-1.0, -20.0], [-1.0, -20.0], [-2.0, -3.0], [-9.0, -8.0]]);
        let arc = task(Schema::Arc);
        let scores = Scores::of(&arc, &model);
        assert_eq!((scores.acc, scores.acc_norm, scores.perplexity), (0.5, Some(0.75), None));
        assert!((scores.acc_stderr.unwrap_or_default() - (1.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        let paired = Paired::of(&arc, &base, &model);
        assert_eq!((paired.base.acc, paired.acc_difference, paired.same_answer), (0.75, -0.25, 0.75));
        assert!((paired.acc_difference_stderr.unwrap_or_default() - 0.25).abs() < 1e-12);
        let words = Scores::of(&task(Schema::Lambada), &model);
        assert_eq!((words.acc, words.acc_norm), (0.25, None));
        assert!((words.perplexity.unwrap_or_default() - (15.0f64 / 4.0).exp()).abs() < 1e-9);
        assert_eq!(Scores::of(&task(Schema::Winogrande), &model).acc_norm, None);
        // Of what overflows there is no score, nor a difference to it that passes for one.
        let overflown = said([[-1.0, -20.0], [-3.0, f64::NAN], [-2.0, -3.0], [f64::NEG_INFINITY, -8.0]]);
        for schema in [Schema::Arc, Schema::Lambada] {
            let scores = Scores::of(&task(schema), &overflown);
            assert!(scores.acc.is_nan() && scores.acc_norm.is_none_or(f64::is_nan), "{scores:?}");
        }
        for (base, model) in [(&overflown, &model), (&model, &overflown)] {
            let paired = Paired::of(&arc, base, model);
            assert!(paired.acc_difference.is_nan() && paired.same_answer == 0.5, "{paired:?}");
        }
    }
}
