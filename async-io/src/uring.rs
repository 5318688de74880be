//! The variant `io-uring`: one thread, one system call a round. It hands over
//! what is wanted, waits, and brings what is done.

use std::collections::VecDeque;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use slotmap::{DefaultKey, SecondaryMap};

use common::Config;

use crate::Server;
use crate::accept::{is_connection_error, is_resource_error};
use crate::connection::Progress;
use crate::datagrams::Datagrams;
use crate::operation::{Operation, Operations, STREAM_BUFFERS};
use crate::queues::unread;
use crate::ring::{Buffers, Completion, OperationKey, Ring};

/// Buffers that the kernel receives into, for all clients together, and bytes
/// of each: half a MiB. A client that sends less than that at a time costs one
/// buffer, one that sends more several; and all of them are free again before
/// the next wait.
const BUFFERS: u16 = 128;
const BUFFER_SIZE: usize = 4 * 1024;

pub fn serve(config: &Config, signals: SignalFd) -> Result<()> {
    let ring = Ring::new()?;
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    // However the loop ends, operations may be in flight: what they hold is
    // the kernel's until the end of the process has cancelled them.
    let mut uring =
        ManuallyDrop::new(Uring::new(config, ring, signals, listener, socket)?);
    common::announce(tcp, udp)?;
    let ended = uring.run();
    uring.end_operations();
    ended
}

/// The state of the event loop. One thread owns it, so nothing is locked.
pub struct Uring<'a> {
    pub server: Server<'a>,
    pub operations: Operations,
    pub signals: SignalFd,
    /// `None` after a stop, once nothing accepts from it any more.
    pub listener: Option<OwnedFd>,
    pub accepting: Option<OperationKey>,
    /// No descriptor was left: new clients come one by one, with the reserve's.
    is_short: bool,
    pub datagrams: Option<Datagrams>,
    buffers: Buffers,
    in_flight: SecondaryMap<DefaultKey, InFlight>,
    /// Clients that want to receive and for which there was no buffer, or
    /// others before them: in order of their arrival here.
    queue: VecDeque<DefaultKey>,
    /// Clients whose turn it was, but those before them took all buffers.
    passed_over: Vec<DefaultKey>,
    /// Clients that are late, but something of theirs has arrived.
    late: Vec<DefaultKey>,
    pub stop_asked: bool,
}

/// The operations of one client. It stays until none is left, whatever
/// happens: one that is cancelled is in flight until its completion says so.
#[derive(Default)]
struct InFlight {
    receiving: Option<OperationKey>,
    sending: Option<OperationKey>,
    /// Receiving is being cancelled.
    cancelled: bool,
    /// In the queue of those that want to receive, where it is once.
    queued: bool,
    /// Its turn came, and has brought nothing yet.
    has_turn: bool,
    /// Late, and not received from since.
    late: bool,
    /// The conversation has ended.
    closing: bool,
}

impl<'a> Uring<'a> {
    fn new(
        config: &'a Config,
        ring: Ring,
        signals: SignalFd,
        listener: Option<OwnedFd>,
        socket: Option<OwnedFd>,
    ) -> Result<Self> {
        let buffers =
            Buffers::provide(&ring, STREAM_BUFFERS, BUFFERS, BUFFER_SIZE)?;
        let operations = Operations::new(ring);
        let datagrams = socket
            .map(|socket| Datagrams::new(socket, &operations))
            .transpose()?;
        let mut uring = Self {
            server: Server::new(config, "io-uring")?,
            operations,
            signals,
            listener,
            accepting: None,
            is_short: false,
            datagrams,
            buffers,
            in_flight: SecondaryMap::new(),
            queue: VecDeque::new(),
            passed_over: Vec::new(),
            late: Vec::new(),
            stop_asked: false,
        };
        uring.watch_signals();
        uring.retry_receives();
        uring.rearm_accept();
        Ok(uring)
    }

    fn run(&mut self) -> Result<()> {
        while !self.has_finished() {
            let until = self.next_moment();
            self.operations.ring.submit_and_wait(until)?;
            self.server.now = Instant::now();
            while let Some(completion) = self.operations.ring.next() {
                self.on_completed(&completion)?;
            }
            self.begin_drain();
            self.retry_receives();
            self.close_timed_out();
            self.close_acknowledged();
            self.rearm_accept();
        }
        common::report_cut_off(self.server.connections.len());
        Ok(())
    }

    /// True when the drain is over: no client is left, or its time is up.
    fn has_finished(&self) -> bool {
        let idle = self.datagrams.is_none() && self.accepting.is_none();
        self.server.has_finished() && (idle || self.server.is_out_of_time())
    }

    /// Until when to wait: not at all where there is more to do.
    fn next_moment(&self) -> Option<Instant> {
        let more =
            self.stop_asked || !self.queue.is_empty() || !self.late.is_empty();
        if more {
            return Some(self.server.now);
        }
        let datagrams = self.datagrams.as_ref();
        let moments = [
            self.server.next_moment(),
            datagrams.and_then(Datagrams::next_moment),
        ];
        moments.into_iter().flatten().min()
    }

