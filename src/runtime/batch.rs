//! Several sequences that decode together: a token of each is a row of one pass, which reads the weights once.

use std::ops::ControlFlow;

use super::choose::Chooser;
use super::engine::{Engine, Next};
use super::forward::Forward;
use super::scores::Scoring;
use super::state::{State, StateSizes};
use super::taps::Taps;
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan, Reading, Recording, Submission};
use crate::model::ModelConfig;
use crate::tensor::DType;

/// The sequences of an [`Engine`] beside the one that it prefills.
pub(super) struct Batch {
    pub(super) state: State,
    places: Vec<Place>,
    /// Of the last token of each, `[sequences, vocab]`.
    pub(super) logits: DeviceTensor,
    /// Ids chosen, or to be fed, `[sequences]`.
    ids: DeviceTensor,
    /// Seed and counter of each, `[sequences, 2]`.
    rng: DeviceTensor,
    /// `ids` and `rng` of those whose turn it was, where sequences choose in several ways.
    chosen: [DeviceTensor; 2],
    /// Passes over the first so many.
    passes: Vec<(usize, Recording)>,
    /// Rounds int8 states; made when first needed.
    rounding: Option<Recording>,
    pub(super) chooser: Chooser,
}

/// Where a sequence stands.
#[derive(Clone, Copy, Default)]
struct Place {
    tokens: usize,
    /// Does it go on? Others are computed as well: they gain no token, but their states are lost.
    live: bool,
}

/// Bytes of a batch beside its states: logits, and ids and seeds twice.
pub(super) fn batch_bytes(config: &ModelConfig, sequences: usize) -> usize {
    4 * sequences * (config.vocab_size + 2 * 3)
}

impl Batch {
    fn new(engine: &Engine, sequences: usize) -> Result<Self> {
        let (device, config, options) = (&engine.device, &engine.config, engine.options);
        let sizes = StateSizes { sequences, context: options.context };
        let state = State::new(device, config, sizes, options.state, options.kv)?;
        let logits = device.alloc(DType::F32, [sequences, config.vocab_size])?;
        let ids = device.alloc(DType::U32, [sequences])?;
        let of_each = |words| device.alloc(DType::U32, [sequences, words]);
        let (rng, chosen) = (of_each(2)?, [of_each(1)?, of_each(2)?]);
        let chooser = Chooser::new(device, logits.clone(), rng.clone(), ids.clone());
        Ok(Self {
            state,
            places: vec![Place::default(); sequences],
            logits,
            ids,
            rng,
            chosen,
            passes: Vec::new(),
            rounding: None,
            chooser,
        })
    }

    /// Recordings hold on to weights that were replaced.
    pub(super) fn forget_recordings(&mut self) {
        self.passes.clear();
    }

    /// Bytes on the device: of states, keys and values, and of logits and ids.
    pub(super) fn bytes(&self) -> [usize; 2] {
        let small = [&self.ids, &self.rng].into_iter().chain(&self.chosen);
        [self.state.bytes(), self.logits.bytes() + small.map(DeviceTensor::bytes).sum::<usize>()]
    }

    /// Adds a choice for each sequence in its own way. A choice is one of all rows, so in each way are chosen all; what counts is kept,
    /// and samplers begin again with the next way.
    fn choose_by(&mut self, next: &[Next], submission: &mut Submission) -> Result<()> {
        let mut ways: Vec<Next> = Vec::new();
        for way in next {
            if !ways.contains(way) {
                ways.push(*way);
            }
        }
        if let [way] = ways[..] {
            return self.chooser.run(way, submission);
        }
        let ([ids, rng], of_rows) = (&self.chosen, self.ids.view(DType::U32, [self.places.len(), 1])?);
        let pairs = [(&of_rows, ids), (&self.rng, rng)];
        submission.copy(&self.rng, rng)?;
        for way in ways {
            submission.copy(rng, &self.rng)?;
            self.chooser.run(way, submission)?;
            for slot in (0..next.len()).filter(|slot| next[*slot] == way) {
                for (from, to) in pairs {
                    submission.copy(&from.row(slot)?, &to.row(slot)?)?;
                }
            }
        }
        pairs.into_iter().try_for_each(|(from, to)| submission.copy(to, from))
    }

