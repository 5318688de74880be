//! The queues of io_uring(7), read from the memory of their process: its
//! submissions, and the kernel's completions.

use std::collections::HashMap;

use nix::unistd::Pid;

use super::calls::{Family, Layout, Operation};
use super::event::{Completion, Submission};
use super::remote::{read, read_message, u16_at, u32_at, u64_at};

/// One ring: where its queues are mapped, and which operations are in flight.
/// All numbers are zero until the calls that set it up have been seen.
#[derive(Debug, Default)]
pub struct Ring {
    parameters: Vec<u8>,
    /// Addresses of the two queues, which share one mapping
    /// (IORING_FEAT_SINGLE_MMAP), and of the SQEs.
    queues: u64,
    entries: u64,
    /// The rings of provided buffers, by group: address and number of entries.
    buffers: HashMap<u16, (u64, u64)>,
    /// Operations by user data. A multishot one stays until its last
    /// completion.
    in_flight: HashMap<u64, PendingOperation>,
    /// The tail of the completion queue as last seen.
    completed: u32,
}

#[derive(Clone, Debug)]
struct PendingOperation {
    submission: Submission,
    address: u64,
    group: u16,
    /// The number of bytes in front of the data, in a buffer of recvmsg.
    header: u64,
}

/// Offsets in struct io_uring_params.
const FLAGS: usize = 8;
const SQ_HEAD: usize = 40;
const SQ_TAIL: usize = 44;
const SQ_MASK: usize = 48;
const SQ_ARRAY: usize = 64;
const CQ_TAIL: usize = 84;
const CQ_MASK: usize = 88;
const CQ_ENTRIES: usize = 100;

/// The offset for mmap(2) to map the SQEs.
const IORING_OFF_SQES: u64 = 0x1000_0000;

const IORING_REGISTER_PBUF_RING: u64 = 22;

/// Flags of a CQE: the buffer ID is in the upper half, and more completions
/// follow.
const IORING_CQE_F_BUFFER: u32 = 1;
const IORING_CQE_F_MORE: u32 = 2;

/// The most entries that are read from a queue at a time.
const MOST: u32 = 4_096;

/// The number of bytes kept of the data.
const DATA: u64 = 128;

/// Returns the flags among the parameters of io_uring_setup(2).
pub fn flags(parameters: &[u8]) -> u32 {
    u32_at(parameters, FLAGS)
}

impl Ring {
    /// Makes a ring with the `parameters` that io_uring_setup(2) has filled.
    pub fn new(parameters: &[u8]) -> Self {
        Self { parameters: parameters.to_vec(), ..Self::default() }
    }

    /// Records that the process has mapped a part of the ring.
    pub fn mapped(&mut self, offset: u64, address: u64) {
        match offset {
            0 => self.queues = address,
            IORING_OFF_SQES => self.entries = address,
            _ => {}
        }
    }

    /// Records an io_uring_register(2), which may provide buffers.
    pub fn registered(&mut self, pid: Pid, operation: u64, argument: u64) {
        if operation != IORING_REGISTER_PBUF_RING {
            return;
        }
        let Some(registration) = read(pid, argument, 16) else { return };
        let (address, count) =
            (u64_at(&registration, 0), u32_at(&registration, 8));
        self.buffers.insert(u16_at(&registration, 12), (address, count.into()));
    }

    /// Reads the operations that the process submits with io_uring_enter(2).
    pub fn submitted(&mut self, pid: Pid) -> Vec<Submission> {
        let mask = self.shared(pid, SQ_MASK);
        let (head, tail) =
            (self.shared(pid, SQ_HEAD), self.shared(pid, SQ_TAIL));
        let mut submissions = Vec::new();
        for place in 0..tail.wrapping_sub(head).min(MOST) {
            let place = u64::from(head.wrapping_add(place) & mask);
            let array =
                self.queues + u64::from(u32_at(&self.parameters, SQ_ARRAY));
            let Some(index) = read(pid, array + 4 * place, 4) else { break };
            let index = u64::from(u32_at(&index, 0));
            let Some(entry) = read(pid, self.entries + 64 * index, 64) else {
                break;
            };
            let in_flight = parse_submission(pid, &entry);
            submissions.push(in_flight.submission.clone());
            self.in_flight.insert(u64_at(&entry, 32), in_flight);
        }
        submissions
    }

