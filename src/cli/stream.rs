//! Token ids to text as they come.

use anyhow::{Result, anyhow};
use tokenizers::Tokenizer;

/// Stands for bytes that are no UTF-8; at the end of a text, the character may still be incomplete.
const INCOMPLETE: char = '\u{fffd}';

/// Last tokens of a prompt that are context enough: all of a long one would take as long as several tokens.
const CONTEXT: usize = 32;

/// Decodes a sequence piece by piece. A token may be part of a character: it is held back until the rest is there.
pub(super) struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens of the last piece given out, or of the prompt, and those after. Decoders may drop a space at the beginning of a
    /// text, so what is decoded begins with something that is no longer asked for, and has a text.
    ids: Vec<u32>,
    /// How many of `ids` have been given out, and their bytes as text.
    done: usize,
    done_bytes: usize,
}

impl<'a> TextStream<'a> {
    /// Starts what comes after the tokens of `prompt`.
    pub(super) fn after(prompt: &[u32], tokenizer: &'a Tokenizer) -> Result<Self> {
        let mut stream = Self { tokenizer, ids: Vec::new(), done: 0, done_bytes: 0 };
        // All of it where the last ones are special tokens, which have no text.
        for first in [prompt.len().saturating_sub(CONTEXT), 0] {
            if stream.done_bytes == 0 {
                stream.ids = prompt[first..].to_vec();
                stream.done = stream.ids.len();
                stream.done_bytes = stream.decode(&stream.ids)?.len();
            }
        }
        Ok(stream)
    }

    /// Adds a token; gives the text that is complete now, often empty.
    pub(super) fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.decode(&self.ids)?;
        if text.ends_with(INCOMPLETE) {
            return Ok(String::new());
        }
        let piece = text.get(self.done_bytes..).unwrap_or_default().to_owned();
        self.done_bytes = text.len();
        let kept = self.decode(&self.ids[self.done..])?.len();
        if kept > 0 {
            self.ids.drain(..self.done);
            self.done_bytes = kept;
        }
        self.done = self.ids.len();
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
        let mut stream = TextStream::after(&[], &tokenizer).unwrap();
        stream.ids = ids[..cut].to_vec(); // as if they were one token
        assert_eq!(stream.rest().unwrap(), "so ");
    }

    #[test]
    fn characters_come_whole_and_nothing_is_lost() {
        let tokenizer = nano();
        let text = "Héllo wörld, 木の🙂 and so on";
        let ids = tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        let mut stream = TextStream::after(&[], &tokenizer).unwrap();
        let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
        assert_eq!(pieces.concat(), text);
        assert!(pieces.iter().any(String::is_empty), "the test should have a character of several tokens");
        assert!(!pieces.iter().any(|p| p.contains(INCOMPLETE)));
        assert_eq!(stream.rest().unwrap(), "");
    }

    /// A tokenizer of the words `▁The`, `▁old`, `▁man`, the space `▁` and a special token, 0 to 4.
    fn of_words(decoder: &serde_json::Value) -> Tokenizer {
        let special = serde_json::json!({
            "id": 4, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        });
        let vocab = serde_json::json!({ "▁The": 0, "▁old": 1, "▁man": 2, "▁": 3, "<end>": 4 });
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": decoder,
            "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<end>" },
        });
        Tokenizer::from_bytes(json.to_string()).unwrap()
    }

    /// SentencePiece's decoders drop the space before the first word of a text, which is the prompt's and no later one's.
    #[test]
    fn words_keep_their_spaces() {
        let metaspace = serde_json::json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" });
        let strip = serde_json::json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] });
        for decoder in [metaspace, strip] {
            let tokenizer = of_words(&decoder);
            let continued = |prompt: &[u32], ids: &[u32]| -> Vec<String> {
                let mut stream = TextStream::after(prompt, &tokenizer).unwrap();
                ids.iter().map(|id| stream.push(*id).unwrap()).collect()
            };
            assert_eq!(continued(&[0], &[1, 2]), [" old", " man"], "{decoder}");
            assert_eq!(continued(&[], &[0, 1]), ["The", " old"], "{decoder}");
            // Special tokens have no text, a space alone none at the beginning.
            assert_eq!(continued(&[0, 4], &[1, 4, 2]), [" old", "", " man"], "{decoder}");
            assert_eq!(continued(&[0], &[3, 1]), [" ", " old"], "{decoder}");
            let ends = [[0u32].as_slice(), &[4; CONTEXT]].concat();
            assert_eq!(continued(&ends, &[1]), [" old"], "{decoder}");
        }
    }
}
