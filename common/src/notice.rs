//! What a server says on standard error.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a server has something to say. At most one line a second for each, so
/// that trouble with ten thousand clients does not fill a disk.
#[derive(Clone, Copy, Debug)]
pub enum Cause {
    /// A newcomer found no room.
    Refused,
    /// accept(2) failed.
    Accept,
    /// fork(2), or the creation of a thread, failed.
    Spawn,
    /// A conversation failed in a way that no client can cause.
    Conversation,
    /// A datagram could not be received.
    Datagram,
}

/// The second of each cause's last line.
static LAST: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

/// Says `what` happened unless something of the same cause was said within
/// this second.
pub fn notice(cause: Cause, what: std::fmt::Arguments<'_>) {
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

/// A standard error that cannot be written to is no reason to stop serving.
fn say(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
