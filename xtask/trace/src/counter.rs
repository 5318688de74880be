//! Counts of system calls, made while a server runs.

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

/// EAGAIN, as the kernel returns it.
const NOTHING_THERE: i64 = -(libc::EAGAIN as i64);

#[cfg(test)]
mod tests {
    use super::*;

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
}
