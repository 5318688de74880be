//! All that the loops share with the acceptor: the settings, and for each loop
//! the number of its clients. The numbers are atomic, so nothing ever waits for
//! another loop. They are in memory that a fork does not copy, so a loop may be
//! a thread or a process.

use std::fmt::Arguments;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use mio::Waker;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

use common::{Config, ConnectionLimit, Counters, reject};

use crate::cores::LOOPS;
use crate::hand_over::{QUEUE, wake};

pub struct Shared {
    pub config: Config,
    pub limit: ConnectionLimit,
    /// The variant's name.
    pub variant: &'static str,
    acceptor: Waker,
    board: &'static Board,
    /// One per loop.
    loads: &'static [Load],
}

/// The numbers that all threads and processes see.
struct Board {
    loads: [Load; LOOPS],
    rejected: AtomicU64,
    /// True while the acceptor waits until a queue has room, or a descriptor
    /// is free.
    waiting: AtomicBool,
}

/// One loop's clients. The acceptor counts a client when it hands it over, the
/// loop when it takes it from the queue, and when the client has gone.
struct Load {
    /// Clients that have been handed over and have not gone.
    clients: AtomicUsize,
    /// Those of them that are still in the queue.
    queued: AtomicUsize,
}

impl Shared {
    /// Call it when everything is bound, because the connection limit depends
    /// on the descriptors that are left.
    pub fn new(
        config: Config,
        variant: &'static str,
        loops: usize,
        acceptor: Waker,
    ) -> Result<Self> {
        let limit = ConnectionLimit::new(&config, 1);
        let board = Board::map().context("mmap")?;
        let loads = &board.loads[..loops];
        Ok(Self { config, limit, variant, acceptor, board, loads })
    }

    /// Returns the number of clients of all loops.
    pub fn clients(&self) -> usize {
        let loads = self.loads.iter();
        loads.map(|load| load.clients.load(Ordering::Relaxed)).sum()
    }

    /// Returns the number of clients of one loop.
    pub fn clients_of(&self, number: usize) -> usize {
        self.loads[number].clients.load(Ordering::Relaxed)
    }

    /// Returns whether a loop's queue has room for another client.
    pub fn has_room(&self, number: usize) -> bool {
        self.loads[number].queued.load(Ordering::SeqCst) < QUEUE
    }

    /// Counts a client that is being handed over. Only the acceptor does, so a
    /// limit that it has checked before holds.
    pub fn acquire(&self, number: usize) {
        let load = &self.loads[number];
        load.clients.fetch_add(1, Ordering::Relaxed);
        load.queued.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes that a loop has taken a client from its queue.
    pub fn take(&self, number: usize) {
        self.loads[number].queued.fetch_sub(1, Ordering::SeqCst);
        self.resume_acceptor();
    }

    /// Stops counting a client that has gone.
    pub fn release(&self, number: usize) {
        self.loads[number].clients.fetch_sub(1, Ordering::Relaxed);
    }

    /// Forgets the clients of a loop process that has died. Besides it only the
    /// acceptor changes these numbers, and the acceptor calls this, so they are
    /// right however the process has ended.
    pub fn forget(&self, number: usize) {
        let load = &self.loads[number];
        load.clients.store(0, Ordering::Relaxed);
        load.queued.store(0, Ordering::SeqCst);
    }

    /// Rejects a connection, and counts that.
    pub fn reject(&self, stream: impl AsFd, why: Arguments<'_>) {
        reject(stream, why);
        self.board.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// Copies what all loops count together.
    pub fn report(&self, counters: &mut Counters) {
        counters.clients = self.clients() as u64;
        counters.rejected = self.board.rejected.load(Ordering::Relaxed);
    }

    /// Has the loops wake the acceptor when one takes a client, or a client
    /// leaves. The acceptor must check its condition once more after this: a
    /// loop changes its numbers first, and then looks whether the acceptor
    /// waits. With an order that all threads see (SeqCst), at least one of the
    /// two notices the other.
    pub fn wait_for_loops(&self) {
        self.board.waiting.store(true, Ordering::SeqCst);
    }

    /// Wakes the acceptor if it waits for a loop.
    pub fn resume_acceptor(&self) {
        let waiting = &self.board.waiting;
        if waiting.load(Ordering::SeqCst)
            && waiting.swap(false, Ordering::SeqCst)
        {
            self.wake_acceptor();
        }
    }

    /// Wakes the acceptor in any case.
    pub fn wake_acceptor(&self) {
        // It can't fail while the acceptor exists. No loop outlives it.
        let _ = wake(&self.acceptor);
    }
}

impl Board {
    /// Maps memory that stays shared after a fork (MAP_SHARED, mmap(2)), until
    /// the last process ends. A page uses memory only once it is touched.
    fn map() -> nix::Result<&'static Self> {
        const SIZE: NonZeroUsize =
            NonZeroUsize::new(size_of::<Board>()).unwrap();

        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses an address at which nothing is mapped.
        let board = unsafe {
            mmap_anonymous(None, SIZE, access, MapFlags::MAP_SHARED)
        }?;
        // SAFETY: the memory begins at a page, has the size of a board, is
        // zeroed, which is a valid board, and is never unmapped. All threads
        // and processes change it by atomic operations only.
        Ok(unsafe { board.cast::<Self>().as_ref() })
    }
}
