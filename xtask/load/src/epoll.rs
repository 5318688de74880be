//! The generator's sockets: epoll reports which sockets are ready, send(2) and
//! recv(2) move the data.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::socket::{MsgFlags, recv, send};

use super::{CHUNK, Script};
use crate::interrupt;

/// The most events that one wait returns.
const EVENTS: usize = 1_024;

/// Sockets by number, on which the script's requests are sent and replies are
/// received.
#[derive(Debug)]
pub struct Sockets<'a, S> {
    sockets: Vec<Option<S>>,
    script: &'a Script,
    /// Bytes pending on each socket.
    unsent: Vec<usize>,
    epoll: Epoll,
    events: Vec<EpollEvent>,
    chunk: Vec<u8>,
}

impl<'a, S: AsFd> Sockets<'a, S> {
    /// Makes room for `count` sockets.
    pub fn new(count: usize, script: &'a Script) -> Result<Self> {
        let mut sockets = Vec::new();
        sockets.resize_with(count, || None);
        Ok(Self {
            sockets,
            script,
            unsent: vec![0; count],
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
                .context("epoll_create1")?,
            events: vec![EpollEvent::empty(); EVENTS],
            chunk: vec![0; CHUNK],
        })
    }

    /// Adds a socket under a number, and registers it for reading.
    pub fn put(&mut self, number: usize, socket: S) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
        self.epoll.add(&socket, event).context("EPOLL_CTL_ADD")?;
        self.sockets[number] = Some(socket);
        self.unsent[number] = 0;
        Ok(())
    }

    /// Drops a socket, which closes it if it is owned.
    pub fn remove(&mut self, number: usize) {
        self.sockets[number] = None;
    }

    /// Sends `requests` requests on socket `number`. Bytes that don't fit its
    /// send buffer stay pending.
    pub fn send(&mut self, number: usize, requests: usize) -> Result<()> {
        let waited_for_room = self.unsent[number] > 0;
        self.unsent[number] += requests * self.script.request;
        self.flush(number)?;
        if self.unsent[number] > 0 && !waited_for_room {
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            self.listen_for(number, both)?;
        }
        Ok(())
    }

    /// Sends pending bytes until the send buffer is full.
    fn flush(&mut self, number: usize) -> Result<()> {
        let Some(socket) = &self.sockets[number] else { return Ok(()) };
        let socket = socket.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let unsent = &mut self.unsent[number];
        while *unsent > 0 {
            let rest = self.script.rest(*unsent);
            match send(socket, &self.script.requests[rest], flags) {
                Ok(sent) => *unsent -= sent,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("sending requests"),
            }
        }
        Ok(())
    }

    fn listen_for(&self, number: usize, interest: EpollFlags) -> Result<()> {
        let Some(socket) = &self.sockets[number] else { return Ok(()) };
        let mut event = EpollEvent::new(interest, number as u64);
        self.epoll.modify(socket, &mut event).context("EPOLL_CTL_MOD")
    }

    /// Waits for events, and passes received data to `on_received`: the
    /// socket's number, the bytes, and the time of their receipt. Returns false
    /// if nothing happened in time.
    pub fn wait(
        &mut self,
        patience: Duration,
        mut on_received: impl FnMut(usize, &[u8], Instant) -> Result<()>,
    ) -> Result<bool> {
        let count = self.ready(patience)?;
        for event in 0..count {
            let number = self.events[event].data() as usize;
            if self.unsent[number] > 0 {
                self.flush(number)?;
                if self.unsent[number] == 0 {
                    self.listen_for(number, EpollFlags::EPOLLIN)?;
                }
            }
            let Some(socket) = &self.sockets[number] else { continue };
            let socket = socket.as_fd().as_raw_fd();
            match recv(socket, &mut self.chunk, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => bail!("the server ended the connection"),
                Ok(received) => {
                    let received = &self.chunk[..received];
                    on_received(number, received, Instant::now())?;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("receiving replies"),
            }
        }
        Ok(count > 0)
    }

    /// Waits for events, and returns their number, 0 at the timeout.
    fn ready(&mut self, patience: Duration) -> Result<usize> {
        let timeout = EpollTimeout::try_from(patience)
            .context("a wait within epoll_wait(2)'s range")?;
        loop {
            interrupt::check()?;
            match self.epoll.wait(&mut self.events, timeout) {
                Err(Errno::EINTR) => {}
                count => return count.context("epoll_wait"),
            }
        }
    }
}
