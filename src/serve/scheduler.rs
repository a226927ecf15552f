//! Which sequence is read or continued next.
//!
//! ```text
//! waiting → reading, in the engine's own state → alone there, while there is no other
//!                                              → in a slot, beside others
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::ops::ControlFlow;

use super::prefixes::Prefixes;
use crate::error::{Error, Result};
use crate::gpu::Reading;
use crate::runtime::{Engine, LogProbs, Next, Scoring};

/// A sequence to be continued.
pub struct Job {
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// New tokens at most. With none the prompt is read only.
    pub max_new: usize,
    /// How they are chosen.
    pub next: Next,
    /// Of the choices that are drawn, which depend on it alone, whatever other sequences there are.
    pub seed: u32,
    /// Tell the log-probability of each new token, and so many of the likeliest in its place.
    pub logprobs: Option<usize>,
    /// Tell those of the prompt's tokens, too; without `logprobs` nothing.
    pub echo: bool,
    /// Go on from what is kept of a sequence that its prompt begins with ([`crate::runtime::EngineOptions::kept`]), and keep this one. Where
    /// the prompt's tokens have log-probabilities it does neither: all of them are read.
    pub reuse: bool,
    /// Who is told what becomes of it; a break ends it.
    pub on_event: OnEvent,
}

/// Who is told what becomes of a sequence.
pub type OnEvent = Box<dyn FnMut(Event) -> ControlFlow<()> + Send>;

/// What becomes of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// So many tokens of the prompt have been read. The first, when it begins, are those that need not be read, as they were kept; mostly 0.
    Read(usize),
    /// What the model says of the prompt's tokens but the first, which nothing comes before.
    Prompt(Vec<LogProbs>),
    /// A new token.
    Token {
        /// Its id.
        id: u32,
        /// What the model says of it.
        logprobs: Option<LogProbs>,
    },
    /// There is no more.
    End(Ended),
    /// It cannot go on, for this reason; others may.
    Failed(String),
}

/// Why there is no more.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The model ended the sequence, by a token that is no part of its text.
    EndOfSequence {
        /// The token.
        id: u32,
        /// What the model says of it.
        logprobs: Option<LogProbs>,
    },
    /// There are as many new tokens as were asked for.
    Length,
}

const NO_NUMBERS: &str = "the logits are no numbers: the model's weights make values that overflow";

impl Job {
    /// Does it go on from what is kept, and is it kept?
    fn reuses(&self) -> bool {
        self.reuse && !(self.echo && self.logprobs.is_some())
    }
}

/// A sequence that is being read.
struct Prompt {
    job: Job,
    fed: usize,
    said: Vec<LogProbs>,
}

/// A sequence of which a token is chosen that was told, but not fed.
struct Live {
    job: Job,
    /// The prompt's, and all that were chosen after it.
    ids: Vec<u32>,
    /// Tokens of the prompt.
    prompt: usize,
    made: usize,
}

impl Live {
    fn fail(&mut self) {
        let _ = (self.job.on_event)(Event::Failed(NO_NUMBERS.to_owned()));
    }

    /// Is the token that comes the last by their number?
    fn comes_to_its_end(&self) -> bool {
        self.made + 1 >= self.job.max_new
    }
}

/// Sequences that are read and continued on one engine. Only as many decode together as the engine has room for
/// ([`crate::runtime::EngineOptions::sequences`]); others wait.
pub struct Scheduler {
    engine: Engine,
    waiting: VecDeque<Job>,
    reading: Option<Prompt>,
    /// In the engine's own state, where one sequence is fastest.
    alone: Option<Live>,
    slots: Vec<Option<Live>>,
    /// The ids that the device is choosing.
    coming: Option<Coming>,
    /// What the engine keeps of sequences.
    prefixes: Prefixes,
}

/// Tokens that the device is choosing, one of each sequence.
enum Coming {
    Ids(Reading),
    /// With what the model says of them.
    Scored(Scoring),
}

impl Coming {
    async fn tokens(self) -> Result<Vec<(u32, Option<LogProbs>)>> {
        match self {
            Self::Ids(ids) => Ok(ids.words().await?.into_iter().map(|id| (id, None)).collect()),
            Self::Scored(scores) => {
                Ok(scores.rows().await?.into_iter().map(|said| (said.token.id, Some(said))).collect())
            }
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({} going on, {} waiting, {:?})", self.running(), self.waiting(), self.engine)
    }
}

impl Scheduler {
    /// One with nothing to do. The engine's sequences are gone.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let slots = (0..engine.sequences()).map(|_| None).collect();
        let prefixes = Prefixes::new(engine.kept());
        Self { engine, waiting: VecDeque::new(), reading: None, alone: None, slots, coming: None, prefixes }
    }

