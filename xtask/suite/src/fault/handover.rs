//! Passes a descriptor from one process to another, see unix(7).

use std::io;
use std::mem::{self, offset_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};

/// A control message with one descriptor, see cmsg(3).
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    fd: RawFd,
}

/// Sends a descriptor over a socket. It does not allocate: after fork(2), a
/// child of a multithreaded program must not.
pub fn send_descriptor(socket: &UnixStream, fd: RawFd) -> io::Result<()> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let header = libc::cmsghdr {
        cmsg_len: (offset_of!(Rights, fd) + size_of::<RawFd>()) as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    let mut rights = Rights { header, fd };
    // SAFETY: `msghdr` has integers and pointers only; zero is valid for each.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut rights).cast();
    message.msg_controllen = size_of::<Rights>() as _;
    // SAFETY: `message` and all that it points to outlive the call.
    let sent =
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub fn receive_descriptor(socket: &UnixStream) -> Result<OwnedFd> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            let fd = *fds.first().context("a control message without data")?;
            // SAFETY: the kernel has just made this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    anyhow::bail!("a message without a descriptor")
}
