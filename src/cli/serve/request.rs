//! A request's fields, looked at before anything runs. What would change an answer in a way that is not there is refused; other fields
//! that are not known do nothing.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokenizers::{ModelWrapper, Tokenizer};
use wgquant::calibrate::missing_bos;
use wgquant::runtime::Next;

use super::super::generation::sampling;
use super::api::{Api, Refused};

/// Likeliest tokens that are told, at most.
const TOP: u32 = 20;
/// Answers to one request, at most.
const CHOICES: usize = 1024;
/// New tokens where a completion does not say, if there is room for them.
const MAX_TOKENS: usize = 16;
/// Texts at which an answer stops, at most, and the bytes of one.
const STOPS: usize = 64;
const STOP_BYTES: usize = 1024;

/// What is asked for.
pub(super) struct Request {
    pub(super) kind: Kind,
    /// An answer each, or [`Request::each`].
    pub(super) prompts: Vec<Prompt>,
    /// Answers to each prompt.
    pub(super) each: usize,
    pub(super) next: Next,
    /// Of the first answer; each other has the next.
    pub(super) seed: u32,
    pub(super) stops: Arc<[String]>,
    /// The likeliest tokens to tell of with each.
    pub(super) logprobs: Option<usize>,
    /// Tell the prompt, too.
    pub(super) echo: bool,
    /// Go on from what is kept of prompts before.
    pub(super) reuse: bool,
    pub(super) stream: bool,
    /// Tell how many tokens there were after a stream, too.
    pub(super) include_usage: bool,
}

/// Whose words answers are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Completion,
    Chat,
}

/// What is to be continued.
pub(super) struct Prompt {
    pub(super) ids: Vec<u32>,
    /// Its text, where that was asked for.
    pub(super) text: String,
    /// New tokens at most.
    pub(super) max_new: usize,
}

/// Fields by name; `null` is none.
struct Fields(Map<String, Value>);

impl Fields {
    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Refused> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value).map(Some).map_err(|e| Refused::field(name, e)),
        }
    }

    /// Refuses what there is no form of, unless it says what changes nothing.
    fn refuse(&self, name: &str, nothing: impl Fn(&Value) -> bool) -> Result<(), Refused> {
        match self.0.get(name).filter(|value| !value.is_null() && !nothing(value)) {
            Some(value) => Err(Refused::field(name, format!("{value} is not supported"))),
            None => Ok(()),
        }
    }
}

/// A text or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// Prompts as texts or token ids.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string, a list of token ids, or a list of either")]
enum Prompts {
    Texts(Texts),
    Ids(Vec<u32>),
    SeveralIds(Vec<Vec<u32>>),
}

/// Fields that have no form here, with what of each changes nothing.
fn refuse_others(fields: &Fields) -> Result<(), Refused> {
    for name in ["presence_penalty", "frequency_penalty", "min_p"] {
        fields.refuse(name, |v| v.as_f64() == Some(0.0))?;
    }
    fields.refuse("repetition_penalty", |v| v.as_f64() == Some(1.0))?;
    fields.refuse("logit_bias", |v| v.as_object().is_some_and(Map::is_empty))?;
    for name in ["suffix", "guided_regex", "guided_grammar"] {
        fields.refuse(name, |v| v.as_str() == Some(""))?;
    }
    for name in ["ignore_eos", "continue_final_message", "include_stop_str_in_output"] {
        fields.refuse(name, |v| v == false)?;
    }
    for name in ["stop_token_ids", "documents", "functions", "guided_choice", "logits_processors", "bad_words"] {
        fields.refuse(name, |v| v.as_array().is_some_and(Vec::is_empty))?;
    }
    for name in ["chat_template_kwargs", "guided_json", "structured_outputs"] {
        fields.refuse(name, |v| v.as_object().is_some_and(Map::is_empty))?;
    }
    fields.refuse("chat_template", |_| false)?;
    fields.refuse("add_generation_prompt", |v| v == true)?;
    fields.refuse("min_tokens", |v| v.as_u64() == Some(0))?;
    fields.refuse("best_of", |v| Some(v) == fields.0.get("n") || v.as_u64() == Some(1))?;
    fields.refuse("response_format", |v| v["type"] == "text")?;
    fields.refuse("tool_choice", |v| v == "auto" || v == "none")
}

