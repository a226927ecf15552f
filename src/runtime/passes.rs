//! Recorded passes by how many tokens they are for, and how long passes may be.

use super::engine::Logits;
use crate::gpu::Recording;

/// Recordings kept. Prompts are of any length, and each recording holds parameters and bind groups of all its launches.
const KEPT: usize = 64;

/// A number of tokens, and which logits are wanted of them.
type Key = (usize, Logits);

/// The passes that ran last, the latest first.
#[derive(Default)]
pub(super) struct Passes(Vec<(Key, Recording)>);

impl Passes {
    /// Makes that of `key` the latest; false where it is not kept.
    pub(super) fn recall(&mut self, key: Key) -> bool {
        let Some(at) = self.0.iter().position(|(k, _)| *k == key) else { return false };
        self.0[..=at].rotate_right(1);
        true
    }

    /// Keeps one more as the latest; of too many the one that ran longest ago goes.
    pub(super) fn keep(&mut self, key: Key, recording: Recording) {
        self.0.truncate(KEPT - 1);
        self.0.insert(0, (key, recording));
    }

    pub(super) fn latest(&self) -> Option<&Recording> {
        self.0.first().map(|(_, recording)| recording)
    }

    /// Drops those with logits for which `of` holds.
    pub(super) fn forget(&mut self, of: impl Fn(Logits) -> bool) {
        self.0.retain(|((_, logits), _)| !of(*logits));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A launch, which cannot be cut, may take this many times what a submit may: still a quarter of what watchdogs let pass.
/// Shorter passes are slower.
const LAUNCH: f64 = 5.0;

/// Tokens of the next pass after one whose slowest launch took `overrun` times what a submit may: whole chunks, or one.
pub(super) fn shorter(tokens: usize, chunk: usize, overrun: f64) -> usize {
    if overrun <= LAUNCH {
        return usize::MAX;
    }
    let fit = (tokens as f64 * LAUNCH / overrun) as usize;
    (fit / chunk * chunk).max(chunk)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use crate::gpu::{Device, Plan};

    #[test]
    fn passes_shrink_to_whole_chunks() {
        assert_eq!(shorter(2048, 128, 4.5), usize::MAX);
        assert_eq!(shorter(2048, 128, 7.5), 1280);
        assert_eq!(shorter(2048, 128, 500.0), 128);
    }

    #[test]
    fn those_that_ran_last_are_kept() {
        let mut passes = Passes::default();
        let mut run = |tokens: usize, logits| {
            let kept = passes.recall((tokens, logits));
            if !kept {
                passes.keep((tokens, logits), Plan::new(&Device::Cpu).record().unwrap());
            }
            kept
        };
        assert!(!run(1, Logits::Last));
        assert!(!run(1, Logits::All) && run(1, Logits::Last));
        // Of prompts of any length each is followed by a token.
        for tokens in 2..10 * KEPT {
            assert!(!run(tokens, Logits::Last) && run(1, Logits::Last), "{tokens}");
        }
        assert!(run(9 * KEPT + 2, Logits::Last) && !run(9 * KEPT, Logits::Last) && !run(1, Logits::All));
        assert_eq!(passes.0.len(), KEPT);
    }
}
