//! The thread that runs the model.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use pollster::block_on;
use wgquant::serve::{Job, Scheduler};

use super::super::out;

/// Between two tries to load a model whose device was lost, the first and the longest.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// What all threads may know of the model.
#[derive(Default)]
pub(super) struct Status {
    /// Sequences asked for since the start.
    pub(super) sequences: AtomicU64,
    /// Tokens of prompts, of those the ones that were kept and not read anew, and tokens made.
    pub(super) prompt_tokens: AtomicU64,
    pub(super) cached_tokens: AtomicU64,
    pub(super) generated_tokens: AtomicU64,
    /// Sequences that are being read or continued, and that wait.
    pub(super) running: AtomicU64,
    pub(super) waiting: AtomicU64,
    lost: Mutex<Option<String>>,
}

impl Status {
    /// Why no request can be answered, if none can.
    pub(super) fn lost(&self) -> Option<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_lost(&self, why: Option<String>) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// Runs a model, and loads it anew by `load` where its device is lost.
pub(super) struct Worker<F> {
    pub(super) status: Arc<Status>,
    pub(super) load: F,
}

impl<F: FnMut() -> Result<Scheduler> + Send + 'static> Worker<F> {
    /// Starts with a model that is loaded. The thread ends when nobody can ask any more.
    pub(super) fn start(self, scheduler: Scheduler) -> Result<flume::Sender<Job>> {
        let (sender, asked) = flume::unbounded();
        let run = move || self.run(scheduler, &asked);
        thread::Builder::new().name("model".to_owned()).spawn(run).context("the thread of the model")?;
        Ok(sender)
    }

    fn run(mut self, mut scheduler: Scheduler, asked: &flume::Receiver<Job>) {
        while let Err(e) = self.serve(&mut scheduler, asked) {
            let why = format!("{e:#}");
            out::say(format_args!("wgquant: {why}; loading the model anew"));
            self.status.set_lost(Some(why));
            self.status.running.store(0, Relaxed);
            self.status.waiting.store(0, Relaxed);
            // Those who wait learn of it as their senders are dropped. Its memory must be free before it is taken again.
            drop(scheduler);
            asked.drain();
            scheduler = self.again();
            // Asked for meanwhile.
            asked.drain();
            self.status.set_lost(None);
            out::say(format_args!("the model is loaded anew"));
        }
    }

    /// Loads it anew, until that succeeds.
    fn again(&mut self) -> Scheduler {
        let [mut wait, longest] = AGAIN;
        loop {
            match (self.load)() {
                Ok(scheduler) => return scheduler,
                Err(e) => out::say(format_args!("wgquant: {e:#}; trying again in {} s", wait.as_secs())),
            }
            thread::sleep(wait);
            wait = (2 * wait).min(longest);
        }
    }

    /// Until nobody can ask any more.
    fn serve(&self, scheduler: &mut Scheduler, asked: &flume::Receiver<Job>) -> Result<()> {
        loop {
            if scheduler.is_idle() {
                let Ok(job) = asked.recv() else { return Ok(()) };
                add(scheduler, job);
            }
            asked.try_iter().for_each(|job| add(scheduler, job));
            self.count(scheduler);
            block_on(scheduler.step())?;
            self.count(scheduler);
        }
    }

    fn count(&self, scheduler: &Scheduler) {
        self.status.running.store(scheduler.running() as u64, Relaxed);
        self.status.waiting.store(scheduler.waiting() as u64, Relaxed);
    }
}

/// What is refused here was not looked at before; who asked is told as its sender is dropped.
fn add(scheduler: &mut Scheduler, job: Job) {
    if let Err(e) = scheduler.add(job) {
        out::say(format_args!("wgquant: {e}"));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use wgquant::gpu::{Device, DeviceChoice};
    use wgquant::model::ModelFile;
    use wgquant::runtime::{Engine, EngineOptions, Next};
    use wgquant::serve::Event;

    use super::*;

    /// Asks for three tokens after so many that they are kept; gives what is told, up to where the sender is dropped.
    fn ask(jobs: &flume::Sender<Job>) -> Vec<Event> {
        let (sender, told) = flume::unbounded();
        let on_event = Box::new(move |event| match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        });
        let (prompt, next) = ((1..41).collect(), Next::Greedy);
        jobs.send(Job { prompt, max_new: 3, next, seed: 0, logprobs: None, echo: false, reuse: true, on_event })
            .unwrap();
        told.into_iter().collect()
    }

    /// Who asks when the device is lost hears nothing more, and who asks after that is answered as before: of what was kept nothing is left.
    #[test]
    fn a_lost_device_is_opened_again() {
        let device = block_on(Device::open(&DeviceChoice::Best, None)).unwrap();
        let model = ModelFile::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/nano"))).unwrap();
        let options = EngineOptions { context: 64, pass_tokens: 64, sequences: 2, kept: 2, ..Default::default() };
        let load = move |device: &Device| Ok(Scheduler::new(Engine::new(device, &model, options)?));
        let (scheduler, status) = (load(&device).unwrap(), Arc::new(Status::default()));
        let (loads, loaded) = flume::unbounded();
        let mut tries = 0;
        let again = move || {
            tries += 1;
            loads.send(tries)?;
            anyhow::ensure!(tries > 1, "the driver is not back yet");
            load(&block_on(Device::open(&DeviceChoice::Best, None))?)
        };
        let jobs = Worker { status: status.clone(), load: again }.start(scheduler).unwrap();
        let before = ask(&jobs);
        assert_eq!(before.last(), Some(&Event::End(wgquant::serve::Ended::Length)), "{before:?}");
        assert_eq!((&before[0], &ask(&jobs)[0]), (&Event::Read(0), &Event::Read(40)));
        device.gpu().unwrap().lose();
        let lost = ask(&jobs);
        assert!(!lost.iter().any(|event| matches!(event, Event::End(_))), "{lost:?}");
        // Whoever hears that there is no more can ask why.
        assert!(status.lost().is_some());
        assert_eq!(loaded.recv().unwrap(), 1);
        assert_eq!(loaded.recv().unwrap(), 2);
        while status.lost().is_some() {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(ask(&jobs), before);
    }
}