    /// As few rows as hold all sequences that go on: a power of two of the first, so that few passes are recorded, or all.
    fn width(&self) -> usize {
        let used = self.places.iter().rposition(|place| place.live).map_or(0, |last| last + 1);
        used.next_power_of_two().min(self.places.len())
    }

    fn id(&self, slot: usize) -> Result<DeviceTensor> {
        self.ids.view(DType::U32, [self.places.len(), 1])?.row(slot)
    }

    fn place(&self, slot: usize) -> Result<Place> {
        let reason = || Error::argument("sequence", format!("{slot} of {}", self.places.len()));
        self.places.get(slot).copied().ok_or_else(reason)
    }

    /// Tokens of a sequence that goes on; others' states are no more what they were fed.
    pub(super) fn going_on(&self, slot: usize) -> Result<usize> {
        let Place { tokens, live } = self.place(slot)?;
        let reason = || format!("slot {slot} has no sequence that goes on, and passes of the others changed its state");
        if live { Ok(tokens) } else { Err(Error::argument("sequence", reason())) }
    }
}

impl Engine {
    /// Makes room for `sequences` that decode together, at most [`super::EngineOptions::sequences`] or the tokens of a pass;
    /// those there were are gone. All are idle until [`Engine::put`].
    ///
    /// # Errors
    /// [`Error::Argument`] for none or too many, which leaves those there are; as [`crate::gpu::Device::alloc`].
    pub fn set_sequences(&mut self, sequences: usize) -> Result<()> {
        let most = self.scratch.tokens();
        if sequences == 0 || sequences > most {
            let reason = format!("{sequences}, in passes of up to {most}; EngineOptions::sequences makes room");
            return Err(Error::argument("sequences", reason));
        }
        self.batch = None; // its memory first
        self.batch = Some(Batch::new(self, sequences)?);
        Ok(())
    }

