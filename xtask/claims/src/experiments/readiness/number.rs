//! Descriptors with chosen numbers.

use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Result, bail, ensure};
use lab::Unsupported;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Duplicates a descriptor to this number, which is not in use.
///
/// # Errors
///
/// [`Unsupported`] if the number is above the limit of open descriptors.
pub fn duplicate(fd: impl AsFd, number: RawFd) -> Result<OwnedFd> {
    let copy = match fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(number)) {
        // SAFETY: fcntl has just opened it, and nothing else has its number.
        Ok(copy) => unsafe { OwnedFd::from_raw_fd(copy) },
        Err(Errno::EINVAL) => bail!(Unsupported::Tool(format!(
            "the limit of open descriptors is not above {number}"
        ))),
        Err(error) => return Err(error.into()),
    };
    ensure!(copy.as_raw_fd() == number, "descriptor {number} is in use");
    Ok(copy)
}
