//! One client's operation, an aio_read(3) or aio_write(3): its control block
//! and its buffers.

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use slotmap::{DefaultKey, Key as _};

use common::limits::INPUT_CHUNK;

use crate::connection::Buffer;

use super::signals::completed;

/// The size of the input buffer while little arrives. An idle client has a read
/// in flight, and therefore a buffer of this size.
const INPUT_IDLE: usize = 1024;

/// The kind of an operation, with its result if it is complete.
#[derive(Clone, Copy)]
pub enum Transfer<T> {
    Receive(T),
    Send(T),
}

/// A control block and the buffers it may point to.
///
/// While an operation is in flight, a thread of the C library uses them.
/// Nothing here hands them out, changes, moves or frees them before
/// [`finish`](Self::finish) has found the operation complete. If it is dropped
/// earlier, they are leaked.
///
/// The stream must stay open until then, because the thread has only its
/// descriptor number.
pub struct Operation {
    /// Allocated by a Box, but not held as one, which would assert unique
    /// access.
    control: NonNull<libc::aiocb>,
    in_flight: Option<Transfer<()>>,
    input: Vec<u8>,
    /// True if the last read filled its buffer, so that there may be more.
    filled: bool,
    output: Box<Buffer>,
    /// Bytes received by all reads so far.
    received: u64,
}

impl Operation {
    /// Creates the control block, with no operation in flight. Completion
    /// signals will carry `key`.
    pub fn new(key: DefaultKey) -> Self {
        // SAFETY: an aiocb has only numbers and pointers, which may be zero.
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
            output: Box::default(),
            received: 0,
        }
    }

    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub fn in_flight(&self) -> Option<Transfer<()>> {
        self.in_flight
    }

    /// Starts a read. Fails with EAGAIN if there is no thread or no memory.
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

    /// Starts a write of `output`.
    pub fn send(
        &mut self,
        stream: &OwnedFd,
        output: Box<Buffer>,
    ) -> nix::Result<()> {
        self.output = output;
        self.send_rest(stream)
    }

    /// True after a short write, or if the write was not begun.
    pub fn has_rest(&self) -> bool {
        !self.output.left().is_empty()
    }

    pub fn send_rest(&mut self, stream: &OwnedFd) -> nix::Result<()> {
        self.start(stream, Transfer::Send(()))
    }

    fn start(
        &mut self,
        stream: &OwnedFd,
        transfer: Transfer<()>,
    ) -> nix::Result<()> {
        let (buffer, length) = match transfer {
            Transfer::Receive(()) => {
                (self.input.as_mut_ptr(), self.input.len())
            }
            // The type of `aio_buf` is for both; a write changes nothing.
            Transfer::Send(()) => {
                let left = self.output.left();
                (left.as_ptr().cast_mut(), left.len())
            }
        };
        // SAFETY: no operation is in flight, so nothing else uses the block.
        let control = unsafe { self.control.as_mut() };
        control.aio_fildes = stream.as_raw_fd();
        control.aio_buf = buffer.cast();
        control.aio_nbytes = length;
        let control = self.control.as_ptr();
        let started = match transfer {
            // SAFETY: control block and buffer are neither moved nor freed
            // before the operation is complete, and the stream stays open.
            Transfer::Receive(()) => unsafe { libc::aio_read(control) },
            // SAFETY: as for aio_read.
            Transfer::Send(()) => unsafe { libc::aio_write(control) },
        };
        Errno::result(started)?;
        self.in_flight = Some(transfer);
        Ok(())
    }

    /// Returns the result of the operation, if it is complete: the bytes
    /// transferred, 0 at end of file.
    ///
    /// EAGAIN means that it is complete, but that the queue had no room for its
    /// signal, and the C library has overwritten the result with this error.
    /// The bytes received are in the buffer, but their number is lost. (The
    /// stream is blocking, so the transfer itself never returns EAGAIN.)
    pub fn finish(&mut self) -> Option<Transfer<nix::Result<usize>>> {
        let transfer = self.in_flight?;
        let error = self.error();
        if error == Errno::EINPROGRESS {
            return None;
        }
        // SAFETY: the operation is complete, and this is the only aio_return.
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
                self.output.advance(result.unwrap_or(0));
                Transfer::Send(result)
            }
        };
        self.in_flight = None;
        Some(finished)
    }

    /// Returns the first bytes of the input buffer.
    pub fn input(&self, bytes: usize) -> &[u8] {
        &self.input[..bytes]
    }

    /// Takes the output buffer after a complete write.
    pub fn take_output(&mut self) -> Box<Buffer> {
        mem::take(&mut self.output)
    }

    /// True if the operation is complete, but its signal was lost.
    pub fn is_lost(&self) -> bool {
        self.is_in_flight() && self.error() == Errno::EAGAIN
    }

    /// True if input is on its way that `finish` has not returned yet: the read
    /// is complete, or more bytes have arrived than were received.
    pub fn is_receiving(&self, stream: &OwnedFd) -> nix::Result<bool> {
        match self.in_flight {
            Some(Transfer::Receive(())) => Ok(self.error()
                != Errno::EINPROGRESS
                || arrived(stream)? > self.received),
            _ => Ok(false),
        }
    }

    /// Cancels the operation if no thread has begun it: it then completes with
    /// ECANCELED, and its signal comes. Otherwise it goes on.
    pub fn cancel(&self, stream: &OwnedFd) {
        let (fd, control) = (stream.as_raw_fd(), self.control.as_ptr());
        // SAFETY: the control block is that of an operation on this
        // descriptor. The call checks whether it is in flight.
        unsafe { libc::aio_cancel(fd, control) };
    }

    /// Returns the operation's error, EINPROGRESS while it is in flight. glibc
    /// holds its lock meanwhile, so if the operation is complete, no thread
    /// uses it any more.
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
        // SAFETY: it came from a Box, and no operation is in flight.
        drop(unsafe { Box::from_raw(self.control.as_ptr()) });
    }
}

/// Returns how many bytes have arrived on a stream since it was accepted,
/// received or not; end of file counts as one (tcp(7), TCP_INFO).
fn arrived(stream: &OwnedFd) -> nix::Result<u64> {
    // SAFETY: a tcp_info has only numbers, which may be zero.
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