impl Request {
    pub(super) fn read(api: &Api, kind: Kind, body: &[u8]) -> Result<Self, Refused> {
        let body = serde_json::from_slice(body).map_err(|e| Refused::bad(format!("the request is no JSON: {e}")))?;
        let Value::Object(fields) = body else { return Err(Refused::bad("the request is no JSON object")) };
        let fields = Fields(fields);
        refuse_others(&fields)?;
        let (logprobs, echo) = match kind {
            Kind::Completion => (fields.get::<u32>("logprobs")?, fields.get("echo")?.unwrap_or(false)),
            Kind::Chat => {
                let top = fields.get::<u32>("top_logprobs")?;
                let wanted = fields.get("logprobs")?.unwrap_or(false);
                if top.is_some_and(|top| top > 0) && !wanted {
                    return Err(Refused::field("top_logprobs", "has no effect without `logprobs`"));
                }
                (wanted.then_some(top.unwrap_or(0)), false)
            }
        };
        if let Some(top) = logprobs.filter(|top| *top > TOP) {
            let name = if kind == Kind::Chat { "top_logprobs" } else { "logprobs" };
            return Err(Refused::field(name, format!("{top}, at most {TOP} are told")));
        }
        let each = fields.get("n")?.unwrap_or(1);
        let prompts = match kind {
            Kind::Completion => completions(api, &fields, echo)?,
            Kind::Chat => vec![chat(api, &fields)?],
        };
        if each == 0 || prompts.len().saturating_mul(each) > CHOICES {
            let answers = format!("{each} answers to each of {} prompts; from 1 to {CHOICES} in all", prompts.len());
            return Err(Refused::field("n", answers));
        }
        let (temperature, top_k, top_p) =
            (fields.get("temperature")?, fields.get::<i64>("top_k")?, fields.get("top_p")?);
        // -1 are all, as in vLLM's API.
        let top_k = match top_k.unwrap_or(0) {
            -1 => Ok(0),
            k => u32::try_from(k)
                .map_err(|_| Refused::field("top_k", format!("{k} is no number of tokens, nor -1 for all"))),
        }?;
        let draws = (temperature.unwrap_or(1.0), top_k, top_p.unwrap_or(1.0));
        let next = sampling(draws, ["temperature", "top_p"]).map_err(|(name, what)| Refused::field(name, what))?;
        let stops = match fields.get("stop")? {
            None => Vec::new(),
            Some(Texts::One(stop)) => vec![stop],
            Some(Texts::Several(stops)) => stops,
        };
        if stops.iter().any(String::is_empty) {
            return Err(Refused::field("stop", "is empty, and every answer begins with that"));
        }
        if stops.len() > STOPS || stops.iter().any(|stop| stop.len() > STOP_BYTES) {
            let most = stops.iter().map(String::len).max().unwrap_or(0);
            let what = format!("{} texts of up to {most} bytes; at most {STOPS} of {STOP_BYTES}", stops.len());
            return Err(Refused::field("stop", what));
        }
        let options: Option<Map<String, Value>> = fields.get("stream_options")?;
        let include_usage = options.is_some_and(|options| options.get("include_usage") == Some(&Value::Bool(true)));
        Ok(Self {
            kind,
            prompts,
            each,
            next,
            seed: fields.get::<i64>("seed")?.map_or_else(any_seed, |seed| seed as u32),
            stops: stops.into(),
            logprobs: logprobs.map(|top| top as usize),
            echo,
            // As in llama.cpp's API.
            reuse: fields.get("cache_prompt")?.unwrap_or(true),
            stream: fields.get("stream")?.unwrap_or(false),
            include_usage,
        })
    }
}

fn any_seed() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

/// A text's ids, without special tokens but those that it names.
fn encode(api: &Api, field: &str, text: &str) -> Result<Vec<u32>, Refused> {
    if let Some(most) = api.most_bytes.filter(|most| text.len() > *most) {
        let (bytes, context) = (text.len(), api.context);
        let what = format!("{bytes} bytes, and a context of {context} tokens holds {most} at the most");
        return Err(Refused::field(field, what));
    }
    let encoded =
        api.tokenizer.encode_fast(text, false).map_err(|e| Refused::field(field, format!("tokenizer: {e}")))?;
    Ok(encoded.get_ids().to_vec())
}

