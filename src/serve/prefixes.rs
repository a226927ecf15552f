//! Which token ids the sequences that an engine keeps have been fed, and which of them are given up for others.

/// Fewer tokens are not kept. A pass reads all weights however few its tokens are, so beside others so few take no time to speak of, and
/// what is kept of them would cost another its place.
pub(super) const SHORT: usize = 32;

/// A sequence that is kept, or none where there are no ids.
#[derive(Clone, Debug, Default)]
struct Place {
    /// All that its state was fed, and nothing else.
    ids: Vec<u32>,
    /// When it was kept or begun from; the largest is the latest.
    used: u64,
    /// Sequences that began from it.
    begun: usize,
}

/// What is kept at which place.
pub(super) struct Prefixes {
    places: Vec<Place>,
    uses: u64,
}

impl Prefixes {
    /// Nothing, with room for so many.
    pub(super) fn new(places: usize) -> Self {
        Self { places: vec![Place::default(); places], uses: 0 }
    }

    /// The place whose ids are the most that `prompt` begins with, or all of it, and how many those are.
    pub(super) fn find(&self, prompt: &[u32]) -> Option<(usize, usize)> {
        let begins = |place: &&Place| !place.ids.is_empty() && prompt.starts_with(&place.ids);
        let all = self.places.iter().enumerate().filter(|(_, place)| begins(place));
        all.map(|(at, place)| (at, place.ids.len())).max_by_key(|(_, tokens)| *tokens)
    }

    /// A sequence begins from `place`.
    pub(super) fn begin(&mut self, place: usize) {
        self.uses += 1;
        (self.places[place].used, self.places[place].begun) = (self.uses, self.places[place].begun + 1);
    }

    /// The place for a sequence that was fed `ids`, of which the first `prompt` are its prompt; none where the same is kept already, where
    /// there is little of it, or no room for any.
    ///
    /// Given up first are those that this one goes on from, as earlier turns of one conversation, but neither its own prompt, which the
    /// next turn may begin with where this answer is written in other words, nor what several sequences began from. Of those, and else of
    /// all, the one that was used longest ago.
    pub(super) fn keep(&mut self, ids: &[u32], prompt: usize) -> Option<usize> {
        if ids.len() < SHORT {
            return None;
        }
        self.uses += 1;
        if let Some(same) = self.places.iter_mut().find(|place| place.ids == ids) {
            same.used = self.uses;
            return None;
        }
        let outgrown = |place: &Place| place.begun < 2 && place.ids.len() != prompt && ids.starts_with(&place.ids);
        // What is free was used before all others, and any sequence goes on from it.
        let at = (0..self.places.len()).min_by_key(|at| (!outgrown(&self.places[*at]), self.places[*at].used))?;
        self.places[at] = Place { ids: ids.to_vec(), used: self.uses, begun: 0 };
        Some(at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    /// So many ids, of which all but the first `SHORT` tell `of` whom they are.
    fn ids(of: u32, tokens: usize) -> Vec<u32> {
        (0..tokens as u32).map(|i| if (i as usize) < SHORT { i } else { 1000 * of + i }).collect()
    }

    #[test]
    fn the_longest_that_a_prompt_begins_with_is_found() {
        let mut prefixes = Prefixes::new(4);
        assert_eq!(prefixes.find(&ids(1, 60)), None);
        let places = [(1, 40), (1, 50), (2, 55)].map(|(of, tokens)| prefixes.keep(&ids(of, tokens), tokens).unwrap());
        assert_eq!(prefixes.find(&ids(1, 60)), Some((places[1], 50)));
        // All of it, whose logits are kept, too; what is longer, or parts in the middle, is of no use.
        assert_eq!(prefixes.find(&ids(1, 50)), Some((places[1], 50)));
        assert_eq!(prefixes.find(&ids(1, 49)), Some((places[0], 40)));
        assert_eq!(prefixes.find(&ids(2, 54)), None);
        assert_eq!(prefixes.find(&ids(3, 60)), None);
    }

    #[test]
    fn few_tokens_are_not_kept_nor_any_twice() {
        let mut prefixes = Prefixes::new(2);
        assert_eq!(prefixes.keep(&ids(1, SHORT - 1), SHORT - 1), None);
        assert_eq!(prefixes.find(&ids(1, 60)), None);
        let first = prefixes.keep(&ids(1, 40), 40).unwrap();
        let second = prefixes.keep(&ids(2, 40), 40).unwrap();
        assert_ne!(first, second);
        // The same again is a use of it, so the other goes.
        assert_eq!(prefixes.keep(&ids(1, 40), 40), None);
        assert_eq!(prefixes.keep(&ids(3, 40), 40), Some(second));
        assert_eq!(Prefixes::new(0).keep(&ids(1, 40), 40), None);
    }

    /// Two conversations by turns need two places each, whether or not the next turn has the answer in the same words.
    #[test]
    fn earlier_turns_of_a_conversation_go_first() {
        for same_words in [true, false] {
            let mut prefixes = Prefixes::new(4);
            let mut said = [ids(1, 40), ids(2, 40)];
            for turn in 0..5 {
                for prompt in &mut said {
                    let found = prefixes.find(prompt);
                    assert_eq!(found.is_some(), turn > 0, "turn {turn}, the same words: {same_words}");
                    let tokens = prompt.len();
                    found.iter().for_each(|(place, _)| prefixes.begin(*place));
                    assert!(prefixes.keep(prompt, tokens).is_some());
                    let answer = [&prompt[..], &[7, 8, turn]].concat();
                    assert!(prefixes.keep(&answer, tokens).is_some());
                    prompt.extend(if same_words { [7, 8, turn, 9] } else { [8, turn, 9, 9] });
                }
            }
        }
    }

    /// What many begin with stays while somebody does.
    #[test]
    fn what_several_began_from_is_not_outgrown() {
        let mut prefixes = Prefixes::new(3);
        let shared = prefixes.keep(&ids(1, 40), 40).unwrap();
        for of in 2..9 {
            let prompt = [ids(1, 40), ids(of, 40)].concat();
            assert_eq!(prefixes.find(&prompt), Some((shared, 40)));
            prefixes.begin(shared);
            assert!(prefixes.keep(&prompt, 80).is_some_and(|place| place != shared));
            assert!(prefixes.keep(&[&prompt[..], &[of]].concat(), 80).is_some_and(|place| place != shared));
        }
    }
}
