//! Log lines on standard error, limited in their rate.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The cause of a log line. Each process, or all that [share](share_rate) the
/// rate, log at most one line per second and cause, so that an error of ten
/// thousand clients does not fill a disk.
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

/// The number of causes.
const CAUSES: usize = 6;

/// The second in which each cause was last logged.
pub type LogRate = [AtomicU64; CAUSES];

static OWN: LogRate = [const { AtomicU64::new(0) }; CAUSES];
static SHARED: OnceLock<&'static LogRate> = OnceLock::new();

/// Makes this process count log lines in `rate`, which the processes of a pool
/// have in shared memory: together they log as much as one of them would.
pub fn share_rate(rate: &'static LogRate) {
    let _ = SHARED.set(rate);
}

/// Logs a line, unless one of the same cause was logged within this second.
pub fn log(cause: Cause, what: std::fmt::Arguments<'_>) {
    let second = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_secs());
    let rate = SHARED.get().copied().unwrap_or(&OWN);
    let last = &rate[cause as usize];
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
