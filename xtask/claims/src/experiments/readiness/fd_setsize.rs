//! FD_SETSIZE belongs to the C library: the kernel reads as many bits as the
//! first argument says.

use std::ptr;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::eventfd::EventFd;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};

pub const CLAIM: Claim = Claim {
    id: "fd-setsize",
    claim: "select can watch only descriptors below 1,024, unless FD_SETSIZE \
            is changed and the program recompiled.",
    section: "select and poll compared",
    criterion: "Descriptor 3,000 is ready, and select is called with a larger \
                array of bits, by this program as it was compiled. False if \
                select reports that descriptor. True if it returns an error or \
                0.",
    if_false: History::NeverTrue,
    sources: &[
        "select(2), Correspondence between file descriptors and sets",
        "fs/select.c, core_sys_select",
    ],
    explanation: "The kernel reads as many bits as the first argument says, up \
                  to the size of the descriptor table. 1,024 is the size of \
                  the C library's type fd_set, which Linux programs can't \
                  enlarge by a definition of FD_SETSIZE. FD_SET with a larger \
                  number writes beyond the set, so programs must compare first \
                  or use poll.",
    run,
    file: file!(),
};

/// A number far beyond FD_SETSIZE.
const NUMBER: usize = 3_000;

fn run(_effort: Effort) -> Result<Finding> {
    let event = EventFd::from_value(1).context("eventfd")?;
    let number = NUMBER as i32;
    let duplicate = fcntl(&event, FcntlArg::F_DUPFD_CLOEXEC(number));
    let number = duplicate.context("F_DUPFD")?;
    let bits = usize::BITS as usize;
    let at = number as usize;
    let mut set = vec![0_usize; at / bits + 1];
    set[at / bits] |= 1 << (at % bits);
    let mut timeout = libc::timeval { tv_sec: 1, tv_usec: 0 };
    // SAFETY: the array has a bit for each descriptor up to `number`, which is
    // all that the kernel reads and writes; libc passes pointers on unchanged.
    let found = unsafe {
        libc::select(
            number + 1,
            set.as_mut_ptr().cast(),
            ptr::null_mut(),
            ptr::null_mut(),
            &mut timeout,
        )
    };
    let found = Errno::result(found).unwrap_or(0);
    let is_set = set[at / bits] & (1 << (at % bits)) != 0;
    Ok(Finding::new(
        judge(found, is_set),
        [
            Figure::new("descriptors that select reports", "", found as usize),
            Figure::new("number of the descriptor", "", at),
            Figure::new("FD_SETSIZE", "", libc::FD_SETSIZE),
        ],
    ))
}

fn judge(found: i32, is_set: bool) -> Answer {
    Answer::from_bool(!(found == 1 && is_set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reported_descriptor_makes_it_false() {
        assert_eq!(judge(1, true), Answer::False);
        assert_eq!(judge(0, false), Answer::True);
        assert_eq!(judge(1, false), Answer::True);
    }
}
