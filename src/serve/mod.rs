//! Many sequences that come and go, as a server has them: each prompt is read while the sequences before it go on, and all of them
//! decode together. What they say to whom is the caller's: `wgquant serve` speaks HTTP.

mod prefixes;
mod scheduler;

pub use scheduler::{Ended, Event, Job, OnEvent, Scheduler};
