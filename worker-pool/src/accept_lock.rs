//! A lock around accept4, so that one worker at a time waits for a client. The
//! kernel does not require it; with `--accept-lock` you can measure it. Skip it
//! on a first read.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::mutex::{Locked, SharedMutex};

/// The kinds of lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// No lock: all workers wait in accept4.
    None,
    /// A lock on a file, with fcntl(2).
    File,
    /// A mutex in shared memory.
    Mutex,
}

/// The lock of a pool.
pub enum AcceptLock {
    None,
    File(OwnedFd),
    Mutex(&'static SharedMutex),
}

/// The lock is held until this is dropped.
pub enum Held<'a> {
    None,
    File(&'a OwnedFd),
    Mutex { _locked: Locked<'a> },
}

impl AcceptLock {
    /// Creates the lock. Processes that are forked from now on share it.
    pub fn new(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::None => Self::None,
            // A file without a name, in memory.
            Kind::File => Self::File(
                memfd_create(c"accept", MFdFlags::MFD_CLOEXEC)
                    .context("memfd_create for --accept-lock")?,
            ),
            Kind::Mutex => Self::Mutex(SharedMutex::new()?),
        })
    }

    /// Waits until the lock is free, and acquires it. A signal ends the wait
    /// for a file's lock (EINTR), and not that for a mutex. Then the workers
    /// acquire it one after the other, and find the listener shut down.
    ///
    /// If a worker is killed while it holds the lock, the next one gets it: the
    /// kernel releases a file's lock with the process (fcntl(2)), and the mutex
    /// is robust.
    pub fn acquire(&self) -> nix::Result<Held<'_>> {
        match self {
            Self::None => Ok(Held::None),
            Self::File(file) => match set_lock(file, libc::F_WRLCK) {
                Ok(()) => Ok(Held::File(file)),
                // The kernel has no memory for the lock (fs/locks.c,
                // fcntl_setlk).
                Err(Errno::ENOLCK) => Err(Errno::ENOMEM),
                Err(errno) => Err(errno),
            },
            Self::Mutex(mutex) => Ok(Held::Mutex { _locked: mutex.lock()? }),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Self::File(file) = self {
            let _ = set_lock(file, libc::F_UNLCK);
        }
    }
}

/// Locks or unlocks the whole file for this process.
fn set_lock(file: &OwnedFd, kind: libc::c_int) -> nix::Result<()> {
    let whole = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_SETLKW(&whole)).map(drop)
}
