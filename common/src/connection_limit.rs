//! The connection limit: how many clients may be connected at a time.

use std::fs::DirEntry;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::{DEFAULT_MAX_CONNECTIONS, DESCRIPTORS_KEPT_FREE};
use crate::{Config, log};

/// The maximum number of clients, decided once at the start.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimit {
    limit: usize,
}

impl ConnectionLimit {
    /// Uses `--max-connections`, with a warning if the limits of the process
    /// are lower. Without it, the limit is 65,536, or less if fewer descriptors
    /// are free; `descriptors` is how many one client keeps open in this
    /// process (0 if none). Call it when everything is bound.
    pub fn new(config: &Config, descriptors: usize) -> Self {
        Self::with_ceiling(config, descriptors, usize::MAX, "ulimit -Hn")
    }

    /// Computes the limit for a model that can't serve more than `ceiling`
    /// clients in any case; `why` says where to read about that.
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
                         it cannot serve are rejected (see {why})"
                    ));
                }
                asked
            }
        };
        Self { limit }
    }

    /// The maximum number of clients.
    pub fn max(self) -> usize {
        self.limit
    }

    /// Whether another client may connect when there are `clients` already.
    pub fn allows(self, clients: usize) -> bool {
        clients < self.limit
    }
}

/// The number of clients for which the process has descriptors, at least 1.
fn possible(descriptors: usize) -> usize {
    let (soft, _) = descriptor_limit();
    let free = soft.saturating_sub(open_descriptors() + DESCRIPTORS_KEPT_FREE);
    free.checked_div(descriptors).unwrap_or(usize::MAX).max(1)
}

/// Returns how many workers of a pool are to be started, if each needs a
/// descriptor for its client: `asked`, or as many as there are descriptors,
/// with a warning.
pub fn workers_with_descriptors(asked: usize) -> usize {
    let possible = possible(1);
    if asked > possible {
        log::warning(&format!(
            "--workers {asked} is more than the {possible} clients this \
             process has room for; starting {possible} (see ulimit -Hn)"
        ));
    }
    asked.min(possible)
}

/// Returns how many clients this process has descriptors for now, if each needs
/// one.
pub fn descriptors_for_clients() -> usize {
    possible(1)
}

/// Raises the soft limit of open files to the hard limit. The default is low
/// because of select(2) only, and the model that uses it checks for itself.
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
    // If the call fails: POSIX guarantees 20 descriptors.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((20, 20));
    let bounded = |limit| usize::try_from(limit).unwrap_or(usize::MAX);
    (bounded(soft), bounded(hard))
}

fn open_descriptors() -> usize {
    open_descriptors_below(usize::MAX)
}

/// Counts the open descriptors of this process with a number below `end`;
/// returns a guess if /proc is not mounted.
pub fn open_descriptors_below(end: usize) -> usize {
    const GUESS: usize = 16;
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return GUESS };
    let number = |entry: &DirEntry| entry.file_name().to_str()?.parse().ok();
    let numbers = entries.flatten().filter_map(|entry| number(&entry));
    // One of them is the descriptor that reads the folder.
    numbers.filter(|&number: &usize| number < end).count().saturating_sub(1)
}
