//! **io_uring(7), the model alone.** The program submits operations (accept,
//! recv, send), each with its buffer, and sleeps in io_uring_enter(2), which
//! returns completions. Data of a completed recv has been copied already.
//!
//! An error ends its client; an error of accept or of the wait (also EINTR)
//! ends the program. Left out, with the function in `src` that has it:
//! multishot receives into shared buffers (`start_receives`), closing in order
//! (`flush_and_advance`), idle timeouts (`close_timed_out`), limits
//! (`Server::add_client`), a kernel that can't (`refused`), graceful shutdown
//! (`begin_drain`), datagrams (`on_datagram`).

use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::ptr::null_mut;

use anyhow::{Result, ensure};
use io_uring::squeue::Entry;
use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use libc::SOCK_CLOEXEC;
use nix::errno::Errno;

use common::{About, Session};

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let about = About::new("minimal", "");
    // Never dropped: after an error the kernel may still use the buffers.
    let mut clients = ManuallyDrop::new(HashMap::new());
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    let mut ring = builder.build(64)?;
    let listener = listener.as_raw_fd();
    submit(&mut ring, &accept(listener))?;
    loop {
        for (fd, result) in wait(&mut ring)? {
            let (fd, next) = if fd == listener {
                submit(&mut ring, &accept(listener))?;
                ensure!(result >= 0, "accept: {}", Errno::from_raw(-result));
                let fd = result;
                let client = clients.entry(fd).or_insert(Client::new(fd));
                (fd, client.next())
            } else {
                let client = clients.get_mut(&fd);
                (fd, client.and_then(|it| it.on_complete(result, &about)))
            };
            match next {
                Some(operation) => submit(&mut ring, &operation)?,
                None => drop(clients.remove(&fd)),
            }
        }
    }
}

/// Sleeps until operations are complete, and returns the descriptor and the
/// result of each. Inside this call, the kernel copies.
fn wait(ring: &mut IoUring) -> Result<Vec<(RawFd, i32)>> {
    ring.submit_and_wait(1)?;
    let done = ring.completion();
    Ok(done.map(|it| (it.user_data() as RawFd, it.result())).collect())
}

/// Puts an operation on the submission queue.
fn submit(ring: &mut IoUring, operation: &Entry) -> Result<()> {
    // SAFETY: its buffer belongs to a client, which has no other operation in
    // flight and is not dropped before the completion.
    while unsafe { ring.submission().push(operation) }.is_err() {
        ring.submit()?;
    }
    Ok(())
}

fn accept(listener: RawFd) -> Entry {
    let accept = opcode::Accept::new(Fd(listener), null_mut(), null_mut());
    accept.flags(SOCK_CLOEXEC).build().user_data(listener as u64)
}

/// One client: its socket, its half of the protocol, and the buffers of the
/// one operation that is in flight.
struct Client {
    stream: TcpStream,
    session: Session,
    input: Box<[u8; 4096]>,
    output: Vec<u8>,
}

impl Client {
    fn new(fd: RawFd) -> Self {
        Self {
            // SAFETY: accept has returned this new descriptor.
            stream: unsafe { TcpStream::from_raw_fd(fd) },
            session: Session::new(0, 1024 * 1024),
            input: Box::new([0; 4096]),
            output: Vec::new(),
        }
    }

    /// Takes the result of an operation, and answers what was received. Returns
    /// the next operation, or `None` at the end of the conversation.
    fn on_complete(&mut self, result: i32, about: &About) -> Option<Entry> {
        let count = usize::try_from(result).ok().filter(|it| *it > 0)?;
        if self.output.is_empty() {
            self.session.answer(&self.input[..count], about, &mut self.output);
        } else {
            self.output.drain(..count);
        }
        self.next()
    }

    /// Sends what is left of the replies; without any, receives.
    fn next(&mut self) -> Option<Entry> {
        let fd = Fd(self.stream.as_raw_fd());
        let (input, output) = (&mut *self.input, &self.output);
        let operation = if !output.is_empty() {
            let length = output.len() as u32;
            opcode::Send::new(fd, output.as_ptr(), length).build()
        } else if self.session.wants_input() {
            opcode::Recv::new(fd, input.as_mut_ptr(), 4096).build()
        } else {
            return None;
        };
        Some(operation.user_data(fd.0 as u64))
    }
}
