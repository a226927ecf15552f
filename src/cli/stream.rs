//! Token ids to text as they come.

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;

/// Stands for bytes that are no UTF-8; at the end of a text, the character may still be incomplete.
const INCOMPLETE: char = '\u{fffd}';

/// Decodes a sequence piece by piece. A token may be part of a character: it is held back until the rest is there.
pub(super) struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of the last piece given out, for the context some decoders need, and those after.
    ids: Vec<u32>,
    /// How many of `ids` have been given out, and their bytes as text.
    done: usize,
    done_bytes: usize,
}

impl<'a> TextStream<'a> {
    /// Starts a sequence.
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), done: 0, done_bytes: 0 }
    }

    /// Adds a token; gives the text that is complete now, often empty.
    pub(super) fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.decode(&self.ids)?;
        if text.ends_with(INCOMPLETE) {
            return Ok(String::new());
        }
        let piece = text.get(self.done_bytes..).unwrap_or_default().to_owned();
        self.ids.drain(..self.done);
        self.done = self.ids.len();
        self.done_bytes = self.decode(&self.ids)?.len();
        Ok(piece)
    }

    /// What is held back at the end, but for an incomplete character.
    pub(super) fn rest(&self) -> Result<String> {
        let text = self.decode(&self.ids)?;
        Ok(text.trim_end_matches(INCOMPLETE).get(self.done_bytes..).unwrap_or_default().to_owned())
    }

    fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|e| anyhow!("tokenizer: {e}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn nano() -> Tokenizer {
        Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/nano/tokenizer.json")).unwrap()
    }

    /// A token of letters and the first bytes of a character: the letters are not lost when nothing follows.
    #[test]
    fn what_is_before_an_incomplete_character_comes_at_the_end() {
        let tokenizer = nano();
        let ids = tokenizer.encode("so 🙂", false).unwrap().get_ids().to_vec();
        let cut = (1..ids.len()).find(|n| tokenizer.decode(&ids[..*n], true).unwrap().ends_with(INCOMPLETE)).unwrap();
        let mut stream = TextStream::new(&tokenizer);
        stream.ids = ids[..cut].to_vec(); // as if they were one token
        assert_eq!(stream.rest().unwrap(), "so ");
    }

    #[test]
    fn characters_come_whole_and_nothing_is_lost() {
        let tokenizer = nano();
        let text = "Héllo wörld, 木の🙂 and so on";
        let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        let mut stream = TextStream::new(&tokenizer);
        let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().any(String::is_empty), "the test should have a character of several tokens");
        assert!(!pieces.iter().any(|p| p.contains(INCOMPLETE)));
        assert_eq!(stream.rest().unwrap(), "");
    }
}
