//! Answers to one request: what becomes of its sequences, as one piece of JSON or as a stream.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use wgquant::serve::{Event, Job};

use super::api::{Api, Refused};
use super::choice::{Choice, Delta};
use super::request::Request;
use super::shape::{Shape, Usage};

/// Answers to one request as they come.
pub(super) struct Reply {
    api: Arc<Api>,
    shape: Shape,
    coming: UnboundedReceiver<(usize, Event)>,
    choices: Vec<Choice>,
    /// Tells the model's thread which are no longer wanted.
    stopped: Arc<[AtomicBool]>,
    prompt_tokens: usize,
    /// Answers to each prompt.
    each: usize,
}

impl Reply {
    /// Asks the model's thread for each answer.
    pub(super) fn ask(api: &Arc<Api>, request: &Request) -> Result<Self, Refused> {
        let count = request.prompts.len() * request.each;
        let number = api.status.sequences.fetch_add(count as u64, Relaxed);
        let (sender, coming) = mpsc::unbounded_channel();
        let stopped: Arc<[AtomicBool]> = (0..count).map(|_| AtomicBool::new(false)).collect();
        let (mut choices, mut prompt_tokens) = (Vec::with_capacity(count), 0);
        for (i, prompt) in request.prompts.iter().enumerate() {
            prompt_tokens += prompt.ids.len();
            for index in i * request.each..(i + 1) * request.each {
                choices.push(Choice::new(api, request, prompt)?);
                let (sender, stopped) = (sender.clone(), stopped.clone());
                let on_event = Box::new(move |event| match sender.send((index, event)) {
                    Ok(()) if !stopped[index].load(Relaxed) => ControlFlow::Continue(()),
                    // Nobody listens any more.
                    _ => ControlFlow::Break(()),
                });
                let job = Job {
                    prompt: prompt.ids.clone(),
                    max_new: prompt.max_new,
                    next: request.next,
                    seed: request.seed.wrapping_add(index as u32),
                    logprobs: request.logprobs,
                    echo: request.echo,
                    reuse: request.reuse,
                    on_event,
                };
                api.jobs.send(job).map_err(|_| Refused::lost(&api.status))?;
            }
        }
        api.status.prompt_tokens.fetch_add(prompt_tokens as u64, Relaxed);
        let shape = Shape::new(api, request.kind, request.logprobs.is_some(), number);
        Ok(Self { api: api.clone(), shape, coming, choices, stopped, prompt_tokens, each: request.each })
    }

    /// What is new next, of which answer; none when all have ended.
    async fn next(&mut self) -> Result<Option<(usize, Delta)>, Refused> {
        while self.choices.iter().any(|choice| choice.finish.is_none()) {
            let Some((index, event)) = self.coming.recv().await else { return Err(Refused::lost(&self.api.status)) };
            let choice = &mut self.choices[index];
            if choice.finish.is_some() {
                continue;
            }
            let (made, begun) = (choice.tokens, choice.cached.is_some());
            let new = choice.on(event)?;
            if let (false, Some(cached)) = (begun || index % self.each > 0, choice.cached) {
                self.api.status.cached_tokens.fetch_add(cached as u64, Relaxed);
            }
            self.api.status.generated_tokens.fetch_add((choice.tokens - made) as u64, Relaxed);
            if new.finish.is_some() {
                self.stopped[index].store(true, Relaxed);
            }
            return Ok(Some((index, new)));
        }
        Ok(None)
    }

    fn usage(&self) -> Usage {
        // A prompt counts once: what its first answer found.
        let cached = self.choices.iter().step_by(self.each).filter_map(|choice| choice.cached).sum();
        let made = self.choices.iter().map(|choice| choice.tokens).sum();
        Usage { prompt: self.prompt_tokens, cached, made }
    }

    pub(super) async fn whole(mut self) -> Result<Response, Refused> {
        let mut all: Vec<Delta> = self.choices.iter().map(|_| Delta::default()).collect();
        while let Some((index, new)) = self.next().await? {
            let whole = &mut all[index];
            whole.text += &new.text;
            whole.told.extend(new.told);
            whole.finish = new.finish;
        }
        Ok(axum::Json(self.shape.whole(&all, self.usage())).into_response())
    }

    /// Server-sent events, as they come.
    pub(super) fn stream(self, include_usage: bool) -> Response {
        let (sender, parts) = mpsc::unbounded_channel();
        tokio::spawn(self.tell(include_usage, sender));
        let events = stream::unfold(parts, |mut parts| async {
            let part: String = parts.recv().await?;
            Some((Ok::<_, Infallible>(Sent::default().data(part)), parts))
        });
        Sse::new(events).keep_alive(KeepAlive::default()).into_response()
    }

    /// Sends all parts of a stream, until nobody listens: the model is told by that this is gone then.
    async fn tell(mut self, include_usage: bool, listener: UnboundedSender<String>) {
        let send = |part: Value| listener.send(part.to_string()).is_ok();
        let openings: Vec<Value> = (0..self.choices.len()).filter_map(|index| self.shape.opening(index)).collect();
        openings.into_iter().all(send);
        loop {
            match self.next().await {
                Ok(Some((index, new))) => {
                    if listener.is_closed() || !self.shape.part(index, &new).is_none_or(send) {
                        return;
                    }
                }
                Ok(None) => break,
                Err(refused) => {
                    send(refused.json());
                    return;
                }
            }
        }
        if include_usage {
            send(self.shape.tokens(self.usage()));
        }
        let _ = listener.send("[DONE]".to_owned());
    }
}
