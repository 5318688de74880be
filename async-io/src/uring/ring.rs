//! The submission queue and the completion queue, which program and kernel
//! share, and provided buffers, from which the kernel picks when it receives.
//!
//! Since Linux 6.14 the queues count as locked memory of the user, 144 KiB of
//! RLIMIT_MEMLOCK on x86-64, unless the program has CAP_IPC_LOCK
//! (io_create_region in io_uring/memmap.c, which kernel commits 8078486e1d53
//! and 81a4058e0cd0 use for the queues). With less, the set-up fails with
//! ENOMEM, as `ulimit -l 140` shows. From 5.12 to 6.13 they do not count
//! (io_uring_mlock_size(3)).

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::num::NonZero;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use io_uring::types::{BufRingEntry, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};
use nix::errno::Errno;
use slotmap::{KeyData, new_key_type};

use common::Unsupported;
use common::limits::ACCEPT_BACKOFF;

/// The size of the submission queue in entries of 64 bytes (struct io_uring_sqe
/// in include/uapi/linux/io_uring.h). A round with more operations makes more
/// system calls.
const SUBMISSIONS: u32 = 1024;

/// The size of the completion queue in entries of 16 bytes (struct
/// io_uring_cqe). The kernel keeps further completions until there is room.
const COMPLETIONS: u32 = 4096;

/// The requirement that error messages name if a feature is missing.
const NEEDS: &str = "this variant requires Linux 6.1";

/// The operations that the kernel must support, with their names.
const OPERATIONS: [(u8, &str); 6] = [
    (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
    (opcode::Accept::CODE, "IORING_OP_ACCEPT"),
    (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
    (opcode::Recv::CODE, "IORING_OP_RECV"),
    (opcode::Send::CODE, "IORING_OP_SEND"),
    (opcode::RecvMsg::CODE, "IORING_OP_RECVMSG"),
];

/// The submission queue and the completion queue.
pub struct Ring {
    ring: IoUring,
    /// Entries that the submission queue has no room for.
    waiting: VecDeque<squeue::Entry>,
}

impl Ring {
    /// Sets up the queues. With IORING_SETUP_DEFER_TASKRUN operations make
    /// progress only inside io_uring_enter, which only one thread may call.
    /// Between two calls, data that has arrived is either in a completion or
    /// still in its socket.
    pub fn new() -> Result<Self> {
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(SUBMISSIONS)
            .map_err(|error| refused("io_uring_setup", &error))?;
        let known = ring.params();
        if !known.is_feature_nodrop() || !known.is_feature_ext_arg() {
            let why = format!("no IORING_FEAT_NODROP or EXT_ARG: {NEEDS}");
            return Err(Unsupported { call: "io_uring_setup", why }.into());
        }
        let mut probe = Probe::new();
        ring.submitter()
            .register_probe(&mut probe)
            .map_err(|error| refused("io_uring_register", &error))?;
        for (code, name) in OPERATIONS {
            if !probe.is_supported(code) {
                let why = format!("no {name}: {NEEDS}");
                return Err(
                    Unsupported { call: "io_uring_register", why }.into()
                );
            }
        }
        ring.submit().map_err(|error| refused("io_uring_enter", &error))?;
        Ok(Self { ring, waiting: VecDeque::new() })
    }

    /// Queues an SQE; the next wait submits it.
    ///
    /// # Safety
    ///
    /// The memory that `entry` points to must be neither moved, changed nor
    /// freed before the operation's last completion.
    pub unsafe fn push(&mut self, entry: squeue::Entry) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(entry);
        }
        // SAFETY: the caller guarantees that the entry's memory stays valid.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.waiting.push_back(entry);
        }
    }

    /// Submits the queued SQEs, and waits until there is a completion, at most
    /// until `until`.
    pub fn submit_and_wait(&mut self, until: Option<Instant>) -> Result<()> {
        while self.fill() && self.ring.submit().is_ok() {}
        let queued = self.ring.submission().len() as u32;
        let left =
            until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut entered = self.enter(queued, left);
        if let Err(Errno::EAGAIN | Errno::EBUSY | Errno::ENOMEM) = entered {
            // There is no memory for an operation, or no room for completions.
            // Both are free again once completions have been reaped.
            let moment = left.unwrap_or(ACCEPT_BACKOFF).min(ACCEPT_BACKOFF);
            entered = self.enter(0, Some(moment));
        }
        match entered {
            Ok(()) | Err(Errno::ETIME | Errno::EINTR | Errno::EBUSY) => Ok(()),
            Err(Errno::EBADR) => entered.context(
                "io_uring_enter: completions were lost for lack of memory",
            ),
            Err(_) => entered.context("io_uring_enter"),
        }
    }

    /// Submits `queued` SQEs, lets the kernel run deferred work, and waits for
    /// a completion if there is none, for up to `left`.
    fn enter(&self, queued: u32, left: Option<Duration>) -> nix::Result<()> {
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if self.ring.params().is_feature_no_iowait() {
            // Otherwise the wait would be accounted as waiting for a disk.
            flags |= EnterFlags::NO_IOWAIT;
        }
        let left = left.map(Timespec::from);
        let args = match &left {
            Some(left) => SubmitArgs::new().timespec(left),
            None => SubmitArgs::new(),
        };
        let submitter = self.ring.submitter();
        // SAFETY: with EXT_ARG the argument is a SubmitArgs.
        let entered =
            unsafe { submitter.enter(queued, 1, flags.bits(), Some(&args)) };
        entered.map(drop).map_err(|error| errno(&error))
    }

    /// Moves waiting entries to the submission queue, in order. Returns true if
    /// some did not fit.
    fn fill(&mut self) -> bool {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.waiting.front() {
            // SAFETY: the caller of `push` guarantees that the entry's memory
            // stays valid.
            if unsafe { queue.push(entry) }.is_err() {
                return true;
            }
            self.waiting.pop_front();
        }
        false
    }

    /// Reaps the next completion.
    pub fn next(&mut self) -> Option<Completion> {
        self.ring.completion().next().map(Completion::from)
    }

    /// True if the kernel has completions that the queue had no room for.
    pub fn has_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// True if the kernel already has work for the next wait, because one wait
    /// does only a part of it.
    pub fn has_more(&mut self) -> bool {
        self.has_overflown() || self.ring.submission().taskrun()
    }
}

