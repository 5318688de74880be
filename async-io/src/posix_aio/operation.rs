//! One client's operation: aio_read(3) or aio_write(3), its control block and
//! its buffers.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use slotmap::{DefaultKey, Key as _};

use common::limits::INPUT_CHUNK;

use super::signals::completed;

/// Bytes that a read asks for while little comes. An idle client has a read in
/// flight, and so a buffer: this is its size.
const INPUT_IDLE: usize = 1024;

/// What an operation does, or has come to.
#[derive(Clone, Copy)]
pub enum Transfer<T> {
    Receive(T),
    Send(T),
}

/// A control block and the buffers it may point to.
///
/// While an operation is in flight they belong to a thread of the C library.
/// Nothing here hands them out, changes, moves or frees them before
/// [`finish`](Self::finish) has found the operation complete. One that is
/// dropped before leaves them behind for good.
///
/// The stream must stay open as long: the thread knows its number only.
pub struct Operation {
    /// Allocated by a Box; a Box itself would promise that nobody else has it.
    control: NonNull<libc::aiocb>,
    in_flight: Option<Transfer<()>>,
    input: Vec<u8>,
    /// True where the last read filled its buffer: there may be more.
    filled: bool,
    output: Vec<u8>,
    /// The number of bytes of `output` that the kernel has accepted.
    sent: usize,
    /// Bytes that all reads so far have brought.
    received: u64,
}

impl Operation {
    /// None yet. Those that it will do are announced under `key`.
    pub fn new(key: DefaultKey) -> Self {
        // SAFETY: it has numbers and pointers only, and zero is one of each.
        let mut control: Box<libc::aiocb> = Box::new(unsafe { mem::zeroed() });
        let notice = &mut control.aio_sigevent;
        notice.sigev_notify = libc::SIGEV_SIGNAL;
        notice.sigev_signo = completed();
        notice.sigev_value.sival_ptr = key.data().as_ffi() as *mut _;
        Self {
            control: NonNull::from(Box::leak(control)),
            in_flight: None,
            input: Vec::new(),
            filled: false,
            output: Vec::new(),
            sent: 0,
            received: 0,
        }
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn in_flight(&self) -> Option<Transfer<()>> {
        self.in_flight
    }

    /// Has a thread receive what comes. EAGAIN: there is none, or no memory.
    pub fn receive(&mut self, stream: &OwnedFd) -> nix::Result<()> {
        let size = if self.filled { INPUT_CHUNK } else { INPUT_IDLE };
        if self.input.len() != size {
            self.input = Vec::new();
            let room = self.input.try_reserve_exact(size);
            room.map_err(|_| Errno::EAGAIN)?;
            self.input.resize(size, 0);
        }
        self.start(stream, Transfer::Receive(()))
    }

    /// Has a thread send all of `output`.
    pub fn send(
        &mut self,
        stream: &OwnedFd,
        output: Vec<u8>,
    ) -> nix::Result<()> {
        self.output = output;
        self.sent = 0;
        self.send_rest(stream)
    }

    /// True where a send fell short, or was not begun.
    pub fn has_rest(&self) -> bool {
        self.sent < self.output.len()
    }

    pub fn send_rest(&mut self, stream: &OwnedFd) -> nix::Result<()> {
        self.start(stream, Transfer::Send(()))
    }

    fn start(
        &mut self,
        stream: &OwnedFd,
        transfer: Transfer<()>,
    ) -> nix::Result<()> {
        let buffer = match transfer {
            Transfer::Receive(()) => &mut self.input[..],
            Transfer::Send(()) => &mut self.output[self.sent..],
        };
        // SAFETY: nothing is in flight, so the control block is ours.
        let control = unsafe { self.control.as_mut() };
        control.aio_fildes = stream.as_raw_fd();
        control.aio_buf = buffer.as_mut_ptr().cast();
        control.aio_nbytes = buffer.len();
        let control = self.control.as_ptr();
        let started = match transfer {
            // SAFETY: control block and buffer stay as they are until the
            // operation is complete, and the stream stays open.
            Transfer::Receive(()) => unsafe { libc::aio_read(control) },
            // SAFETY: the same.
            Transfer::Send(()) => unsafe { libc::aio_write(control) },
        };
        Errno::result(started)?;
        self.in_flight = Some(transfer);
        Ok(())
    }

    /// What has come of the operation, once it is complete: the bytes
    /// transferred, 0 at the client's end of file.
    ///
    /// EAGAIN: it is complete, but its signal found no room in the queue, and
    /// the C library has put the signal's error in place of the result. What
    /// was received is in the buffer; how much it is, nobody knows any more.
    /// (The stream waits, so the transfer itself never says EAGAIN.)
    pub fn finish(&mut self) -> Option<Transfer<nix::Result<usize>>> {
        let transfer = self.in_flight?;
        let error = self.error();
        if error == Errno::EINPROGRESS {
            return None;
        }
        // SAFETY: the operation is complete, and asked for its result once.
        let bytes = unsafe { libc::aio_return(self.control.as_ptr()) };
        let result = match usize::try_from(bytes) {
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(error),
        };
        let finished = match transfer {
            Transfer::Receive(()) => {
                let bytes = result.unwrap_or(0);
                self.received += bytes as u64;
                self.filled = bytes == self.input.len()
                    || (self.filled && bytes > INPUT_IDLE);
                Transfer::Receive(result)
            }
            Transfer::Send(()) => {
                self.sent += result.unwrap_or(0);
                Transfer::Send(result)
            }
        };
        self.in_flight = None;
        Some(finished)
    }

    /// The first bytes that the last read has brought.
    pub fn input(&self, bytes: usize) -> &[u8] {
        &self.input[..bytes]
    }

    /// Bytes that all reads so far have brought.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The buffer of a send that is through.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.sent = 0;
        mem::take(&mut self.output)
    }

