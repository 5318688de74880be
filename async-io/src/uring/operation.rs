//! Operations in flight, with the memory that the kernel uses meanwhile.

use std::os::fd::RawFd;
use std::ptr;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use slotmap::{DefaultKey, Key as _, SlotMap};

use crate::connection::Buffer;

use super::ring::{Completion, OperationKey, Ring};

/// The groups of provided buffers.
pub const STREAM_BUFFERS: u16 = 0;
pub const DATAGRAM_BUFFERS: u16 = 1;

/// An operation in flight. It owns its buffers, which are not touched before
/// its last completion.
pub enum Operation {
    /// Polls the signalfd once, until there is a signal to read.
    Signal,
    /// Accepts all new clients (multishot), until it is cancelled or fails.
    AcceptAll,
    /// Accepts one new client.
    AcceptOne,
    /// Receives from a client (multishot), into provided buffers.
    Receive { client: DefaultKey },
    /// Sends the replies that are left.
    Send { client: DefaultKey, replies: Box<Buffer> },
    /// Receives datagrams with their source addresses (multishot), into
    /// provided buffers.
    ReceiveDatagrams { shape: Box<libc::msghdr> },
    /// Sends one datagram.
    Reply(Box<Reply>),
}

impl Operation {
    /// Builds the submission queue entry (SQE). It points to heap memory that
    /// the operation owns, so the operation itself may move.
    pub fn entry(&self, fd: RawFd) -> squeue::Entry {
        let fd = Fd(fd);
        match self {
            Self::Signal => {
                opcode::PollAdd::new(fd, libc::POLLIN as u32).build()
            }
            Self::AcceptAll => {
                opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build()
            }
            Self::AcceptOne => {
                opcode::Accept::new(fd, ptr::null_mut(), ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Self::Receive { .. } => {
                opcode::RecvMulti::new(fd, STREAM_BUFFERS).build()
            }
            Self::Send { replies, .. } => {
                let unsent = replies.left();
                let length = u32::try_from(unsent.len()).unwrap_or(u32::MAX);
                opcode::Send::new(fd, unsent.as_ptr(), length)
                    .flags(libc::MSG_NOSIGNAL)
                    .build()
            }
            Self::ReceiveDatagrams { shape } => {
                opcode::RecvMsgMulti::new(fd, &**shape, DATAGRAM_BUFFERS)
                    .build()
            }
            Self::Reply(reply) => {
                let output = &reply.output;
                let client = &reply.client;
                opcode::Send::new(fd, output.as_ptr(), output.len() as u32)
                    .flags(libc::MSG_DONTWAIT)
                    .dest_addr(client.as_ptr().cast())
                    .dest_addr_len(client.len() as u32)
                    .build()
            }
        }
    }
}

/// A datagram to send, and its destination.
#[derive(Default)]
pub struct Reply {
    /// The destination: a sockaddr, as the kernel returned it.
    pub client: Vec<u8>,
    pub output: Vec<u8>,
}

/// The operations in flight, and their ring.
pub struct Operations {
    pub ring: Ring,
    in_flight: SlotMap<OperationKey, Operation>,
}

impl Operations {
    pub fn new(ring: Ring) -> Self {
        Self { ring, in_flight: SlotMap::with_key() }
    }

    /// Queues an operation, which the next wait submits.
    pub fn start(&mut self, operation: Operation, fd: RawFd) -> OperationKey {
        let key = self.in_flight.insert(operation);
        let operation = &self.in_flight[key];
        let entry = operation.entry(fd).user_data(key.data().as_ffi());
        // SAFETY: the operation owns what the entry points to. It is neither
        // changed nor freed before its last completion.
        unsafe { self.ring.push(entry) };
        key
    }

    /// Requests that an operation be cancelled. It may have been carried out by
    /// then, in whole or in part, so its last completion is awaited in any
    /// case.
    pub fn cancel(&mut self, key: OperationKey) {
        // The result of the cancel itself is not needed, so it has no key.
        let entry = opcode::AsyncCancel::new(key.data().as_ffi()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry) };
    }

    /// Requests that all operations be cancelled.
    pub fn cancel_all(&mut self) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry) };
    }

    /// True if no operation is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Returns the operation of a completion; `None` for that of a cancel.
    pub fn get(&self, completion: &Completion) -> Option<&Operation> {
        self.in_flight.get(completion.key)
    }

    /// Removes and returns an operation if this is its last completion.
    pub fn take_if_last(
        &mut self,
        completion: &Completion,
    ) -> Option<Operation> {
        if completion.last {
            self.in_flight.remove(completion.key)
        } else {
            None
        }
    }
}
