//! Conversations as the model was trained to read them: by the Jinja template that its tokenizer comes with.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use regex::Regex;
use serde_json::{Map, Value as Json};

use super::bounds;
use super::dumps::tojson;
use crate::error::{Error, Result};

/// Steps a template may take for one conversation, as it is a program from a stranger's file: the least, for each value of the conversation
/// and each so many bytes of its texts, and the most. A message, of three values, takes some hundred, and some for each
/// other one in templates that look at all of them for each; a MiB of text takes 16,384 each time that it is copied.
const FUEL: u64 = 100_000;
const FUEL_A_VALUE: u64 = 1_000;
const BYTES_A_FUEL: u64 = 4;
const MOST_FUEL: u64 = 4_000_000;
/// Stack for a step. Values lie in each other as deep as a template's steps put them there, and to
/// compare, join or drop one goes down all levels, optimised or not: a list takes 1.5 steps and then up to 442 bytes, a dict 3 and
/// 795, what filters make 3 or more and 917, so up to 306 bytes a step. Pages that no level reaches take no memory.
const STACK_A_STEP: usize = 512;
/// Bytes of a template at most: published ones have up to some 20,000.
const LARGEST: usize = 1 << 16;
/// Stack on which a template is compiled, and what it takes for each of its bytes. The parser goes as deep as `-----1` or a chain of `elif`
/// says, which took up to 411 bytes a byte of the template.
const STACK: usize = 1 << 20;
const STACK_A_BYTE: usize = 2 << 10;
/// Name of the template in messages.
const NAME: &str = "chat_template";

/// What to say of a template that writes today's date.
const DATED: &str = "it writes today's date, with which the same text would be others tomorrow; put a chat_template.jinja \
                     with a date of its own beside the model";

/// A chat template, compiled, or why it is not: that is said when a conversation needs it, since other texts do not.
pub struct ChatTemplate {
    compiled: Result<Compiled, String>,
}

struct Compiled {
    environment: Environment<'static>,
    /// `bos_token` and so on.
    tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// The template beside a model: `chat_template.jinja`, or that of `tokenizer_config.json`; of several, the one called
    /// `default`. `None` where there is none.
    #[must_use]
    pub fn beside(model: &Path) -> Option<Self> {
        let compiled = Compiled::beside(model).map_err(|e| e.to_string()).transpose()?;
        Some(Self { compiled })
    }

    /// A conversation as text: `messages` as in Hugging Face's chat data or OpenAI's API, and the `tools` that the model was told of, if
    /// any.
    ///
    /// # Errors
    /// What is wrong with the template or the conversation, in one line.
    pub fn render(&self, messages: &[Json], tools: Option<&[Json]>) -> Result<String, String> {
        self.rendered(messages, tools, false)
    }

    /// As [`ChatTemplate::render`], and with what comes before the model's answer.
    ///
    /// # Errors
    /// As that.
    pub fn prompt(&self, messages: &[Json], tools: Option<&[Json]>) -> Result<String, String> {
        self.rendered(messages, tools, true)
    }

    fn rendered(&self, messages: &[Json], tools: Option<&[Json]>, prompt: bool) -> Result<String, String> {
        let compiled = self.compiled.as_ref().map_err(Clone::clone)?;
        let messages = messages.iter().map(readable).collect::<Result<Vec<_>, _>>()?;
        let fuel = fuel(&messages, tools);
        let rendered = on_stack(fuel as usize * STACK_A_STEP, || {
            compiled.render(&messages, tools, prompt, fuel).map_err(|e| {
                let dated = e.kind() == ErrorKind::UnknownFunction && e.to_string().contains("strftime_now");
                if dated { format!("{e:#}: {DATED}") } else { format!("{e:#}") }
            })
        });
        rendered.map_err(|e| format!("chat template: {e}"))
    }
}