    /// True where it is complete and no signal will tell.
    pub fn is_lost(&self) -> bool {
        self.is_in_flight() && self.error() == Errno::EAGAIN
    }

    /// True where a thread has received something, or is about to, that
    /// `finish` does not tell yet: what has arrived in all is more than what
    /// was handed over.
    pub fn is_receiving(&self, stream: &OwnedFd) -> nix::Result<bool> {
        match self.in_flight {
            Some(Transfer::Receive(())) => Ok(self.error()
                != Errno::EINPROGRESS
                || arrived(stream)? > self.received),
            _ => Ok(false),
        }
    }

    /// Gives up the operation if no thread has begun it: it completes with
    /// ECANCELED, and its signal comes. Otherwise it goes on.
    pub fn cancel(&self, stream: &OwnedFd) {
        let (fd, control) = (stream.as_raw_fd(), self.control.as_ptr());
        // SAFETY: the control block is that of an operation, and whether it is
        // in flight on this descriptor is found out.
        unsafe { libc::aio_cancel(fd, control) };
    }

    /// glibc takes its lock for this answer, so whoever is told that an
    /// operation is complete knows that no thread looks at it any more.
    fn error(&self) -> Errno {
        // SAFETY: the control block is that of an operation.
        let error = unsafe { libc::aio_error(self.control.as_ptr()) };
        Errno::from_raw(error)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if self.is_in_flight() {
            mem::forget(mem::take(&mut self.input));
            mem::forget(mem::take(&mut self.output));
            return;
        }
        // SAFETY: it came from a Box, and nothing is in flight.
        drop(unsafe { Box::from_raw(self.control.as_ptr()) });
    }
}

/// Bytes that have arrived on a stream since it was accepted, whether they
/// were received or not; its end of file counts as one (tcp(7), TCP_INFO).
fn arrived(stream: &OwnedFd) -> nix::Result<u64> {
    // SAFETY: it has numbers only, and zero is one.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`.
    let asked = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut length,
        )
    };
    Errno::result(asked)?;
    Ok(info.tcpi_bytes_received)
}
