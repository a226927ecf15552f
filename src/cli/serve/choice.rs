//! One answer as it comes: tokens to text, up to where it stops.

use tokenizers::Tokenizer;
use wgquant::runtime::LogProbs;
use wgquant::serve::{Ended, Event};

use super::super::stream::TextStream;
use super::api::{Api, Refused};
use super::request::{Prompt, Request};
use super::stops::Stops;

/// An answer that goes on.
pub(super) struct Choice {
    tokenizer: &'static Tokenizer,
    stream: TextStream<'static>,
    stops: Stops,
    /// The prompt, as long as it is still to be told.
    echo: Option<(String, Vec<u32>)>,
    /// Are log-probabilities told, too?
    scored: bool,
    /// Characters of the text that tokens told so far have added.
    offset: usize,
    /// Tokens of the prompt that were not read anew; none before it begins.
    pub(super) cached: Option<usize>,
    pub(super) tokens: usize,
    pub(super) finish: Option<Finish>,
}

/// Why an answer ends, in OpenAI's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model ended it, or a text at which it was to stop came.
    Stop,
    Length,
}

/// What is new of an answer.
#[derive(Default)]
pub(super) struct Delta {
    pub(super) text: String,
    pub(super) told: Vec<Told>,
    pub(super) finish: Option<Finish>,
}

/// A token, and what the model says of it.
pub(super) struct Told {
    pub(super) id: u32,
    /// Characters of the text before it; of a part of a character, before that.
    pub(super) offset: usize,
    /// None of the first, which nothing comes before.
    pub(super) logprobs: Option<LogProbs>,
}

fn broken(e: impl std::fmt::Display) -> Refused {
    Refused::with(axum::http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string())
}

impl Choice {
    pub(super) fn new(api: &Api, request: &Request, prompt: &Prompt) -> Result<Self, Refused> {
        Ok(Self {
            tokenizer: api.tokenizer,
            stream: TextStream::after(&prompt.ids, api.tokenizer).map_err(broken)?,
            stops: Stops::new(request.stops.clone()),
            echo: request.echo.then(|| (prompt.text.clone(), prompt.ids.clone())),
            scored: request.logprobs.is_some(),
            offset: 0,
            cached: None,
            tokens: 0,
            finish: None,
        })
    }

    /// What an event adds to it.
    pub(super) fn on(&mut self, event: Event) -> Result<Delta, Refused> {
        let mut new = Delta::default();
        if let (Event::Read(tokens), None) = (&event, self.cached) {
            self.cached = Some(*tokens);
        }
        match event {
            Event::Read(_) if self.scored => {}
            Event::Read(_) => new.text = self.echo.take().map(|(text, _)| text).unwrap_or_default(),
            Event::Prompt(said) => {
                let Some((text, ids)) = self.echo.take() else { return Ok(new) };
                let mut stream = TextStream::after(&[], self.tokenizer).map_err(broken)?;
                let said = std::iter::once(None).chain(said.into_iter().map(Some));
                for (id, said) in ids.into_iter().zip(said) {
                    let chars = stream.push(id).map_err(broken)?.chars().count();
                    new.told.push(self.told(id, said, chars));
                }
                self.offset = text.chars().count();
                new.text = text;
            }
            Event::Token { id, logprobs } => {
                self.tokens += 1;
                let piece = self.stream.push(id).map_err(broken)?;
                new.told.extend(logprobs.map(|said| self.told(id, Some(said), piece.chars().count())));
                self.add(&piece, &mut new);
            }
            Event::Failed(why) => return Err(broken(why)),
            Event::End(ended) => {
                let piece = self.stream.rest().map_err(broken)?;
                self.add(&piece, &mut new);
                let finish = match ended {
                    Ended::Length => Finish::Length,
                    Ended::EndOfSequence { id, logprobs } => {
                        self.tokens += 1;
                        new.told.extend(logprobs.map(|said| self.told(id, Some(said), 0)));
                        Finish::Stop
                    }
                };
                if new.finish.is_none() {
                    new.text += &self.stops.rest();
                    new.finish = Some(finish);
                }
            }
        }
        self.finish = new.finish;
        Ok(new)
    }

    /// Adds text up to where it stops.
    fn add(&mut self, piece: &str, new: &mut Delta) {
        let (text, stopped) = self.stops.push(piece);
        new.text += &text;
        new.finish = stopped.then_some(Finish::Stop);
    }

    /// A token that adds so many characters to the text.
    fn told(&mut self, id: u32, logprobs: Option<LogProbs>, chars: usize) -> Told {
        let offset = self.offset;
        self.offset += chars;
        Told { id, offset, logprobs }
    }
}