    /// An operation has made progress, or come to its end. An answer to a
    /// cancel is about none.
    fn on_completed(&mut self, completion: &Completion) -> Result<()> {
        match self.operations.get(completion) {
            None => {}
            Some(&Operation::Receive { client }) => {
                self.on_received(client, completion);
            }
            Some(&Operation::Send { client, .. }) => {
                self.on_sent(client, completion);
            }
            Some(Operation::AcceptAll | Operation::AcceptOne) => {
                self.on_accepted(completion)?;
            }
            Some(Operation::Signal) => self.on_signal(completion)?,
            Some(Operation::ReceiveDatagrams { .. } | Operation::Reply(_)) => {
                self.on_datagram(completion);
            }
        }
        Ok(())
    }

    /// A new client, or the reason why there is none.
    fn on_accepted(&mut self, completion: &Completion) -> Result<()> {
        if self.operations.finish(completion).is_some() {
            self.accepting = None;
            self.listener.take_if(|_| self.server.drain_until.is_some());
        }
        match completion.result {
            Ok(fd) => self.add_client(fd as RawFd),
            Err(Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) if is_connection_error(errno) => {}
            // Without a descriptor to spare an accept fails at once, even when
            // nobody waits. With the reserve's, it waits for a new client.
            Err(Errno::EMFILE | Errno::ENFILE)
                if self.server.spare.release() =>
            {
                self.is_short = true;
            }
            Err(errno) if is_resource_error(errno) => self.server.pause(errno),
            Err(errno) => return Err(errno).context("accept"),
        }
        Ok(())
    }

    fn add_client(&mut self, fd: RawFd) {
        // SAFETY: the kernel has opened it for us, and nobody else owns it.
        let stream = unsafe { OwnedFd::from_raw_fd(fd) };
        if self.server.drain_until.is_some() {
            return;
        }
        self.is_short = !self.server.spare.reacquire();
        if let Some(client) = self.server.on_accepted(stream) {
            self.in_flight.insert(client, InFlight::default());
            self.receive(client);
        }
    }