impl Compiled {
    fn beside(model: &Path) -> Result<Option<Self>> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| Error::io(path, e));
        let config = model.join("tokenizer_config.json");
        let config: Json = match config.is_file() {
            true => serde_json::from_str(&read(&config)?).map_err(|e| Error::bad(&config, e.to_string()))?,
            false => Json::Null,
        };
        let own = model.join("chat_template.jinja");
        let source = match own.is_file() {
            true => Some(read(&own)?),
            false => named(&config[NAME]),
        };
        let compiled = source.map(|source| Self::with_room(&source, &config)).transpose();
        compiled.map_err(|e| Error::bad(model, format!("chat template: {e}")))
    }

    /// As [`Compiled::new`], with stack enough for any template that is not refused by its size.
    fn with_room(source: &str, config: &Json) -> Result<Self, String> {
        if source.len() > LARGEST {
            return Err(format!("has {} bytes, at most {LARGEST} are taken", source.len()));
        }
        on_stack(STACK + source.len() * STACK_A_BYTE, || Self::new(source, config).map_err(|e| format!("{e:#}")))
    }

    /// Compiles `source`; `config` (`tokenizer_config.json`) names the special tokens.
    fn new(source: &str, config: &Json) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        // As transformers sets Jinja up, but for `strftime_now`: templates that ask whether there is one have a date of their own.
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise);
        environment.add_filter("tojson", tojson);
        bounds::set(&mut environment);
        let guarded = bounds::guarded(&without_spans(source)?);
        environment.add_template_owned(NAME, guarded.map_err(|e| minijinja::Error::new(ErrorKind::SyntaxError, e))?)?;
        let token = |(key, value): (&String, &Json)| {
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            key.ends_with("_token").then(|| (key.clone(), text.to_owned()))
        };
        let tokens = config.as_object().into_iter().flatten().filter_map(token).collect();
        Ok(Self { environment, tokens })
    }

    fn render(
        &self,
        messages: &[Json],
        tools: Option<&[Json]>,
        prompt: bool,
        fuel: u64,
    ) -> Result<String, minijinja::Error> {
        let tokens = Value::from(Serde(&self.tokens));
        // As transformers does: `tools` and `documents` are there, as none, where there are none.
        let own = context! {
            messages => Value::from(Serde(messages)),
            tools => Value::from(Serde(tools)),
            documents => Value::from(()),
            add_generation_prompt => prompt,
        };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        environment.get_template(NAME)?.render(context! { ..own, ..tokens })
    }
}

/// Steps that a template may take for a conversation.
fn fuel(messages: &[Json], tools: Option<&[Json]>) -> u64 {
    let all = messages.iter().chain(tools.into_iter().flatten()).map(fuel_of);
    FUEL.saturating_add(all.fold(0, u64::saturating_add)).min(MOST_FUEL)
}

fn fuel_of(value: &Json) -> u64 {
    let bytes = |text: &str| text.len() as u64 / BYTES_A_FUEL;
    FUEL_A_VALUE
        + match value {
            Json::String(text) => bytes(text),
            Json::Array(items) => items.iter().map(fuel_of).sum(),
            Json::Object(items) => items.iter().map(|(key, value)| bytes(key) + fuel_of(value)).sum(),
            _ => 0,
        }
}

