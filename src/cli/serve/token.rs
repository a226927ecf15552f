//! Names of tokens.

use tokenizers::Tokenizer;

/// Stands for bytes that are no UTF-8.
const INCOMPLETE: char = '\u{fffd}';

/// A token by itself.
pub(super) struct Name {
    /// Its text, special ones' names too; of a part of a character `bytes:\\x..`, as OpenAI's API has it.
    pub(super) text: String,
    pub(super) bytes: Vec<u8>,
}

impl Name {
    pub(super) fn of(tokenizer: &Tokenizer, id: u32) -> Self {
        let text = tokenizer.decode(&[id], false).unwrap_or_default();
        let raw =
            if text.contains(INCOMPLETE) { tokenizer.id_to_token(id).and_then(|token| bytes(&token)) } else { None };
        match raw {
            Some(bytes) if std::str::from_utf8(&bytes).is_err() => {
                let hex: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
                Self { text: format!("bytes:{hex}"), bytes }
            }
            _ => Self { bytes: text.clone().into_bytes(), text },
        }
    }
}

/// The bytes that a vocabulary's entry stands for: `<0xNN>` of byte fallback, or a character each (GPT-2's byte-level BPE: printable ones of
/// Latin-1 are themselves, the others those from 256 on in their order).
fn bytes(token: &str) -> Option<Vec<u8>> {
    if let Some(hex) = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')) {
        return Some(vec![u8::from_str_radix(hex, 16).ok()?]);
    }
    let itself = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..);
    let others: Vec<u8> = (0..=255).filter(|byte| !itself(*byte)).collect();
    let byte = |c: char| match u32::from(c) {
        low @ 0..256 => Some(low as u8).filter(|byte| itself(*byte)),
        high => others.get(high as usize - 256).copied(),
    };
    token.chars().map(byte).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_tokens_are_those_of_the_text() {
        let tokenizer =
            Tokenizer::from_file(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/nano/tokenizer.json")).unwrap();
        let text = "so 🙂 ü and\n";
        let names: Vec<Name> =
            tokenizer.encode(text, false).unwrap().get_ids().iter().map(|id| Name::of(&tokenizer, *id)).collect();
        assert_eq!(names.iter().flat_map(|name| name.bytes.clone()).collect::<Vec<u8>>(), text.as_bytes());
        assert!(names.iter().any(|name| name.text.starts_with("bytes:\\xf0")), "of a character in parts");
        assert!(names.iter().all(|name| !name.text.contains(INCOMPLETE)));
        assert_eq!(bytes("<0xE2>"), Some(vec![0xe2]));
        assert_eq!(bytes("Ġa"), Some(b" a".to_vec()));
        assert_eq!(bytes("▁a"), None);
    }
}