new_key_type! {
    /// The user data of an operation, which each of its completions has. The
    /// key is generational, never used twice, so a late completion finds no
    /// operation.
    pub struct OperationKey;
}

/// A completion queue entry (CQE).
pub struct Completion {
    pub key: OperationKey,
    /// A number of bytes, a descriptor, or an error.
    pub result: nix::Result<usize>,
    /// The provided buffer that holds the bytes; `None` if there are none, as
    /// at the end of file (io_recv in io_uring/net.c).
    pub buffer: Option<u16>,
    /// True if the kernel goes on in that buffer (IORING_CQE_F_BUF_MORE), so
    /// that it is not used up.
    pub buffer_stays: bool,
    /// True if the operation has ended (no IORING_CQE_F_MORE).
    pub last: bool,
}

impl From<cqueue::Entry> for Completion {
    fn from(entry: cqueue::Entry) -> Self {
        let result = entry.result();
        Self {
            key: KeyData::from_ffi(entry.user_data()).into(),
            result: usize::try_from(result)
                .map_err(|_| Errno::from_raw(-result)),
            buffer: cqueue::buffer_select(entry.flags()),
            buffer_stays: cqueue::buffer_more(entry.flags()),
            last: !cqueue::more(entry.flags()),
        }
    }
}

/// The buffers of a group: how many, of how many bytes each, and the flags of
/// struct io_uring_buf_reg.
#[derive(Clone, Copy)]
pub struct Layout {
    pub count: u16,
    pub size: usize,
    pub flags: u16,
}

/// IOU_PBUF_RING_INC, which the crate io-uring does not export: a receive goes
/// on in the buffer where the previous one has ended, whichever client that was
/// for. Without the flag each receive uses up a buffer, however few bytes have
/// arrived. Linux before 6.12 refuses the flag (io_uring_setup_buf_ring(3)).
pub const INCREMENTAL: u16 = 2;

/// A group of provided buffers. The kernel picks one when it copies, so an idle
/// client holds none (io_uring_register(2), IORING_REGISTER_PBUF_RING).
pub struct Buffers {
    layout: Layout,
    /// The ring of descriptions through which buffers are provided,
    /// page-aligned, as the kernel requires. The buffers follow it in memory.
    ring: NonNull<BufRingEntry>,
    slots: u16,
    /// How many buffers have been provided so far, modulo 2^16.
    tail: u16,
    /// How many bytes of the buffer in use have been received: 0 unless the
    /// buffers are filled incrementally.
    filled: usize,
}