/// What `work` gives, done on a stack of its own: overflow would end the program.
fn on_stack<T: Send>(bytes: usize, work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let started = thread::Builder::new().stack_size(bytes).spawn_scoped(scope, work);
        let started = started.map_err(|e| format!("no thread with a stack of {bytes} bytes: {e}"))?;
        started.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// A message as templates read it: what it has as null it has not, as in transformers; parts of text are one text; arguments of calls,
/// which APIs have as JSON in a string, are what they say.
fn readable(message: &Json) -> Result<Json, String> {
    if !message["role"].is_string() {
        return Err(format!("has a message without a `role`: {message}"));
    }
    let keys = message.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
    let mut message: Json = keys.map(|(k, v)| (k.clone(), v.clone())).collect();
    if let Some(text) = content(&message)? {
        message["content"] = Json::String(text.into_owned());
    }
    let calls = message.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten();
    for arguments in calls.filter_map(|call| call.get_mut("function")?.get_mut("arguments")) {
        let read = arguments.as_str().and_then(|text| serde_json::from_str::<Map<String, Json>>(text).ok());
        if let Some(read) = read {
            *arguments = Json::Object(read);
        }
    }
    Ok(with_reasoning(message))
}

/// The text of a message, of its parts if it has several; `None` where it has none, as one that only calls tools.
pub(super) fn content(message: &Json) -> Result<Option<Cow<'_, str>>, String> {
    let part = |part: &Json| match (part["type"] == "text", &part["text"]) {
        (true, Json::String(text)) => Ok(text.clone()),
        (true, _) => Err("has a part without `text`".to_owned()),
        (false, _) => Err(format!("has parts of type {}; only text is read", part["type"])),
    };
    match &message["content"] {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text.into())),
        Json::Array(parts) => parts.iter().map(part).collect::<Result<String, _>>().map(|text| Some(text.into())),
        other => Err(format!("has {other} as `content`; text or a list of its parts is read")),
    }
}

/// What a model thought goes by three names, of which templates read the first two.
fn with_reasoning(mut message: Json) -> Json {
    let Json::Object(keys) = &mut message else { return message };
    let found = ["reasoning_content", "thinking", "reasoning"].iter().find_map(|name| keys.get(*name).cloned());
    if let Some(thought) = found {
        keys.entry("thinking").or_insert_with(|| thought.clone());
        keys.insert("reasoning_content".to_owned(), thought);
    }
    message
}

/// `{% generation %}`, by which transformers finds the spans that a model wrote, as a block that Jinja has: it changes no text.
fn without_spans(source: &str) -> Result<String, minijinja::Error> {
    let tags = Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}");
    let tags = tags.map_err(|e| minijinja::Error::new(ErrorKind::SyntaxError, e.to_string()))?;
    Ok(tags.replace_all(source, "{%${1} ${2}with ${3}%}").into_owned())
}

/// The text of `chat_template`: a string, or a list of templates with names.
fn named(value: &Json) -> Option<String> {
    let default = || value.as_array()?.iter().find(|t| t["name"] == "default")?["template"].as_str();
    value.as_str().or_else(default).map(str::to_owned)
}

