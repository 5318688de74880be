//! A network of this process's own, in which it may set sysctls.

use std::fs;
use std::io::ErrorKind;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use anyhow::{Context, Result, bail};
use lab::Unsupported;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// Moves this thread, and those that it starts later, into a new network
/// namespace (network_namespaces(7)) that has a loopback interface only.
///
/// # Errors
///
/// [`Unsupported`] if the process may create neither a network namespace nor a
/// user namespace.
pub fn enter_private_network() -> Result<()> {
    let network = CloneFlags::CLONE_NEWNET;
    let with_user = CloneFlags::CLONE_NEWUSER | network;
    match unshare(network).or_else(|_| unshare(with_user)) {
        Err(error @ (Errno::EPERM | Errno::EINVAL | Errno::ENOSPC)) => {
            let why = format!("a network namespace is not available: {error}");
            bail!(Unsupported::Tool(why))
        }
        other => other.context("unshare")?,
    }
    enable_loopback()
}

/// A new namespace's loopback is down.
fn enable_loopback() -> Result<()> {
    // SAFETY: ifreq has only integers and addresses, for which zero is valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let set_flags = libc::SIOCSIFFLAGS as _;
    // SAFETY: the request is an ifreq with a name and flags, as SIOCSIFFLAGS
    // reads it (netdevice(7)), and outlives the call.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), set_flags, &request) };
    Errno::result(result).context("enabling the loopback")?;
    Ok(())
}

/// Sets a sysctl of the private network.
///
/// # Errors
///
/// [`Unsupported`] if /proc/sys is read-only.
pub fn set_sysctl(name: &str, value: u32) -> Result<()> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    match fs::write(&path, value.to_string()) {
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            ) =>
        {
            bail!(Unsupported::Tool(format!("{path}: {error}")))
        }
        other => other.with_context(|| format!("writing {path}")),
    }
}
