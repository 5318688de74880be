//! **io_uring**: program and kernel share two queues in memory, one for
//! operations and one for completions. One system call per round submits,
//! waits, copies and returns completions.
//!
//! # How it works
//!
//! `examples/minimal_io_uring.rs` is this variant alone.
//!
//! ```text
//!      application                         kernel
//!           |    SQE: receive, multishot     |
//!           |    io_uring_enter              |
//!           |------------------------------->|  nothing has arrived
//!        asleep, for all operations at once  |  phase 1: waiting for data
//!           :                                |  a segment arrives: the thread
//!           :                                |  wakes up inside the call
//!           :                                |  phase 2: it copies, to a
//!           :                                |  provided buffer
//!           |<-------------------------------|
//!           |    CQE: the number of bytes    |
//!           |    and the buffer              |
//!        answers                             |
//!           |    SQE: send; io_uring_enter   |
//!           |------------------------------->|  copies as the send buffer has
//!           :                                |  room
//!           |<-------------------------------|
//!           |    CQE: the number of bytes;   |
//!           |    the reply's buffer is free  |
//! ```
//!
//! The program writes a submission queue entry (SQE) for each operation, and
//! the kernel a completion queue entry (CQE) for each result. Neither write is
//! a system call. One io_uring_enter(2) per round submits all new SQEs, and
//! sleeps until there is a CQE. An SQE has 64 bits of user data, here the
//! operation's key, which the kernel copies to each of its CQEs.
//!
//! The server uses three more features:
//!
//! - A *multishot* operation stays in flight and makes one CQE per event: one
//!   accept for all new connections, one receive per client for as long as the
//!   client stays. It ends with a CQE without IORING_CQE_F_MORE. To go on, the
//!   program re-arms it, that is, submits it again.
//! - A receive names a *buffer group* instead of a buffer. When the kernel
//!   copies, it picks one of the buffers that the program has provided to the
//!   group, so an idle client holds none. The kernel fills a buffer
//!   *incrementally*: the input of one client follows that of another until the
//!   buffer is full. If the group is empty, the receive ends with ENOBUFS, and
//!   is re-armed when its turn comes.
//! - A *cancel* ends an operation early. If a client does not read its replies,
//!   the receive in flight can't be paused, so it is cancelled. Input that
//!   arrives before the cancel takes effect is kept.
//!
//! The flags of io_uring_setup(2) decide who copies, and on which thread. With
//! IORING_SETUP_DEFER_TASKRUN, as here, the program's own thread copies, inside
//! io_uring_enter, and never while it computes. Data that arrives meanwhile
//! stays in its socket until the next call with IORING_ENTER_GETEVENTS, which
//! each wait of this program sets. Without flags the kernel interrupts the
//! computing thread, which copies at once. With IORING_SETUP_SQPOLL a thread of
//! the kernel copies. `cargo xtask claims` has an experiment for each.
//!
//! # System calls
//!
//! io_uring_setup(2); io_uring_register(2) for the buffers; io_uring_enter(2)
//! for all operations: accept, recv, send, recvmsg, cancel, and poll, which
//! reports a shutdown request on the signalfd. Calls of their own: mmap(2),
//! signalfd(2) and read(2) of it, shutdown(2), ioctl(2) (tcp(7)).
//!
//! # Limits
//!
//! - One descriptor per client (EMFILE at RLIMIT_NOFILE), and about 860 bytes
//!   of kernel memory for the receive in flight (io_kiocb, kmalloc-512 and
//!   kmalloc-96 in slabinfo(5), on x86-64 with Linux 6.18).
//! - Provided buffers of 256 KiB for all clients, 512 KiB before Linux 6.12,
//!   which can't fill them incrementally (io_uring_setup_buf_ring(3)). A client
//!   whose receive got nothing, because others filled all buffers, has its
//!   next one armed before theirs: no client is left out, but they are not
//!   served strictly in the order of arrival.
//! - Linux 6.1, for IORING_SETUP_DEFER_TASKRUN (kernel commit c0e0d6ba25f1),
//!   and permission to use io_uring, which containers often deny. Without
//!   either the server exits with code 77.
//! - Locked memory for the queues (RLIMIT_MEMLOCK), on newer kernels: see
//!   `ring.rs`.
//! - One thread: a request that takes long delays all the others.
//!
//! # When to use it
//!
//! With many clients that are busy at the same time. The saving is in system
//! calls, so with few busy clients there is none.
//!
//! # Compare with
//!
//! `multiplexing-epoll`, where epoll_wait(2) also waits for all clients, but
//! does not copy; `posix_aio.rs`, where a thread waits for each operation.
//!
//! # References
//!
//! - io_uring(7), io_uring_setup(2), io_uring_enter(2).
//! - io_uring_prep_recv(3) for multishot, io_uring_setup_buf_ring(3) for
//!   provided buffers.
//! - J. Axboe, Efficient IO with io_uring.
//! - docs/CLAIMS.md: copies-io-uring-defer, copies-io-uring,
//!   copies-io-uring-sqpoll, io-uring-fewer-calls.

