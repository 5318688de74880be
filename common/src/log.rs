//! Log lines on standard error, limited in their rate.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The cause of a log line. Each process logs at most one line per second and
/// cause, so that an error of ten thousand clients does not fill a disk.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// A connection was rejected.
    Rejected,
    /// accept(2) failed.
    Accept,
    /// A conversation failed with an error that no client can cause.
    Conversation,
    /// A datagram could not be received.
    Datagram,
    /// The queue of signals has overflowed.
    Overflow,
    /// A worker process has died, or could not be started.
    Worker,
}

/// The second in which each cause was last logged.
static LAST: [AtomicU64; 6] = [const { AtomicU64::new(0) }; 6];

/// Logs a line, unless one of the same cause was logged within this second.
pub fn log(cause: Cause, what: std::fmt::Arguments<'_>) {
    let second = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_secs());
    let last = &LAST[cause as usize];
    let before = last.load(Ordering::Relaxed);
    let first = before != second
        && last
            .compare_exchange(
                before,
                second,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok();
    if first {
        say(what);
    }
}

/// Logs a warning that occurs once.
pub fn warning(what: &str) {
    say(format_args!("warning: {what}"));
}

/// Logs how many connections the drain timeout has cut off, if any.
pub fn report_cut_off(clients: usize) {
    if clients > 0 {
        say(format_args!("drain timeout: {clients} client(s) cut off"));
    }
}

/// Writes a line with one call, so that lines of several processes do not mix.
/// A line that would block is dropped: a full pipe on standard error must not
/// stop the server. A pipe that is writable takes PIPE_BUF bytes at once
/// (pipe(7)), and every line is shorter.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    let line = format!("{what}\n");
    let stderr = std::io::stderr();
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut writable, PollTimeout::ZERO) == Ok(1) {
        let _ = stderr.lock().write_all(line.as_bytes());
    }
}
