//! Measures a model: perplexity, alone or against another model token by token.

mod data;
mod logits;
mod perplexity;
mod stats;

pub use data::Windows;
pub use perplexity::{Comparison, Perplexity, Progress, compare, perplexity};
