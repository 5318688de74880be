//! An `fd_set` has 128 bytes. A descriptor number of 1,024 or more has its bit
//! in whatever memory comes after it.

use std::ffi::{c_long, c_void};
use std::ops::Range;
use std::os::fd::RawFd;
use std::{mem, ptr};

use anyhow::{Result, bail, ensure};
use lab::Unsupported;
use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::close;

use super::number;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::child::Child;

pub const CLAIM: Claim = Claim {
    id: "fd-setsize-beyond",
    claim: "A descriptor number of 1,024 or more in an fd_set makes the \
            program overwrite the memory after the set.",
    section: "circulates",
    criterion: "Depends if select with the numbers 1,024 to 1,535 changes the \
                64 bytes after the set, to which their bits belong, and \
                glibc's check, which FD_SET makes if compiled with \
                _FORTIFY_SOURCE, ends the program with SIGABRT. True if that \
                check returns. False if the memory stays as it was.",
    if_false: History::NeverTrue,
    sources: &[
        "select(2), NOTES",
        "feature_test_macros(7), _FORTIFY_SOURCE",
        "glibc, debug/fdelt_chk.c",
    ],
    explanation: "FD_SET computes a position from the number and sets a bit \
                  there, and select writes as many bytes as `nfds` says. \
                  Neither knows where the set ends. With _FORTIFY_SOURCE, \
                  FD_SET calls a function that checks the number and aborts \
                  the program; so does Rust's FD_SET. A server that uses \
                  select must reject connections with a higher number.",
    run,
    file: file!(),
};

/// The numbers whose bits are in the 64 bytes after the set.
const BEYOND: Range<RawFd> = 1_024..1_536;

/// A set, and what the program has in memory after it.
#[repr(C)]
struct Memory {
    set: libc::fd_set,
    after: [u8; 64],
}

fn run(_: Effort) -> Result<Finding> {
    let changed = select_beyond()?;
    let glibc = glibc_aborts(BEYOND.start)?;
    let rust = rust_aborts(BEYOND.start)?;
    let count = |name, aborts| Figure::new(name, "", usize::from(aborts));
    Ok(Finding::new(
        judge(changed, glibc),
        [
            Figure::new("changed after the set", "bytes", changed),
            count("aborted by glibc's check, of 1", glibc),
            count("aborted by Rust's FD_SET, of 1", rust),
        ],
    ))
}

/// Calls select for descriptors whose bits are after the set, and returns how
/// many bytes it changes there. None is ready, so the kernel clears all bits.
fn select_beyond() -> Result<usize> {
    let event = EventFd::new()?;
    let copies = BEYOND.map(|number| number::duplicate(&event, number));
    let _copies = copies.collect::<Result<Vec<_>>>()?;
    // SAFETY: a set is an array of integers, which may be zero.
    let set = unsafe { mem::zeroed() };
    let mut memory = Memory { set, after: [0xff; 64] };
    let start = ptr::from_mut(&mut memory).cast::<libc::fd_set>();
    let none = ptr::null_mut();
    let mut timeout = libc::timeval { tv_sec: 0, tv_usec: 0 };
    // SAFETY: the kernel uses one bit per number below `nfds`, so the set and
    // the 64 bytes after it. The pointer is to both.
    let ready =
        unsafe { libc::select(BEYOND.end, start, none, none, &mut timeout) };
    ensure!(Errno::result(ready)? == 0, "a descriptor is ready");
    Ok(memory.after.iter().filter(|byte| **byte != 0xff).count())
}

/// Returns whether glibc's check of a number aborts the program.
fn glibc_aborts(number: RawFd) -> Result<bool> {
    let name = c"__fdelt_chk";
    // SAFETY: the name is a C string.
    let check = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if check.is_null() {
        bail!(Unsupported::Tool("the C library isn't glibc".to_owned()));
    }
    // SAFETY: glibc's bits/select2.h declares it so.
    let check = unsafe {
        mem::transmute::<*mut c_void, extern "C" fn(c_long) -> c_long>(check)
    };
    aborts(|| {
        check(c_long::from(number));
    })
}

/// Returns whether the libc crate's FD_SET aborts the program.
fn rust_aborts(number: RawFd) -> Result<bool> {
    // SAFETY: a set is an array of integers, which may be zero.
    let mut set = unsafe { mem::zeroed::<libc::fd_set>() };
    // SAFETY: the function panics instead of writing after the set.
    aborts(|| unsafe { libc::FD_SET(number, &mut set) })
}

/// Returns whether SIGABRT ends a child process that calls this.
fn aborts(call: impl FnOnce()) -> Result<bool> {
    let child = Child::start(|| {
        // It leaves no core file and no message.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let _ = close(libc::STDERR_FILENO);
        call();
        0
    })?;
    match child.wait()? {
        WaitStatus::Signaled(_, Signal::SIGABRT, _) => Ok(true),
        WaitStatus::Exited(_, 0) => Ok(false),
        status => bail!("the child ended otherwise: {status:?}"),
    }
}

/// Judges the number of bytes that select changed after the set, and whether
/// glibc's check aborts the program.
fn judge(changed: usize, glibc_aborts: bool) -> Answer {
    match (changed, glibc_aborts) {
        (0, _) => Answer::False,
        (_, true) => Answer::Depends,
        (_, false) => Answer::True,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_makes_it_depend() {
        assert_eq!(judge(64, true), Answer::Depends);
        assert_eq!(judge(64, false), Answer::True);
        assert_eq!(judge(0, true), Answer::False);
    }
}
