//! Measures a model: perplexity, alone or against another model token by token; and where two runs part.

mod activations;
mod diff;
mod logits;
mod perplexity;
mod stats;

pub use activations::Activations;
pub use diff::{Between, DECODE, Judgement, OpError, diff, limit, record};
pub use perplexity::{Comparison, Perplexity, Progress, compare, perplexity};
