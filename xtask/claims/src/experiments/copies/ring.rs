//! A receive through io_uring.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use ::io_uring::types::{Fd, SubmitArgs, Timespec};
use ::io_uring::{IoUring, opcode};
use anyhow::{Context as _, Result, ensure};
use lab::Unsupported;

use crate::kit::computing::{Buffer, LENGTH};
use crate::kit::net::PATIENCE;

/// Entries of the submission queue.
pub const ENTRIES: u32 = 8;

/// Submits a receive into the buffer.
///
/// # Errors
///
/// [`Unsupported`] if the kernel denies such a ring.
pub fn receiving(
    ring: io::Result<IoUring>,
    receiver: &UnixDatagram,
    buffer: &Buffer,
) -> Result<IoUring> {
    let mut ring = ring.map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::ENOSYS | libc::EINVAL) => {
            Unsupported::Tool(format!("io_uring_setup: {error}")).into()
        }
        _ => anyhow::Error::new(error).context("io_uring_setup"),
    })?;
    let fd = Fd(receiver.as_raw_fd());
    let receive = opcode::Recv::new(fd, buffer.start(), LENGTH as u32).build();
    // SAFETY: the buffer is never unmapped.
    unsafe { ring.submission().push(&receive) }?;
    ring.submit().context("io_uring_enter")?;
    Ok(ring)
}

/// Returns whether the receive has completed. This is a look at memory that
/// the ring shares with the kernel, not a system call.
pub fn is_complete(ring: &mut IoUring) -> bool {
    !ring.completion().is_empty()
}

/// Waits in io_uring_enter until the receive has completed, and checks its
/// result.
pub fn complete(ring: &mut IoUring) -> Result<()> {
    let patience = Timespec::from(PATIENCE);
    let bounded = SubmitArgs::new().timespec(&patience);
    let entered = ring.submitter().submit_with_args(1, &bounded);
    entered.context("io_uring_enter")?;
    let completion = ring.completion().next().context("no completion")?;
    let result = completion.result();
    ensure!(result == LENGTH as i32, "the receive returned {result}");
    Ok(())
}
