//! Idle timeouts: how long a client may go without completing a request.

use std::time::{Duration, Instant};

use slotmap::{DefaultKey, Key as _, SecondaryMap};

use crate::limits::{GRACE, LINGER};

/// The idle timer of a client that has a process, a thread or a task. Each
/// completed request restarts it; the end of the conversation shortens it.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    timeout: Option<Duration>,
    due: Option<Instant>,
}

impl Timer {
    /// Expires `timeout` after `now`; with `None` it never does.
    pub fn new(timeout: Option<Duration>, now: Instant) -> Self {
        Self { timeout, due: timeout.map(|timeout| now + timeout) }
    }

    /// Starts the whole timeout again, because a request was completed at
    /// `now`.
    pub fn restart(&mut self, now: Instant) {
        self.due = self.timeout.map(|timeout| now + timeout);
    }

    /// Sets the timeout to `within`, because the conversation ends.
    pub fn end_within(&mut self, within: Duration, now: Instant) {
        *self = Self::new(Some(within), now);
    }

    /// Whether the timeout is over.
    pub fn has_expired(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The time that remains; zero once it has expired, `None` if it never
    /// does.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }
}

/// The timeouts of an event loop's client. One of them runs at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// `--idle-timeout`, from the last completed request on.
    Idle,
    /// [`GRACE`], after the idle timeout.
    Grace,
    /// [`LINGER`], at the end of the conversation.
    Linger,
}

/// The timers of an event loop's clients.
///
/// Each timeout has a list of the clients for which it runs. It is equally long
/// for all of them, so they expire in the order in which they were started: a
/// timer is started at the end of its list, and expires at the front. The links
/// lead in both directions, so that a client that leaves is taken out of the
/// middle. No operation depends on the number of clients.
#[derive(Debug)]
pub struct Timers {
    lists: [List; 3],
    entries: SecondaryMap<DefaultKey, Entry>,
    /// The moment from which `Entry::due` counts.
    start: Instant,
}

/// The clients for which one timeout runs; null keys if there are none.
#[derive(Debug)]
struct List {
    /// `None` if it never expires.
    timeout: Option<Duration>,
    first: DefaultKey,
    last: DefaultKey,
}

/// A client's place in a list, between two others. The key is null where there
/// is none.
#[derive(Debug)]
struct Entry {
    /// In nanoseconds, which have room for 584 years: half the size of an
    /// [`Instant`].
    due: u64,
    previous: DefaultKey,
    next: DefaultKey,
}

impl Timers {
    /// No timer runs yet. An idle timeout of `None` never expires.
    pub fn new(idle_timeout: Option<Duration>) -> Self {
        let list = |timeout| {
            let (first, last) = (DefaultKey::null(), DefaultKey::null());
            List { timeout, first, last }
        };
        let timeouts = [idle_timeout, Some(GRACE), Some(LINGER)];
        Self {
            lists: timeouts.map(list),
            entries: SecondaryMap::new(),
            start: Instant::now(),
        }
    }

    /// Starts a timeout for a client, in place of the one that runs. `now` must
    /// not be earlier than when this timeout was last started. After a request,
    /// it is not the start of the loop's round: a server that lost the CPU
    /// since then would close the client right after the reply.
    pub fn start(&mut self, key: DefaultKey, timeout: Timeout, now: Instant) {
        self.cancel(key);
        let list = &mut self.lists[timeout as usize];
        let Some(timeout) = list.timeout else { return };
        let due = (now + timeout).saturating_duration_since(self.start);
        let entry = Entry {
            due: due.as_nanos() as u64,
            previous: list.last,
            next: DefaultKey::null(),
        };
        list.last = key;
        match self.entries.get_mut(entry.previous) {
            Some(previous) => previous.next = key,
            None => list.first = key,
        }
        self.entries.insert(key, entry);
    }

    /// Removes the timer of a client that has gone, if one runs.
    pub fn cancel(&mut self, key: DefaultKey) {
        let Some(Entry { previous, next, .. }) = self.entries.remove(key)
        else {
            return;
        };
        match self.entries.get_mut(previous) {
            Some(entry) => entry.next = next,
            None => self.replace(key, next, |list| &mut list.first),
        }
        match self.entries.get_mut(next) {
            Some(entry) => entry.previous = previous,
            None => self.replace(key, previous, |list| &mut list.last),
        }
    }

    /// Replaces a key at one end of its list.
    fn replace(
        &mut self,
        old: DefaultKey,
        new: DefaultKey,
        end: impl Fn(&mut List) -> &mut DefaultKey,
    ) {
        let mut ends = self.lists.iter_mut().map(end);
        if let Some(end) = ends.find(|end| **end == old) {
            *end = new;
        }
    }

    /// Whether a timeout runs for a client. It does not once it has expired.
    pub fn is_running(&self, key: DefaultKey) -> bool {
        self.entries.contains_key(key)
    }

    /// The moment at which the next timer expires.
    pub fn next(&self) -> Option<Instant> {
        let firsts = self.lists.iter().map(|list| list.first);
        firsts.filter_map(|first| self.due(first)).min()
    }

    /// Removes a timer that has expired, and returns its client.
    pub fn pop_expired(&mut self, now: Instant) -> Option<DefaultKey> {
        let mut firsts = self.lists.iter().map(|list| list.first);
        let expired =
            firsts.find(|&first| self.due(first).is_some_and(|due| due <= now));
        self.cancel(expired?);
        expired
    }