    /// Input, its end, or the reason why there is none.
    fn on_received(&mut self, client: DefaultKey, completion: &Completion) {
        let flight = &mut self.in_flight[client];
        if self.operations.finish(completion).is_some() {
            flight.receiving = None;
            flight.cancelled = false;
        }
        let server = &mut self.server;
        let connection = &mut server.connections[client];
        let mut outcome = Ok(());
        if let Some(id) = completion.buffer {
            flight.late = false;
            flight.has_turn = false;
            let received = completion.result.unwrap_or(0);
            let (pool, about) = (&mut server.pool, &mut server.about);
            let closing = flight.closing;
            outcome = self.buffers.take(id, received, |input| match closing {
                true => Ok(()),
                false => connection.on_received(input, pool, about, server.now),
            });
        }
        match completion.result {
            Ok(0) => connection.on_end_of_file(),
            Ok(_) => {}
            // All buffers hold what has arrived for others.
            Err(Errno::ENOBUFS) => {
                flight.queued = true;
                if mem::take(&mut flight.has_turn) {
                    self.passed_over.push(client);
                } else {
                    self.queue.push_back(client);
                }
            }
            Err(Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => outcome = Err(errno),
        }
        self.apply_outcome(client, outcome);
    }

    /// The kernel has taken replies, perhaps a part of them.
    fn on_sent(&mut self, client: DefaultKey, completion: &Completion) {
        let Some(Operation::Send { replies, sent, .. }) =
            self.operations.finish(completion)
        else {
            return;
        };
        let flight = &mut self.in_flight[client];
        flight.sending = None;
        let connection = &mut self.server.connections[client];
        let (accepted, outcome) = match completion.result {
            Ok(accepted) => (accepted, Ok(())),
            Err(Errno::EINTR | Errno::EAGAIN) => (0, Ok(())),
            Err(errno) => (0, Err(errno)),
        };
        connection.on_sent(accepted);
        let sent = sent + accepted;
        if sent == replies.len() {
            self.server.pool.give_back(replies);
        } else if outcome.is_ok() && !flight.closing {
            let stream = connection.stream.as_raw_fd();
            let rest = Operation::Send { client, replies, sent };
            flight.sending = Some(self.operations.start(rest, stream));
        }
        self.apply_outcome(client, outcome);
    }

    fn on_datagram(&mut self, completion: &Completion) {
        let Some(datagrams) = &mut self.datagrams else { return };
        let about = &mut self.server.about;
        match self.operations.get(completion) {
            Some(Operation::Reply(_)) => {
                datagrams.on_replied(completion, &mut self.operations, about);
            }
            _ => datagrams.on_received(
                completion,
                &mut self.operations,
                about,
                self.server.now,
            ),
        }
    }

    /// Draws the consequences of a completion.
    pub fn apply_outcome(
        &mut self,
        client: DefaultKey,
        outcome: nix::Result<()>,
    ) {
        let server = &mut self.server;
        let connection = &mut server.connections[client];
        if self.in_flight[client].closing {
            return self.close(client);
        }
        let progress = outcome.and_then(|()| {
            connection.flush_and_advance(
                &mut server.pool,
                &mut server.about,
                server.now,
            )
        });
        match progress {
            Ok(Progress::GoesOn) => {}
            Ok(Progress::Ended) => return self.close(client),
            Err(errno) => {
                server.report(errno);
                return self.close(client);
            }
        }
        server.timers.schedule(client, &mut connection.timer);
        self.send(client);
        self.receive(client);
    }

    /// Has the kernel send the replies, unless it sends others.
    fn send(&mut self, client: DefaultKey) {
        let connection = &mut self.server.connections[client];
        if let Some(replies) = connection.take_output() {
            let stream = connection.stream.as_raw_fd();
            let operation = Operation::Send { client, replies, sent: 0 };
            self.in_flight[client].sending =
                Some(self.operations.start(operation, stream));
        }
    }

    /// Has the kernel receive, or stop doing so. Until the cancel is carried
    /// out, input still arrives: no more than there are buffers.
    fn receive(&mut self, client: DefaultKey) {
        let wanted = self.server.connections[client].wants_input();
        let flight = &mut self.in_flight[client];
        match flight.receiving {
            None if wanted && !flight.queued => {
                if self.queue.is_empty() {
                    self.start_receiving(client);
                } else {
                    flight.queued = true;
                    self.queue.push_back(client);
                }
            }
            Some(key) if !wanted && !flight.cancelled => {
                flight.cancelled = true;
                self.operations.cancel(key);
            }
            _ => {}
        }
    }

    fn start_receiving(&mut self, client: DefaultKey) {
        let stream = self.server.connections[client].stream.as_raw_fd();
        let operation = Operation::Receive { client };
        self.in_flight[client].receiving =
            Some(self.operations.start(operation, stream));
    }

    /// Lets those receive that had to wait for a buffer: all are back now. No
    /// more at a time than there are buffers. Whoever is first will have one,
    /// however many the next ones take; who has none keeps its place.
    fn retry_receives(&mut self) {
        for client in self.passed_over.drain(..).rev() {
            self.queue.push_front(client);
        }
        for _ in 0..self.buffers.count() {
            let Some(client) = self.queue.pop_front() else { break };
            let Some(flight) = self.in_flight.get_mut(client) else { continue };
            flight.queued = false;
            flight.has_turn = true;
            let wanted = self.server.connections[client].wants_input();
            if wanted && flight.receiving.is_none() && !flight.closing {
                self.start_receiving(client);
            }
        }
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.receive(&mut self.operations, self.server.now);
        }
    }

    /// Has the kernel accept, unless it does or there is a shortage.
    fn rearm_accept(&mut self) {
        let server = &mut self.server;
        let stopping = server.drain_until.is_some();
        if stopping || server.paused_until.is_some_and(|it| it > server.now) {
            return;
        }
        server.paused_until = None;
        if let (Some(listener), None) = (&self.listener, self.accepting) {
            let operation = if self.is_short {
                Operation::AcceptOne
            } else {
                Operation::AcceptAll
            };
            let listener = listener.as_raw_fd();
            self.accepting = Some(self.operations.start(operation, listener));
        }
    }

    /// Closes those whose time is up, silently, after a last look: what
    /// arrived in time may still wait to be received.
    fn close_timed_out(&mut self) {
        for client in mem::take(&mut self.late) {
            self.close_if_late(client);
        }
        while let Some(client) = self.server.pop_timed_out() {
            self.in_flight[client].late = true;
            self.close_if_late(client);
        }
    }

    fn close_if_late(&mut self, client: DefaultKey) {
        let Some(flight) = self.in_flight.get(client) else { return };
        let server = &mut self.server;
        let connection = &mut server.connections[client];
        if flight.closing {
            return;
        }
        if !connection.timer.has_expired(server.now) {
            server.timers.reschedule(client, &mut connection.timer);
        } else if flight.late
            && connection.wants_input()
            && unread(&connection.stream).is_ok_and(|unread| unread > 0)
        {
            self.late.push(client);
        } else {
            self.close(client);
        }
    }

    /// Ends a conversation. The connection goes when nothing of it is in
    /// flight: closing its descriptor would not end an operation.
    pub fn close(&mut self, client: DefaultKey) {
        let flight = &mut self.in_flight[client];
        if !flight.closing {
            flight.closing = true;
            for key in [flight.receiving, flight.sending].into_iter().flatten()
            {
                self.operations.cancel(key);
            }
        }
        if flight.receiving.is_none() && flight.sending.is_none() {
            self.in_flight.remove(client);
            self.server.close(client);
        }
    }
}
