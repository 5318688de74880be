//! Creates rings of io_uring.

use std::io;

use anyhow::Result;
use io_uring::IoUring;
use lab::Unsupported;

/// Creates a ring with this many submission entries.
///
/// # Errors
///
/// [`Unsupported`] if the kernel has no io_uring, or denies it to this process.
pub fn ring(entries: u32) -> Result<IoUring> {
    IoUring::new(entries).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EPERM) => unsupported(&error),
        _ => anyhow::Error::new(error).context("io_uring_setup"),
    })
}

fn unsupported(error: &io::Error) -> anyhow::Error {
    Unsupported::Tool(format!("io_uring_setup: {error}")).into()
}
