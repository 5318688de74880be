//! accept4(2), and what its errors mean.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};

/// Takes a connection off the backlog.
pub fn accept(listener: &OwnedFd, flags: SockFlag) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: accept4 returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// True for errors of the newcomer's connection, which accept4 hands over
/// (accept(2), "Error handling"): it is gone, the next one may be well.
pub fn broke_off(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ECONNABORTED
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EPROTO
            | Errno::ETIMEDOUT
    )
}

/// True where the next call would fail as well, for a while: the process or
/// the system has no more to give, or a firewall's rules forbid it.
pub fn is_refused(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EOPNOTSUPP
            | Errno::EPERM
    )
}
