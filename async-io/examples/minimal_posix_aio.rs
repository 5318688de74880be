//! **POSIX AIO, the model alone.** The program starts aio_read(3) or
//! aio_write(3), and sleeps until a signal reports that one is complete.
//! Threads of the C library wait and copy, one per operation in flight.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. glibc has 20 such threads, so the 21st client is not
//! answered before an operation of another one is complete. Left out, with the
//! function in `src` that has it: more threads (`prepare`), closing in order
//! and graceful shutdown (`begin_drain`), idle timeouts (`close_timed_out`),
//! limits (`accept_pending`), lost signals (`scan`).

use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock};
use std::mem::{self, ManuallyDrop};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};

use anyhow::{Context as _, Result, bail};
use libc::{
    F_SETOWN, aio_error, aio_read, aio_return, aio_write, aiocb, c_int,
};
use nix::errno::Errno;
use nix::fcntl::FcntlArg::F_SETFL;
use nix::fcntl::{OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::unistd::getpid;

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    // Never dropped: after an error a thread may still use the buffers.
    let mut clients = ManuallyDrop::new(HashMap::new());
    // The signals are blocked, so no handler runs; they are read from a
    // descriptor. nix can't name SIGRTMIN, so all but the standard signals.
    let mut mask = SigSet::all();
    Signal::iterator().for_each(|signal| mask.remove(signal));
    mask.add(Signal::SIGIO);
    mask.thread_block()?;
    let signals = SignalFd::new(&mask)?;
    watch(listener)?;
    loop {
        // Before the first wait too: a client that came earlier sent no signal.
        while let Some(stream) = accept(listener)? {
            let fd = stream.as_raw_fd();
            let client = clients.entry(fd).or_insert(Client::new(stream));
            client.start()?;
        }
        let fd = wait(&signals)?;
        if let Some(client) = clients.get_mut(&fd)
            && !client.on_complete(&about).unwrap_or(false)
        {
            clients.remove(&fd);
        }
    }
}

/// Has the kernel send SIGIO for new connections: there is no aio_accept.
fn watch(listener: &TcpListener) -> nix::Result<()> {
    let (fd, owner) = (listener.as_raw_fd(), getpid().as_raw());
    // SAFETY: F_SETOWN takes a number.
    Errno::result(unsafe { libc::fcntl(fd, F_SETOWN, owner) })?;
    fcntl(listener, F_SETFL(OFlag::O_NONBLOCK | OFlag::O_ASYNC))?;
    Ok(())
}

/// Sleeps until a signal is queued, and returns the descriptor whose operation
/// is complete; -1 for SIGIO.
fn wait(signals: &SignalFd) -> Result<RawFd> {
    let signal = signals.read_signal()?.context("no signal")?;
    match signal.ssi_signo as i32 {
        number if number == libc::SIGRTMIN() => Ok(signal.ssi_int),
        libc::SIGIO => Ok(-1),
        number => bail!("signal {number}"),
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if error.kind() == WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// One client: its socket, its half of the protocol, and the operation that is
/// in flight, with its buffers.
struct Client {
    stream: TcpStream,
    session: Session,
    operation: Box<aiocb>,
    input: Box<[u8; 4096]>,
    output: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            session: Session::new(0, 1024 * 1024),
            // SAFETY: numbers and pointers, for which zero is valid.
            operation: Box::new(unsafe { mem::zeroed() }),
            input: Box::new([0; 4096]),
            output: Vec::new(),
        }
    }

    /// Has a thread of the library send the rest of the replies; without any,
    /// has it receive.
    fn start(&mut self) -> nix::Result<c_int> {
        let sends = !self.output.is_empty();
        let buffer: &mut [u8] =
            if sends { &mut self.output } else { &mut *self.input };
        let operation = &mut *self.operation;
        operation.aio_fildes = self.stream.as_raw_fd();
        operation.aio_buf = buffer.as_mut_ptr().cast();
        operation.aio_nbytes = buffer.len();
        operation.aio_sigevent.sigev_notify = libc::SIGEV_SIGNAL;
        operation.aio_sigevent.sigev_signo = libc::SIGRTMIN();
        operation.aio_sigevent.sigev_value.sival_ptr =
            operation.aio_fildes as usize as *mut _;
        let start = if sends { aio_write } else { aio_read };
        // SAFETY: nothing else is in flight, and control block and buffer stay
        // in their place until the completion.
        Errno::result(unsafe { start(operation) })
    }

    /// Takes the result of the operation, answers what was received, and starts
    /// the next one. Returns false at the end of the conversation.
    fn on_complete(&mut self, about: &About) -> nix::Result<bool> {
        // SAFETY: the control block is that of an operation.
        if unsafe { aio_error(&*self.operation) } == libc::EINPROGRESS {
            return Ok(true); // Another process has sent the signal.
        }
        // SAFETY: the operation is complete, and its result is taken once.
        let result = unsafe { aio_return(&mut *self.operation) };
        let Ok(count @ 1..) = usize::try_from(result) else {
            return Ok(false);
        };
        if self.output.is_empty() {
            self.session.answer(&self.input[..count], about, &mut self.output);
        } else {
            self.output.drain(..count);
        }
        let goes_on = !self.output.is_empty() || self.session.wants_input();
        if goes_on {
            self.start()?;
        }
        Ok(goes_on)
    }
}
