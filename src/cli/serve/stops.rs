//! Texts at which an answer stops.

use std::sync::Arc;

/// Looks for texts in one that comes piece by piece. What may be the beginning of one is held back.
pub(super) struct Stops {
    stops: Arc<[String]>,
    held: String,
}

impl Stops {
    pub(super) fn new(stops: Arc<[String]>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Adds a piece; gives the text before any stop that is sure now, and whether there is one.
    pub(super) fn push(&mut self, piece: &str) -> (String, bool) {
        self.held += piece;
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let may_begin = |tail: &str| self.stops.iter().any(|stop| stop.starts_with(tail));
        let ends = self.held.char_indices().map(|(at, _)| at).find(|at| may_begin(&self.held[*at..]));
        let rest = self.held.split_off(ends.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What is held back at the end.
    pub(super) fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::Stops;

    #[test]
    fn stops_at_the_first_of_several() {
        let all = |stops: &[&str], pieces: &[&str]| {
            let mut stops = Stops::new(stops.iter().map(|s| (*s).to_owned()).collect());
            let mut out: Vec<String> = Vec::new();
            for piece in pieces {
                let (text, stopped) = stops.push(piece);
                out.push(text);
                if stopped {
                    return (out, true);
                }
            }
            out.push(stops.rest());
            (out, false)
        };
        let owned = |pieces: &[&str]| pieces.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert_eq!(all(&[], &["a", "bc"]), (owned(&["a", "bc", ""]), false));
        assert_eq!(all(&["END"], &["so E", "N", "T EN", "D gone"]), (owned(&["so ", "", "ENT ", ""]), true));
        assert_eq!(all(&["END"], &["so E", "N"]), (owned(&["so ", "", "EN"]), false));
        assert_eq!(all(&["bc", "ab"], &["xabc"]), (owned(&["x"]), true));
        assert_eq!(all(&["é!"], &["é", "é", "!"]), (owned(&["", "é", ""]), true));
    }
}
