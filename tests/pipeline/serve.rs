//! Sequences that come and go get what each gets alone.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::{Sampling, StateRounding};
use wgquant::model::ModelFile;
use wgquant::runtime::{Engine, EngineOptions, Next, StateFormat};
use wgquant::serve::{Ended, Event, Job, Scheduler};

use crate::common;

const CONTEXT: usize = 48;

fn engine(device: &Device, sequences: usize, state: StateFormat) -> Engine {
    let model = ModelFile::open(&common::nano()).unwrap();
    let options = EngineOptions { context: CONTEXT, pass_tokens: 8, sequences, state, ..Default::default() };
    Engine::new(device, &model, options).unwrap()
}

pub(crate) fn prompt(i: usize, length: usize) -> Vec<u32> {
    (0..length).map(|t| 3 + ((t * t * 7 + t * 13 + i * 101) % 2000) as u32).collect()
}

/// How many tokens come before, and how many are made of each; some are longer than a pass, and one fills its context.
const SIZES: [(usize, usize); 7] = [(9, 12), (1, 3), (30, 9), (12, 36), (5, 1), (20, 7), (3, 0)];

/// Each in its own way, some in the same.
fn next(i: usize) -> Next {
    match i % 3 {
        0 => Next::Greedy,
        1 => Next::Sample(Sampling { temperature: 1.0, top_k: 0, top_p: 1.0 }),
        _ => Next::Sample(Sampling { temperature: 0.7, top_k: 40, top_p: 1.0 }),
    }
}

type Told = Arc<Mutex<Vec<Event>>>;

