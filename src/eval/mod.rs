//! Measures a model: perplexity, alone or against another model token by token; questions answered; and where two runs part.

#[cfg(not(target_arch = "wasm32"))]
mod activations;
mod by_position;
mod diff;
mod divergence;
#[cfg(not(target_arch = "wasm32"))]
mod examples;
mod perplexity;
#[cfg(not(target_arch = "wasm32"))]
mod questions;
mod stats;
#[cfg(not(target_arch = "wasm32"))]
mod tasks;

#[cfg(not(target_arch = "wasm32"))]
pub use activations::Activations;
pub use by_position::{PositionKl, doubling};
pub use diff::{Between, DECODE, Judgement, OpError, diff, limit, record};
#[cfg(not(target_arch = "wasm32"))]
pub use examples::Examples;
pub use perplexity::{Comparison, Perplexity, Progress, compare, perplexity};
#[cfg(not(target_arch = "wasm32"))]
pub use questions::{Question, Request, Schema, questions};
#[cfg(not(target_arch = "wasm32"))]
pub use tasks::{Answer, Paired, Sample, Scores, Task, TaskResult, evaluate};
