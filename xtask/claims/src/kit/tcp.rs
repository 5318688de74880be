//! The kernel's reports about a TCP socket.

use std::mem;
use std::os::fd::{AsFd, AsRawFd as _};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use super::net::PATIENCE;

/// Returns the state and the counters of a TCP socket (TCP_INFO, tcp(7)).
/// Fields that this kernel doesn't know are 0.
pub fn info(socket: &impl AsFd) -> Result<libc::tcp_info> {
    // SAFETY: tcp_info has only integers, for which zero is valid.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: both outlive the call, which writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).context("TCP_INFO")?;
    Ok(info)
}

/// Waits until a condition holds that no descriptor's readiness shows, and
/// fails after `PATIENCE`.
pub fn wait_until(
    condition: &str,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("this did not happen within {PATIENCE:?}: {condition}");
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
