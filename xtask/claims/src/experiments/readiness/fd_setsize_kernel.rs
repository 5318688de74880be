//! The limit of 1,024 descriptors is a property of the C library's `fd_set`.
//! The kernel watches any number with a longer set.

use std::os::fd::RawFd;
use std::time::Duration;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use super::bitmap::Bitmap;
use super::number;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "fd-setsize-kernel",
    claim: "select can watch only descriptors below 1,024 unless FD_SETSIZE is \
            changed and the program is compiled again.",
    section: "select and poll, comparison of their functions",
    criterion: "The system call gets a set of 2,048 bits. False if it reports \
                descriptor 2,000 when that is ready, and not when it is not. \
                True if it fails, or reports wrongly.",
    if_false: History::NeverTrue,
    sources: &[
        "select(2), C library/kernel differences, and BUGS",
        "fs/select.c, core_sys_select",
    ],
    explanation: "The kernel takes the length of the sets from `nfds`. The \
                  limit is in the C library, where the type `fd_set` has 1,024 \
                  bits, and with glibc a program can't change it: FD_SETSIZE \
                  is fixed in its headers. A program can pass a longer array \
                  of bits of its own, but poll and epoll are the usual way.",
    run,
    file: file!(),
};

/// The number of the watched descriptor.
const NUMBER: RawFd = 2_000;

/// The system call's results for a descriptor that is not ready, and for one
/// that is.
type Results = [nix::Result<usize>; 2];

fn run(_: Effort) -> Result<Finding> {
    let event = EventFd::new()?;
    let _high = number::duplicate(&event, NUMBER)?;
    let quiet = watch(NUMBER);
    event.write(1)?;
    let ready = watch(NUMBER);
    let results = [quiet, ready];
    let [quiet, ready] = results.map(|it| it.map_or(-1.0, |it| it as f64));
    Ok(Finding::new(
        judge(results),
        [
            Figure::new("descriptor 2,000 ready: returned", "", ready),
            Figure::new("descriptor 2,000 not ready: returned", "", quiet),
        ],
    ))
}

/// Returns what select returns for one descriptor, without waiting. Fails with
/// `ENOMSG` if the set and the number that it returns differ.
fn watch(number: RawFd) -> nix::Result<usize> {
    let mut set = Bitmap::new(2_048);
    set.insert(number);
    let ready = set.select(Duration::ZERO)?;
    let is_set = usize::from(set.contains(number));
    if ready == is_set { Ok(ready) } else { Err(Errno::ENOMSG) }
}

fn judge(results: Results) -> Answer {
    Answer::from_bool(results != [Ok(0), Ok(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_report_makes_it_false() {
        assert_eq!(judge([Ok(0), Ok(1)]), Answer::False);
        assert_eq!(judge([Ok(0), Ok(0)]), Answer::True);
        assert_eq!(judge([Ok(1), Ok(1)]), Answer::True);
        assert_eq!(judge([Err(Errno::EINVAL); 2]), Answer::True);
    }
}
