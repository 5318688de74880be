//! System calls per request, counted by a tracer that keeps no events.

use std::collections::BTreeMap;

/// Calls by name.
pub type Calls = BTreeMap<&'static str, Count>;

/// How often one call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub made: u64,
    /// How many of these returned EAGAIN.
    pub empty: u64,
}

/// Calls and requests between two marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub requests: u64,
    pub calls: Calls,
}

impl Tally {
    /// Makes a tally from the counts at both marks.
    pub fn between(before: &Calls, after: &Calls, requests: u64) -> Self {
        let mut calls = Calls::new();
        for (name, count) in after {
            let earlier = before.get(name).copied().unwrap_or_default();
            let made = count.made - earlier.made;
            let empty = count.empty.saturating_sub(earlier.empty);
            if made > 0 {
                calls.insert(name, Count { made, empty });
            }
        }
        Self { requests, calls }
    }

    /// Returns the number of system calls per request.
    pub fn each(&self) -> f64 {
        let made: u64 = self.calls.values().map(|count| count.made).sum();
        self.share(made)
    }

    /// Returns the calls that were made most often, with how many per request,
    /// and how many of these returned EAGAIN.
    pub fn most(&self, many: usize) -> Vec<(&'static str, f64, f64)> {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_by_key(|(_, count)| std::cmp::Reverse(count.made));
        let shares = calls.into_iter().map(|(name, count)| {
            (*name, self.share(count.made), self.share(count.empty))
        });
        shares.filter(|(_, made, _)| *made >= 0.005).take(many).collect()
    }

    fn share(&self, calls: u64) -> f64 {
        calls as f64 / self.requests.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(made: u64, empty: u64) -> Count {
        Count { made, empty }
    }

    #[test]
    fn calls_between_two_marks_are_counted() {
        let before =
            Calls::from([("socket", count(1, 0)), ("recvfrom", count(3, 2))]);
        let after = Calls::from([
            ("epoll_wait", count(2, 0)),
            ("recvfrom", count(7, 3)),
            ("sendto", count(2, 0)),
            ("socket", count(1, 0)),
        ]);
        let tally = Tally::between(&before, &after, 2);
        let expected = [
            ("epoll_wait", count(2, 0)),
            ("recvfrom", count(4, 1)),
            ("sendto", count(2, 0)),
        ];
        assert_eq!(tally.calls, Calls::from(expected));
        assert_eq!(tally.each().to_bits(), 4.0_f64.to_bits());
        let most = tally.most(2);
        assert_eq!(most, [("recvfrom", 2.0, 0.5), ("epoll_wait", 1.0, 0.0)]);
    }

    #[test]
    fn what_is_hardly_ever_made_is_not_listed() {
        let calls =
            Calls::from([("recvfrom", count(1_000, 0)), ("brk", count(4, 0))]);
        let tally = Tally { requests: 1_000, calls };
        assert_eq!(tally.most(4), [("recvfrom", 1.0, 0.0)]);
        let nothing = Tally::default();
        assert!(nothing.each().abs() < f64::EPSILON);
        assert_eq!(nothing.most(4), []);
    }
}
