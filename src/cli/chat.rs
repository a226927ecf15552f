//! `wgquant chat`.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use pollster::block_on;
use serde_json::{Value as Json, json};
use tokenizers::Tokenizer;
use wgquant::calibrate::ChatTemplate;
use wgquant::model::ModelFile;
use wgquant::report::DeviceInfo;
use wgquant::runtime::Next;
use wgquant::serve::{self, Event, Job, Scheduler};

use super::args::{GpuArgs, model};
use super::draws::DrawArgs;
use super::generation::{Ended, encode_as_it_is, ended, pace, speed};
use super::stream::TextStream;
use super::{Verdict, load, out};

const HELP: &str = "each line is a message, and these are commands:
/clear  begins a new conversation
/help   says this
/exit   ends the program, as Ctrl-D does";

/// Sequences that are kept, so that a turn reads only what is new: the last prompt and its answer, which the template may write otherwise.
const KEPT: usize = 2;

/// Talk with a model: a line of standard input is a message, its answer is printed as it comes
///
/// By the model's chat template, which reads the whole conversation. /help says what other lines there are. Standard input may be a file or
/// a pipe. A line that has no answer, such as one that the context does not hold, is left out of the conversation; exit code 1 in the end
/// where there was one.
#[derive(Debug, Args)]
pub(super) struct Chat {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Tokens of an answer at most [default: what the context leaves]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tokens: Option<u32>,
    /// Tokens of the conversation at most
    #[arg(short, long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(2..))]
    context: u32,
    #[command(flatten)]
    draws: DrawArgs,
    #[command(flatten)]
    state: load::StateArgs,
    #[command(flatten)]
    gpu: GpuArgs,
}

/// A model, and what was said so far.
struct Conversation<'a> {
    file: &'a ModelFile,
    tokenizer: &'a Tokenizer,
    template: &'a ChatTemplate,
    scheduler: Scheduler,
    context: usize,
    /// What each conversation begins with.
    system: Vec<Json>,
    messages: Vec<Json>,
    /// New tokens of an answer, at most.
    most: Option<usize>,
    next: Next,
    /// Of the next answer.
    seed: u32,
}

/// What the model said, and how fast.
struct Answer {
    text: String,
    /// When each token was there, in seconds.
    times: Vec<f64>,
    /// Or why there is none.
    ended: Result<Ended, String>,
}

fn message(role: &str, text: &str) -> Json {
    json!({ "role": role, "content": text })
}

impl Chat {
    pub(super) fn run(&self) -> Result<Verdict> {
        let next = self.draws.next()?;
        self.state.check()?;
        let (file, dir) = (ModelFile::open(&self.model)?, self.model.display());
        let tokenizer = load::tokenizer(&self.model)?
            .ok_or_else(|| anyhow!("{dir}: holds no tokenizer.json; copy the model's own there"))?;
        let template = ChatTemplate::beside(&self.model).ok_or_else(|| {
            anyhow!(
                "{dir}: holds no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); \
                 `wgquant generate` continues plain text"
            )
        })?;
        let system: Vec<Json> = self.system.iter().map(|text| message("system", text)).collect();
        // A template that is broken, or takes no --system, is better known before the model is loaded.
        let first = [&system[..], &[message("user", "Hello")]].concat();
        template.prompt(&first, None).map_err(|e| anyhow!("{dir}: {e}"))?;
        let device = self.gpu.open()?;
        let context = self.context as usize;
        let settings = load::Settings { kept: KEPT, ..self.state.settings() };
        let engine = load::engine(&self.gpu, &device, &file, context, settings)?;
        if io::stdin().is_terminal() {
            let (name, adapter) = (file.checkpoint().name(), DeviceInfo::from(&device).adapter);
            out::say(format_args!("{name}, on {adapter}; /help says what there is, Ctrl-D ends it"));
        }
        let conversation = Conversation {
            file: &file,
            tokenizer: &tokenizer,
            template: &template,
            scheduler: Scheduler::new(engine),
            context,
            messages: system.clone(),
            system,
            most: self.tokens.map(|n| n as usize),
            next,
            seed: self.draws.seed(),
        };
        conversation.go_on()
    }
}

