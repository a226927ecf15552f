//! Runs a model: weights and state on a device, plans recorded once a length, prefill and decode.
//!
//! ```text
//! ids → embed → [ rms_norm → mixer → + ] × blocks → rms_norm → head → logits → argmax / sample → id
//! ```
//!
//! The same code runs on a GPU and on the CPU reference: both execute the plan's launches.

mod batch;
mod chain;
mod choose;
mod decode;
mod engine;
mod forward;
mod kept;
mod mamba2;
mod memory;
mod observe;
mod passes;
mod profile;
mod rows;
mod scores;
mod scratch;
mod stage;
mod state;
mod taps;
mod trace;
mod weights;

pub use engine::{Engine, EngineOptions, Next};
pub use memory::Memory;
pub use observe::ObservedPass;
pub use profile::ProfiledPass;
pub use scores::{LogProb, LogProbs, Scoring};
pub use scratch::ScanFormat;
pub use stage::{LoadedBlock, Stage, StagePass, Stream};
pub use state::{State, StateFormat};
pub use taps::Look;
pub use trace::Tap;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use weights::Product;
pub use weights::Slot;

pub use crate::kernels::KvFormat;
