//! Examples before questions (few-shot), those that lm-evaluation-harness 0.4.13 draws and as it writes them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rand_mt::Mt;
use serde::Serialize;

use super::questions::{Question, Schema, questions};
use crate::error::{Error, Result};

/// What comes before each question of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examples {
    /// So many, each with its answer; 0: none.
    #[serde(rename = "num_fewshot")]
    pub count: usize,
    /// The file they are drawn from, the harness' training split; `None`: the one that is asked, of which a question is no example of its own.
    #[serde(rename = "fewshot_file")]
    pub file: Option<PathBuf>,
    /// Of the draw; the harness' is 1234.
    #[serde(rename = "fewshot_seed")]
    pub seed: u64,
}

impl Examples {
    /// None.
    pub const NONE: Self = Self { count: 0, file: None, seed: 1234 };
}

/// Where they come from, and how far the draw is.
pub(super) struct Pool {
    count: usize,
    file: PathBuf,
    schema: Schema,
    questions: Vec<Question>,
    /// Is one more drawn, in case the question itself is among them?
    one_more: bool,
    draw: Draw,
}

impl Pool {
    /// For the questions `all` of the file `asked`; `None` where no examples are wanted.
    ///
    /// # Errors
    /// As [`questions`]; [`Error::BadCheckpoint`] for a file of too few questions, or of another kind.
    pub(super) fn new(examples: &Examples, asked: &Path, schema: Schema, all: &[Question]) -> Result<Option<Self>> {
        let Examples { count, file, seed } = examples;
        if *count == 0 {
            return Ok(None);
        }
        let (file, questions, one_more) = match file {
            None => (asked, all.to_vec(), true),
            Some(file) => {
                let (kind, questions) = questions(file, None)?;
                if kind != schema {
                    let what = format!("has questions of {kind:?}, those of {} are of {schema:?}", asked.display());
                    return Err(Error::bad(file, what));
                }
                (file.as_path(), questions, schema.draws_one_more())
            }
        };
        let pool = Self { count: *count, file: file.to_owned(), schema, questions, one_more, draw: Draw::new(*seed) };
        pool.enough(pool.questions.len() - usize::from(one_more))?;
        Ok(Some(pool))
    }

    fn enough(&self, have: usize) -> Result<()> {
        if self.count <= have {
            return Ok(());
        }
        let one = if self.one_more { " beside one" } else { "" };
        Err(Error::bad(&self.file, format!("has {have} questions{one}, and {} examples are asked for", self.count)))
    }

    /// What the context of `question` begins with: the harness goes on with one draw from question to question.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] where the file holds too few others.
    pub(super) fn before(&mut self, question: &Question) -> Result<String> {
        let is_other = |i: &usize| !self.one_more || self.questions[*i].json != question.json;
        let drawn = self.draw.sample(self.questions.len(), self.count + usize::from(self.one_more));
        let mut chosen: Vec<usize> = drawn.into_iter().filter(is_other).take(self.count).collect();
        if chosen.len() < self.count {
            // It is there several times.
            let others: Vec<usize> = (0..self.questions.len()).filter(is_other).collect();
            self.enough(others.len())?;
            chosen = self.draw.sample(others.len(), self.count).into_iter().map(|i| others[i]).collect();
        }
        Ok(chosen.into_iter().map(|i| self.schema.example(&self.questions[i])).collect())
    }
}

impl Schema {
    /// Of tasks without a test split the harness takes the training split for the one that is asked.
    fn draws_one_more(self) -> bool {
        matches!(self, Self::Hellaswag | Self::Piqa | Self::Winogrande)
    }

    /// A question with its answer, and what parts them from what follows.
    fn example(self, question: &Question) -> String {
        let right = &question.requests[question.answer];
        // The harness puts its space before the word, which has one already.
        let doubled = if self == Self::Lambada { " " } else { "" };
        format!("{}{doubled}{}\n\n", right.context, right.continuation)
    }
}

/// Python's `random.Random(seed)`, as far as `sample` uses it: MT19937 (Matsumoto & Nishimura 1998), whose key are the seed's words.
struct Draw(Mt);

impl Draw {
    fn new(seed: u64) -> Self {
        let words = [seed as u32, (seed >> 32) as u32];
        Self(Mt::new_with_key(words[..if words[1] == 0 { 1 } else { 2 }].iter().copied()))
    }