mod acceptor;
mod datagrams;
mod drain;
mod operation;
mod ring;

use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::signalfd::SignalFd;
use slotmap::{DefaultKey, SecondaryMap};

use common::Config;
use common::limits::INPUT_CHUNK;

use crate::connection::Outcome;
use crate::server::Server;
use datagrams::Datagrams;
use operation::{Operation, Operations, STREAM_BUFFERS};
use ring::{Buffers, Completion, Layout, OperationKey, Ring};

/// The provided buffers, which all clients share: 256 KiB. They are large,
/// because input that reaches the end of one is split.
const BUFFERS: Layout =
    Layout { count: 4, size: 64 * 1024, flags: ring::INCREMENTAL };

/// The provided buffers if the kernel can't fill them incrementally: 512 KiB.
/// They are small and many, because each receive uses up one.
const WHOLE_BUFFERS: Layout = Layout { count: 128, size: 4 * 1024, flags: 0 };

/// The number of receives that are armed in one round. More would probably find
/// no buffer.
const RECEIVES_PER_ROUND: usize = 128;

pub fn serve(config: &Config) -> Result<()> {
    let signals = drain::signals()?;
    let ring = Ring::new()?;
    let (listener, tcp) = common::listen(config)?.unzip();
    let (socket, udp) = common::bind_datagrams(config)?.unzip();
    // Never dropped: however the loop ends, operations may be in flight, and
    // the kernel may use their buffers until the process has ended.
    let mut uring =
        ManuallyDrop::new(Uring::new(config, ring, signals, listener, socket)?);
    common::announce(tcp, udp)?;
    let ended = uring.run();
    uring.end_operations();
    ended
}

/// The state of the event loop. One thread owns it, so nothing is locked.
struct Uring<'a> {
    server: Server<'a>,
    operations: Operations,
    signals: SignalFd,
    /// `None` during the drain, once no accept is in flight.
    listener: Option<OwnedFd>,
    accepting: Option<OperationKey>,
    /// True if no descriptor was left and the spare one has been released.
    /// Connections are then accepted one by one.
    is_short: bool,
    datagrams: Option<Datagrams>,
    buffers: Buffers,
    in_flight: SecondaryMap<DefaultKey, InFlight>,
    /// Clients whose receive is to be armed, each in one of the queues, once.
    /// Those whose last receive got no input are first: others may have filled
    /// all buffers.
    to_receive_first: VecDeque<DefaultKey>,
    to_receive: VecDeque<DefaultKey>,
    /// True if shutdown was requested and the drain has not begun.
    drain_requested: bool,
}