/// A job, and what will be told of it; `most` tokens are listened to.
fn job(i: usize, most: usize) -> (Job, Told) {
    let (told, (length, max_new)) = (Told::default(), SIZES[i]);
    let (listener, mut tokens) = (told.clone(), 0);
    let on_event = Box::new(move |event: Event| {
        if matches!(event, Event::Read(_)) {
            return ControlFlow::Continue(());
        }
        tokens += usize::from(matches!(event, Event::Token { .. }));
        listener.lock().unwrap().push(event);
        if tokens < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let job = Job {
        prompt: prompt(i, length),
        max_new,
        next: next(i),
        seed: 5 + i as u32,
        logprobs: None,
        echo: false,
        reuse: true,
        on_event,
    };
    (job, told)
}

fn ids(told: &Told) -> Vec<u32> {
    let id = |event: &Event| if let Event::Token { id, .. } = event { Some(*id) } else { None };
    told.lock().unwrap().iter().filter_map(id).collect()
}

fn last(told: &Told) -> Option<Event> {
    told.lock().unwrap().last().cloned()
}

/// Did it end as it should, where it has as many tokens as were asked for or not?
fn ended(last: &Option<Event>, full: bool) -> bool {
    match last {
        Some(Event::End(Ended::Length)) => full,
        Some(Event::End(Ended::EndOfSequence { .. })) => !full,
        _ => false,
    }
}

/// What an engine makes of a job by itself.
fn alone(engine: &mut Engine, i: usize) -> Vec<u32> {
    engine.reset().unwrap();
    engine.seed(5 + i as u32).unwrap();
    let (length, max_new) = SIZES[i];
    block_on(engine.generate(&prompt(i, length), max_new, next(i), |_| ControlFlow::Continue(()))).unwrap()
}

/// New ones come while others are read or go on, one a few steps after the other, and more than there is room for.
fn come_and_go(device: &Device, sequences: usize, state: StateFormat) {
    let mut single = engine(device, 1, state);
    let mut scheduler = Scheduler::new(engine(device, sequences, state));
    // Leaves nothing behind.
    block_on(scheduler.warm_up()).unwrap();
    let mut told = Vec::new();
    let mut steps = 0;
    while !scheduler.is_idle() || told.len() < SIZES.len() {
        // Two at once, then one every third step.
        if told.len() < SIZES.len() && (steps % 3 == 0 || told.len() == 1) {
            let (job, events) = job(told.len(), usize::MAX);
            scheduler.add(job).unwrap();
            told.push(events);
        }
        block_on(scheduler.step()).unwrap();
        assert!(scheduler.running() <= sequences.max(1));
        steps += 1;
        assert!(steps < 400, "{scheduler:?}");
    }
    for (i, told) in told.iter().enumerate() {
        let want = alone(&mut single, i);
        assert_eq!(ids(told), want, "job {i} of {sequences} together");
        assert!(ended(&last(told), want.len() == SIZES[i].1), "job {i}: {told:?}");
    }
}

#[test]
fn each_gets_what_it_gets_alone() {
    come_and_go(&Device::Cpu, 3, StateFormat::F32);
    come_and_go(&common::gpu(), 3, StateFormat::F32);
    // Slots for all, of which fewer and fewer go on; few, and with no room for any.
    come_and_go(&common::gpu(), 7, StateFormat::F32);
    come_and_go(&common::gpu(), 2, StateFormat::F32);
    come_and_go(&common::gpu(), 1, StateFormat::F32);
}

/// When int8 states are rounded depends on what else goes on, so tokens may differ; but all get theirs.
#[test]
fn int8_states_come_and_go() {
    let state = StateFormat::Int8 { rounding: StateRounding::Feedback, rotate: true, window: 4 };
    let mut scheduler = Scheduler::new(engine(&common::gpu(), 3, state));
    let told: Vec<Told> = (0..SIZES.len())
        .map(|i| {
            let (job, told) = job(i, usize::MAX);
            scheduler.add(job).unwrap();
            told
        })
        .collect();
    while !scheduler.is_idle() {
        block_on(scheduler.step()).unwrap();
    }
    for (told, (_, max_new)) in told.iter().zip(SIZES) {
        assert!(ended(&last(told), ids(told).len() == max_new), "{told:?}");
    }
}

/// One that nobody listens to any more makes room, and the others do not notice.
#[test]
fn who_leaves_makes_room() {
    let device = common::gpu();
    let mut single = engine(&device, 1, StateFormat::F32);
    let mut scheduler = Scheduler::new(engine(&device, 2, StateFormat::F32));
    let mut told = Vec::new();
    for (i, most) in [(3, 4), (0, usize::MAX), (2, usize::MAX)] {
        let (job, events) = job(i, most);
        scheduler.add(job).unwrap();
        told.push(events);
    }
    let mut silent = job(5, 0);
    silent.0.on_event = Box::new(|event| {
        assert_eq!(event, Event::Read(0), "told after its break");
        ControlFlow::Break(())
    });
    scheduler.add(silent.0).unwrap();
    assert_eq!((scheduler.running(), scheduler.waiting()), (0, 4));
    while !scheduler.is_idle() {
        block_on(scheduler.step()).unwrap();
    }
    assert_eq!(ids(&told[0]), alone(&mut single, 3)[..4]);
    assert!(matches!(last(&told[0]), Some(Event::Token { .. })), "nothing is told after a break");
    assert_eq!(ids(&told[1]), alone(&mut single, 0));
    assert_eq!(ids(&told[2]), alone(&mut single, 2));
}

/// Log-probabilities of a prompt and of what follows are those of the logits, whether or not others go on.
#[test]
fn log_probabilities_are_those_of_the_logits() {
    for device in [Device::Cpu, common::gpu()] {
        let mut single = engine(&device, 1, StateFormat::F32);
        let mut scheduler = Scheduler::new(engine(&device, 3, StateFormat::F32));
        let (mut asked, told) = job(2, usize::MAX);
        (asked.logprobs, asked.echo) = (Some(2), true);
        let text = asked.prompt.clone();
        let (beside, _) = job(3, usize::MAX);
        scheduler.add(beside).unwrap();
        scheduler.add(asked).unwrap();
        while !scheduler.is_idle() {
            block_on(scheduler.step()).unwrap();
        }
        let told = told.lock().unwrap().clone();
        let Event::Prompt(said) = &told[0] else { panic!("{:?} comes first", told[0]) };
        let mut of_tokens = said.clone();
        let mut ids = text;
        for event in &told[1..] {
            if let Event::Token { id, logprobs } = event {
                ids.push(*id);
                of_tokens.extend(logprobs.clone());
            }
        }
        let (prompt, max_new) = SIZES[2];
        assert_eq!((said.len(), of_tokens.len()), (prompt - 1, prompt - 1 + max_new));
        let vocab = single.config().vocab_size;
        let mut want = Vec::new();
        let rows = |first: usize, rows: &[f32]| {
            let foretold = ids[1 + first..].iter();
            want.extend(rows.chunks(vocab).zip(foretold).map(|(row, id)| super::scores::by_hand(row, *id)));
            Ok(())
        };
        block_on(single.feed_all(&ids, rows)).unwrap();
        for ((got, id), (value, top)) in of_tokens.iter().zip(&ids[1..]).zip(&want) {
            assert_eq!((got.token.id, got.top.len()), (*id, 2));
            assert!((got.token.value - value).abs() < 1e-3, "{got:?}, expected {value}");
            assert!((got.top[0].value - top.1).abs() < 1e-3, "{got:?}, expected {top:?}");
        }
    }
}

/// Logits of a whole pass are memory that nobody planned: who asks for them is told where there is none, and others go on.
#[test]
fn memory_for_logits_is_asked_for_by_who_wants_them() {
    let device = common::open(None);
    let gpu = device.gpu().unwrap();
    let model = ModelFile::open(&common::nano()).unwrap();
    let options = EngineOptions { context: CONTEXT, pass_tokens: CONTEXT, sequences: 2, ..Default::default() };
    let mut scheduler = Scheduler::new(Engine::new(&device, &model, options).unwrap());
    block_on(scheduler.warm_up()).unwrap();
    if gpu.held_bytes() == 0 {
        println!("SKIPPED: {} does not count what is held", device.name());
        return;
    }
    // The logits take 393 KB.
    gpu.set_memory_limit(gpu.held_bytes() + 200_000);
    let (mut asked, told) = job(2, usize::MAX);
    (asked.logprobs, asked.echo) = (Some(1), true);
    let (other, others) = job(0, usize::MAX);
    scheduler.add(asked).unwrap();
    scheduler.add(other).unwrap();
    while !scheduler.is_idle() {
        block_on(scheduler.step()).unwrap();
    }
    let Some(Event::Failed(why)) = last(&told) else { panic!("{told:?}") };
    assert!(why.contains("the logits of 48 tokens"), "{why}");
    assert_eq!(ids(&others), alone(&mut engine(&common::gpu(), 1, StateFormat::F32), 0));
}

#[test]
fn what_cannot_be_continued_is_refused() {
    let mut scheduler = Scheduler::new(engine(&Device::Cpu, 1, StateFormat::F32));
    let mut refused = |prompt: Vec<u32>, max_new| {
        let (mut job, told) = job(0, usize::MAX);
        (job.prompt, job.max_new) = (prompt, max_new);
        let error = scheduler.add(job).unwrap_err().to_string();
        assert!(told.lock().unwrap().is_empty() && scheduler.is_idle());
        error
    };
    assert!(refused(Vec::new(), 1).contains("no tokens"));
    assert!(refused(vec![2048], 1).contains("token id 2048 in a vocabulary of 2048"));
    assert!(refused(vec![1; 40], 9).contains("40 tokens and up to 9 new ones in a context of 48"));
}