/// Bytes of a text that fits a context of so many tokens, at the most: none longer need be tokenized. Known of byte pairs alone, of which
/// each token is in the vocabulary, and where nothing changes a text before.
pub(super) fn most_bytes(tokenizer: &Tokenizer, context: usize) -> Option<usize> {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else { return None };
    if model.fuse_unk || model.unk_token.is_some() || tokenizer.get_normalizer().is_some() {
        return None;
    }
    let longest = tokenizer.get_vocab(true).keys().map(String::len).max()?;
    context.checked_mul(longest)
}

/// Refuses ids of no sequence that this model could continue by `max_new` tokens.
fn check(api: &Api, field: &str, ids: &[u32], max_new: usize) -> Result<(), Refused> {
    let (context, vocab) = (api.context, api.config.vocab_size);
    if ids.is_empty() {
        return Err(Refused::field(field, "is empty, and the model has no beginning-of-sequence token"));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
        return Err(Refused::field(field, format!("token id {id} in a vocabulary of {vocab}")));
    }
    if ids.len().saturating_add(max_new) > context {
        let all = format!("{} tokens and up to {max_new} new ones", ids.len());
        return Err(Refused::field(field, format!("{all} in a context of {context} (wgquant serve --context)")));
    }
    Ok(())
}

fn completions(api: &Api, fields: &Fields, echo: bool) -> Result<Vec<Prompt>, Refused> {
    let given = fields.get::<u32>("max_tokens")?;
    let prompt = |ids: Vec<u32>, text| {
        let room = api.context.saturating_sub(ids.len()).max(1);
        let max_new = given.map_or(MAX_TOKENS.min(room), |given| given as usize);
        check(api, "prompt", &ids, max_new)?;
        Ok(Prompt { ids, text, max_new })
    };
    let of_text = |text: String| {
        let ids = encode(api, "prompt", &text)?;
        prompt(missing_bos(api.config.bos, &ids).into_iter().chain(ids).collect(), text)
    };
    let of_ids = |ids: Vec<u32>| {
        // Refused before its text is made.
        check(api, "prompt", &ids, 0)?;
        let text = if echo { api.tokenizer.decode(&ids, true) } else { Ok(String::new()) };
        let text = text.map_err(|e| Refused::field("prompt", format!("tokenizer: {e}")))?;
        prompt(ids, text)
    };
    let prompts: Option<Prompts> = fields.get("prompt")?;
    let prompts = match prompts.ok_or_else(|| Refused::field("prompt", "is missing"))? {
        Prompts::Texts(Texts::One(text)) => vec![of_text(text)?],
        Prompts::Ids(ids) if !ids.is_empty() => vec![of_ids(ids)?],
        Prompts::Texts(Texts::Several(texts)) => texts.into_iter().map(of_text).collect::<Result<_, _>>()?,
        Prompts::SeveralIds(several) => several.into_iter().map(of_ids).collect::<Result<_, _>>()?,
        Prompts::Ids(_) => Vec::new(),
    };
    if prompts.is_empty() {
        return Err(Refused::field("prompt", "is an empty list"));
    }
    Ok(prompts)
}

fn chat(api: &Api, fields: &Fields) -> Result<Prompt, Refused> {
    let Some(template) = &api.template else {
        let dir = api.dir.display();
        return Err(Refused::bad(format!(
            "{dir} has no chat template (chat_template.jinja, or in tokenizer_config.json); use /v1/completions"
        )));
    };
    let messages: Option<Vec<Value>> = fields.get("messages")?;
    let messages = messages.filter(|m| !m.is_empty()).ok_or_else(|| Refused::field("messages", "there is none"))?;
    let tools: Option<Vec<Value>> = fields.get("tools")?;
    let tools = tools.filter(|tools| !tools.is_empty() && fields.0.get("tool_choice").is_none_or(|c| c != "none"));
    let text = template.prompt(&messages, tools.as_deref()).map_err(|e| Refused::field("messages", e))?;
    // As it is: whether a chat begins with a special token is for its template to say.
    let ids = encode(api, "messages", &text)?;
    let most = match fields.get::<u32>("max_completion_tokens")? {
        Some(most) => Some(most),
        None => fields.get::<u32>("max_tokens")?,
    };
    // Where nothing is said, all that there is room for, at least one.
    let max_new = most.map_or_else(|| api.context.saturating_sub(ids.len()).max(1), |most| most as usize);
    check(api, "messages", &ids, max_new)?;
    Ok(Prompt { ids, text, max_new })
}
