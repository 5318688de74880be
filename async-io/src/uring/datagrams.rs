//! The datagram service. One multishot recvmsg(2) receives all datagrams, each
//! into a provided buffer, behind its source address. Each reply is a send of
//! its own, with a destination as in sendto(2).

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

use super::operation::{DATAGRAM_BUFFERS, Operation, Operations, Reply};
use super::ring::{Buffers, Completion, Layout, OperationKey};

/// The size of the longest address, that of IPv6.
const ADDRESS: usize = size_of::<libc::sockaddr_in6>();

/// Bytes that the kernel puts before a datagram: struct io_uring_recvmsg_out,
/// which is four 32-bit numbers, and the address.
const BEFORE: usize = 16 + ADDRESS;

/// The number of provided buffers, each large enough for the largest datagram:
/// 448 KiB together.
const BUFFERS: u16 = 7;

/// Bytes of capacity that a reply's buffer keeps after the send.
const REPLY_KEPT: usize = 4 * 1024;

/// A datagram socket, its operations in flight, and its provided buffers.
pub struct Datagrams {
    socket: OwnedFd,
    buffers: Buffers,
    /// The layout of a provided buffer: it sets the space for the address.
    shape: libc::msghdr,
    output: Box<[u8]>,
    receiving: Option<OperationKey>,
    /// The number of replies in flight.
    in_flight: usize,
    /// Replies that have been sent, kept to reuse their memory.
    #[expect(clippy::vec_box, reason = "the boxes move to operations")]
    free: Vec<Box<Reply>>,
    /// True if the last wait returned a datagram.
    has_received: bool,
    /// During the drain: how many more datagrams are answered.
    remaining_input: Option<usize>,
    paused_until: Option<Instant>,
}

impl Datagrams {
    pub fn new(socket: OwnedFd, operations: &Operations) -> Result<Self> {
        let size = BEFORE + MAX_DATAGRAM;
        let layout = Layout { count: BUFFERS, size, flags: 0 };
        let buffers =
            Buffers::provide(&operations.ring, DATAGRAM_BUFFERS, layout)?;
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
            has_received: false,
            remaining_input: None,
            paused_until: None,
        })
    }

    /// Arms the receive, unless it is in flight. During the drain, queued
    /// datagrams are answered until a wait returns none, and then it is
    /// cancelled.
    pub fn receive(&mut self, operations: &mut Operations, now: Instant) {
        let has_received = mem::take(&mut self.has_received);
        if self.remaining_input.is_some()
            && !has_received
            && !operations.ring.has_more()
        {
            self.remaining_input = Some(0);
        }
        match self.receiving {
            Some(key) if self.remaining_input == Some(0) => {
                operations.cancel(key);
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

    /// Handles the completion of a receive: a datagram to answer, or an error.
    pub fn on_received(
        &mut self,
        completion: &Completion,
        operations: &mut Operations,
        about: &mut About,
        now: Instant,
    ) {
        if operations.take_if_last(completion).is_some() {
            self.receiving = None;
        }
        if let Some(id) = completion.buffer {
            self.has_received = true;
            if let Some(reply) = self.answer(id, completion, about) {
                let reply = Operation::Reply(reply);
                operations.start(reply, self.socket.as_raw_fd());
            }
        }
        match completion.result {
            // ENOBUFS: more datagrams came than there were buffers, which are
            // back now.
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

    /// Builds the reply to a datagram, if it has one.
    fn answer(
        &mut self,
        id: u16,
        completion: &Completion,
        about: &mut About,
    ) -> Option<Box<Reply>> {
        let mut reply = self.free.pop().unwrap_or_default();
        let (left, shape) = (&mut self.remaining_input, &self.shape);
        let output = &mut self.output;
        let length = self.buffers.consume(id, completion, |message| {
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

    /// Handles the completion of a reply. It was sent, or dropped because the
    /// send buffer is full.
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
        if let Some(Operation::Reply(mut reply)) =
            operations.take_if_last(completion)
        {
            reply.output.clear();
            reply.output.shrink_to(REPLY_KEPT);
            self.free.push(reply);
        }
    }

    /// Begins the drain: queued datagrams are answered, up to a limit.
    pub fn begin_drain(&mut self) {
        self.remaining_input = Some(DATAGRAMS_PER_ROUND);
        self.has_received = true;
    }

    /// True during the drain once no operation is in flight.
    pub fn is_over(&self) -> bool {
        self.remaining_input == Some(0)
            && self.receiving.is_none()
            && self.in_flight == 0
    }

    /// When to receive again after an error.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.paused_until
    }
}
