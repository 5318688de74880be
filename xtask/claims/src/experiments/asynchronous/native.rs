//! The system calls of Linux native AIO, which the C library has no functions
//! for.

use std::mem;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use lab::Unsupported;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;

use crate::kit::net::PATIENCE;

/// Operations of `linux/aio_abi.h`.
const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_POLL: u16 = 5;

/// `struct io_event` of `linux/aio_abi.h`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

/// Returns an operation that reads into the buffer.
pub fn read(socket: &TcpStream, buffer: &mut [u8]) -> libc::iocb {
    let mut operation = operation(socket, IOCB_CMD_PREAD);
    operation.aio_buf = buffer.as_mut_ptr() as u64;
    operation.aio_nbytes = buffer.len() as u64;
    operation
}

/// Returns an operation that waits until the socket is readable.
pub fn poll(socket: &TcpStream) -> libc::iocb {
    let mut operation = operation(socket, IOCB_CMD_POLL);
    // The events that are awaited.
    operation.aio_buf = libc::POLLIN as u64;
    operation
}

fn operation(socket: &TcpStream, command: u16) -> libc::iocb {
    // SAFETY: an iocb has numbers only, for which zero is valid.
    let mut operation: libc::iocb = unsafe { mem::zeroed() };
    operation.aio_lio_opcode = command;
    operation.aio_fildes = socket.as_raw_fd() as u32;
    operation
}

/// A context of native AIO: `aio_context_t`.
#[derive(Debug)]
pub struct Queue(libc::c_ulong);

impl Queue {
    pub fn new() -> Result<Self> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup stores the context's ID in `id`, which is zero.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, 4, &raw mut id) };
        match Errno::result(made) {
            Ok(_) => Ok(Self(id)),
            Err(error @ (Errno::ENOSYS | Errno::EPERM)) => {
                let why = format!("io_setup: {error}");
                Err(Unsupported::Tool(why).into())
            }
            Err(error) => Err(error).context("io_setup"),
        }
    }

    /// Submits an operation whose buffer is never freed.
    pub fn submit(&self, mut operation: libc::iocb) -> Result<()> {
        let mut list = [&raw mut operation];
        let list = list.as_mut_ptr();
        let call = libc::SYS_io_submit;
        // SAFETY: the kernel copies the one iocb of the list during the call.
        let submitted = unsafe { libc::syscall(call, self.0, 1, list) };
        let submitted = Errno::result(submitted).context("io_submit")?;
        ensure!(submitted == 1, "io_submit: {submitted} operations");
        Ok(())
    }

    /// Waits for an operation's end, and returns its result.
    pub fn event(&self) -> Result<i64> {
        let mut event = Event::default();
        let mut patience: libc::timespec = *TimeSpec::from(PATIENCE).as_ref();
        let (event_at, patience) = (&raw mut event, &raw mut patience);
        let call = libc::SYS_io_getevents;
        // SAFETY: there is room for one event, and the timeout is valid.
        let ended =
            unsafe { libc::syscall(call, self.0, 1, 1, event_at, patience) };
        let ended = Errno::result(ended).context("io_getevents")?;
        ensure!(ended == 1, "no completion");
        Ok(event.res)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: io_destroy takes the ID of a context, which is used no more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
