//! Memory that the processes of a pool share.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// Returns `count` values, all bytes zero, in memory that this process shares
/// with the children that it forks from now on: an anonymous mapping with
/// MAP_SHARED (mmap(2), fork(2)). It is never unmapped.
///
/// # Safety
///
/// A value of type `T` whose bytes are all zero must be valid, no process may
/// follow a pointer in it to memory that isn't shared with it, and `T` must not
/// have to be dropped.
pub unsafe fn zeroed<T: Sync>(count: usize) -> Result<&'static [T]> {
    let length = NonZeroUsize::new(count * size_of::<T>());
    let length = length.context("no shared memory is needed")?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses the address, where nothing was mapped before.
    let start =
        unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_SHARED) }
            .context("cannot map shared memory (ulimit -v)")?;
    // SAFETY: the mapping begins on a page, has room for `count` values, and
    // stays; its bytes are zero (mmap(2)), which the caller says is valid.
    Ok(unsafe { std::slice::from_raw_parts(start.cast().as_ptr(), count) })
}
