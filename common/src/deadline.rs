//! Deadlines: how long a client may go without completing a request.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// One client's deadline. It moves later with each completed request, at no
/// more cost than a store, and earlier when the conversation ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    timeout: Option<Duration>,
    due: Option<Instant>,
    /// Under which moment [`Deadlines`] has it.
    queued: Option<Instant>,
}

impl Deadline {
    /// `timeout` from `now`; `None` is never.
    pub fn new(timeout: Option<Duration>, now: Instant) -> Self {
        let due = timeout.map(|timeout| now + timeout);
        Self { timeout, due, queued: None }
    }

    /// A request was completed: the whole timeout from `now` again.
    pub fn restart(&mut self, now: Instant) {
        self.due = self.timeout.map(|timeout| now + timeout);
    }

    /// The conversation ends: `within` from `now` from here on.
    pub fn end_within(&mut self, within: Duration, now: Instant) {
        *self = Self { queued: self.queued, ..Self::new(Some(within), now) };
    }

    /// True once it is too late.
    pub fn has_passed(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// What is left of it, zero when it has passed; `None`: it never does.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(now))
    }
}

/// The deadlines of a loop's clients, each once, the earliest first.
///
/// A deadline that moved later is found out when its old moment comes, so a
/// busy client costs nothing here; one that moved earlier is watched anew.
/// No operation visits all the clients.
#[derive(Debug)]
pub struct Deadlines<K> {
    queue: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Deadlines<K> {
    /// No client yet.
    pub fn new() -> Self {
        Self { queue: BTreeSet::new() }
    }

    /// Sees to it that `key` is returned by [`Self::pop`] when its deadline
    /// passes. Cheap where nothing has changed: call it after every visit.
    pub fn watch(&mut self, key: K, deadline: &mut Deadline) {
        let Some(due) = deadline.due else { return };
        if deadline.queued.is_some_and(|queued| queued <= due) {
            return;
        }
        self.forget(key, deadline);
        self.queue.insert((due, key));
        deadline.queued = Some(due);
    }

    /// The client is gone.
    pub fn forget(&mut self, key: K, deadline: &Deadline) {
        if let Some(queued) = deadline.queued {
            self.queue.remove(&(queued, key));
        }
    }

    /// When [`Self::pop`] may have something to say.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(queued, _)| queued)
    }

    /// A client whose deadline may have passed. The caller closes it, or,
    /// where [`Deadline::has_passed`] says no, [watches](Self::rewatch) on.
    pub fn pop(&mut self, now: Instant) -> Option<K> {
        let &(queued, _) = self.queue.first()?;
        if queued > now {
            return None;
        }
        self.queue.pop_first().map(|(_, key)| key)
    }

    /// Takes back what [`Self::pop`] returned too early.
    pub fn rewatch(&mut self, key: K, deadline: &mut Deadline) {
        deadline.queued = None;
        self.watch(key, deadline);
    }
}

impl<K: Copy + Ord> Default for Deadlines<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn never_is_never_queued() {
        let now = Instant::now();
        let mut deadline = Deadline::new(None, now);
        let mut deadlines = Deadlines::new();
        deadlines.watch(1, &mut deadline);
        deadline.restart(now);
        assert_eq!(deadlines.next(), None);
        assert_eq!(deadline.remaining(now), None);
        assert!(!deadline.has_passed(now + 1000 * SECOND));
    }

    #[test]
    fn a_restart_is_found_out_when_the_old_moment_comes() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new();
        let mut deadline = Deadline::new(Some(10 * SECOND), start);
        deadlines.watch(1, &mut deadline);
        deadline.restart(start + 4 * SECOND);
        deadlines.watch(1, &mut deadline);
        assert_eq!(deadlines.next(), Some(start + 10 * SECOND));
        assert_eq!(deadlines.pop(start + 9 * SECOND), None);
        assert_eq!(deadlines.pop(start + 10 * SECOND), Some(1));
        assert!(!deadline.has_passed(start + 10 * SECOND));
        deadlines.rewatch(1, &mut deadline);
        assert_eq!(deadlines.next(), Some(start + 14 * SECOND));
        assert!(deadline.has_passed(start + 14 * SECOND));
    }

    #[test]
    fn an_ending_moves_it_earlier() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new();
        let mut deadline = Deadline::new(Some(10 * SECOND), start);
        deadlines.watch(1, &mut deadline);
        deadline.end_within(2 * SECOND, start + SECOND);
        deadlines.watch(1, &mut deadline);
        assert_eq!(deadlines.pop(start + 3 * SECOND), Some(1));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new();
        for key in 0..1000 {
            let mut deadline = Deadline::new(Some(SECOND), start);
            deadlines.watch(key, &mut deadline);
            deadline.restart(start + SECOND);
            deadlines.forget(key, &deadline);
        }
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn the_earliest_comes_first_however_they_were_restarted() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new();
        let mut early = Deadline::new(Some(10 * SECOND), start);
        let mut late = Deadline::new(Some(10 * SECOND), start + 5 * SECOND);
        deadlines.watch(1, &mut early);
        deadlines.watch(2, &mut late);
        early.restart(start + SECOND);
        assert_eq!(deadlines.pop(start + 10 * SECOND), Some(1));
        deadlines.rewatch(1, &mut early);
        assert_eq!(deadlines.next(), Some(start + 11 * SECOND));
    }
}
