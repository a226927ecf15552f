//! The exponent of smoothing: a number, or found block by block.

use serde::{Deserialize, Serialize};

/// By how much activations are smoothed at a kind of site; in recipes a number or `"search"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Word", into = "Word")]
pub enum Exponent {
    /// That of [`super::factors`], 0 to 1.
    Fixed(f64),
    /// Block by block the factors under which the rounded output errs least (AWQ, arXiv:2306.00978). They are
    /// [`super::Inputs::factors`]; `recipe::transformed` finds them.
    Search,
}

impl From<f64> for Exponent {
    fn from(alpha: f64) -> Self {
        Self::Fixed(alpha)
    }
}

/// As recipes have it.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an exponent: a number, or `search`")]
enum Word {
    Number(f64),
    Text(String),
}

impl TryFrom<Word> for Exponent {
    type Error = String;

    fn try_from(word: Word) -> Result<Self, String> {
        match word {
            Word::Number(alpha) => Ok(Self::Fixed(alpha)),
            Word::Text(text) if text == "search" => Ok(Self::Search),
            Word::Text(text) => Err(format!("exponent `{text}` is neither a number nor `search`")),
        }
    }
}

impl From<Exponent> for Word {
    fn from(exponent: Exponent) -> Self {
        match exponent {
            Exponent::Fixed(alpha) => Self::Number(alpha),
            Exponent::Search => Self::Text("search".to_owned()),
        }
    }
}
