//! One answer as it comes: tokens to text, up to where it stops.

use tokenizers::Tokenizer;
use wgquant::serve::{Ended, Event, LogProbs};

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
    /// Characters of the tokens told so far.
    offset: usize,
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
    /// Characters before it in all that is told.
    pub(super) offset: usize,
    /// None of the first, which nothing comes before.
    pub(super) logprobs: Option<LogProbs>,
}

fn broken(e: impl std::fmt::Display) -> Refused {
    Refused::with(axum::http::StatusCode::INTERNAL_SERVER_ERROR, e.to_string())
}

/// The text of a token by itself, special ones' names too.
pub(super) fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    tokenizer.decode(&[id], false).unwrap_or_default()
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
            tokens: 0,
            finish: None,
        })
    }

    /// What an event adds to it.
    pub(super) fn on(&mut self, event: Event) -> Result<Delta, Refused> {
        let mut new = Delta::default();
        match event {
            Event::Read(_) if self.scored => {}
            Event::Read(_) => new.text = self.echo.take().map(|(text, _)| text).unwrap_or_default(),
            Event::Prompt(said) => {
                let Some((text, ids)) = self.echo.take() else { return Ok(new) };
                new.text = text;
                let said = std::iter::once(None).chain(said.into_iter().map(Some));
                new.told = ids.into_iter().zip(said).map(|(id, said)| self.told(id, said)).collect();
            }
            Event::Token { id, logprobs } => {
                self.tokens += 1;
                if logprobs.is_some() {
                    new.told.push(self.told(id, logprobs));
                }
                let piece = self.stream.push(id).map_err(broken)?;
                self.add(&piece, &mut new);
            }
            Event::Failed(why) => return Err(broken(why)),
            Event::End(ended) => {
                let piece = self.stream.rest().map_err(broken)?;
                self.add(&piece, &mut new);
                if new.finish.is_none() {
                    new.text += &self.stops.rest();
                    new.finish = Some(if ended == Ended::Length { Finish::Length } else { Finish::Stop });
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

    fn told(&mut self, id: u32, logprobs: Option<LogProbs>) -> Told {
        let offset = self.offset;
        self.offset += token_text(self.tokenizer, id).chars().count();
        Told { id, offset, logprobs }
    }
}
