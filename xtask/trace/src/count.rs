//! System calls, counted under the tracer, which then keeps no events.

use std::collections::{BTreeMap, HashMap};

use nix::unistd::Pid;

/// Calls by name.
pub type Calls = BTreeMap<&'static str, Count>;

/// How often one call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub made: u64,
    /// How many of these returned EAGAIN.
    pub empty: u64,
}

/// Counts what the threads of a command do.
#[derive(Debug, Default)]
pub struct Counter {
    calls: Calls,
    /// The call that each thread is in.
    open: HashMap<Pid, &'static str>,
}

impl Counter {
    /// Counts here, not at the end: a call that lasts was made before it
    /// waited.
    pub fn entered(&mut self, tid: Pid, name: &'static str) {
        self.calls.entry(name).or_default().made += 1;
        self.open.insert(tid, name);
    }

    pub fn left(&mut self, tid: Pid, result: i64) {
        let name = self.open.remove(&tid);
        let count = name.and_then(|name| self.calls.get_mut(name));
        if let Some(count) = count.filter(|_| result == NOTHING_THERE) {
            count.empty += 1;
        }
    }

    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

const NOTHING_THERE: i64 = -(libc::EAGAIN as i64);

/// Calls and requests between two marks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub requests: u64,
    pub calls: Calls,
}

impl Tally {
    /// From what had been counted at either mark.
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

    /// System calls a request.
    pub fn each(&self) -> f64 {
        let made: u64 = self.calls.values().map(|count| count.made).sum();
        self.share(made)
    }

    /// The calls that were made most, with how many per request, and how many
    /// of these returned EAGAIN.
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

    /// Thread, call, result; none where it has not returned.
    type Made = (i32, &'static str, Option<i64>);

    fn counted(calls: &[Made]) -> Calls {
        let mut counter = Counter::default();
        for (tid, name, result) in calls {
            counter.entered(Pid::from_raw(*tid), name);
            if let Some(result) = result {
                counter.left(Pid::from_raw(*tid), *result);
            }
        }
        counter.calls()
    }

    #[test]
    fn calls_between_two_marks_are_counted() {
        let start = [(1, "socket", Some(3)), (1, "epoll_wait", None)];
        let again = i64::from(-libc::EAGAIN);
        let refused = i64::from(-libc::ECONNRESET);
        let load: [Made; 8] = [
            (2, "recvfrom", None),
            (1, "recvfrom", Some(6)),
            (1, "recvfrom", Some(again)),
            (1, "recvfrom", Some(refused)),
            (1, "sendto", Some(7)),
            (1, "sendto", Some(7)),
            (1, "epoll_wait", Some(1)),
            (1, "epoll_wait", None),
        ];
        let before = counted(&start);
        let after = counted(&[&start[..], &load[..]].concat());
        let tally = Tally::between(&before, &after, 2);
        let count = |made, empty| Count { made, empty };
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
    fn a_call_belongs_to_its_thread() {
        let mut counter = Counter::default();
        let [one, other] = [1, 2].map(Pid::from_raw);
        counter.entered(one, "read");
        counter.entered(other, "accept4");
        counter.left(one, NOTHING_THERE);
        counter.left(other, 5);
        // The end of a call whose beginning nobody saw.
        counter.left(one, NOTHING_THERE);
        let calls = counter.calls();
        assert_eq!(calls["read"], Count { made: 1, empty: 1 });
        assert_eq!(calls["accept4"], Count { made: 1, empty: 0 });
    }

    #[test]
    fn what_is_hardly_ever_made_is_not_listed() {
        let calls = Calls::from([
            ("recvfrom", Count { made: 1_000, empty: 0 }),
            ("brk", Count { made: 4, empty: 0 }),
        ]);
        let tally = Tally { requests: 1_000, calls };
        assert_eq!(tally.most(4), [("recvfrom", 1.0, 0.0)]);
        let nothing = Tally::default();
        assert!(nothing.each().abs() < f64::EPSILON);
        assert_eq!(nothing.most(4), []);
    }
}