/// The operations of one client, kept until none is in flight. A cancelled
/// operation is in flight until its last completion.
#[derive(Default)]
struct InFlight {
    receiving: Option<OperationKey>,
    sending: Option<OperationKey>,
    /// True if the receive is being cancelled.
    cancelled: bool,
    /// True if the client is in a queue for a receive.
    queued: bool,
    /// True if the last receive got input.
    has_received: bool,
    /// True if the conversation has ended, and the connection is to be closed.
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
        let provide = |layout| Buffers::provide(&ring, STREAM_BUFFERS, layout);
        let buffers = provide(BUFFERS).or_else(|_| provide(WHOLE_BUFFERS))?;
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
            to_receive_first: VecDeque::new(),
            to_receive: VecDeque::new(),
            drain_requested: false,
        };
        uring.watch_signals();
        uring.receive_datagrams();
        uring.rearm_accept();
        Ok(uring)
    }

    fn run(&mut self) -> Result<()> {
        while !self.has_finished() {
            let until = self.next_deadline();
            self.operations.ring.submit_and_wait(until)?;
            self.server.now = Instant::now();
            while let Some(completion) = self.operations.ring.next() {
                self.on_completed(&completion)?;
            }
            self.begin_drain();
            self.start_receives();
            self.receive_datagrams();
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

    /// Returns when the next wait must end: at once if there is more to do.
    fn next_deadline(&self) -> Option<Instant> {
        let mut queues = [&self.to_receive_first, &self.to_receive].into_iter();
        if self.drain_requested || queues.any(|queue| !queue.is_empty()) {
            return Some(self.server.now);
        }
        let datagrams = self.datagrams.as_ref();
        let moments = [
            self.server.next_deadline(),
            datagrams.and_then(Datagrams::next_deadline),
        ];
        moments.into_iter().flatten().min()
    }

    /// Dispatches a completion. That of a cancel belongs to no operation here,
    /// and is ignored.
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

    /// Handles the completion of a receive: input, end of file, or an error.
    fn on_received(&mut self, client: DefaultKey, completion: &Completion) {
        let flight = &mut self.in_flight[client];
        if self.operations.take_if_last(completion).is_some() {
            flight.receiving = None;
            flight.cancelled = false;
        }
        let server = &mut self.server;
        let connection = &mut server.connections[client];
        let mut outcome = Ok(());
        if let Some(id) = completion.buffer {
            flight.has_received = true;
            let (pool, about) = (&mut server.pool, &mut server.about);
            let closing = flight.closing;
            outcome = self.buffers.consume(id, completion, |input| {
                input.chunks(INPUT_CHUNK).try_for_each(|chunk| match closing {
                    true => Ok(()),
                    false => connection.on_received(chunk, pool, about),
                })
            });
        }
        match completion.result {
            Ok(0) => connection.on_end_of_file(),
            Ok(_) => {}
            // ENOBUFS: the group is empty, because all buffers hold input of
            // other clients.
            Err(
                Errno::ENOBUFS
                | Errno::ECANCELED
                | Errno::EINTR
                | Errno::EAGAIN,
            ) => {}
            Err(errno) => outcome = Err(errno),
        }
        self.apply_outcome(client, outcome);
    }

    /// Handles the completion of a send. After a short write, sends the rest.
    fn on_sent(&mut self, client: DefaultKey, completion: &Completion) {
        let Some(Operation::Send { mut replies, .. }) =
            self.operations.take_if_last(completion)
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
        replies.advance(accepted);
        if replies.left().is_empty() {
            self.server.pool.give_back(replies);
        } else if outcome.is_ok() && !flight.closing {
            let stream = connection.stream.as_raw_fd();
            let rest = Operation::Send { client, replies };
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

    /// Acts on the outcome of a completion: closes the connection, or starts
    /// what it needs next.
    fn apply_outcome(&mut self, client: DefaultKey, outcome: nix::Result<()>) {
        let server = &mut self.server;
        let connection = &mut server.connections[client];
        if self.in_flight[client].closing {
            return self.close(client);
        }
        let outcome = outcome.and_then(|()| {
            connection.flush_and_advance(&mut server.pool, &mut server.about)
        });
        match outcome {
            Ok(Outcome::GoesOn) => {}
            Ok(Outcome::Ended) => return self.close(client),
            Err(errno) => {
                server.report(errno);
                return self.close(client);
            }
        }
        if let Some(timeout) = connection.timeout.take() {
            server.timers.start(client, timeout, Instant::now());
        }
        self.start_send(client);
        self.update_receive(client);
    }

    /// Starts to send pending replies, unless a send is in flight.
    fn start_send(&mut self, client: DefaultKey) {
        let connection = &mut self.server.connections[client];
        if let Some(replies) = connection.take_output() {
            let stream = connection.stream.as_raw_fd();
            let operation = Operation::Send { client, replies };
            self.in_flight[client].sending =
                Some(self.operations.start(operation, stream));
        }
    }

    /// Queues the client for a receive, or cancels the one in flight if no
    /// input is wanted. Until the cancel is carried out, input still arrives,
    /// but no more than the group's buffers can hold.
    fn update_receive(&mut self, client: DefaultKey) {
        let wanted = self.server.connections[client].wants_input();
        let flight = &mut self.in_flight[client];
        match flight.receiving {
            None if wanted && !flight.queued => {
                flight.queued = true;
                match flight.has_received {
                    true => self.to_receive.push_back(client),
                    false => self.to_receive_first.push_back(client),
                }
            }
            Some(key) if !wanted && !flight.cancelled => {
                flight.cancelled = true;
                self.operations.cancel(key);
            }
            _ => {}
        }
    }

    /// Arms the receives of queued clients, up to a limit. All input has been
    /// consumed now, so the first receive finds a buffer. A client whose
    /// receive finds none queues again.
    fn start_receives(&mut self) {
        for _ in 0..RECEIVES_PER_ROUND {
            let first = self.to_receive_first.pop_front();
            let client = first.or_else(|| self.to_receive.pop_front());
            let Some(client) = client else { break };
            let Some(flight) = self.in_flight.get_mut(client) else { continue };
            flight.queued = false;
            flight.has_received = false;
            let connection = &self.server.connections[client];
            if connection.wants_input() && !flight.closing {
                let stream = connection.stream.as_raw_fd();
                let receive = Operation::Receive { client };
                flight.receiving = Some(self.operations.start(receive, stream));
            }
        }
    }

    fn receive_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.receive(&mut self.operations, self.server.now);
        }
    }

    /// Closes connections whose idle timeout has expired, without a reply.
    fn close_timed_out(&mut self) {
        while let Some(client) = self.server.pop_timed_out() {
            self.close(client);
        }
    }

    /// Ends a conversation: cancels its operations, and closes the connection
    /// when none is in flight. Closing the descriptor would not end them.
    fn close(&mut self, client: DefaultKey) {
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
