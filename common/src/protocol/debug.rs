//! DEBUG SLEEP and DEBUG SPIN: requests that take time, for measurements.
//!
//! They run where the request is processed, so they hold up whatever waits for
//! that thread. They are off by default (`--enable-debug-command`).

use std::time::Duration;
use std::{hint, thread};

use nix::time::{ClockId, clock_gettime};

use super::argument::{Argument, Arguments};
use super::conversation::Conversation;
use super::help::{SHOWN_MOST, help};
use super::number::integer;
use super::reply::Reply;

/// The longest time that one request can take: a client may hold up others,
/// but not for good.
const LONGEST: Duration = Duration::from_secs(1);

const NOT_ALLOWED: &str = "ERR DEBUG command not allowed: a stream to a server \
                           with --enable-debug-command is required";

const HELP: [&str; 4] = [
    "SLEEP <seconds>",
    "    Sleep that long, at most 1 second. Fractions are allowed.",
    "SPIN <microseconds>",
    "    Use that much processor time, at most 1000000 microseconds.",
];

/// DEBUG SLEEP seconds, DEBUG SPIN microseconds, DEBUG HELP.
pub(crate) fn debug(
    arguments: &mut Arguments<'_>,
    conversation: &Conversation,
    reply: &mut impl Reply,
) {
    if !conversation.debug {
        return reply.error(NOT_ALLOWED);
    }
    let name = arguments.next();
    let time = arguments.next();
    let is = |wanted| name.is_some_and(|name| name.is(wanted));
    match (time, arguments.next()) {
        (None, _) if is("help") => help("DEBUG", &HELP, reply),
        (Some(time), None) if is("sleep") => {
            finish(seconds(time), thread::sleep, reply);
        }
        (Some(time), None) if is("spin") => {
            finish(microseconds(time), spin, reply);
        }
        _ => {
            reply.put(b"-ERR unknown subcommand or wrong number of arguments ");
            reply.put(b"for '");
            let name = name.iter().flat_map(|name| name.text());
            reply.shown(name.take(SHOWN_MOST));
            reply.put(b"'. Try DEBUG HELP.\r\n");
        }
    }
}

fn finish(
    time: Option<Duration>,
    spend: impl FnOnce(Duration),
    reply: &mut impl Reply,
) {
    match time {
        Some(time) if time <= LONGEST => {
            spend(time);
            reply.status("OK");
        }
        _ => reply.error("ERR value is not a time of at most 1 second"),
    }
}

/// Parses seconds with an optional fraction.
fn seconds(argument: Argument<'_>) -> Option<Duration> {
    // Longer than any useful number.
    let mut digits = [0; 24];
    let mut length = 0;
    for byte in argument.bytes() {
        *digits.get_mut(length)? = byte;
        length += 1;
    }
    let text = str::from_utf8(&digits[..length]).ok()?;
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn microseconds(argument: Argument<'_>) -> Option<Duration> {
    let number = integer(argument.bytes())?;
    Some(Duration::from_micros(number.try_into().ok()?))
}

/// Uses the calling thread's processor time. The time during which another
/// thread has the processor does not count.
fn spin(time: Duration) {
    let used = || {
        let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
        clock_gettime(clock).map_or(Duration::MAX, Duration::from)
    };
    let end = used().saturating_add(time);
    while used() < end {
        // Less than a microsecond, so that most of the time isn't spent in
        // system calls.
        (0..16).for_each(|_| hint::spin_loop());
    }
}
