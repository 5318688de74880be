//! An io_uring with one receive in progress.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, Result, bail};
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use lab::Unsupported;

use crate::kit::computing::{Buffer, LENGTH};

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
    let mut ring = match ring {
        Ok(ring) => ring,
        Err(error) => {
            bail!(Unsupported::Tool(format!("io_uring_setup: {error}")))
        }
    };
    let fd = Fd(receiver.as_raw_fd());
    let length = LENGTH as u32;
    let receive = opcode::Recv::new(fd, buffer.as_mut_ptr(), length).build();
    // SAFETY: the buffer has LENGTH bytes and is never unmapped.
    unsafe { ring.submission().push(&receive) }.context("a full queue")?;
    ring.submit().context("io_uring_enter")?;
    Ok(ring)
}

/// Returns whether a completion is in the queue, without a system call.
pub fn has_completion(ring: &mut IoUring) -> bool {
    !ring.completion().is_empty()
}