impl Buffers {
    /// Provides buffers as the buffer group `group`. Fails if the kernel does
    /// not know a flag of the layout.
    pub fn provide(ring: &Ring, group: u16, layout: Layout) -> Result<Self> {
        let slots = layout.count.next_power_of_two();
        let bytes = usize::from(slots) * size_of::<BufRingEntry>()
            + usize::from(layout.count) * layout.size;
        let start = map(bytes)?;
        let address = start.as_ptr().expose_provenance() as u64;
        // SAFETY: the mapping has room for the slots, and is unmapped only if
        // the kernel refuses it.
        let provided = unsafe {
            ring.ring.submitter().register_buf_ring_with_flags(
                address,
                slots,
                group,
                layout.flags,
            )
        };
        if let Err(error) = provided {
            // SAFETY: neither the kernel nor the program uses the mapping.
            unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
            return Err(refused("io_uring_register", &error));
        }
        let ring = start.cast();
        let mut buffers = Self { layout, ring, slots, tail: 0, filled: 0 };
        for id in 0..layout.count {
            buffers.give(id);
        }
        Ok(buffers)
    }

    /// Calls `look` with the bytes that a completion has brought into the
    /// buffer `id`, and provides the buffer again if it is used up. Completions
    /// must come in the kernel's order: the bytes of each begin where those of
    /// the previous one in the same buffer ended.
    pub fn consume<T>(
        &mut self,
        id: u16,
        completion: &Completion,
        look: impl FnOnce(&[u8]) -> T,
    ) -> T {
        let received = completion.result.unwrap_or(0);
        let room = self.layout.size - self.filled;
        assert!(id < self.layout.count && received <= room);
        let start = self.start(id).wrapping_add(self.filled);
        // SAFETY: the bytes lie within the mapping. The kernel does not use
        // them between their completion and `give`.
        let input = unsafe { slice::from_raw_parts(start, received) };
        let result = look(input);
        self.filled += received;
        if !completion.buffer_stays {
            self.filled = 0;
            self.give(id);
        }
        result
    }

    fn start(&self, id: u16) -> *mut u8 {
        let offset = usize::from(self.slots) * size_of::<BufRingEntry>()
            + usize::from(id) * self.layout.size;
        self.ring.as_ptr().cast::<u8>().wrapping_add(offset)
    }

    /// Provides a buffer to the kernel.
    fn give(&mut self, id: u16) {
        let start = self.start(id);
        let slot = self.tail & (self.slots - 1);
        let entry = self.ring.as_ptr().wrapping_add(slot.into());
        // SAFETY: the slot is within the ring. At most `count` buffers are
        // provided at a time, so the kernel has consumed the slot's old entry.
        let entry = unsafe { &mut *entry };
        entry.set_addr(start.expose_provenance() as u64);
        entry.set_len(self.layout.size as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the ring's first entry exists. The tail overlaps no field of
        // it that is used.
        let tail = unsafe { BufRingEntry::tail(self.ring.as_ptr()) };
        // SAFETY: the tail is aligned, lives as long as the mapping, and the
        // kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Maps zeroed pages, populated at once. They are never unmapped, because the
/// kernel may write to them as long as the process lives.
fn map(bytes: usize) -> Result<NonNull<u8>> {
    let bytes = NonZero::new(bytes).context("no buffers")?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new mapping touches nothing that exists.
    let start = unsafe {
        libc::mmap(ptr::null_mut(), bytes.get(), protection, kind, -1, 0)
    };
    if start == libc::MAP_FAILED {
        return Err(Errno::last()).context("mmap of the provided buffers");
    }
    NonNull::new(start.cast()).context("mmap")
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Explains the failure of a call that the model requires, and what to do about
/// it.
fn refused(call: &'static str, error: &io::Error) -> anyhow::Error {
    let errno = errno(error);
    let explained = match errno {
        Errno::ENOSYS => "this kernel was built without io_uring, or a \
                          sandbox (seccomp) blocks it"
            .into(),
        Errno::EPERM | Errno::EACCES => forbidden(),
        Errno::EINVAL => format!("this kernel is too old: {NEEDS}"),
        Errno::ENOMEM => {
            return anyhow::Error::new(errno).context(format!(
                "{call}: the limit of locked memory is reached (ulimit -l)"
            ));
        }
        _ => return anyhow::Error::new(errno).context(call),
    };
    Unsupported { call, why: format!("{errno}: {explained}") }.into()
}

/// Explains what forbids io_uring: a sysctl, or else a sandbox.
fn forbidden() -> String {
    const SETTING: &str = "/proc/sys/kernel/io_uring_disabled";
    let value = fs::read_to_string(SETTING).unwrap_or_default();
    match value.trim() {
        "" | "0" => {
            "a sandbox (seccomp) or security module forbids io_uring".to_owned()
        }
        value => format!(
            "sysctl kernel.io_uring_disabled is {value}; 0 allows io_uring \
             for all users, 1 for members of kernel.io_uring_group"
        ),
    }
}
