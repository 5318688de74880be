//! accept4(2), and what its errors mean.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};

/// Takes a connection off the accept queue.
pub fn accept(listener: &OwnedFd, flags: SockFlag) -> nix::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: accept4 has returned a new descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// True for network errors that were pending on the new connection, which
/// accept4 reports (accept(2), "Error handling"). That connection is lost; the
/// next call may succeed.
pub fn is_connection_error(errno: Errno) -> bool {
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

/// True if a call at once would fail too: the process or the system has run out
/// of descriptors or memory, or a firewall rule forbids the connection.
/// EOPNOTSUPP may be lasting or pending on one connection (accept(2)), and a
/// pause is right for both.
pub fn is_resource_error(errno: Errno) -> bool {
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
