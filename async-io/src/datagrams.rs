//! The datagram service: one operation receives them all, each into a buffer
//! that the kernel chooses, behind its sender's address (recvmsg(2)); another
//! one sends each reply (sendto(2)).

use std::mem;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Instant;

use anyhow::Result;
use io_uring::types::RecvMsgOut;
use nix::errno::Errno;

use common::limits::{
    ACCEPT_BACKOFF, DATAGRAMS_PER_ROUND, MAX_DATAGRAM, MAX_DATAGRAM_REPLY,
};
use common::{About, Cause, answer_datagram, log};

use crate::operation::{DATAGRAM_BUFFERS, Operation, Operations, Reply};
use crate::ring::{Buffers, Completion, OperationKey};

/// Bytes of the longest address, IPv6's.
const ADDRESS: usize = size_of::<libc::sockaddr_in6>();

/// Bytes that the kernel puts before a datagram: four numbers, the address.
const BEFORE: usize = 16 + ADDRESS;

/// Datagrams that the kernel may receive before we look, with room for the
/// largest: 448 KiB together.
const BUFFERS: u16 = 7;

/// Bytes of capacity that a reply keeps when it is sent.
const REPLY_KEPT: usize = 4 * 1024;

/// A datagram socket, what it has in flight, and buffers for what has not.
pub struct Datagrams {
    socket: OwnedFd,
    buffers: Buffers,
    /// What lies in them: so many bytes of address, and then the datagram.
    shape: libc::msghdr,
    output: Box<[u8]>,
    receiving: Option<OperationKey>,
    /// Replies whose operation is not complete.
    in_flight: usize,
    /// Replies whose operation is: for the next ones.
    free: Vec<Reply>,
    /// True where one came with the last wait.
    came: bool,
    /// After a stop: how many more are answered.
    remaining_input: Option<usize>,
    paused_until: Option<Instant>,
}

impl Datagrams {
    pub fn new(socket: OwnedFd, operations: &Operations) -> Result<Self> {
        let size = BEFORE + MAX_DATAGRAM;
        let buffers = Buffers::provide(
            &operations.ring,
            DATAGRAM_BUFFERS,
            BUFFERS,
            size,
        )?;
        // SAFETY: a msghdr is numbers and pointers, and may be all zeros.
        let mut shape: libc::msghdr = unsafe { mem::zeroed() };
        shape.msg_namelen = ADDRESS as libc::socklen_t;
        Ok(Self {
            socket,
            buffers,
            shape,
            output: vec![0; MAX_DATAGRAM_REPLY].into_boxed_slice(),
            receiving: None,
            in_flight: 0,
            free: Vec::new(),
            came: false,
            remaining_input: None,
            paused_until: None,
        })
    }

    /// Has the kernel receive, unless it does. After a stop, what is queued is
    /// answered until a wait brings no more.
    pub fn receive(&mut self, operations: &mut Operations, now: Instant) {
        let came = mem::take(&mut self.came);
        if self.remaining_input.is_some()
            && !came
            && !operations.ring.has_more()
        {
            self.remaining_input = Some(0);
        }
        match self.receiving {
            Some(key) if self.remaining_input == Some(0) => {
                operations.cancel(key)
            }
            Some(_) => {}
            None if self.remaining_input == Some(0) => {}
            None if self.paused_until.is_some_and(|until| until > now) => {}
            None => {
                self.paused_until = None;
                let shape = Box::new(self.shape);
                let operation = Operation::ReceiveDatagrams { shape };
                let socket = self.socket.as_raw_fd();
                self.receiving = Some(operations.start(operation, socket));
            }
        }
    }

    /// Answers a datagram.
    pub fn on_received(
        &mut self,
        completion: &Completion,
        operations: &mut Operations,
        about: &mut About,
        now: Instant,
    ) {
        if operations.finish(completion).is_some() {
            self.receiving = None;
        }
        if let Some(id) = completion.buffer {
            self.came = true;
            if let Some(reply) = self.answer(id, completion, about) {
                let reply = Operation::Reply(reply);
                operations.start(reply, self.socket.as_raw_fd());
            }
        }
        match completion.result {
            // ENOBUFS: more came than there were buffers, which are back now.
            Ok(_)
            | Err(
                Errno::ENOBUFS
                | Errno::ECANCELED
                | Errno::EINTR
                | Errno::EAGAIN,
            ) => {}
            Err(errno) => {
                log(Cause::Datagram, format_args!("recvmsg: {errno}"));
                self.paused_until = Some(now + ACCEPT_BACKOFF);
            }
        }
    }

    /// The reply to a datagram, if there is one.
    fn answer(
        &mut self,
        id: u16,
        completion: &Completion,
        about: &mut About,
    ) -> Option<Reply> {
        let mut reply = self.free.pop().unwrap_or_default();
        let (left, shape) = (&mut self.remaining_input, &self.shape);
        let output = &mut self.output;
        let received = completion.result.unwrap_or(0);
        let length = self.buffers.take(id, received, |message| {
            let Ok(message) = RecvMsgOut::parse(message, shape) else {
                return 0;
            };
            if *left == Some(0) {
                return 0;
            }
            *left = left.map(|left| left - 1);
            about.counters.datagrams += 1;
            reply.client.clear();
            reply.client.extend_from_slice(message.name_data());
            answer_datagram(message.payload_data(), about, output)
        });
        if length == 0 {
            self.free.push(reply);
            return None;
        }
        // Never waits to send a reply: a client must be able to lose one
        // anyway.
        if self.in_flight == DATAGRAMS_PER_ROUND {
            about.counters.datagrams_dropped += 1;
            self.free.push(reply);
            return None;
        }
        reply.output.clear();
        reply.output.extend_from_slice(&self.output[..length]);
        self.in_flight += 1;
        Some(reply)
    }

    /// A reply was sent, or given up because the socket's buffer is full.
    pub fn on_replied(
        &mut self,
        completion: &Completion,
        operations: &mut Operations,
        about: &mut About,
    ) {
        self.in_flight -= 1;
        if completion.result.is_err() {
            about.counters.datagrams_dropped += 1;
        }
        if let Some(Operation::Reply(mut reply)) = operations.finish(completion)
        {
            reply.output.clear();
            reply.output.shrink_to(REPLY_KEPT);
            self.free.push(reply);
        }
    }

    /// The server stops: what is queued is answered, a round's worth at most.
    pub fn begin_drain(&mut self) {
        self.remaining_input = Some(DATAGRAMS_PER_ROUND);
        self.came = true;
    }

    /// True after a stop when nothing is in flight any more.
    pub fn is_over(&self) -> bool {
        self.remaining_input == Some(0)
            && self.receiving.is_none()
            && self.in_flight == 0
    }

    /// When to receive again after an error.
    pub fn next_moment(&self) -> Option<Instant> {
        self.paused_until
    }
}
