//! What the kernel is asked to do, and what belongs to it meanwhile.

use std::os::fd::RawFd;
use std::ptr;

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{opcode, squeue};
use slotmap::{DefaultKey, Key as _, SlotMap};

use crate::ring::{Completion, OperationKey, Ring};

/// The groups of provided buffers.
pub const STREAM_BUFFERS: u16 = 0;
pub const DATAGRAM_BUFFERS: u16 = 1;

/// An operation in flight. What it holds is the kernel's until its last
/// completion, and not touched before.
pub enum Operation {
    /// Tells when there is a signal to read.
    Signal,
    /// Accepts new clients until it is told to stop.
    AcceptAll,
    /// Accepts one new client.
    AcceptOne,
    /// Receives whatever a client sends, each time into a buffer that the
    /// kernel chooses.
    Receive { client: DefaultKey },
    /// Sends replies, of which the kernel has taken some.
    Send { client: DefaultKey, replies: Vec<u8>, sent: usize },
    /// Receives datagrams, with their senders' addresses.
    ReceiveDatagrams { shape: Box<libc::msghdr> },
    /// Sends one datagram.
    Reply(Reply),
}

impl Operation {
    /// The operation as the kernel wants it told. It points to what the
    /// operation holds, outside of the operation itself, which may move.
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
            Self::Send { replies, sent, .. } => {
                let unsent = &replies[*sent..];
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

/// One reply and whom it is for: the kernel's while it is sent.
#[derive(Default)]
pub struct Reply {
    /// An address, as the kernel writes it down.
    pub client: Vec<u8>,
    pub output: Vec<u8>,
}

/// The operations in flight, and the ring that they go through.
pub struct Operations {
    pub ring: Ring,
    in_flight: SlotMap<OperationKey, Operation>,
}

impl Operations {
    pub fn new(ring: Ring) -> Self {
        Self { ring, in_flight: SlotMap::with_key() }
    }

    /// Has the kernel do it, with the next wait.
    pub fn start(&mut self, operation: Operation, fd: RawFd) -> OperationKey {
        let key = self.in_flight.insert(operation);
        let operation = &self.in_flight[key];
        let entry = operation.entry(fd).user_data(key.data().as_ffi());
        // SAFETY: what the entry points to belongs to the operation, which
        // nobody can change or free before its last completion.
        unsafe { self.ring.push(entry) };
        key
    }

    /// Has the kernel end it soon. It may have been done by then, wholly or in
    /// part; its last completion says so, and is awaited in any case.
    pub fn cancel(&mut self, key: OperationKey) {
        // How the cancelling went tells nothing more: its completion has no
        // key.
        let entry = opcode::AsyncCancel::new(key.data().as_ffi()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry) };
    }

    /// Has the kernel end all of them.
    pub fn cancel_all(&mut self) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.ring.push(entry) };
    }

    /// True where none is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// The operation that a completion is about; `None` for a cancel.
    pub fn get(&self, completion: &Completion) -> Option<&Operation> {
        self.in_flight.get(completion.key)
    }

    /// Takes an operation back with its last completion.
    pub fn finish(&mut self, completion: &Completion) -> Option<Operation> {
        if completion.last {
            self.in_flight.remove(completion.key)
        } else {
            None
        }
    }
}
