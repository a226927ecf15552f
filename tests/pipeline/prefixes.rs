//! A sequence that goes on from what is kept of another is the one that is read anew.

use std::ops::ControlFlow;
use std::slice::from_ref;
use std::sync::{Arc, Mutex};

use pollster::block_on;
use wgquant::gpu::Device;
use wgquant::kernels::{StateRounding, check::error};
use wgquant::model::{Model, ModelFile, ModelSource};
use wgquant::runtime::{Engine, EngineOptions, KvFormat, Memory, Next, StateFormat};
use wgquant::serve::{Event, Job, Scheduler};

use crate::common;
use crate::serve::prompt;

const INT8: StateFormat = StateFormat::Int8 { rounding: StateRounding::Feedback, rotate: true, window: 4 };

fn nano() -> ModelFile {
    ModelFile::open(&common::nano()).unwrap()
}

fn options(kept: usize) -> EngineOptions {
    EngineOptions { context: 128, pass_tokens: 16, sequences: 3, kept, ..Default::default() }
}

fn scheduler(device: &Device, model: &dyn ModelSource, options: EngineOptions) -> Scheduler {
    Scheduler::new(Engine::new(device, model, options).unwrap())
}

/// What is asked for; `most` tokens are listened to.
#[derive(Clone)]
struct Ask {
    prompt: Vec<u32>,
    max_new: usize,
    scored: bool,
    echo: bool,
    reuse: bool,
    most: usize,
}

fn ask(prompt: Vec<u32>, max_new: usize) -> Ask {
    Ask { prompt, max_new, scored: false, echo: false, reuse: true, most: usize::MAX }
}

/// What was told: tokens that were not read anew, new ones, and their log-probabilities where asked for.
#[derive(Clone, Debug, Default)]
struct Said {
    reused: Option<usize>,
    ids: Vec<u32>,
    values: Vec<f64>,
}

