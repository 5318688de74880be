//! **One acceptor and several loop processes, the model alone.** The parent
//! process accepts, and sends each client's descriptor over a pair of sockets
//! to one of its children in turn (SCM_RIGHTS). Each child has an epoll
//! instance (mio) and its clients. Readiness is edge-triggered.
//!
//! An error ends its client; an error of accept or of a wait (also EINTR) ends
//! its process, and the parent when it next sends to a child that has ended.
//! Left out, with the function in `src` that has it: reaping and replacing a
//! child (`Processes::replace`), a queue that is full (`loop_with_room`), a
//! child without a free descriptor (`Server::reject`), clients that do not read
//! their replies (`flush`), closing in order (`flush_and_advance`), fairness
//! (`read_policy`), idle timeouts (`close_timed_out`), limits
//! (`allows_another`) and a full descriptor table (`accept_pending`), a core
//! for each child (`Cores::pin`), graceful shutdown (`begin_drain`), datagrams.

use std::collections::HashMap;
use std::io::{self, ErrorKind::WouldBlock, Read as _, Write as _};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::thread;

use anyhow::{Context as _, Result, bail};
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::ControlMessage::ScmRights;
use nix::sys::socket::ControlMessageOwned as Received;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};
use nix::unistd::{ForkResult, fork};

use common::{About, Session, announce};

/// The token of the listener, and of a child's socket. Clients have the numbers
/// of their descriptors, which are larger, because standard input is open.
const NEW_CLIENTS: Token = Token(0);

const READABLE: Interest = Interest::READABLE;

fn main() -> Result<()> {
    let mut listener = TcpListener::bind(common::minimal::address()?)?;
    let mut loops = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_NONBLOCK);
        let pair = socketpair(AddressFamily::Unix, kind, None, flags)?;
        // SAFETY: the process has one thread, so the child may do anything.
        if let ForkResult::Child = unsafe { fork() }? {
            // These are the parent's.
            drop((pair.0, loops, listener));
            return serve(pair.1.as_raw_fd());
        }
        loops.push(pair.0);
    }
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    poll.registry().register(&mut listener, NEW_CLIENTS, READABLE)?;
    announce(Some(listener.local_addr()?), None)?;
    let mut in_turn = loops.iter().cycle();
    loop {
        poll.poll(&mut events, None)?;
        accept_all(&listener, &mut in_turn)?;
    }
}

fn serve(socket: RawFd) -> Result<()> {
    let about = About::new("minimal", "");
    let mut clients = HashMap::new();
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    poll.registry().register(&mut SourceFd(&socket), NEW_CLIENTS, READABLE)?;
    loop {
        poll.poll(&mut events, None)?;
        for token in events.iter().map(|event| event.token()) {
            if token == NEW_CLIENTS {
                // A registration looks at the socket, so input that has
                // arrived by then is reported, too.
                while let Some(mut stream) = receive(socket)? {
                    let own = Token(stream.as_raw_fd() as usize);
                    poll.registry().register(&mut stream, own, READABLE)?;
                    clients.insert(own, Client::new(stream));
                }
            } else if let Some(client) = clients.get_mut(&token)
                && !client.read_all(&about).unwrap_or(false)
            {
                clients.remove(&token);
            }
        }
    }
}

/// Accepts until no connection is left, because mio is edge-triggered, and
/// sends each to the next child. The parent's copy is closed here.
fn accept_all<'a>(
    listener: &TcpListener,
    in_turn: &mut impl Iterator<Item = &'a OwnedFd>,
) -> Result<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let child = in_turn.next().context("no loop")?;
        let (fds, message) = ([stream.as_raw_fd()], [IoSlice::new(b"x")]);
        let (rights, flags) = ([ScmRights(&fds)], MsgFlags::MSG_NOSIGNAL);
        sendmsg::<()>(child.as_raw_fd(), &message, &rights, flags, None)?;
    }
}

/// Receives a client that has been sent, if there is one.
fn receive(socket: RawFd) -> Result<Option<TcpStream>> {
    let (mut byte, mut control) = ([0], cmsg_space!(RawFd));
    let mut message = [IoSliceMut::new(&mut byte)];
    let (room, flags) = (Some(&mut control[..]), MsgFlags::empty());
    let received = match recvmsg::<()>(socket, &mut message, room, flags) {
        Err(Errno::EAGAIN) => return Ok(None),
        Ok(received) if received.bytes == 0 => bail!("the parent has ended"),
        received => received?,
    };
    // A message is truncated if no descriptor is free.
    let rights = received.cmsgs().map_err(|_| Errno::EMFILE)?.next();
    let Some(Received::ScmRights(fds)) = rights else { return Ok(None) };
    // SAFETY: the kernel has just made this descriptor for this process.
    Ok(Some(unsafe { TcpStream::from_raw_fd(fds[0]) }))
}

/// One client: its socket, and its half of the protocol.
struct Client {
    stream: TcpStream,
    session: Session,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        let session = Session::new(0, 1024 * 1024);
        Self { stream, session }
    }

    /// Receives and answers until the socket is drained, because what is left
    /// is not reported again. Returns false at the end of the conversation.
    fn read_all(&mut self, about: &About) -> io::Result<bool> {
        let mut input = [0; 4096];
        while self.session.wants_input() {
            let received = match self.stream.read(&mut input) {
                Err(error) if error.kind() == WouldBlock => return Ok(true),
                Ok(0) => break,
                received => received?,
            };
            let mut output = Vec::new();
            self.session.answer(&input[..received], about, &mut output);
            // EAGAIN drops a client that does not read its replies.
            self.stream.write_all(&output)?;
        }
        Ok(false)
    }
}
