//! How the generator's bytes move: epoll says which socket is ready, send(2)
//! and recv(2) do the work.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::socket::{MsgFlags, recv, send};

use super::{CHUNK, Script};
use crate::interrupt;

/// Sockets that one wait tells of.
const EVENTS: usize = 1_024;

/// What is waited for, by number.
#[derive(Debug)]
pub struct Interests {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Interests {
    pub fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .context("epoll_create1")?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); EVENTS] })
    }

    pub fn add(
        &self,
        socket: impl AsFd,
        number: usize,
        interest: EpollFlags,
    ) -> Result<()> {
        let event = EpollEvent::new(interest, number as u64);
        self.epoll.add(socket, event).context("EPOLL_CTL_ADD")
    }

    pub fn change(
        &self,
        socket: impl AsFd,
        number: usize,
        interest: EpollFlags,
    ) -> Result<()> {
        let mut event = EpollEvent::new(interest, number as u64);
        self.epoll.modify(socket, &mut event).context("EPOLL_CTL_MOD")
    }

    /// How many have news; none if nothing came in time.
    pub fn wait(&mut self, patience: Duration) -> Result<usize> {
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

    /// The number of one of them.
    pub fn news(&self, event: usize) -> usize {
        self.events[event].data() as usize
    }
}

/// Sockets, by number, that the script's requests go out on and replies come
/// in from.
#[derive(Debug)]
pub struct Sockets<'a> {
    sockets: Vec<BorrowedFd<'a>>,
    script: &'a Script,
    /// How much each socket still has to send, in bytes.
    unsent: Vec<usize>,
    interests: Interests,
    chunk: Vec<u8>,
}

impl<'a> Sockets<'a> {
    pub fn new(
        sockets: Vec<BorrowedFd<'a>>,
        script: &'a Script,
    ) -> Result<Self> {
        let interests = Interests::new()?;
        for (number, socket) in sockets.iter().enumerate() {
            interests.add(socket, number, EpollFlags::EPOLLIN)?;
        }
        let unsent = vec![0; sockets.len()];
        let chunk = vec![0; CHUNK];
        Ok(Self { sockets, script, unsent, interests, chunk })
    }

    /// Sends so many requests on socket `number`. The last ones may have to
    /// wait for room in it.
    pub fn send(&mut self, number: usize, requests: usize) -> Result<()> {
        let waited_for_room = self.unsent[number] > 0;
        self.unsent[number] += requests * self.script.request;
        self.flush(number)?;
        if self.unsent[number] > 0 && !waited_for_room {
            let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
            self.interests.change(self.sockets[number], number, both)?;
        }
        Ok(())
    }

    /// Sends what the socket has room for.
    fn flush(&mut self, number: usize) -> Result<()> {
        let socket = self.sockets[number].as_raw_fd();
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

    /// Waits until something is received, and shows all that was: the
    /// socket's number, the bytes, and when they were there. False if nothing
    /// came in time.
    pub fn wait(
        &mut self,
        patience: Duration,
        mut on_received: impl FnMut(usize, &[u8], Instant) -> Result<()>,
    ) -> Result<bool> {
        let count = self.interests.wait(patience)?;
        for event in 0..count {
            let number = self.interests.news(event);
            let socket = self.sockets[number];
            if self.unsent[number] > 0 {
                self.flush(number)?;
                if self.unsent[number] == 0 {
                    let input = EpollFlags::EPOLLIN;
                    self.interests.change(socket, number, input)?;
                }
            }
            let flags = MsgFlags::MSG_DONTWAIT;
            match recv(socket.as_raw_fd(), &mut self.chunk, flags) {
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
}