    fn due(&self, key: DefaultKey) -> Option<Instant> {
        let entry = self.entries.get(key)?;
        Some(self.start + Duration::from_nanos(entry.due))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn some_keys(count: usize) -> Vec<DefaultKey> {
        let mut clients = SlotMap::new();
        (0..count).map(|_| clients.insert(())).collect()
    }

    #[test]
    fn a_timer_restarts_and_ends() {
        let start = Instant::now();
        let mut timer = Timer::new(Some(10 * SECOND), start);
        timer.restart(start + 4 * SECOND);
        assert!(!timer.has_expired(start + 13 * SECOND));
        assert!(timer.has_expired(start + 14 * SECOND));
        timer.end_within(2 * SECOND, start + 5 * SECOND);
        assert_eq!(timer.remaining(start + 6 * SECOND), Some(SECOND));
        assert!(timer.has_expired(start + 7 * SECOND));
    }

    #[test]
    fn never_does_not_expire() {
        let now = Instant::now();
        let mut timer = Timer::new(None, now);
        timer.restart(now);
        assert_eq!(timer.remaining(now), None);
        assert!(!timer.has_expired(now + 1000 * SECOND));

        let key = some_keys(1)[0];
        let mut timers = Timers::new(None);
        timers.start(key, Timeout::Idle, now);
        assert_eq!(timers.next(), None);
        assert_eq!(timers.pop_expired(now + 1000 * SECOND), None);
        timers.start(key, Timeout::Linger, now);
        assert_eq!(timers.next(), Some(now + LINGER));
    }

    #[test]
    fn a_restarted_timer_expires_after_those_started_before() {
        let start = Instant::now();
        let keys = some_keys(3);
        let mut timers = Timers::new(Some(10 * SECOND));
        for (&key, at) in keys.iter().zip(0..) {
            timers.start(key, Timeout::Idle, start + at * SECOND);
        }
        timers.start(keys[0], Timeout::Idle, start + 3 * SECOND);
        let end = start + 13 * SECOND;
        assert_eq!(timers.pop_expired(start + 10 * SECOND), None);
        assert_eq!(timers.next(), Some(start + 11 * SECOND));
        for key in [keys[1], keys[2], keys[0]] {
            assert!(timers.is_running(key));
            assert_eq!(timers.pop_expired(end), Some(key));
            assert!(!timers.is_running(key));
        }
        assert_eq!(timers.pop_expired(end), None);
    }

    #[test]
    fn the_end_of_a_conversation_comes_earlier() {
        let start = Instant::now();
        let key = some_keys(1)[0];
        let mut timers = Timers::new(Some(10 * SECOND));
        timers.start(key, Timeout::Idle, start);
        timers.start(key, Timeout::Linger, start + SECOND);
        assert_eq!(timers.next(), Some(start + SECOND + LINGER));
        assert_eq!(timers.pop_expired(start + SECOND + LINGER), Some(key));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_client_that_has_gone_leaves_nothing_behind() {
        let start = Instant::now();
        let mut clients = SlotMap::new();
        let mut timers = Timers::new(Some(SECOND));
        for _ in 0..1000 {
            let key = clients.insert(());
            timers.start(key, Timeout::Idle, start);
            timers.start(key, Timeout::Linger, start);
            timers.cancel(key);
            clients.remove(key);
        }
        assert_eq!(timers.next(), None);
        assert!(timers.entries.is_empty());
        assert!(timers.entries.capacity() < 10);
    }

    /// A step of one of a few clients. Each comes some milliseconds after the
    /// one before.
    #[derive(Clone, Debug)]
    enum Step {
        Start(usize, Timeout),
        Cancel(usize),
        Expire,
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
        let timeout = prop_oneof![
            Just(Timeout::Idle),
            Just(Timeout::Grace),
            Just(Timeout::Linger)
        ];
        let step = prop_oneof![
            4 => (0..8usize, timeout).prop_map(|(n, t)| Step::Start(n, t)),
            2 => (0..8usize).prop_map(Step::Cancel),
            1 => Just(Step::Expire),
        ];
        prop::collection::vec((step, 0..300u64), 1..100)
    }

    proptest! {
        /// Compares with a table in which every timer is looked at.
        #[test]
        fn expire_when_they_are_due(steps in steps()) {
            let keys = some_keys(8);
            let mut now = Instant::now();
            let mut timers = Timers::new(Some(SECOND));
            let mut table = BTreeMap::new();
            for (step, later) in steps {
                now += Duration::from_millis(later);
                match step {
                    Step::Start(number, timeout) => {
                        timers.start(keys[number], timeout, now);
                        let within = match timeout {
                            Timeout::Idle => SECOND,
                            Timeout::Grace => GRACE,
                            Timeout::Linger => LINGER,
                        };
                        table.insert(keys[number], now + within);
                    }
                    Step::Cancel(number) => {
                        timers.cancel(keys[number]);
                        table.remove(&keys[number]);
                    }
                    Step::Expire => {
                        while let Some(key) = timers.pop_expired(now) {
                            let due = table.remove(&key);
                            prop_assert!(due.is_some_and(|due| due <= now));
                        }
                        prop_assert!(table.values().all(|due| *due > now));
                    }
                }
                prop_assert_eq!(timers.next(), table.values().min().copied());
                for key in &keys {
                    let runs = table.contains_key(key);
                    prop_assert_eq!(timers.is_running(*key), runs);
                }
            }
        }
    }
}
