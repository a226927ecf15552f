//! Answers in OpenAI's words.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tokenizers::Tokenizer;
use wgquant::runtime::LogProb;

use super::api::Api;
use super::choice::{Delta, Finish, Told};
use super::request::Kind;
use super::token::Name;

/// What stands for the logarithm of zero, which JSON has no word for.
const LEAST: f64 = -9999.0;

/// What all parts of an answer share.
pub(super) struct Shape {
    kind: Kind,
    /// Are log-probabilities told?
    scored: bool,
    id: String,
    created: u64,
    model: String,
    tokenizer: &'static Tokenizer,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: usize,
    /// Of those, the ones that were not read anew.
    pub(super) cached: usize,
    pub(super) made: usize,
}

impl Usage {
    fn json(self) -> Value {
        let Self { prompt, cached, made } = self;
        json!({
            "prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made,
            "prompt_tokens_details": { "cached_tokens": cached },
        })
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Shape {
    /// Of the answer with the number `number`.
    pub(super) fn new(api: &Api, kind: Kind, scored: bool, number: u64) -> Self {
        let created = now();
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let id = format!("{prefix}-{created:x}-{number}");
        Self { kind, scored, id, created, model: api.model.clone(), tokenizer: api.tokenizer }
    }

    fn object(&self, part: bool) -> &'static str {
        match (self.kind, part) {
            (Kind::Completion, _) => "text_completion",
            (Kind::Chat, false) => "chat.completion",
            (Kind::Chat, true) => "chat.completion.chunk",
        }
    }

    fn answer(&self, part: bool, choices: Vec<Value>) -> Map<String, Value> {
        let all = json!({
            "id": self.id, "object": self.object(part), "created": self.created, "model": self.model, "choices": choices,
        });
        if let Value::Object(answer) = all { answer } else { Map::new() }
    }

    /// A whole answer.
    pub(super) fn whole(&self, choices: &[Delta], usage: Usage) -> Value {
        let choice = |(index, choice): (usize, &Delta)| match self.kind {
            Kind::Completion => self.choice(index, "text", json!(choice.text), choice),
            Kind::Chat => self.choice(index, "message", json!({ "role": "assistant", "content": choice.text }), choice),
        };
        let mut answer = self.answer(false, choices.iter().enumerate().map(choice).collect());
        answer.insert("usage".to_owned(), usage.json());
        Value::Object(answer)
    }

    /// The first part of a stream, where there is one before any text.
    pub(super) fn opening(&self, index: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        let part = || self.choice(index, "delta", delta, &Delta::default());
        (self.kind == Kind::Chat).then(|| Value::Object(self.answer(true, vec![part()])))
    }

    /// A part of a stream; none where nothing is new to see.
    pub(super) fn part(&self, index: usize, new: &Delta) -> Option<Value> {
        if new.text.is_empty() && new.told.is_empty() && new.finish.is_none() {
            return None;
        }
        let choice = match self.kind {
            Kind::Completion => self.choice(index, "text", json!(new.text), new),
            Kind::Chat if new.text.is_empty() => self.choice(index, "delta", json!({}), new),
            Kind::Chat => self.choice(index, "delta", json!({ "content": new.text }), new),
        };
        Some(Value::Object(self.answer(true, vec![choice])))
    }

    /// What comes after a stream of which the tokens are to be told, too.
    pub(super) fn tokens(&self, usage: Usage) -> Value {
        let mut answer = self.answer(true, Vec::new());
        answer.insert("usage".to_owned(), usage.json());
        Value::Object(answer)
    }

    fn choice(&self, index: usize, key: &str, value: Value, new: &Delta) -> Value {
        let finish = new.finish.map(|finish| if finish == Finish::Length { "length" } else { "stop" });
        let told = self.scored && !new.told.is_empty();
        let logprobs = match self.kind {
            Kind::Completion => told.then(|| self.logprobs(&new.told)),
            Kind::Chat => {
                told.then(|| json!({ "content": new.told.iter().map(|t| self.content(t)).collect::<Vec<_>>() }))
            }
        };
        json!({ "index": index, key: value, "logprobs": logprobs, "finish_reason": finish })
    }

    fn text(&self, id: u32) -> String {
        Name::of(self.tokenizer, id).text
    }

    /// Of completions, the likeliest tokens with the one that is there.
    fn logprobs(&self, told: &[Told]) -> Value {
        let top = |told: &Told| {
            let said = told.logprobs.as_ref()?;
            // Of two of one name the first is the likelier.
            let mut top = Map::new();
            for LogProb { id, value } in said.top.iter().chain([&said.token]) {
                top.entry(self.text(*id)).or_insert_with(|| json!(value.max(LEAST)));
            }
            Some(top)
        };
        json!({
            "tokens": told.iter().map(|t| self.text(t.id)).collect::<Vec<_>>(),
            "token_logprobs": told.iter().map(|t| Some(t.logprobs.as_ref()?.token.value.max(LEAST))).collect::<Vec<_>>(),
            "top_logprobs": told.iter().map(top).collect::<Vec<_>>(),
            "text_offset": told.iter().map(|t| t.offset).collect::<Vec<_>>(),
        })
    }

    /// Of chats.
    fn content(&self, told: &Told) -> Value {
        let token = |LogProb { id, value }: LogProb| {
            let Name { text, bytes } = Name::of(self.tokenizer, id);
            json!({ "token": text, "logprob": value.max(LEAST), "bytes": bytes })
        };
        let Some(said) = &told.logprobs else { return Value::Null };
        let mut all = token(said.token);
        all["top_logprobs"] = said.top.iter().map(|top| token(*top)).collect();
        all
    }
}