    /// Sequences that there is room for.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.batch.as_ref().map_or(0, |b| b.places.len())
    }

    pub(super) fn batch(&self) -> Result<&Batch> {
        self.batch.as_ref().ok_or_else(|| Error::argument("sequences", "there is no room for any: see `set_sequences`"))
    }

    fn batch_mut(&mut self) -> Result<&mut Batch> {
        self.batch.as_mut().ok_or_else(|| Error::argument("sequences", "there is no room for any: see `set_sequences`"))
    }

    /// Copies the sequence that was fed, with its last logits, the id chosen last and its sampler, to `slot`, where it goes on by
    /// [`Engine::step_each`]. The engine keeps it: putting it elsewhere too forks it. int8 states, of it and of those that are
    /// there already, are rounded before.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such slot; as running a plan.
    pub fn put(&mut self, slot: usize) -> Result<()> {
        self.batch()?.place(slot)?;
        self.round_recent()?;
        self.round_each()?;
        let batch = self.batch()?;
        let tokens = self.state.tokens;
        let mut plan = Plan::new(&self.device);
        self.state.copy(0, &batch.state, slot, tokens, &mut plan)?;
        plan.copy(&self.last_logits()?, &batch.logits.row(slot)?)?;
        plan.copy(&self.scratch.next, &batch.id(slot)?)?;
        plan.copy(&self.scratch.rng, &batch.rng.row(slot)?)?;
        plan.record()?.run()?;
        self.batch_mut()?.places[slot] = Place { tokens, live: true };
        self.write_cursors()
    }

    /// The reverse of [`Engine::put`]: the sequence of `slot` is the one that is fed next. It also stays where it is.
    ///
    /// # Errors
    /// As [`Engine::put`]; [`Error::Argument`] for a sequence that does not go on, whose state the others' passes have changed.
    pub fn take(&mut self, slot: usize) -> Result<()> {
        let tokens = self.batch()?.going_on(slot)?;
        self.round_each()?;
        let batch = self.batch()?;
        let mut plan = Plan::new(&self.device);
        batch.state.copy(slot, &self.state, 0, tokens, &mut plan)?;
        plan.copy(&batch.logits.row(slot)?, &self.last_logits()?)?;
        plan.copy(&batch.id(slot)?, &self.scratch.next)?;
        plan.copy(&batch.rng.row(slot)?, &self.scratch.rng)?;
        plan.record()?.run()?;
        self.state.set_tokens(&self.device, tokens)
    }

    /// Tokens processed of the sequence of `slot`; none where it does not go on.
    #[must_use]
    pub fn tokens_of(&self, slot: usize) -> Option<usize> {
        self.batch.as_ref()?.going_on(slot).ok()
    }

    /// The sequence of `slot` goes no further.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such slot.
    pub fn retire(&mut self, slot: usize) -> Result<()> {
        let batch = self.batch_mut()?;
        batch.place(slot)?;
        batch.places[slot].live = false;
        Ok(())
    }

    /// Chooses a token for each sequence from its last logits, and begins to read the ids, one a sequence. They stay on the device for
    /// [`Engine::step_each`].
    ///
    /// # Errors
    /// As building a plan.
    pub fn pick_each(&mut self, next: Next) -> Result<Reading> {
        let mut submission = self.device.submission();
        let batch = self.batch_mut()?;
        batch.chooser.run(next, &mut submission)?;
        submission.read(&batch.ids)
    }

    /// Logits of each sequence's last token, `[sequences, vocab]`.
    ///
    /// # Errors
    /// As [`crate::gpu::Device::read_f32`].
    pub async fn logits_each(&self) -> Result<Vec<f32>> {
        self.device.read_f32(&self.batch()?.logits).await
    }

    /// Logits of the last token of the sequence of `slot`, `[vocab]`.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such slot; as [`crate::gpu::Device::read_f32`].
    pub async fn logits_of(&self, slot: usize) -> Result<Vec<f32>> {
        let batch = self.batch()?;
        batch.place(slot)?;
        self.device.read_f32(&batch.logits.row(slot)?).await
    }

    /// Processes one given token of each sequence; those of idle ones do not matter.
    ///
    /// # Errors
    /// [`Error::Argument`] for another number of ids, or one that is not in the vocabulary; as [`Engine::step_each`].
    pub fn feed_each(&mut self, ids: &[u32]) -> Result<()> {
        let batch = self.batch()?;
        let n = batch.places.len();
        if ids.len() != n {
            return Err(Error::argument("feed_each", format!("{} ids for {n} sequences", ids.len())));
        }
        self.check_ids("feed_each", ids)?;
        self.device.write(&batch.ids, ids)?;
        self.step_each()
    }

    /// Processes the token that [`Engine::pick_each`] chose for each sequence, in one pass.
    ///
    /// # Errors
    /// [`Error::Argument`] when a sequence's context is full; as running a plan.
    pub fn step_each(&mut self) -> Result<()> {
        let mut submission = self.device.submission();
        self.add_step_each(&mut submission)?;
        submission.submit()?;
        self.advance_each()
    }

    /// Dispatches of a step of all sequences.
    ///
    /// # Errors
    /// As [`Engine::step_each`].
    pub fn step_dispatches(&self) -> Result<usize> {
        Ok(self.plan_each(self.sequences())?.dispatches())
    }

    /// [`Engine::step_each`] and [`Engine::pick_each`] in one submit. The ids may be awaited after the next one: the device then computes
    /// meanwhile.
    ///
    /// # Errors
    /// As those.
    pub fn follow_each(&mut self, next: Next) -> Result<Reading> {
        self.follow_by(&vec![next; self.sequences()])
    }

    /// As [`Engine::follow_each`], with a way to choose for each sequence; those of idle ones do not matter, but where all have the same it
    /// is fastest.
    ///
    /// # Errors
    /// As that, and [`Error::Argument`] for another number of ways.
    pub fn follow_by(&mut self, next: &[Next]) -> Result<Reading> {
        self.followed_by(next, |batch, submission| submission.read(&batch.ids))
    }

    /// As [`Engine::follow_by`], and what the model says of each sequence's next token, beside the `most` likeliest.
    ///
    /// # Errors
    /// As that.
    pub fn follow_by_scored(&mut self, next: &[Next], most: usize) -> Result<Scoring> {
        self.followed_by(next, |batch, submission| batch.chooser.submit_scored(most, submission))
    }

    fn followed_by<T>(&mut self, next: &[Next], read: impl FnOnce(&mut Batch, Submission) -> Result<T>) -> Result<T> {
        if next.len() != self.batch()?.places.len() {
            let reason = format!("{} ways to choose for {} sequences", next.len(), self.sequences());
            return Err(Error::argument("follow_by", reason));
        }
        let mut submission = self.device.submission();
        self.add_step_each(&mut submission)?;
        let batch = self.batch_mut()?;
        batch.choose_by(next, &mut submission)?;
        let read = read(batch, submission)?;
        self.advance_each()?;
        Ok(read)
    }

    fn add_step_each(&mut self, submission: &mut Submission) -> Result<()> {
        self.room_for_each()?;
        let width = self.batch()?.width();
        if !self.batch()?.passes.iter().any(|(of, _)| *of == width) {
            let pass = self.plan_each(width)?.record()?;
            self.batch_mut()?.passes.push((width, pass));
            self.rounding_each()?; // compiled now, not in the middle of what is told
        }
        let passes = &self.batch()?.passes;
        passes.iter().find(|(of, _)| *of == width).map_or(Ok(()), |(_, pass)| submission.run(pass))
    }

    pub(super) fn room_for_each(&self) -> Result<()> {
        let context = self.options.context;
        let full = self.batch()?.places.iter().position(|p| p.live && p.tokens >= context);
        full.map_or(Ok(()), |slot| {
            let reason = format!("sequence {slot} has {context} tokens, all that its context holds");
            Err(Error::argument("step_each", reason))
        })
    }

    /// Each live sequence has one token more.
    pub(super) fn advance_each(&mut self) -> Result<()> {
        let device = self.device.clone();
        let batch = self.batch_mut()?;
        batch.places.iter_mut().filter(|p| p.live).for_each(|p| p.tokens += 1);
        if batch.state.advance(&device, 1)? {
            self.round_each()?;
        }
        self.write_cursors()
    }

    /// Rounds int8 states of all sequences with their recent tokens, where there are any.
    pub(super) fn round_each(&mut self) -> Result<()> {
        let device = self.device.clone();
        let batch = self.batch_mut()?;
        if batch.state.recent == 0 {
            return Ok(());
        }
        self.rounding_each()?.run()?;
        self.batch_mut()?.state.rounded(&device)?;
        // With the clock goes the cursor of a state of one sequence, which does not know where that stands.
        self.write_cursors()
    }

    fn rounding_each(&mut self) -> Result<&Recording> {
        let made = match self.batch_mut()?.rounding.take() {
            Some(made) => made,
            None => self.batch()?.state.round(&self.device)?.record()?,
        };
        Ok(self.batch_mut()?.rounding.insert(made))
    }

    fn write_cursors(&self) -> Result<()> {
        let batch = self.batch()?;
        let tokens: Vec<u32> = batch.places.iter().map(|p| p.tokens as u32).collect();
        self.device.write(&batch.state.cursor, &tokens)
    }

    /// Prefills `prompts` one by one, then continues all together until each has `max_new` tokens or ends; `on_token` sees
    /// every token with the number of its prompt, and may end that sequence. There must be a sequence for each prompt.
    /// Number i draws by the seed of [`Engine::seed`] plus i; the engine's own sampler goes on afterwards as if this had not been.
    ///
    /// # Errors
    /// [`Error::Argument`] for more prompts than sequences; as [`Engine::feed`] and [`Engine::step_each`].
    pub async fn generate_each(
        &mut self,
        prompts: &[Vec<u32>],
        max_new: usize,
        next: Next,
        mut on_token: impl FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<u32>>> {
        let sequences = self.sequences();
        if prompts.len() > sequences {
            return Err(Error::argument("prompts", format!("{} for {sequences} sequences", prompts.len())));
        }
        (0..sequences).try_for_each(|slot| self.retire(slot))?;
        let sampler = self.device.read(&self.scratch.rng).await?;
        let prefilled = self.prefill_each(prompts);
        self.device.write(&self.scratch.rng, &sampler)?;
        prefilled?;
        let mut out = vec![Vec::new(); prompts.len()];
        let mut going: Vec<usize> = (0..prompts.len()).filter(|_| max_new > 0).collect();
        let mut coming = if going.is_empty() { None } else { Some(self.pick_each(next)?) };
        while let Some(ids) = coming.take() {
            // The next pass starts before the ids are seen: one that ends by its id or by who looks has a token too many.
            let last: Vec<usize> = going.iter().copied().filter(|slot| out[*slot].len() + 1 == max_new).collect();
            last.iter().try_for_each(|slot| self.retire(*slot))?;
            let more = last.len() < going.len();
            // It may fail, by a context that is full, but only matters where that one goes on.
            let after = more.then(|| self.follow_each(next));
            let ids = ids.words().await?;
            for slot in std::mem::take(&mut going) {
                let (id, made) = (ids[slot], &mut out[slot]);
                let ended = self.config.eos.contains(&id) || {
                    made.push(id);
                    on_token(slot, id).is_break() || made.len() == max_new
                };
                if ended { self.retire(slot)? } else { going.push(slot) }
            }
            coming = match after {
                Some(Err(_)) if !going.is_empty() => Some(self.follow_each(next)?),
                after => after.filter(|_| !going.is_empty()).transpose()?,
            };
        }
        Ok(out)
    }

    /// Puts each prompt in the slot of its number, with a sampler of its own.
    fn prefill_each(&mut self, prompts: &[Vec<u32>]) -> Result<()> {
        prompts.iter().enumerate().try_for_each(|(slot, prompt)| {
            self.reset()?;
            self.feed(prompt)?;
            self.device.write(&self.scratch.rng, &[self.seed.wrapping_add(slot as u32), 0])?;
            self.put(slot)
        })
    }

    /// A step of the first `width` sequences, or of all where their states cannot be told apart.
    pub(super) fn plan_each(&self, width: usize) -> Result<Plan> {
        let batch = self.batch()?;
        let mut plan = Plan::new(&self.device).specialised();
        let first = if width < self.sequences() { batch.state.first(width)? } else { None };
        let state = first.as_ref().unwrap_or(&batch.state);
        let tokens = state.cursor.words();
        let (ids, logits) = (batch.ids.view(DType::U32, [tokens])?, batch.logits.rows(0, tokens)?);
        let forward = Forward {
            config: &self.config,
            state,
            scratch: &self.scratch,
            dt_limit: self.config.dt_limit,
            tokens,
            decode: true,
            few: false,
            split_k: self.options.split_k,
        };
        if forward.chains(&self.device, &self.weights) {
            forward.chain(&mut plan, &self.weights, &ids, Some(&logits))?;
        } else {
            let hidden = forward.blocks(&mut plan, &self.weights, &ids, &mut Taps::none())?;
            forward.head(&mut plan, &self.weights, &hidden, &logits, &mut Taps::none())?;
        }
        Ok(plan)
    }

    /// Steps of as many sequences as may go on together.
    pub(super) fn plans_each(&self) -> Result<Vec<Plan>> {
        let all = self.sequences();
        let widths = (0..usize::BITS).map(|bit| 1 << bit).take_while(|width| *width < all).chain([all]);
        if all == 0 { Ok(Vec::new()) } else { widths.map(|width| self.plan_each(width)).collect() }
    }
}
