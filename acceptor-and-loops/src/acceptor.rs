//! The acceptor: it accepts connections and hands each to a loop. The limits
//! and the errors are the same policy in every model: skip them on a first
//! read. Connections over the limit are rejected. Without a descriptor even for
//! that, and while the queues of all loops are full, they stay in the accept
//! queue.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use anyhow::{Context as _, Result};
use mio::unix::SourceFd;
use mio::{Events, Poll, Token, Waker};
use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use nix::sys::socket::SockFlag;

use common::limits::{ACCEPT_BACKOFF, ACCEPTS_PER_ROUND};
use common::{Cause, Config, SpareDescriptor, log};

use crate::accept::{accept, is_connection_error, is_resource_error};
use crate::cores::{Flags, HandOver};
use crate::hand_over::{NewClient, Outbox};
use crate::shared::Shared;
use crate::{READABLE, wait};

/// The tokens of the acceptor's descriptors.
const SIGNALS: Token = Token(0);
const WOKEN: Token = Token(1);
const LISTENER: Token = Token(2);

/// The main thread, or the parent process. It has no clients, so however busy
/// they are, it accepts, and notices a signal and the end of a loop.
pub struct Acceptor {
    pub shared: &'static Shared,
    pub signals: SignalFd,
    poll: Poll,
    events: Events,
    /// `None` once shutdown was requested.
    listener: Option<OwnedFd>,
    /// One per loop.
    outboxes: Vec<Outbox>,
    hand_over: HandOver,
    /// The loop whose turn it is.
    next: usize,
    /// The number of clients so far, also of those that no loop could get.
    accepted: u64,
    spare: SpareDescriptor,
    /// When to look for new clients, which no further edge reports.
    new_clients_at: Option<Instant>,
    now: Instant,
}

impl Acceptor {
    /// Takes the signals that were blocked, and a non-blocking listener.
    pub fn new(
        config: Config,
        flags: Flags,
        signals: SignalFd,
        listener: Option<OwnedFd>,
        outboxes: Vec<Outbox>,
    ) -> Result<Self> {
        let poll = Poll::new().context("epoll_create1")?;
        let sources = [
            (Some(signals.as_raw_fd()), SIGNALS),
            (listener.as_ref().map(|it| it.as_raw_fd()), LISTENER),
        ];
        for (source, token) in sources {
            let Some(source) = source else { continue };
            poll.registry()
                .register(&mut SourceFd(&source), token, READABLE)
                .context("epoll_ctl")?;
        }
        let waker = Waker::new(poll.registry(), WOKEN).context("eventfd")?;
        let spare = SpareDescriptor::open()?;
        let (variant, loops) = (flags.kind.name(), outboxes.len());
        let shared = Shared::new(config, variant, loops, waker)?;
        Ok(Self {
            // Leaked, because the loops use it until the process ends.
            shared: Box::leak(Box::new(shared)),
            signals,
            poll,
            events: Events::with_capacity(3),
            listener,
            outboxes,
            hand_over: flags.hand_over,
            next: 0,
            accepted: 0,
            spare,
            new_clients_at: None,
            now: Instant::now(),
        })
    }

    /// Waits for a signal, a new client, a loop that has ended, or room in a
    /// queue, until a moment at most. Returns whether there are signals.
    pub fn wait(&mut self, until: Option<Instant>) -> Result<bool> {
        let until = [self.new_clients_at, until].into_iter().flatten().min();
        let timeout =
            until.map(|it| it.saturating_duration_since(Instant::now()));
        wait(&mut self.poll, &mut self.events, timeout)?;
        self.now = Instant::now();
        let mut signals = false;
        for event in &self.events {
            match event.token() {
                SIGNALS => signals = true,
                _ if self.listener.is_none() => {}
                // The edge is reported once, so this is remembered until
                // accept4 returns EAGAIN.
                LISTENER => {
                    self.new_clients_at.get_or_insert(self.now);
                }
                // A pause is over.
                _ => self.new_clients_at = Some(self.now),
            }
        }
        Ok(signals)
    }

    /// Connects a loop process that has been started.
    pub fn connect(&mut self, number: usize, outbox: Outbox) {
        self.outboxes[number] = outbox;
        self.new_clients_at = self.listener.as_ref().map(|_| self.now);
    }

    /// Hands no more clients to a loop process that has died.
    pub fn disconnect(&mut self, number: usize) {
        self.outboxes[number] = Outbox::Closed;
        self.shared.forget(number);
    }