    /// Adds a sequence, which waits for its turn.
    ///
    /// # Errors
    /// [`Error::Argument`] for no tokens, an id that is not in the vocabulary, or more tokens than the context holds.
    pub fn add(&mut self, job: Job) -> Result<()> {
        self.check(&job.prompt, job.max_new)?;
        self.waiting.push_back(job);
        Ok(())
    }

    /// Refuses a sequence that could not be continued so far.
    fn check(&self, prompt: &[u32], max_new: usize) -> Result<()> {
        let context = self.engine.context();
        let refuse = |reason| Err(Error::argument("prompt", reason));
        if prompt.is_empty() {
            return refuse("no tokens".to_owned());
        }
        self.engine.check_ids("prompt", prompt)?;
        if prompt.len().saturating_add(max_new) > context {
            let all = format!("{} tokens and up to {max_new} new ones", prompt.len());
            return refuse(format!("{all} in a context of {context}"));
        }
        Ok(())
    }

    /// Sequences that are being read or continued.
    #[must_use]
    pub fn running(&self) -> usize {
        self.live() + usize::from(self.reading.is_some())
    }

    /// Sequences that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Is there nothing to do?
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.running() == 0 && self.waiting.is_empty()
    }

    fn live(&self) -> usize {
        usize::from(self.alone.is_some()) + self.slots.iter().flatten().count()
    }

    /// Does once what sequences will do, in steps of all widths, so that the first of them need not wait for compilers.
    ///
    /// # Errors
    /// As [`Scheduler::step`].
    pub async fn warm_up(&mut self) -> Result<()> {
        /// Tokens of each width.
        const EACH: u32 = 3;
        let (most, context, pass) = (self.slots.len().max(1) as u32, self.engine.context(), self.engine.pass_tokens());
        // Long prompts and short ones, as a next turn is, are other products.
        for i in 0..most.max(pass.ilog2() + 1) {
            // Half of those that are left end at a time, and the first is alone then; more prompts than there is room for are only read.
            let halvings = match i {
                0 => most.ilog2() + 2,
                i if i < most => most.ilog2() - i.ilog2() + 1,
                _ => 0,
            };
            let max_new = ((EACH * halvings) as usize).min(context - 1);
            let length = pass.checked_shr(i).unwrap_or(0).clamp(1, context - max_new);
            let (prompt, on_event) = (vec![0; length], Box::new(|_| ControlFlow::Continue(())));
            let (next, seed, logprobs, echo, reuse) = (Next::Greedy, 0, None, false, false);
            self.add(Job { prompt, max_new, next, seed, logprobs, echo, reuse, on_event })?;
        }
        while !self.is_idle() {
            self.step().await?;
        }
        Ok(())
    }

    /// Does one piece of what there is to do: reads a pass of a prompt, and makes a token of each sequence that goes on.
    ///
    /// # Errors
    /// As [`Engine::feed`] and [`Engine::follow_by`]: those of the device, after which no sequence can go on.
    pub async fn step(&mut self) -> Result<()> {
        if self.coming.is_none() {
            self.admit()?;
        }
        self.read().await?;
        self.decode().await
    }

    /// Begins with a sequence that waits, where there is room; one that was alone goes to a slot.
    fn admit(&mut self) -> Result<()> {
        if self.reading.is_some() {
            return Ok(());
        }
        let room = self.slots.len().max(1);
        let job = if self.live() < room { self.waiting.pop_front() } else { None };
        let Some(mut job) = job else { return self.settle() };
        let kept = if job.reuses() { self.prefixes.find(&job.prompt) } else { None };
        let fed = kept.map_or(0, |(_, tokens)| tokens);
        if (job.on_event)(Event::Read(fed)).is_break() {
            return Ok(());
        }
        self.reading = Some(Prompt { job, fed, said: Vec::new() });
        if let Some(live) = self.alone.take() {
            self.place(live)?;
        }
        let Some((place, _)) = kept else { return self.engine.reset() };
        self.prefixes.begin(place);
        self.engine.recall(place)
    }

    /// The last of the slots moves to the engine's own state where it is the only one, or to a slot that is free where fewer rows are
    /// computed then: a step is one of the first slots, a power of two of them.
    fn settle(&mut self) -> Result<()> {
        let Some(last) = self.unsettled(|_| true) else { return Ok(()) };
        self.engine.take(last)?;
        self.engine.retire(last)?;
        let live = self.slots[last].take();
        if self.live() == 0 {
            self.alone = live;
            return Ok(());
        }
        live.map_or(Ok(()), |live| self.place(live))
    }

    /// The last of the sequences in slots for which `on` holds, where it had better move.
    fn unsettled(&self, on: impl Fn(&Live) -> bool) -> Option<usize> {
        let goes_on = |slot: &Option<Live>| slot.as_ref().is_some_and(&on);
        let (last, live) =
            (self.slots.iter().rposition(goes_on)?, self.slots.iter().filter(|slot| goes_on(slot)).count());
        (live == 1 || live.next_power_of_two() < (last + 1).next_power_of_two()).then_some(last)
    }

    /// Puts the sequence of the engine's own state in a free slot.
    fn place(&mut self, live: Live) -> Result<()> {
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.ok_or_else(|| Error::argument("sequences", "all slots are taken"))?;
        self.slots[slot] = Some(live);
        self.engine.put(slot)
    }

    /// Reads a pass of the prompt, and after its last chooses the first new token. A sequence is let go only after all that may fail, since
    /// then all are told of that together.
    async fn read(&mut self) -> Result<()> {
        let Some(prompt) = &mut self.reading else { return Ok(()) };
        let failed = match prompt.feed(&mut self.engine).await {
            // Such as for the logits of a pass, which nobody planned.
            Err(e @ (Error::OutOfMemory { .. } | Error::LimitExceeded { .. })) => Some(e.to_string()),
            Err(e) => return Err(e),
            Ok(()) if prompt.fed < prompt.job.prompt.len() => {
                if (prompt.job.on_event)(Event::Read(prompt.fed)).is_break() {
                    self.reading = None;
                }
                return Ok(());
            }
            Ok(()) => None,
        };
        let chosen = if failed.is_none() {
            self.engine.seed(prompt.job.seed)?;
            let scores = self.engine.pick_scored(prompt.job.next, prompt.job.logprobs.unwrap_or(0))?;
            scores.rows().await?.pop()
        } else {
            None
        };
        let overflows = chosen.as_ref().is_some_and(|said| !said.is_sound());
        let failed = failed.or_else(|| overflows.then(|| NO_NUMBERS.to_owned()));
        if failed.is_none() && prompt.job.reuses() {
            // As it is before the answer, which the next turn of a chat may have in other words.
            let ids = &prompt.job.prompt;
            self.prefixes.keep(ids, ids.len()).map_or(Ok(()), |place| self.engine.keep(place))?;
        }
        let Some(Prompt { mut job, fed, said }) = self.reading.take() else { return Ok(()) };
        let mut tell = |event| (job.on_event)(event).is_break();
        if let Some(why) = failed {
            tell(Event::Failed(why));
            return Ok(());
        }
        if tell(Event::Read(fed)) || (job.echo && job.logprobs.is_some() && tell(Event::Prompt(said))) {
            return Ok(());
        }
        let Some(said) = chosen.filter(|_| job.max_new > 0) else {
            tell(Event::End(Ended::Length));
            return Ok(());
        };
        let ids = std::mem::take(&mut job.prompt);
        let mut live = Live { prompt: ids.len(), job, ids, made: 0 };
        if self.tell(&mut live, said.token.id, Some(said)) {
            if self.live() == 0 { self.alone = Some(live) } else { self.place(live)? }
        }
        Ok(())
    }

    /// Tells a token, and what the model says of it as far as that was asked for; does the sequence go on?
    fn tell(&self, live: &mut Live, id: u32, said: Option<LogProbs>) -> bool {
        live.ids.push(id);
        let logprobs = live.job.logprobs.and_then(|most| {
            let mut said = said?;
            said.top.truncate(most);
            Some(said)
        });
        if self.engine.config().eos.contains(&id) {
            let _ = (live.job.on_event)(Event::End(Ended::EndOfSequence { id, logprobs }));
            return false;
        }
        live.made += 1;
        if (live.job.on_event)(Event::Token { id, logprobs }).is_break() {
            return false;
        }
        if live.made == live.job.max_new {
            let _ = (live.job.on_event)(Event::End(Ended::Length));
            return false;
        }
        true
    }

    /// Was `id` chosen of logits that are no numbers? Of such the first token of the vocabulary is, so else they need not be looked at, and
    /// if the step after has begun, its are none either: what a state has once it keeps.
    async fn overflows(&self, slot: Option<usize>, id: u32, said: Option<&LogProbs>) -> Result<bool> {
        let logits = match (said, slot) {
            (Some(said), _) => return Ok(!said.is_sound()),
            (None, _) if id != 0 => return Ok(false),
            (None, None) => self.engine.logits().await?,
            (None, Some(slot)) => self.engine.logits_of(slot).await?,
        };
        Ok(!logits.iter().all(|logit| logit.is_finite()))
    }

    /// Keeps a sequence that ends, of a slot or else the engine's own.
    ///
    /// How many of its ids its state has been fed the engine knows. Mostly it is all but the last: that was chosen, but not fed. Where the
    /// step after had started before that id was seen, it was fed, too, whatever it was, also one that ends the sequence; it is in `ids`
    /// by now. Nothing else can have been fed: the step after that one starts when this id has been told. A sequence that was retired
    /// before such a step was kept then ([`Scheduler::retire_those_at_their_end`]); the step changed its state.
    fn keep(&mut self, live: &Live, slot: Option<usize>) -> Result<()> {
        let fed = slot.map_or(Some(self.engine.tokens()), |slot| self.engine.tokens_of(slot));
        let Some(fed) = fed.filter(|_| live.job.reuses()) else { return Ok(()) };
        let Some(place) = self.prefixes.keep(&live.ids[..fed], live.prompt) else { return Ok(()) };
        match slot {
            None => self.engine.keep(place),
            Some(slot) => self.engine.keep_of(slot, place),
        }
    }

    /// Makes a token of each sequence that goes on. Where nothing else is to be done between, the pass after it starts before
    /// the ids are seen.
    async fn decode(&mut self) -> Result<()> {
        let coming = match self.coming.take() {
            Some(coming) => coming,
            None if self.live() == 0 => return Ok(()),
            None => self.follow()?,
        };
        let goes_on = |live: &Live| !live.comes_to_its_end();
        // Nobody is to move between the two.
        let settled = self.lives().any(goes_on) && self.unsettled(goes_on).is_none();
        if self.waiting.is_empty() && self.reading.is_none() && settled {
            self.retire_those_at_their_end()?;
            self.coming = Some(self.follow()?);
        }
        let mut tokens = coming.tokens().await?;
        if let Some(mut live) = self.alone.take() {
            let (id, said) = tokens.swap_remove(0);
            if self.overflows(None, id, said.as_ref()).await? {
                live.fail();
            } else if self.tell(&mut live, id, said) {
                self.alone = Some(live)
            } else {
                self.keep(&live, None)?
            }
        }
        for (slot, (id, said)) in tokens.into_iter().enumerate() {
            let Some(mut live) = self.slots[slot].take() else { continue };
            if self.overflows(Some(slot), id, said.as_ref()).await? {
                live.fail();
            } else if self.tell(&mut live, id, said) {
                self.slots[slot] = Some(live);
                continue;
            } else {
                self.keep(&live, Some(slot))?;
            }
            self.engine.retire(slot)?;
        }
        if self.live() == 0 {
            self.coming = None;
        }
        Ok(())
    }

    fn lives(&self) -> impl Iterator<Item = &Live> {
        self.alone.iter().chain(self.slots.iter().flatten())
    }

    /// Those of which the last token is coming are not fed it: their contexts may be full. So they are kept now, with all that they were fed.
    fn retire_those_at_their_end(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            let Some(live) = self.slots[slot].take_if(|live| live.comes_to_its_end()) else { continue };
            self.keep(&live, Some(slot))?;
            self.slots[slot] = Some(live);
            self.engine.retire(slot)?;
        }
        Ok(())
    }

    /// Feeds each sequence the token that was chosen, and chooses the next; says what the model says of it, where somebody wants to know.
    fn follow(&mut self) -> Result<Coming> {
        let most = self.lives().filter_map(|live| live.job.logprobs).max();
        if let Some(live) = &self.alone {
            let next = live.job.next;
            return match most {
                Some(most) => self.engine.follow_scored(next, most).map(Coming::Scored),
                None => self.engine.follow(next).map(Coming::Ids),
            };
        }
        // Of idle slots some other's.
        let any = self.lives().next().map_or(Next::Greedy, |live| live.job.next);
        let next = |live: &Option<Live>| live.as_ref().map_or(any, |live| live.job.next);
        let next: Vec<Next> = self.slots.iter().map(next).collect();
        match most {
            Some(most) => self.engine.follow_by_scored(&next, most).map(Coming::Scored),
            None => self.engine.follow_by(&next).map(Coming::Ids),
        }
    }
}

impl Prompt {
    /// Feeds a pass more.
    async fn feed(&mut self, engine: &mut Engine) -> Result<()> {
        if self.fed == self.job.prompt.len() {
            // All of it was kept, with its last logits.
            return Ok(());
        }
        let (prompt, first) = (&self.job.prompt, self.fed);
        let piece = &prompt[first..prompt.len().min(first + engine.pass_tokens())];
        self.fed += piece.len();
        let Some(most) = self.job.logprobs.filter(|_| self.job.echo) else { return engine.feed(piece) };
        // A token foretells the one after it; what the last one foretells is not in the prompt.
        let foretold = &prompt[first + 1..prompt.len().min(self.fed + 1)];
        let targets: Vec<u32> = foretold.iter().copied().chain([0]).take(piece.len()).collect();
        let mut said = engine.score(piece, &targets, most).await?;
        said.truncate(foretold.len());
        self.said.extend(said);
        Ok(())
    }
}
