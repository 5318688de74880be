//! The kernel's queues of a stream: tcp(7), "Ioctls".

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::libc;

nix::ioctl_read_bad!(siocinq, libc::FIONREAD, libc::c_int);
nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, libc::c_int);

/// Returns how many bytes have arrived and were not received yet.
pub fn unread(stream: &OwnedFd) -> nix::Result<usize> {
    let mut bytes = 0;
    // SAFETY: SIOCINQ writes one int, and `bytes` is one.
    unsafe { siocinq(stream.as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Returns how many bytes were sent and not yet acknowledged by the client's
/// kernel. A program on Linux can read what its kernel has acknowledged even
/// after a reset, which does not touch the receive queue (tcp_reset in
/// net/ipv4/tcp_input.c, Linux 6.18). Other systems may discard it: RFC 9293,
/// section 3.10.7.4, has the receiver of a reset flush its queues.
pub fn unacknowledged(stream: &OwnedFd) -> nix::Result<usize> {
    let mut bytes = 0;
    // SAFETY: SIOCOUTQ writes one int, and `bytes` is one.
    unsafe { siocoutq(stream.as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
