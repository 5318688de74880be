//! Idle timeouts: how long a client may go without completing a request.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The idle timer of one client. Each completed request restarts it, which
/// costs one store; the end of the conversation shortens it.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    timeout: Option<Duration>,
    due: Option<Instant>,
    /// The moment under which [`Timers`] holds it.
    queued: Option<Instant>,
}

impl Timer {
    /// Expires `timeout` after `now`; with `None` it never does.
    pub fn new(timeout: Option<Duration>, now: Instant) -> Self {
        let due = timeout.map(|timeout| now + timeout);
        Self { timeout, due, queued: None }
    }

    /// Starts the whole timeout again, because a request was completed at
    /// `now`. The start of the loop's round would be too early: a server that
    /// lost the CPU since then would close the client right after the reply.
    pub fn restart(&mut self, now: Instant) {
        self.due = self.timeout.map(|timeout| now + timeout);
    }

    /// Sets the timeout to `within`, because the conversation ends.
    pub fn end_within(&mut self, within: Duration, now: Instant) {
        *self = Self { queued: self.queued, ..Self::new(Some(within), now) };
    }

    /// Moves the end to `by` after `now`, until the next restart.
    pub fn extend(&mut self, by: Duration, now: Instant) {
        self.due = Some(now + by);
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

/// The timers of a loop's clients, each once, the earliest first.
///
/// A timer that was restarted keeps its old place until that moment comes, and
/// is rescheduled then, so a busy client costs nothing here. A timer that was
/// shortened gets a new place. No operation is linear in the number of clients.
#[derive(Debug)]
pub struct Timers<K> {
    queue: BTreeSet<(Instant, K)>,
}

impl<K: Copy + Ord> Timers<K> {
    /// Has no timer yet.
    pub fn new() -> Self {
        Self { queue: BTreeSet::new() }
    }

    /// Schedules a timer: [`Self::pop_expired`] will return `key`. Costs little
    /// if nothing has changed, so that it can be called after every event.
    pub fn schedule(&mut self, key: K, timer: &mut Timer) {
        let Some(due) = timer.due else { return };
        if timer.queued.is_some_and(|queued| queued <= due) {
            return;
        }
        self.cancel(key, timer);
        self.queue.insert((due, key));
        timer.queued = Some(due);
    }

    /// Removes the timer of a client that has gone.
    pub fn cancel(&mut self, key: K, timer: &Timer) {
        if let Some(queued) = timer.queued {
            self.queue.remove(&(queued, key));
        }
    }

    /// The moment at which [`Self::pop_expired`] may return a key.
    pub fn next(&self) -> Option<Instant> {
        self.queue.first().map(|&(queued, _)| queued)
    }

    /// Removes and returns a client whose timer may have expired. The caller
    /// closes it, or [reschedules](Self::reschedule) it if its timer
    /// [has not expired](Timer::has_expired).
    pub fn pop_expired(&mut self, now: Instant) -> Option<K> {
        let &(queued, _) = self.queue.first()?;
        if queued > now {
            return None;
        }
        self.queue.pop_first().map(|(_, key)| key)
    }

    /// Schedules again what [`Self::pop_expired`] returned too early.
    pub fn reschedule(&mut self, key: K, timer: &mut Timer) {
        timer.queued = None;
        self.schedule(key, timer);
    }
}

impl<K: Copy + Ord> Default for Timers<K> {
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
        let mut timer = Timer::new(None, now);
        let mut timers = Timers::new();
        timers.schedule(1, &mut timer);
        timer.restart(now);
        assert_eq!(timers.next(), None);
        assert_eq!(timer.remaining(now), None);
        assert!(!timer.has_expired(now + 1000 * SECOND));
    }

    #[test]
    fn a_restart_is_found_out_when_the_old_moment_comes() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut timer = Timer::new(Some(10 * SECOND), start);
        timers.schedule(1, &mut timer);
        timer.restart(start + 4 * SECOND);
        timers.schedule(1, &mut timer);
        assert_eq!(timers.next(), Some(start + 10 * SECOND));
        assert_eq!(timers.pop_expired(start + 9 * SECOND), None);
        assert_eq!(timers.pop_expired(start + 10 * SECOND), Some(1));
        assert!(!timer.has_expired(start + 10 * SECOND));
        timers.reschedule(1, &mut timer);
        assert_eq!(timers.next(), Some(start + 14 * SECOND));
        assert!(timer.has_expired(start + 14 * SECOND));
        timer.extend(SECOND, start + 14 * SECOND);
        assert!(!timer.has_expired(start + 14 * SECOND));
        assert!(timer.has_expired(start + 15 * SECOND));
    }

    #[test]
    fn an_ending_moves_it_earlier() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut timer = Timer::new(Some(10 * SECOND), start);
        timers.schedule(1, &mut timer);
        timer.end_within(2 * SECOND, start + SECOND);
        timers.schedule(1, &mut timer);
        assert_eq!(timers.pop_expired(start + 3 * SECOND), Some(1));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let start = Instant::now();
        let mut timers = Timers::new();
        for key in 0..1000 {
            let mut timer = Timer::new(Some(SECOND), start);
            timers.schedule(key, &mut timer);
            timer.restart(start + SECOND);
            timers.cancel(key, &timer);
        }
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn the_earliest_comes_first_however_they_were_restarted() {
        let start = Instant::now();
        let mut timers = Timers::new();
        let mut early = Timer::new(Some(10 * SECOND), start);
        let mut late = Timer::new(Some(10 * SECOND), start + 5 * SECOND);
        timers.schedule(1, &mut early);
        timers.schedule(2, &mut late);
        early.restart(start + SECOND);
        assert_eq!(timers.pop_expired(start + 10 * SECOND), Some(1));
        timers.reschedule(1, &mut early);
        assert_eq!(timers.next(), Some(start + 11 * SECOND));
    }
}