    /// Stops accepting, and has every loop drain. Connections still in the
    /// accept queue are reset when the listener closes.
    pub fn stop(&mut self) -> Result<()> {
        self.listener = None;
        self.new_clients_at = None;
        self.outboxes.iter_mut().try_for_each(Outbox::close)
    }

    /// Accepts the connections in the accept queue, up to a limit per round.
    pub fn accept_pending(&mut self) -> Result<()> {
        if self.new_clients_at.is_none_or(|at| at > self.now) {
            return Ok(());
        }
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(listener) = &self.listener else { return Ok(()) };
            // A connection is accepted only if a loop has room for it.
            let Some(number) = self.loop_with_room() else {
                self.new_clients_at = None;
                return Ok(());
            };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match accept(listener, flags) {
                // The spare descriptor can't be opened again, so this
                // connection holds the last one.
                Ok(stream) if !self.spare.reacquire() => {
                    self.shared.reject(
                        stream,
                        format_args!("no descriptor is left (ulimit -Hn)"),
                    );
                    if !self.spare.reacquire() {
                        self.pause(Errno::EMFILE);
                        return Ok(());
                    }
                }
                Ok(stream) if !self.allows_another() => {
                    let max = self.shared.limit.max();
                    self.shared.reject(
                        stream,
                        format_args!("--max-connections {max} reached"),
                    );
                }
                Ok(stream) => self.hand_over(stream, number)?,
                Err(Errno::EAGAIN) => {
                    self.spare.reacquire();
                    self.new_clients_at = None;
                    return Ok(());
                }
                Err(Errno::EINTR) => {}
                Err(errno) if is_connection_error(errno) => {}
                // The next accept4 succeeds, because the spare descriptor is
                // free.
                Err(Errno::EMFILE | Errno::ENFILE) if self.spare.release() => {}
                Err(errno) if is_resource_error(errno) => {
                    self.pause(errno);
                    return Ok(());
                }
                Err(errno) => return Err(errno).context("accept4"),
            }
        }
        Ok(())
    }

    /// Whether one more client may connect. Only the acceptor adds clients, so
    /// the number never exceeds the limit, not even for a moment.
    fn allows_another(&self) -> bool {
        self.shared.limit.allows(self.shared.clients())
    }

    /// Chooses the loop that gets the next client. If there is none, a loop
    /// that takes a client from its queue wakes the acceptor.
    fn loop_with_room(&self) -> Option<usize> {
        self.choose().or_else(|| {
            self.shared.wait_for_loops();
            self.choose()
        })
    }

    fn choose(&self) -> Option<usize> {
        let loops = self.outboxes.len();
        let in_turn = (self.next..loops).chain(0..self.next);
        let mut open = in_turn.filter(|&number| {
            self.outboxes[number].is_open() && self.shared.has_room(number)
        });
        match self.hand_over {
            HandOver::RoundRobin => open.next(),
            HandOver::Fewest => {
                open.min_by_key(|&number| self.shared.clients_of(number))
            }
        }
    }

    /// Hands a client to a loop, or to another one if the loop's process has
    /// died and its end was not reported yet.
    fn hand_over(&mut self, stream: OwnedFd, number: usize) -> Result<()> {
        self.accepted += 1;
        let mut client = NewClient { stream, id: self.accepted };
        let mut chosen = Some(number);
        let mut why = Errno::EPIPE;
        while let Some(number) = chosen {
            self.next = (number + 1) % self.outboxes.len();
            self.shared.acquire(number);
            let Some(returned) = self.outboxes[number].put(client)? else {
                return Ok(());
            };
            (client, why) = returned;
            self.shared.take(number);
            self.shared.release(number);
            if !matches!(why, Errno::EPIPE | Errno::ECONNRESET) {
                break;
            }
            self.outboxes[number] = Outbox::Closed;
            chosen = self.choose();
        }
        // Too many descriptors are in flight (ETOOMANYREFS), memory is short,
        // the socket's buffer is smaller than the queue, or all have died.
        self.shared.reject(client.stream, format_args!("sendmsg: {why}"));
        Ok(())
    }

    /// Pauses accepting until a client leaves or the back-off ends, because
    /// accept4 would only fail again.
    fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.new_clients_at = Some(self.now + ACCEPT_BACKOFF);
        self.shared.wait_for_loops();
    }
}
