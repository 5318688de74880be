//! Folding: repeated rounds are shown once, with a count.

use std::ops::Range;

/// The longest round that is detected.
const LONGEST: usize = 8;

/// The least number of rounds that is folded.
const WORTH: usize = 3;

/// A piece of a list: `rounds` equal rounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub range: Range<usize>,
    pub rounds: usize,
}

/// Cuts a list into pieces. An item without a key equals no other.
pub fn fold<K: PartialEq>(keys: &[Option<K>]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < keys.len() {
        let best = (1..=LONGEST)
            .map(|period| (period, rounds(&keys[at..], period)))
            .find(|(_, rounds)| *rounds >= WORTH);
        let (period, rounds) = best.unwrap_or((1, 1));
        let end = at + period * rounds;
        pieces.push(Piece { range: at..end, rounds });
        at = end;
    }
    pieces
}

/// Counts how often the first `period` keys occur in a row.
fn rounds<K: PartialEq>(keys: &[Option<K>], period: usize) -> usize {
    if keys.len() < period || keys[..period].iter().any(Option::is_none) {
        return 1;
    }
    let mut rounds = 1;
    let mut chunks = keys.chunks_exact(period).skip(1);
    while chunks.next().is_some_and(|chunk| *chunk == keys[..period]) {
        rounds += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_found() {
        let rows = [
            ("", ""),
            ("a", "a "),
            ("aa", "a a "),
            ("aaa", "3×a "),
            ("abab", "a b a b "),
            ("ababab", "3×ab "),
            ("xabababy", "x 3×ab y "),
            // A dash has no key.
            ("a-a-a-", "a - a - a - "),
            ("aaabbb", "3×a 3×b "),
        ];
        for (text, expected) in rows {
            let keys: Vec<_> =
                text.chars().map(|c| (c != '-').then_some(c)).collect();
            let mut folded = String::new();
            for Piece { range, rounds } in fold(&keys) {
                let round = &text[range.start..][..range.len() / rounds];
                folded += &match rounds {
                    1 => format!("{round} "),
                    rounds => format!("{rounds}×{round} "),
                };
            }
            assert_eq!(folded, expected, "{text}");
        }
    }
}
