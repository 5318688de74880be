//! poll's argument is an array of the caller's. Nothing links its entries, and
//! nothing remains of it after the call.

use std::mem::size_of;
use std::os::fd::AsRawFd as _;

use anyhow::{Result, ensure};
use libc::{POLLIN, nfds_t, pollfd};
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "poll-linked-list",
    claim: "poll has no limit because it keeps the descriptors in a linked \
            list.",
    section: "circulates",
    criterion: "False if an entry has no bytes but those of its three fields, \
                a call writes none of them but `revents`, and a later call \
                with a part of the array doesn't report a ready descriptor of \
                the rest. True if one of the three differs.",
    if_false: History::NeverTrue,
    sources: &["poll(2)", "fs/select.c, struct poll_list"],
    explanation: "The caller passes an array and its length in each call, and \
                  the length may be any. An entry has 8 bytes, so there is no \
                  room for a link. During a call the kernel keeps its copy of \
                  the array in chunks of a page, and it does link these \
                  chunks, but it frees them before the call returns.",
    run,
    file: file!(),
};

/// Entries in the array.
const COUNT: usize = 1_000;

/// The signs of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traces {
    /// Bytes of an entry beside its three fields.
    extra: usize,
    /// Entries in which a call changed the number or the events.
    rewritten: usize,
    /// Ready descriptors that an earlier call watched, reported by a call that
    /// did not get them.
    kept: usize,
}

fn run(_: Effort) -> Result<Finding> {
    let events = (0..COUNT).map(|_| EventFd::new());
    let events = events.collect::<nix::Result<Vec<_>>>()?;
    let numbers = events.iter().map(|event| event.as_raw_fd());
    let array = numbers.map(|fd| pollfd { fd, events: POLLIN, revents: 0 });
    let before: Vec<_> = array.collect();
    let mut array = before.clone();

    events[COUNT - 1].write(1)?;
    ensure!(poll(&mut array)? == 1, "not one descriptor is ready");
    ensure!(array[COUNT - 1].revents == POLLIN, "another one is ready");
    let is_rewritten = |(old, new): &(&pollfd, &pollfd)| {
        (old.fd, old.events) != (new.fd, new.events)
    };
    let rewritten = before.iter().zip(&array).filter(is_rewritten).count();
    let kept = poll(&mut array[..COUNT / 2])?;

    let fields = size_of::<i32>() + 2 * size_of::<i16>();
    let extra = size_of::<pollfd>() - fields;
    let traces = Traces { extra, rewritten, kept };
    Ok(Finding::new(
        judge(traces),
        [
            Figure::new("bytes for a link in an entry", "", extra),
            Figure::new("entries rewritten by a call, of 1,000", "", rewritten),
            Figure::new("ready ones kept for the next call, of 1", "", kept),
        ],
    ))
}

/// Calls poll without waiting.
fn poll(array: &mut [pollfd]) -> Result<usize> {
    let length = array.len() as nfds_t;
    // SAFETY: the array has this many entries.
    let ready = unsafe { libc::poll(array.as_mut_ptr(), length, 0) };
    Ok(Errno::result(ready)? as usize)
}

fn judge(traces: Traces) -> Answer {
    let none = Traces { extra: 0, rewritten: 0, kept: 0 };
    Answer::from_bool(traces != none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trace_makes_it_true() {
        let none = Traces { extra: 0, rewritten: 0, kept: 0 };
        assert_eq!(judge(none), Answer::False);
        for trace in [
            Traces { extra: 8, ..none },
            Traces { rewritten: 1, ..none },
            Traces { kept: 1, ..none },
        ] {
            assert_eq!(judge(trace), Answer::True);
        }
    }
}
