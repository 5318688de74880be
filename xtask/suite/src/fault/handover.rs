//! A descriptor's way from one process to another, see unix(7).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::{io, mem};

use anyhow::{Context, Result};

/// Room for one control message with one descriptor, aligned as it must be.
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

/// Sends a descriptor over a socket without touching the heap, which a child
/// of a program with threads must not, see fork(2).
pub fn send_descriptor(socket: &UnixStream, fd: RawFd) -> io::Result<()> {
    let mut byte = 0u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = ControlBuffer([0; 64]);
    // SAFETY: a struct of integers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: arithmetic on a constant.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as _;
    // SAFETY: the message has a control buffer that is large enough.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    let whole = libc::cmsghdr {
        // SAFETY: arithmetic on a constant.
        cmsg_len: unsafe { libc::CMSG_LEN(4) } as _,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: `header` points to the aligned start of `control`.
    unsafe { header.write(whole) };
    // SAFETY: the header just written has room for its data behind it.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: four bytes of that room, aligned or not.
    unsafe { data.cast::<RawFd>().write_unaligned(fd) };
    // SAFETY: `message` and all it points to outlive the call.
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
