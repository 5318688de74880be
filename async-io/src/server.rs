//! The state that both variants share: clients, limits and timers. Most of it
//! is the same policy as in every model: skip it on a first read.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::Result;
use nix::errno::Errno;
use slotmap::{DefaultKey, SlotMap};

use common::limits::{ACCEPT_BACKOFF, ACK_POLL_INTERVAL};
use common::{
    About, Cause, Config, ConnectionLimit, SpareDescriptor, Timeout, Timers,
    log, reject,
};

use crate::MODEL;
use crate::connection::{BufferPool, Connection, is_peer_error};

/// The server's state, except the operations in flight, which the engine owns.
pub struct Server<'a> {
    pub config: &'a Config,
    pub spare: SpareDescriptor,
    pub limit: ConnectionLimit,
    pub connections: SlotMap<DefaultKey, Connection>,
    pub timers: Timers,
    pub pool: BufferPool,
    pub about: About,
    pub now: Instant,
    /// When accepting resumes, if it is paused for lack of descriptors or
    /// memory.
    pub paused_until: Option<Instant>,
    /// The end of the drain, once shutdown was requested.
    pub drain_until: Option<Instant>,
    /// During the drain: when to poll next which clients have acknowledged all
    /// replies.
    pub next_ack_poll: Instant,
}

impl<'a> Server<'a> {
    /// Call it when everything is bound, because the connection limit depends
    /// on the descriptors that are left.
    pub fn new(config: &'a Config, variant: &'static str) -> Result<Self> {
        Self::with_ceiling(config, variant, usize::MAX, "ulimit -Hn")
    }

    /// Creates the state for an engine that can't have more than `ceiling`
    /// clients; `why` names the setting that limits it.
    pub fn with_ceiling(
        config: &'a Config,
        variant: &'static str,
        ceiling: usize,
        why: &str,
    ) -> Result<Self> {
        Ok(Self {
            config,
            spare: SpareDescriptor::open()?,
            limit: ConnectionLimit::with_ceiling(config, 1, ceiling, why),
            connections: SlotMap::new(),
            timers: Timers::new(config.idle_timeout),
            pool: BufferPool::new(),
            about: About::new(MODEL.name, variant),
            now: Instant::now(),
            paused_until: None,
            drain_until: None,
            next_ack_poll: Instant::now(),
        })
    }

    /// True when the drain is over: no client is left, or its time is up.
    pub fn has_finished(&self) -> bool {
        let asked = self.drain_until.is_some();
        asked && (self.connections.is_empty() || self.is_out_of_time())
    }

    /// True when the time for the drain is up.
    pub fn is_out_of_time(&self) -> bool {
        self.drain_until.is_some_and(|until| until <= Instant::now())
    }

    /// Returns when the next wait must end even if nothing completes.
    pub fn next_deadline(&self) -> Option<Instant> {
        let ack_poll = self.drain_until.map(|_| self.next_ack_poll);
        let moments =
            [self.timers.next(), self.paused_until, self.drain_until, ack_poll];
        moments.into_iter().flatten().min()
    }

    /// Adds a new client and returns its key, or rejects it.
    pub fn add_client(&mut self, stream: OwnedFd) -> Option<DefaultKey> {
        // The spare descriptor can't be opened again, so this connection holds
        // the last one.
        if !self.spare.reacquire() {
            let why = format_args!("no descriptor is left (ulimit -Hn)");
            reject(stream, why);
            self.about.counters.rejected += 1;
            return None;
        }
        if !self.limit.allows(self.connections.len()) {
            let max = self.limit.max();
            reject(stream, format_args!("--max-connections {max} reached"));
            self.about.counters.rejected += 1;
            return None;
        }
        self.about.counters.accepted += 1;
        self.about.counters.clients += 1;
        let id = self.about.counters.accepted;
        let session = self.config.session(id);
        let key = self.connections.insert(Connection::new(stream, session));
        self.timers.start(key, Timeout::Idle, Instant::now());
        Some(key)
    }

    /// Pauses accepting until a client leaves or the back-off ends, because an
    /// accept would only fail again.
    pub fn pause(&mut self, errno: Errno) {
        log(
            Cause::Accept,
            format_args!("accept4: {errno}; trying again in 100 ms"),
        );
        self.paused_until = Some(self.now + ACCEPT_BACKOFF);
    }

    /// Returns a client whose timeout has expired. [`Timeout::Grace`] follows
    /// the idle timeout first.
    pub fn pop_timed_out(&mut self) -> Option<DefaultKey> {
        while let Some(key) = self.timers.pop_expired(self.now) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            if !connection.begins_grace() {
                return Some(key);
            }
            self.timers.start(key, Timeout::Grace, self.now);
        }
        None
    }

    /// During the drain, returns the clients that have acknowledged all
    /// replies. Polls at most once per `ACK_POLL_INTERVAL`.
    pub fn acknowledged(&mut self) -> Vec<DefaultKey> {
        if self.drain_until.is_none() || self.now < self.next_ack_poll {
            return Vec::new();
        }
        self.next_ack_poll = self.now + ACK_POLL_INTERVAL;
        let connections = self.connections.iter();
        connections
            .filter(|(_, connection)| connection.is_acknowledged())
            .map(|(key, _)| key)
            .collect()
    }

    /// Logs an error, unless the peer has caused it.
    pub fn report(&self, errno: Errno) {
        if !is_peer_error(errno) {
            log(
                Cause::Conversation,
                format_args!("a conversation failed: {errno}"),
            );
        }
    }

    /// Closes a connection that has no operation in flight.
    pub fn close(&mut self, key: DefaultKey) {
        if self.connections.remove(key).is_some() {
            self.timers.cancel(key);
            self.about.counters.clients = self.connections.len() as u64;
            // A descriptor is free now, so accepting may go on.
            self.paused_until = self.paused_until.map(|_| self.now);
        }
    }
}