/// The next line without its end, asked for where somebody sits at a terminal; none at the end of input.
fn next_line() -> Result<Option<String>> {
    let terminal = io::stdin().is_terminal();
    if terminal {
        out::ask("> ");
    }
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).context("standard input")? == 0 {
        if terminal {
            out::ask("\n");
        }
        return Ok(None);
    }
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
}

impl Conversation<'_> {
    /// Until the end of input.
    fn go_on(mut self) -> Result<Verdict> {
        let mut verdict = Verdict::Passed;
        while let Some(line) = next_line()? {
            match line.as_str() {
                "" => {}
                "/exit" => break,
                "/clear" => self.messages.clone_from(&self.system),
                "/help" => out::say(format_args!("{HELP}")),
                _ => match self.turn(&line)? {
                    Ok(words) => out::say(format_args!("{words}")),
                    Err(why) => {
                        out::say(format_args!("wgquant: {why}"));
                        verdict = Verdict::Failed;
                    }
                },
            }
        }
        Ok(verdict)
    }

    /// Adds a line and its answer, which is printed; gives words on how it went. Where there is no answer, says why: the line is left out
    /// then, and the conversation as it was.
    fn turn(&mut self, line: &str) -> Result<Result<String, String>> {
        self.messages.push(message("user", line));
        let answered = match self.template.prompt(&self.messages, None) {
            Ok(text) => self.answer(&text)?,
            Err(why) => Err(why),
        };
        if answered.is_err() {
            self.messages.pop();
        }
        Ok(answered)
    }

    /// Adds the answer to a conversation that is this text.
    fn answer(&mut self, conversation: &str) -> Result<Result<String, String>> {
        // As it is: whether a chat begins with a special token is for its template to say.
        let prompt = encode_as_it_is(self.tokenizer, self.file, conversation)?;
        let (length, context) = (prompt.len(), self.context);
        let room = context.saturating_sub(length);
        if prompt.is_empty() {
            return Ok(Err("the chat template makes no text of the conversation".to_owned()));
        }
        if room == 0 {
            let held = format!("{length} tokens with this line, and the context of {context} holds no answer to it");
            return Ok(Err(format!("the conversation has {held}; a shorter line, /clear or --context helps")));
        }
        let max_new = self.most.map_or(room, |most| most.min(room));
        let Answer { text, times, ended: end } = self.ask(prompt, max_new)?;
        let end = match end {
            Ok(end) => end,
            Err(why) => return Ok(Err(why)),
        };
        self.messages.push(message("assistant", &text));
        self.seed = self.seed.wrapping_add(1);
        let pace = pace(speed(&times, times.len().saturating_sub(1)), times.first().copied());
        let full = if end == Ended::Length && max_new == room {
            format!("; the context of {context} is full, /clear begins anew")
        } else {
            String::new()
        };
        Ok(Ok(format!("{} tokens after {length}{pace}{}{full}", times.len(), ended(end))))
    }

    /// Has the model continue `prompt`, and prints what comes.
    fn ask(&mut self, prompt: Vec<u32>, max_new: usize) -> Result<Answer> {
        let mut stream = TextStream::after(&prompt, self.tokenizer)?;
        let (start, (sender, events)) = (Instant::now(), flume::unbounded());
        let on_event = Box::new(move |event| match sender.send((start.elapsed().as_secs_f64(), event)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let (next, seed) = (self.next, self.seed);
        self.scheduler.add(Job { prompt, max_new, next, seed, logprobs: None, echo: false, reuse: true, on_event })?;
        let (mut text, mut times, mut ended) = (String::new(), Vec::new(), Err("there is no answer".to_owned()));
        while !self.scheduler.is_idle() {
            block_on(self.scheduler.step())?;
            for (time, event) in events.try_iter() {
                let piece = match event {
                    Event::Read(_) | Event::Prompt(_) => continue,
                    Event::Failed(why) => {
                        ended = Err(why);
                        continue;
                    }
                    Event::Token { id, .. } => {
                        times.push(time);
                        stream.push(id)?
                    }
                    Event::End(end) => {
                        ended = Ok(match end {
                            serve::Ended::EndOfSequence { .. } => Ended::EndOfSequence,
                            serve::Ended::Length => Ended::Length,
                        });
                        stream.rest()?
                    }
                };
                out::text(&piece)?;
                text += &piece;
            }
        }
        if ended.is_ok() {
            out::text("\n")?;
        }
        Ok(Answer { text, times, ended })
    }
}