/// What templates call to refuse a conversation.
fn raise(reason: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Parts that published templates have: trimmed blocks, Python's string methods, namespaces, refusals.
    const TEMPLATE: &str = "{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('no role ' + message['role']) }}
    {%- endif %}
    {%- if loop.first and message.role == 'system' %}{% set ns.system = message.content.strip() %}{% continue %}{% endif %}
    {{- '<|' + message.role.upper() + '|>' + ns.system + message['content'].strip() + eos_token }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|ASSISTANT|>' }}{% endif %}";

    fn template(dir: &Path, config: &Json) -> Option<ChatTemplate> {
        std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
        ChatTemplate::beside(dir)
    }

    #[test]
    fn renders_as_the_model_reads() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ChatTemplate::beside(dir.path()).is_none());
        let tokens = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } });
        assert!(template(dir.path(), &tokens).is_none());
        let mut config = tokens.clone();
        config["chat_template"] = json!(TEMPLATE);
        let messages = [
            json!({ "role": "system", "content": " be kind " }),
            json!({ "role": "user", "content": " hello " }),
            json!({ "role": "assistant", "content": "hi" }),
        ];
        let text = "<s><|USER|>be kindhello</s><|ASSISTANT|>be kindhi</s>";
        assert_eq!(template(dir.path(), &config).unwrap().render(&messages, None).unwrap(), text);
        config["chat_template"] =
            json!([{ "name": "tools", "template": "" }, { "name": "default", "template": TEMPLATE }]);
        let listed = template(dir.path(), &config).unwrap();
        assert_eq!(listed.render(&messages, None).unwrap(), text);
        let refused = listed.render(&[json!({ "role": "ghost", "content": "" })], None).unwrap_err();
        assert!(refused.contains("no role ghost"), "{refused}");
        std::fs::write(dir.path().join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
        assert_eq!(template(dir.path(), &config).unwrap().render(&messages, None).unwrap(), " be kind ");
    }

    /// As OpenAI's API and many data sets have them.
    #[test]
    fn parts_and_arguments_are_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let source = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}\
                      {{ c.function.arguments.city }}{% endfor %};{% endfor %}";
        std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
        let template = ChatTemplate::beside(dir.path()).unwrap();
        let parts = json!([{ "type": "text", "text": "Look" }, { "type": "text", "text": " here." }]);
        let call = json!([{ "function": { "name": "weather", "arguments": "{\"city\": \"Oslo\"}" } }]);
        let messages = [
            json!({ "role": "user", "content": parts }),
            json!({ "role": "assistant", "content": null, "tool_calls": call }),
        ];
        assert_eq!(template.render(&messages, None).unwrap(), "user:Look here.;assistant:Oslo;");
        for (message, words) in [
            (json!({ "content": "hi" }), "without a `role`"),
            (json!({ "role": "user", "content": [{ "type": "image_url" }] }), "type \"image_url\""),
            (json!({ "role": "user", "content": [{ "type": "text" }] }), "without `text`"),
            (json!({ "role": "user", "content": 3 }), "has 3 as `content`"),
        ] {
            let error = template.prompt(&[message], None).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_template_that_never_ends_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
        let template = template(dir.path(), &json!({ "chat_template": endless })).unwrap();
        assert!(template.render(&[], None).unwrap_err().contains("fuel"));
        std::fs::write(dir.path().join("chat_template.jinja"), "{% if %}").unwrap();
        let error = ChatTemplate::beside(dir.path()).unwrap().render(&[], None).unwrap_err();
        assert!(error.contains("chat template: syntax error"), "{error}");
    }

    /// The parser goes down a level for each of these parts, and compiling overflowed the stack.
    #[test]
    fn deep_templates_end_in_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let render = |source: &str| {
            std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
            ChatTemplate::beside(dir.path()).unwrap().render(&[], None)
        };
        for source in [
            format!("{{% if a %}}{}{{% endif %}}", "{% elif b %}".repeat(20_000)),
            format!("{{{{ {}1 }}}}", "not ".repeat(30_000)),
        ] {
            let error = render(&source).unwrap_err();
            let words = format!("chat template: has {} bytes, at most 65536", source.len());
            assert!(error.contains(&words), "{error}");
        }
        // As deep as the largest can be.
        let deepest = format!("{{{{ {}1 }}}}", "-".repeat(LARGEST - 8));
        assert_eq!(render(&deepest).unwrap(), "1");
    }

    /// Comparing and dropping go down a level for each list in a list, and overflowed the stack. Macros make them as deep as there are steps.
    #[test]
    fn deep_values_fit_on_the_stack() {
        let dir = tempfile::tempdir().unwrap();
        let render = |calls: usize, then: &str| {
            let deeper = "{%set x=[[[[x]]]]%}".repeat(1000);
            let source = format!(
                "{{% macro f(x, n) %}}{deeper}{{% if n %}}{{{{ f(x, n - 1) }}}}{{% else %}}{{{{ {then} }}}}{{% endif %}}\
                 {{% endmacro %}}{{{{ f(1, {calls}) }}}}"
            );
            std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
            ChatTemplate::beside(dir.path()).unwrap().render(&[], None)
        };
        assert_eq!(render(5, "[x] == [x, 1]").unwrap(), "False");
        assert_eq!(render(5, "(x ~ '') | length").unwrap(), "48001");
        // Out of steps, all that there is is dropped.
        assert!(render(100, "1").unwrap_err().contains("fuel"));
    }

    /// Short conversations are rendered on a stack of a size that any machine has, and long ones may take many steps.
    #[test]
    fn steps_are_as_many_as_the_conversation_needs() {
        let dir = tempfile::tempdir().unwrap();
        let source = "{% for m in messages %}{{ m.role.upper() + ': ' + m.content | trim }}\n{% endfor %}";
        std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
        let template = ChatTemplate::beside(dir.path()).unwrap();
        let message = json!({ "role": "user", "content": "a sentence of some words. ".repeat(20) });
        let (few, many) = (vec![message.clone(); 8], vec![message; 40_000]);
        assert!(fuel(&few, None) as usize * STACK_A_STEP < 64 << 20);
        assert!(template.render(&many, None).unwrap().len() > 40_000 * 500);
        assert_eq!(fuel(&many, None), MOST_FUEL);
        assert!(fuel(&few, Some(&few)) > fuel(&few, None));
    }

    /// What transformers adds to Jinja: its own `tojson`, spans that a model wrote, and today's date.
    #[test]
    fn templates_have_what_transformers_adds() {
        let dir = tempfile::tempdir().unwrap();
        let render = |source: &str| {
            std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
            let messages = [json!({ "role": "assistant", "content": "a<b", "calls": [{ "name": "é", "n": 1 }] })];
            ChatTemplate::beside(dir.path()).unwrap().render(&messages, None)
        };
        let got = render(
            "{% for m in messages %}{{ m.content | tojson }} {{ m.calls | tojson(ensure_ascii=False) }}{% endfor %}",
        );
        assert_eq!(got.unwrap(), r#""a<b" [{"name": "é", "n": 1}]"#);
        let spans =
            "{% for m in messages %}\n  {% generation %}\n{{ m.content }}!\n  {%- endgeneration -%}\n .\n{% endfor %}";
        assert_eq!(render(spans).unwrap(), "a<b!.\n");
        assert_eq!(
            render("{% if strftime_now is defined %}no{% else %}26 Jul 2024{% endif %}").unwrap(),
            "26 Jul 2024"
        );
        let error = render("{{ strftime_now('%Y') }}").unwrap_err();
        assert!(error.contains("strftime_now") && error.contains("today's date") && !error.contains('\n'), "{error}");
        assert!(!render("{{ unheard_of() }}").unwrap_err().contains("today"));
    }

    /// Templates ask for tools and documents in all ways there are.
    #[test]
    fn what_a_conversation_has_not_is_none_or_absent() {
        let dir = tempfile::tempdir().unwrap();
        let render = |source: &str, tools: Option<&[Json]>| {
            std::fs::write(dir.path().join("chat_template.jinja"), source).unwrap();
            let message = json!({ "role": "assistant", "content": "c", "tool_calls": null });
            ChatTemplate::beside(dir.path()).unwrap().render(&[message], tools).unwrap()
        };
        for name in ["tools", "documents"] {
            let asked =
                "{% if NAME is not none %}X{% endif %}{% if NAME is defined %}D{% endif %}{% if NAME %}T{% endif %}";
            assert_eq!(render(&asked.replace("NAME", name), None), "D", "{name}");
        }
        let tools = [json!({ "name": "sum" })];
        let told = "{% if tools is not none %}{{ tools | tojson }}{% endif %}";
        assert_eq!(render(told, Some(&tools)), r#"[{"name": "sum"}]"#);
        let calls =
            "{% for m in messages %}{% if m.tool_calls is defined %}X{% endif %}{{ m.keys() | join(' ') }}{% endfor %}";
        assert_eq!(render(calls, None), "role content");
        for name in ["reasoning_content", "thinking", "reasoning"] {
            let message = json!({ "role": "assistant", name: "r" });
            let text = "{{ messages[0].reasoning_content }}{{ messages[0].thinking }}";
            std::fs::write(dir.path().join("chat_template.jinja"), text).unwrap();
            assert_eq!(ChatTemplate::beside(dir.path()).unwrap().render(&[message], None).unwrap(), "rr", "{name}");
        }
    }
}
