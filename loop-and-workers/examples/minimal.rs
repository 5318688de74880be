//! **One epoll instance and a pool of workers, the model alone.** One thread
//! waits for all clients, receives, and sends. It hands each request over to a
//! worker, and an eventfd wakes it when there are answers.
//!
//! An error ends its client; an error of accept, of the wait (also EINTR) or of
//! starting a thread ends the program. Left out, with the function in `src`
//! that has it: not waiting for a client whose request a worker has, which
//! epoll reports again and again if it sends more (`apply_outcome`), a bound
//! for the queue (`has_room`), clients that do not read their replies
//! (`flush`), closing in order (`flush_and_advance`), idle timeouts
//! (`close_timed_out`), limits and a full descriptor table (`accept_pending`),
//! graceful shutdown (`on_signal`), datagrams.

use std::collections::HashMap;
use std::io::ErrorKind::{UnexpectedEof, WouldBlock};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, RawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::eventfd::EventFd;

use common::{About, Session};

/// The number of requests that are processed at a time.
const WORKERS: usize = 2;

fn main() -> Result<()> {
    let listener = common::minimal::listen()?;
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let mut clients = HashMap::new();
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    watch(&epoll, listener)?;
    let notice = Arc::new(EventFd::new()?);
    watch(&epoll, &notice)?;
    let (jobs, queue) = channel();
    let (answers, answered) = channel();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..WORKERS {
        let (queue, answers) = (Arc::clone(&queue), answers.clone());
        let notice = Arc::clone(&notice);
        thread::Builder::new()
            .spawn(move || work(&queue, &answers, &notice))?;
    }
    // If all workers end, send fails.
    drop(queue);
    loop {
        for fd in wait(&epoll)? {
            if fd == listener.as_raw_fd() {
                let (stream, _) = listener.accept()?;
                watch(&epoll, &stream)?;
                clients.insert(stream.as_raw_fd(), Client::new(stream)?);
            } else if fd == notice.as_raw_fd() {
                notice.read()?;
                for (mut client, output) in answered.try_iter() {
                    if client.send(&output).unwrap_or(false) {
                        clients.insert(client.stream.as_raw_fd(), client);
                    }
                }
            } else if let Some(mut client) = clients.remove(&fd) {
                match client.receive() {
                    Ok(Some(input)) => jobs.send((client, input))?,
                    Ok(None) => drop(clients.insert(fd, client)),
                    Err(_) => {}
                }
            }
        }
    }
}

/// Adds a socket to the interest list, once: the kernel keeps the list.
fn watch(epoll: &Epoll, socket: impl AsFd) -> nix::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, fd as u64))
}

/// Sleeps until sockets are ready, and returns their descriptors.
fn wait(epoll: &Epoll) -> nix::Result<Vec<RawFd>> {
    let mut events = [EpollEvent::empty(); 64];
    let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
    Ok(events[..ready].iter().map(|event| event.data() as RawFd).collect())
}

/// A client and its input; on the way back, its output. While a worker has the
/// client nothing is received from it, so the replies stay in order.
type Job = (Client, Vec<u8>);

/// Answers one request after the other.
fn work(
    queue: &Mutex<Receiver<Job>>,
    answers: &Sender<Job>,
    notice: &EventFd,
) -> Option<()> {
    let about = About::new("minimal", "");
    loop {
        // One idle worker waits for a job, the others for the lock.
        let (mut client, input) = queue.lock().ok()?.recv().ok()?;
        let mut output = Vec::new();
        client.session.answer(&input, &about, &mut output);
        answers.send((client, output)).ok()?;
        notice.write(1).ok()?;
    }
}

/// One client: its socket, and its half of the protocol.
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Client {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let session = Session::new(0, 1024 * 1024);
        Ok(Self { stream, session })
    }

    /// Receives once. Returns None if nothing has arrived.
    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut input = [0; 4096];
        match self.stream.read(&mut input) {
            Err(error) if error.kind() == WouldBlock => Ok(None),
            Ok(0) => Err(UnexpectedEof.into()),
            received => Ok(Some(input[..received?].to_vec())),
        }
    }

    /// Sends replies. Returns false at the end of the conversation.
    fn send(&mut self, output: &[u8]) -> io::Result<bool> {
        // EAGAIN drops a client that does not read its replies.
        self.stream.write_all(output)?;
        Ok(self.session.wants_input())
    }
}
