//! epoll_wait copies events into the caller's buffer.

use std::fs;
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollFlags};

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "epoll-shared-memory",
    claim: "epoll shares memory with the process by mmap, so epoll_wait copies \
            no events.",
    section: "circulates",
    criterion: "True if epoll_create1, epoll_ctl or epoll_wait adds a mapping \
                to /proc/self/maps. False if none does, and epoll_wait with \
                three events writes three times 12 bytes into a buffer that \
                was filled with a pattern.",
    if_false: History::NeverTrue,
    sources: &[
        "epoll_wait(2)",
        "fs/eventpoll.c, ep_send_events",
        "include/linux/eventpoll.h, epoll_put_uevent",
    ],
    explanation: "The ready list lives in kernel memory. epoll_wait goes \
                  through it and copies the events, 32 bits, and the data, 64 \
                  bits, of each descriptor to the caller's array. That is \
                  little, because only ready descriptors are copied, and \
                  epoll_ctl has copied the others in once.",
    run,
    file: file!(),
};

/// Descriptors that are ready.
const READY: usize = 3;

/// Places in the buffer.
const PLACES: usize = 8;

/// Bytes that an event has: `events` and `data`, without padding.
const EVENT: usize = 4 + 8;

/// Fills the buffer; no byte of an event has this value.
const PATTERN: u8 = 0xa5;

fn run(_: Effort) -> Result<Finding> {
    let eventfds = watch::eventfds(READY)?;
    // The first call may allocate.
    mappings()?;
    let before = mappings()?;
    let epoll = watch::instance(&eventfds, EpollFlags::empty())?;
    for eventfd in &eventfds {
        eventfd.write(1)?;
    }
    let written = written(&epoll)?;
    let added = mappings()?.saturating_sub(before);
    Ok(Finding::new(
        judge(added, written),
        [
            Figure::new("mappings added", "", added),
            Figure::new("written for three events", "bytes", written),
        ],
    ))
}

/// Returns the number of mappings of this process.
fn mappings() -> Result<usize> {
    let maps = fs::read_to_string("/proc/self/maps").context("maps")?;
    Ok(maps.lines().count())
}

/// Returns the number of bytes that epoll_wait writes into its buffer.
fn written(epoll: &Epoll) -> Result<usize> {
    let filled = u64::from_ne_bytes([PATTERN; 8]);
    // Words, because the array of events must be aligned.
    let mut buffer = [filled; PLACES * 2];
    ensure!(size_of_val(&buffer) >= PLACES * size_of::<libc::epoll_event>());
    let (fd, events) = (epoll.0.as_raw_fd(), buffer.as_mut_ptr().cast());
    // SAFETY: the buffer has room for `PLACES` events, and is aligned for them.
    let count = unsafe { libc::epoll_wait(fd, events, PLACES as i32, 0) };
    let count = Errno::result(count)?;
    ensure!(count as usize == READY, "{count} events");
    let bytes = buffer.iter().flat_map(|word| word.to_ne_bytes());
    Ok(bytes.filter(|byte| *byte != PATTERN).count())
}

fn judge(added: usize, written: usize) -> Answer {
    if added > 0 {
        Answer::True
    } else if written == READY * EVENT {
        Answer::False
    } else {
        Answer::Undecided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_without_a_mapping_makes_it_false() {
        assert_eq!(judge(1, 0), Answer::True);
        assert_eq!(judge(0, 36), Answer::False);
        assert_eq!(judge(0, 0), Answer::Undecided);
    }
}
