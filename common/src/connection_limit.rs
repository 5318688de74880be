//! ConnectionLimit: how many clients there may be at a time.

use std::fs::DirEntry;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::{DEFAULT_MAX_CONNECTIONS, DESCRIPTORS_KEPT_FREE};
use crate::{Config, log};

/// How many clients there may be, decided once at start.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimit {
    limit: usize,
}

impl ConnectionLimit {
    /// Takes `--max-connections` at its word, with a warning where the
    /// process's limits are lower. Otherwise the lesser of 65,536 and what the
    /// descriptors left allow, at so many `descriptors` that a client keeps
    /// open in this process (0: they set no limit). Call it when everything is
    /// bound.
    pub fn new(config: &Config, descriptors: usize) -> Self {
        Self::with_ceiling(config, descriptors, usize::MAX, "ulimit -Hn")
    }

    /// The same for a model that can't take more than `ceiling` clients,
    /// whatever the process is allowed; `why` is where to read about it.
    pub fn with_ceiling(
        config: &Config,
        descriptors: usize,
        ceiling: usize,
        why: &str,
    ) -> Self {
        let room = possible(descriptors);
        let (possible, why) =
            if room < ceiling { (room, "ulimit -Hn") } else { (ceiling, why) };
        let limit = match config.max_connections {
            None => possible.min(DEFAULT_MAX_CONNECTIONS),
            Some(asked) => {
                if asked > possible {
                    log::warning(&format!(
                        "--max-connections {asked} is more than the \
                         {possible} clients this process has room for; those \
                         it cannot serve are refused (see {why})"
                    ));
                }
                asked
            }
        };
        Self { limit }
    }

    /// How many clients there may be.
    pub fn max(self) -> usize {
        self.limit
    }

    /// Whether one more may come when there are `clients` already.
    pub fn allows(self, clients: usize) -> bool {
        clients < self.limit
    }
}

/// How many clients the limits leave room for, one at least.
fn possible(descriptors: usize) -> usize {
    let (soft, _) = descriptor_limit();
    let free = soft.saturating_sub(open_descriptors() + DESCRIPTORS_KEPT_FREE);
    free.checked_div(descriptors).unwrap_or(usize::MAX).max(1)
}

/// Raises the soft limit of descriptors to the hard one: select(2) is the only
/// reason for the low default, and who waits with it must check by itself.
pub(crate) fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warning(&format!(
            "cannot raise the limit of open files from {soft} to {hard}: \
             {errno}; going on with {soft}"
        ));
    }
}

fn descriptor_limit() -> (usize, usize) {
    // POSIX promises 20 descriptors at least, should the question fail.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((20, 20));
    let bounded = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
    (bounded(soft), bounded(hard))
}

fn open_descriptors() -> usize {
    open_descriptors_below(usize::MAX)
}

/// How many descriptors with a number below `end` are open in this process
/// now; a guess where /proc is not mounted.
pub fn open_descriptors_below(end: usize) -> usize {
    const GUESS: usize = 16;
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return GUESS };
    let number = |entry: &DirEntry| entry.file_name().to_str()?.parse().ok();
    let numbers = entries.flatten().filter_map(|entry| number(&entry));
    // One of them is the descriptor that reads the folder.
    numbers.filter(|&number: &usize| number < end).count().saturating_sub(1)
}