/// All of `asks` together.
fn run(scheduler: &mut Scheduler, asks: &[Ask]) -> Vec<Said> {
    let said: Vec<Arc<Mutex<Said>>> = asks.iter().map(|_| Arc::default()).collect();
    for (ask, said) in asks.iter().zip(&said) {
        let (said, most) = (said.clone(), ask.most);
        let on_event = Box::new(move |event: Event| {
            let mut said = said.lock().unwrap();
            match event {
                Event::Read(tokens) => {
                    said.reused.get_or_insert(tokens);
                }
                Event::Token { id, logprobs } => {
                    said.ids.push(id);
                    said.values.extend(logprobs.map(|l| l.token.value));
                }
                Event::Failed(why) => panic!("{why}"),
                Event::Prompt(_) | Event::End(_) => {}
            }
            if said.ids.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        let Ask { prompt, max_new, scored, echo, reuse, .. } = ask.clone();
        let (next, seed, logprobs) = (Next::Greedy, 0, scored.then_some(1));
        scheduler.add(Job { prompt, max_new, next, seed, logprobs, echo, reuse, on_event }).unwrap();
    }
    while !scheduler.is_idle() {
        block_on(scheduler.step()).unwrap();
    }
    said.into_iter().map(|said| said.lock().unwrap().clone()).collect()
}

/// The same as from `anew`, which keeps nothing; with so many tokens reused.
#[track_caller]
fn same(scheduler: &mut Scheduler, anew: &mut Scheduler, asks: &[Ask], reused: &[usize]) -> Vec<Said> {
    let said = run(scheduler, asks);
    for (i, (said, want)) in said.iter().zip(run(anew, asks)).enumerate() {
        assert_eq!((said.reused, want.reused), (Some(reused[i]), Some(0)), "sequence {i}");
        assert_eq!(said.ids, want.ids, "sequence {i}");
        for (got, want) in said.values.iter().zip(&want.values) {
            assert!((got - want).abs() < 1e-3, "sequence {i}: {got}, expected {want}");
        }
    }
    said
}

#[test]
fn turns_go_on_from_where_one_ended() {
    for device in [Device::Cpu, common::gpu()] {
        let (mut kept, mut anew) = (scheduler(&device, &nano(), options(6)), scheduler(&device, &nano(), options(0)));
        let mut chats: Vec<Vec<u32>> = (0..3).map(|i| prompt(i, 33 + i)).collect();
        let mut reused = vec![0; 3];
        for scored in [false, true, false] {
            let asks: Vec<Ask> =
                chats.iter().enumerate().map(|(i, chat)| Ask { scored, ..ask(chat.clone(), 4 + i) }).collect();
            let said = same(&mut kept, &mut anew, &asks, &reused);
            for (i, (chat, said)) in chats.iter_mut().zip(said).enumerate() {
                chat.extend(said.ids);
                // The last token was told, not fed.
                reused[i] = chat.len() - 1;
                chat.extend(prompt(7 + i, 6));
            }
        }
        // The prompt once more, whose logits are there; with other words behind it; and one that parts in the middle.
        let again = ask(prompt(9, 40), 5);
        same(&mut kept, &mut anew, from_ref(&again), &[0]);
        let scored = Ask { scored: true, ..again.clone() };
        same(&mut kept, &mut anew, &[scored.clone(), scored], &[40, 40]);
        let other = ask([prompt(9, 40), prompt(8, 9)].concat(), 3);
        same(&mut kept, &mut anew, &[other], &[40]);
        let mut parted = again;
        parted.prompt[20] += 1;
        same(&mut kept, &mut anew, &[parted], &[0]);
    }
}

#[test]
fn what_is_given_up_is_read_anew() {
    let device = common::gpu();
    let (mut kept, mut anew) = (scheduler(&device, &nano(), options(2)), scheduler(&device, &nano(), options(0)));
    let (first, other) = (ask(prompt(0, 40), 3), ask(prompt(1, 40), 3));
    same(&mut kept, &mut anew, from_ref(&first), &[0]);
    same(&mut kept, &mut anew, from_ref(&first), &[40]);
    same(&mut kept, &mut anew, &[other], &[0]);
    same(&mut kept, &mut anew, from_ref(&first), &[0]);
    // With what several begin with, one place is enough.
    let mut one = scheduler(&device, &nano(), options(1));
    same(&mut one, &mut anew, &[Ask { max_new: 0, ..first.clone() }], &[0]);
    same(&mut one, &mut anew, &[first], &[40]);
}

/// However a sequence ends, and whether or not the step after had begun, its ids are what its state was fed.
#[test]
fn a_state_was_fed_its_ids() {
    let device = common::gpu();
    let mut model = Model::load(&nano()).unwrap();
    let mut plain = scheduler(&device, &model, options(0));
    let (first, beside) = (ask(prompt(2, 35), 30), ask(prompt(4, 33), 40));
    let made = run(&mut plain, from_ref(&first))[0].ids.clone();
    let beside_made = run(&mut plain, from_ref(&beside))[0].ids.clone();
    // The first token that comes only then, and in the other not at all, which would end, too.
    let only_then = |at: &usize| !made[..*at].contains(&made[*at]) && !beside_made.contains(&made[*at]);
    let at = (5..made.len()).find(only_then).unwrap();
    model.config.eos = vec![made[at]];
    for alone in [true, false] {
        for scored in [false, true] {
            // By its number of tokens; by the token that ends it; by who listened.
            let by_number = Ask { max_new: at, ..first.clone() };
            let by_listener = Ask { most: at - 1, ..first.clone() };
            for (asked, told) in [(by_number, at), (first.clone(), at), (by_listener, at - 1)] {
                let (mut kept, mut anew) =
                    (scheduler(&device, &model, options(4)), scheduler(&device, &model, options(0)));
                // Beside one that starts before and ends after it.
                let asked = Ask { scored, ..asked };
                let ends_by_token = asked.max_new > at && asked.most > at;
                let by_number = asked.max_new == at;
                let asks = if alone { vec![asked] } else { vec![beside.clone(), asked] };
                let said = run(&mut kept, &asks);
                assert_eq!(said[asks.len() - 1].ids, made[..told]);
                // What was chosen last is fed by a step that begins before it is seen, unless there is none.
                let seen = 35 + told + usize::from(ends_by_token);
                let fed = if by_number { seen - 1 } else { seen };
                let text = [&prompt(2, 35), &made[..told + 1], &prompt(6, 5)].concat();
                let next = Ask { scored: true, ..ask(text, 4) };
                let mut asks = vec![next];
                let mut reused = vec![fed];
                if !alone {
                    asks.push(Ask {
                        scored: true,
                        ..ask([&prompt(4, 33), &beside_made[..], &prompt(5, 5)].concat(), 4)
                    });
                    reused.push(33 + 40 - 1);
                }
                same(&mut kept, &mut anew, &asks, &reused);
            }
        }
    }
}

/// When int8 states are rounded depends on what else goes on, so what follows is close, not the same.
#[test]
fn states_and_caches_of_codes_are_kept() {
    for device in [Device::Cpu, common::gpu()] {
        let options = EngineOptions { state: INT8, kv: KvFormat::Int8, ..options(2) };
        let mut engine = Engine::new(&device, &nano(), options).unwrap();
        let (text, rest) = (prompt(0, 40), prompt(1, 20));
        engine.feed(&text).unwrap();
        let last = block_on(engine.logits()).unwrap();
        // Recent tokens are rounded in.
        engine.feed(&rest[..1]).unwrap();
        engine.feed(&rest[1..2]).unwrap();
        engine.keep(0).unwrap();
        engine.feed(&rest[2..]).unwrap();
        let want = block_on(engine.logits()).unwrap();
        // Another sequence meanwhile, of which one in a slot is kept.
        engine.reset().unwrap();
        engine.feed(&text).unwrap();
        engine.put(1).unwrap();
        engine.reset().unwrap();
        engine.feed(&prompt(5, 50)).unwrap();
        engine.keep_of(1, 1).unwrap();
        engine.recall(1).unwrap();
        assert_eq!((engine.tokens(), block_on(engine.logits()).unwrap()), (40, last));
        engine.feed(&rest).unwrap();
        let (nmse, _) = error(&block_on(engine.logits()).unwrap(), &want);
        assert!(nmse < 1e-3, "{}: {nmse:.2e}", device.name());
        engine.recall(0).unwrap();
        engine.feed(&rest[2..]).unwrap();
        let (nmse, _) = error(&block_on(engine.logits()).unwrap(), &want);
        assert!(nmse < 1e-12, "{}: {nmse:.2e}", device.name());
    }
    let device = common::gpu();
    let options = EngineOptions { state: INT8, kv: KvFormat::Int8, ..options(4) };
    let mut kept = scheduler(&device, &nano(), options);
    let asks: Vec<Ask> = (0..2).map(|i| Ask { scored: true, ..ask(prompt(i, 40), 6 + i) }).collect();
    let said = run(&mut kept, &asks);
    let next: Vec<Ask> = asks
        .iter()
        .zip(&said)
        .map(|(asked, said)| Ask { scored: true, ..ask([&asked.prompt, &said.ids, &prompt(8, 7)[..]].concat(), 1) })
        .collect();
    let got = run(&mut kept, &next);
    let want = run(&mut scheduler(&device, &nano(), EngineOptions { kept: 0, ..options }), &next);
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!((got.reused, want.reused), (Some(40 + 6 + i - 1), Some(0)));
        assert!((got.values[0] - want.values[0]).abs() < 0.1, "{got:?}, expected {want:?}");
    }
}

/// Who wants the log-probabilities of a prompt has all of it read, and who does not want to reuse neither begins from what is kept nor leaves
/// anything.
#[test]
fn who_reads_all_leaves_nothing() {
    let device = common::gpu();
    let mut kept = scheduler(&device, &nano(), options(2));
    let plain = ask(prompt(0, 40), 2);
    let anew = Ask { reuse: false, ..plain.clone() };
    let echoed = Ask { scored: true, echo: true, ..plain.clone() };
    let reused = |kept: &mut Scheduler, ask: &Ask| run(kept, from_ref(ask))[0].reused;
    assert_eq!(
        [&anew, &echoed, &plain, &anew, &echoed, &plain].map(|ask| reused(&mut kept, ask).unwrap()),
        [0, 0, 0, 0, 0, 40]
    );
    // A server warms up before anybody asks.
    let mut warm = scheduler(&device, &nano(), options(2));
    block_on(warm.warm_up()).unwrap();
    assert_eq!(reused(&mut warm, &ask(vec![0; 60], 2)), Some(0));
}

#[test]
fn what_is_not_there_is_refused_and_all_is_counted() {
    let options = options(2);
    let mut engine = Engine::new(&common::gpu(), &nano(), options).unwrap();
    assert_eq!(engine.kept(), 2);
    let plan = Memory::of(&nano(), options).unwrap().unwrap();
    assert_eq!(plan, engine.memory());
    assert_eq!(engine.working_bytes(), plan.total() - plan.weights);
    assert!(plan.to_string().contains(", kept sequences "), "{plan}");
    let one = Memory::of(&nano(), EngineOptions { kept: 1, ..options }).unwrap().unwrap();
    assert_eq!(plan.kept, 2 * one.kept);
    let said = |e: wgquant::Result<()>| e.unwrap_err().to_string();
    assert!(said(engine.keep(0)).contains("no token was fed"));
    engine.feed(&[1, 2]).unwrap();
    assert!(said(engine.keep(2)).contains("place 2 of 2"));
    assert!(said(engine.recall(1)).contains("nothing is kept at place 1"));
    assert!(said(engine.keep_of(0, 0)).contains("slot 0 has no sequence that goes on"));
}
