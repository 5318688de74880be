//! What a server says on standard error.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Why a server has something to say. At most one line a second for each, in
/// each process, so that trouble with ten thousand clients does not fill a
/// disk.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// A new client found no room.
    Rejected,
    /// accept(2) failed.
    Accept,
    /// A conversation failed in a way that no client can cause.
    Conversation,
    /// A datagram could not be received.
    Datagram,
    /// The kernel had more to tell than its queue holds.
    Overflow,
}

/// The second of each cause's last line.
static LAST: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// Says `what` happened unless something of the same cause was said within
/// this second.
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

/// Says something that happens once.
pub fn warning(what: &str) {
    say(format_args!("warning: {what}"));
}

/// Says how many clients the drain timeout has cut off, if any.
pub fn report_cut_off(clients: usize) {
    if clients > 0 {
        say(format_args!("drain timeout: {clients} client(s) cut off"));
    }
}

/// Writes one line with one call, so that lines of several processes do not
/// mix, and drops it where it would have to wait: a standard error that nobody
/// reads is no reason to stop serving. A pipe that is writable takes PIPE_BUF
/// bytes at once (pipe(7)), and no line is as long.
pub(crate) fn say(what: std::fmt::Arguments<'_>) {
    let line = format!("{what}\n");
    let stderr = std::io::stderr();
    let mut writable = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut writable, PollTimeout::ZERO) == Ok(1) {
        let _ = stderr.lock().write_all(line.as_bytes());
    }
}