    /// 0 to `n - 1`, all as likely: as many bits as `n` has until they are below it.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            // Files have fewer than 2^32 lines.
            let drawn = (self.0.next_u32() >> (32 - bits.clamp(1, 32))) as usize;
            if drawn < n {
                return drawn;
            }
        }
    }

    /// `random.sample(range(n), k)`, of `k` up to `n`: from a list that shrinks where that takes less room than a set of those drawn.
    fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let set = 21 + if k > 5 { 4usize.pow((3.0 * k as f64).log(4.0).ceil() as u32) } else { 0 };
        if n <= set {
            let mut rest: Vec<usize> = (0..n).collect();
            let mut next = |_| {
                let i = self.below(rest.len());
                rest.swap_remove(i)
            };
            return (0..k.min(n)).map(&mut next).collect();
        }
        let mut seen = HashSet::new();
        let mut new = || loop {
            let i = self.below(n);
            if seen.insert(i) {
                return i;
            }
        };
        (0..k).map(|_| new()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// As Python 3.11 draws.
    #[test]
    fn draws_as_python_does() {
        let mut draw = Draw::new(1234);
        let mut next = |n, k| draw.sample(n, k);
        assert_eq!([next(10, 3), next(10, 3), next(10, 3)], [[7, 1, 0], [1, 0, 9], [1, 5, 3]]);
        assert_eq!([next(1000, 5), next(1000, 5)], [[17, 31, 807, 16, 354], [663, 638, 495, 630, 474]]);
        assert_eq!([next(100, 7), next(100, 7)], [[19, 11, 23, 91, 14, 1, 64], [62, 31, 8, 85, 69, 59, 76]]);
        assert_eq!([next(21, 6), next(85, 6)], [[2, 16, 18, 1, 8, 20], [82, 38, 61, 45, 34, 31]]);
        let mut draw = Draw::new((1 << 40) + 5);
        let mut next = || draw.sample(300, 4);
        assert_eq!([next(), next(), next()], [[258, 264, 137, 14], [271, 23, 84, 40], [68, 122, 70, 126]]);
        let mut draw = Draw::new(0);
        assert_eq!((draw.sample(1, 1), draw.sample(2, 2)), (vec![0], vec![1, 0]));
        assert_eq!(draw.sample(70_000, 3), [33_936, 67_013, 63_691]);
    }

    /// A file of these lines, its questions, and what comes before each.
    fn before(lines: &[&str], count: usize, others: Option<&[&str]>) -> Result<Vec<String>> {
        let temp = tempfile::tempdir().unwrap();
        let file = |name: &str, lines: &[&str]| {
            let path = temp.path().join(name);
            std::fs::write(&path, lines.join("\n")).unwrap();
            path
        };
        let (asked, others) = (file("asked.jsonl", lines), others.map(|lines| file("others.jsonl", lines)));
        let (schema, all) = questions(&asked, None)?;
        let mut pool = Pool::new(&Examples { count, file: others, ..Examples::NONE }, &asked, schema, &all)?.unwrap();
        all.iter().map(|question| pool.before(question)).collect()
    }

    #[test]
    fn examples_in_the_harness_words() {
        let of = |line: &str| before(&[line], 1, Some(&[line, line])).unwrap().remove(0);
        let arc = r#"{"question":"Why?","choices":{"text":["so","no"],"label":["1","2"]},"answerKey":"2"}"#;
        assert_eq!(of(arc), "Question: Why?\nAnswer: no\n\n");
        let book = r#"{"question_stem":"Fog is","choices":{"text":["wet","dry"],"label":["A","B"]},"answerKey":"A"}"#;
        assert_eq!(of(book), "Fog is wet\n\n");
        assert_eq!(of(r#"{"text":"one two three"}"#), "one two  three\n\n");
        assert_eq!(of(r#"{"query":"2 + 2 =","choices":["3","4"],"gold":1}"#), "2 + 2 = 4\n\n");
        // Of these the question itself is left out.
        let of = |line: &str, other: &str| before(&[line], 1, Some(&[line, other])).unwrap().remove(0);
        let piqa = |goal: &str| format!(r#"{{"goal":"{goal}","sol1":"so","sol2":"no","label":1}}"#);
        assert_eq!(of(&piqa("Why?"), &piqa("When?")), "Question: When?\nAnswer: no\n\n");
        let wino =
            |end: &str| format!(r#"{{"sentence":"A hit B so _ {end}","option1":"A","option2":"B","answer":"2"}}"#);
        assert_eq!(of(&wino("fell"), &wino(" ran ")), "A hit B so B ran\n\n");
    }

    #[test]
    fn a_question_is_no_example_of_its_own() {
        let line = |n: usize| format!(r#"{{"query":"{n} =","choices":["{n}","x"],"gold":0}}"#);
        let lines: Vec<String> = (0..6).map(line).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let all = before(&lines, 5, None).unwrap();
        for (i, text) in all.iter().enumerate() {
            let there = |n: usize| text.matches(&format!("{n} = {n}\n\n")).count();
            assert!((0..6).all(|n| there(n) == usize::from(n != i)), "{i}: {text}");
        }
        assert!(all.iter().any(|text| !text.starts_with(&all[0][..3])), "always in one order");
        let told = before(&lines, 6, None).unwrap_err().to_string();
        assert!(told.contains("asked.jsonl: has 5 questions beside one, and 6 examples are asked for"), "{told}");
        assert_eq!(before(&lines, 6, Some(&lines)).unwrap().len(), 6);
        // Copies of a question are none of the others.
        let copies = [lines[0], lines[0], lines[0], lines[1]];
        assert!(before(&copies[..3], 1, None).unwrap_err().to_string().contains("has 0 questions beside one"));
        let all = before(&copies, 1, None).unwrap();
        assert_eq!((&all[..3], &all[3][..]), (&["1 = 1\n\n"; 3].map(str::to_owned)[..], "0 = 0\n\n"));
    }

    #[test]
    fn files_of_few_or_other_questions_are_refused() {
        let (own, other) = (r#"{"query":"a","choices":["b"],"gold":0}"#, r#"{"text":"one two"}"#);
        let told = |others: &[&str]| before(&[own], 2, Some(others)).unwrap_err().to_string();
        assert!(
            told(&[own]).contains("others.jsonl: has 1 questions, and 2 examples are asked for"),
            "{}",
            told(&[own])
        );
        let words = told(&[other, other]);
        assert!(
            words.contains("others.jsonl: has questions of Lambada") && words.contains("MultipleChoice"),
            "{words}"
        );
    }
}
