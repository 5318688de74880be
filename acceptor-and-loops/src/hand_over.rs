//! How a client gets from the acceptor to its loop: through a queue in memory
//! and an eventfd that wakes the loop (`threads`), or as a descriptor that is
//! sent over a pair of sockets (`processes`).

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag,
    SockType, recvmsg, sendmsg, socketpair,
};

use crate::NEW_CLIENTS;

/// The number of clients that wait in a loop's queue: as many as the acceptor
/// accepts in one round. A loop that is held up for longer gets no more, and
/// further clients go to other loops or stay in the accept queue.
///
/// The buffer of a socket holds more. The kernel charges each message to its
/// sender (net/unix/af_unix.c, unix_dgram_sendmsg); with the default
/// net.core.wmem_default there is room for 278 (tried on Linux 6.18, x86-64).
pub const QUEUE: usize = 64;

/// A client on its way to its loop.
pub struct NewClient {
    pub stream: OwnedFd,
    /// The number of clients accepted until then, for CLIENT ID.
    pub id: u64,
}

/// The acceptor's end of a loop's queue.
pub enum Outbox {
    Queue(Arc<Queue>, Waker),
    Pair(OwnedFd),
    /// There is no loop: its process has died, or shutdown was requested.
    Closed,
}

/// The loop's end.
pub enum Inbox {
    Queue(Arc<Queue>),
    Pair(Pair),
}

/// The head of a loop's queue.
pub enum Head {
    Client(NewClient),
    Empty,
    /// Shutdown was requested, and all clients have been taken.
    End,
    /// A descriptor that could not be received, and was closed by the kernel.
    Lost,
}

/// Makes a queue for a loop that is a thread.
pub fn queue(poll: &Poll) -> Result<(Inbox, Outbox)> {
    let waker = Waker::new(poll.registry(), NEW_CLIENTS).context("eventfd")?;
    let queue = Arc::new(Queue::default());
    Ok((Inbox::Queue(Arc::clone(&queue)), Outbox::Queue(queue, waker)))
}

/// Makes a pair of sockets for a loop that is a process.
///
/// SOCK_SEQPACKET keeps messages apart: each is one client, and a receive
/// returns one of them, never parts of two. End of file comes after the last.
pub fn pair(poll: &Poll) -> Result<(Inbox, Outbox)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .context("socketpair")?;
    let mut source = SourceFd(&theirs.as_raw_fd());
    poll.registry()
        .register(&mut source, NEW_CLIENTS, Interest::READABLE)
        .context("epoll_ctl")?;
    Ok((Inbox::Pair(Pair::new(theirs)?), Outbox::Pair(ours)))
}

impl Outbox {
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Closed)
    }

    /// Hands a client over, without waiting. Returns it if the kernel does not
    /// take it, with the reason.
    pub fn put(&self, client: NewClient) -> Result<Option<(NewClient, Errno)>> {
        let sent = match self {
            Self::Queue(queue, waker) => {
                // A queue with clients has a loop that was woken for them.
                if queue.push(client) {
                    wake(waker)?;
                }
                return Ok(None);
            }
            Self::Pair(socket) => send(socket, &client),
            Self::Closed => Err(Errno::EPIPE),
        };
        // If it was sent, the acceptor's copy of the descriptor is closed here.
        Ok(sent.err().map(|errno| (client, errno)))
    }

    /// Requests the drain: the loop takes the clients in its queue, then
    /// finds its end.
    pub fn close(&mut self) -> Result<()> {
        match self {
            Self::Queue(queue, waker) => {
                queue.lock().closed = true;
                // The waker must outlive the wake-up.
                wake(waker)
            }
            // The other end gets end of file. No process but this one has a
            // copy of the descriptor.
            Self::Pair(_) | Self::Closed => {
                *self = Self::Closed;
                Ok(())
            }
        }
    }
}

impl Inbox {
    /// Takes the client that has waited longest.
    pub fn take(&mut self) -> nix::Result<Head> {
        match self {
            Self::Queue(queue) => Ok(queue.pop()),
            Self::Pair(pair) => pair.receive(),
        }
    }

    /// Returns whether a client has the last descriptor of a loop process, so
    /// that the next one could not be received.
    pub fn is_full(&self, client: &NewClient) -> bool {
        match self {
            Self::Queue(_) => false,
            Self::Pair(pair) => client.stream.as_raw_fd() >= pair.last,
        }
    }
}

/// A queue in the memory that the acceptor and a loop share. Its limit is
/// [`QUEUE`], which the acceptor checks before it accepts.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clients: VecDeque<NewClient>,
    closed: bool,
}

impl Queue {
    /// Adds a client, and returns whether the loop must be woken: only if the
    /// queue was empty. Otherwise the loop was woken for the client before, and
    /// takes clients until it finds the queue empty, under the same lock. So no
    /// wake-up is lost, and a burst of clients costs one.
    fn push(&self, client: NewClient) -> bool {
        let clients = &mut self.lock().clients;
        clients.push_back(client);
        clients.len() == 1
    }

    fn pop(&self) -> Head {
        let mut state = self.lock();
        match state.clients.pop_front() {
            Some(client) => Head::Client(client),
            None if state.closed => Head::End,
            None => Head::Empty,
        }
    }

    /// Locks the state, even after a panic, because no panic leaves it half
    /// changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a descriptor in a control message (SCM_RIGHTS, unix(7)). The message
/// itself, which may not be empty, is the client's id.
fn send(socket: &OwnedFd, client: &NewClient) -> nix::Result<()> {
    let id = client.id.to_ne_bytes();
    let streams = [client.stream.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&streams)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    loop {
        let message = [IoSlice::new(&id)];
        match sendmsg::<()>(socket.as_raw_fd(), &message, &rights, flags, None)
        {
            Err(Errno::EINTR) => {}
            sent => return sent.map(drop),
        }
    }
}

/// Wakes a thread or process: its wait, or else its next one, returns at once.
pub fn wake(waker: &Waker) -> Result<()> {
    loop {
        match waker.wake() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            woken => return woken.context("eventfd"),
        }
    }
}

/// The socket of a loop process, over which it receives its clients.
pub struct Pair {
    socket: OwnedFd,
    /// Room for a control message with one descriptor.
    control: Vec<u8>,
    /// The highest number that a descriptor of this process may have.
    last: RawFd,
}

impl Pair {
    fn new(socket: OwnedFd) -> Result<Self> {
        let (limit, _) =
            getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
        let last = RawFd::try_from(limit).unwrap_or(RawFd::MAX) - 1;
        Ok(Self { socket, control: cmsg_space!(RawFd), last })
    }

    fn receive(&mut self) -> nix::Result<Head> {
        let mut id = [0; size_of::<u64>()];
        let mut message = [IoSliceMut::new(&mut id)];
        let received = match recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut message,
            Some(&mut self.control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(received) if received.bytes == 0 => return Ok(Head::End),
            Err(Errno::EAGAIN) => return Ok(Head::Empty),
            received => received?,
        };
        // cmsgs fails if MSG_CTRUNC is set: there was no number for the
        // descriptor (net/core/scm.c, scm_detach_fds).
        let stream = received.cmsgs().ok().and_then(|mut messages| {
            messages.find_map(|message| match message {
                ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                _ => None,
            })
        });
        let Some(stream) = stream else { return Ok(Head::Lost) };
        // SAFETY: the kernel has just made this descriptor for this process.
        let stream = unsafe { OwnedFd::from_raw_fd(stream) };
        Ok(Head::Client(NewClient { stream, id: u64::from_ne_bytes(id) }))
    }
}
