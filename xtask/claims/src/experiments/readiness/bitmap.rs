//! select with sets of any length. The kernel's system call takes pointers and
//! a number; only the C library's `fd_set` has a fixed length.

use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use libc::c_ulong;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;

const BITS: usize = c_ulong::BITS as usize;

/// One bit per descriptor number, as in `fd_set`.
#[derive(Clone, Debug)]
pub struct Bitmap(Vec<c_ulong>);

impl Bitmap {
    /// Returns an empty set with room for the numbers below `limit`.
    pub fn new(limit: usize) -> Self {
        Self(vec![0; limit.div_ceil(BITS)])
    }

    /// Adds a descriptor, as `FD_SET` does.
    pub fn insert(&mut self, number: RawFd) {
        let (word, bit) = position(number);
        self.0[word] |= bit;
    }

    /// Returns whether a descriptor is in the set, as `FD_ISSET` does.
    pub fn contains(&self, number: RawFd) -> bool {
        let (word, bit) = position(number);
        self.0[word] & bit != 0
    }

    /// Waits until a descriptor of the set can be read. Leaves the readable
    /// ones in the set, and returns their number.
    ///
    /// # Errors
    ///
    /// Those of select(2).
    pub fn select(&mut self, timeout: Duration) -> nix::Result<usize> {
        let numbers = self.0.len() * BITS;
        let set = self.0.as_mut_ptr();
        let none = ptr::null_mut::<c_ulong>();
        let mut timeout = *TimeSpec::from_duration(timeout).as_ref();
        let timeout = ptr::from_mut(&mut timeout);
        let mask = ptr::null::<libc::c_void>();
        // SAFETY: the set has a bit for each number below `numbers`, the
        // timeout outlives the call, and the other pointers are null.
        let ready = unsafe {
            libc::syscall(
                libc::SYS_pselect6,
                numbers,
                set,
                none,
                none,
                timeout,
                mask,
            )
        };
        Errno::result(ready).map(|ready| ready as usize)
    }
}

fn position(number: RawFd) -> (usize, c_ulong) {
    let number = number as usize;
    (number / BITS, 1 << (number % BITS))
}