    /// Reads the completions since the last time.
    pub fn completed(&mut self, pid: Pid) -> Vec<Completion> {
        let mask = self.shared(pid, CQ_MASK);
        let tail = self.shared(pid, CQ_TAIL);
        let mut completions = Vec::new();
        for _ in 0..tail.wrapping_sub(self.completed).min(MOST) {
            let place = u64::from(self.completed & mask);
            let entries = u64::from(u32_at(&self.parameters, CQ_ENTRIES));
            let address = self.queues + entries + 16 * place;
            let Some(entry) = read(pid, address, 16) else { break };
            self.completed = self.completed.wrapping_add(1);
            completions.extend(self.completion(pid, &entry));
        }
        completions
    }

    fn completion(&mut self, pid: Pid, entry: &[u8]) -> Option<Completion> {
        let (user_data, flags) = (u64_at(entry, 0), u32_at(entry, 12));
        let result = u32_at(entry, 8).cast_signed();
        let in_flight = self.in_flight.get(&user_data)?.clone();
        if flags & IORING_CQE_F_MORE == 0 {
            self.in_flight.remove(&user_data);
        }
        let submission = in_flight.submission;
        let Operation { family, layout, .. } = submission.operation;
        let buffer = match (family, layout) {
            (Family::Receive, _) if flags & IORING_CQE_F_BUFFER != 0 => {
                self.buffer(pid, in_flight.group, (flags >> 16) as u16)
            }
            (Family::Receive, Layout::Plain) => Some(in_flight.address),
            _ => None,
        };
        let length = u64::try_from(result).unwrap_or(0);
        let length = length.saturating_sub(in_flight.header).min(DATA);
        let data =
            buffer.and_then(|at| read(pid, at + in_flight.header, length));
        Some(Completion {
            operation: submission.operation,
            fd: submission.fd,
            result,
            header: in_flight.header,
            data: data.unwrap_or_default().into(),
        })
    }

    /// Returns the address of a provided buffer. An entry of the ring stays as
    /// the program wrote it until the program overwrites it.
    fn buffer(&self, pid: Pid, group: u16, id: u16) -> Option<u64> {
        let (address, count) = *self.buffers.get(&group)?;
        let ring = read(pid, address, 16 * count)?;
        let mut entries = ring.chunks_exact(16);
        let entry = entries.find(|entry| u16_at(entry, 12) == id)?;
        Some(u64_at(entry, 0))
    }

    /// Reads a number in the mapping that the kernel shares.
    fn shared(&self, pid: Pid, parameter: usize) -> u32 {
        if self.queues == 0 {
            return 0;
        }
        let offset = u64::from(u32_at(&self.parameters, parameter));
        read(pid, self.queues + offset, 4).map_or(0, |word| u32_at(&word, 0))
    }
}

fn parse_submission(pid: Pid, entry: &[u8]) -> PendingOperation {
    let operation = Operation::of(entry[0]);
    let (address, length) = (u64_at(entry, 16), u32_at(entry, 24));
    let fd = u32_at(entry, 4).cast_signed();
    let data = match (operation.family, operation.layout) {
        (Family::Send, Layout::Plain) => {
            read(pid, address, u64::from(length).min(DATA))
        }
        (Family::Send, _) => read_message(pid, address, DATA),
        _ => None,
    };
    // struct io_uring_recvmsg_out, the sender's address, control data.
    let header = match (operation.family, operation.layout) {
        (Family::Receive, Layout::Message) => {
            read(pid, address, 48).map_or(0, |message| {
                16 + u64::from(u32_at(&message, 8)) + u64_at(&message, 40)
            })
        }
        _ => 0,
    };
    let data = data.unwrap_or_default().into();
    let flags = u32_at(entry, 28);
    let submission = Submission { operation, fd, flags, data };
    PendingOperation { submission, address, group: u16_at(entry, 40), header }
}
