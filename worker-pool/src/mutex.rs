//! A mutex for threads and for processes, pthread_mutex_lock(3). That of the
//! standard library is for the threads of one process, and stays locked if its
//! owner is killed.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::libc;

use crate::shared;

/// The values of <pthread.h>, which libc has not for Linux.
const PTHREAD_PROCESS_SHARED: libc::c_int = 1;
const PTHREAD_MUTEX_ROBUST: libc::c_int = 1;

/// A robust mutex in shared memory: if its owner dies, the next one gets it
/// (pthread_mutexattr_setrobust(3)).
pub struct SharedMutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: any thread may call pthread_mutex_lock, and with
// PTHREAD_PROCESS_SHARED any process that has the memory.
unsafe impl Sync for SharedMutex {}

/// The mutex is locked until this is dropped. It stays in the thread that has
/// locked it, because only that thread may unlock it.
pub struct Locked<'a>(&'a SharedMutex, PhantomData<*const ()>);

impl SharedMutex {
    /// Creates the mutex. Processes that are forked from now on share it.
    pub fn new() -> Result<&'static Self> {
        // SAFETY: zero is valid for the integers and pointers of a
        // pthread_mutex_t. While it is locked, the pointers lead to the list of
        // the owner's robust mutexes. No other process follows them.
        let memory = unsafe { shared::zeroed::<Self>(1) }?;
        let mutex = memory.first().context("no shared memory")?;
        mutex.initialize().context("cannot create a shared mutex")?;
        Ok(mutex)
    }

    fn initialize(&self) -> nix::Result<()> {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        let (shared, robust) = (PTHREAD_PROCESS_SHARED, PTHREAD_MUTEX_ROBUST);
        // SAFETY: the attributes outlive this call and the next three.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: the attributes are initialized.
        check(unsafe {
            libc::pthread_mutexattr_setpshared(attributes, shared)
        })?;
        // SAFETY: as above.
        check(unsafe {
            libc::pthread_mutexattr_setrobust(attributes, robust)
        })?;
        // SAFETY: as above. The mutex is not in use yet, and never moves.
        check(unsafe { libc::pthread_mutex_init(self.0.get(), attributes) })
    }

    /// Waits until the mutex is free, and locks it. A signal handler may run
    /// meanwhile, but does not end the wait (pthread_mutex_lock(3)).
    pub fn lock(&self) -> nix::Result<Locked<'_>> {
        // SAFETY: the mutex is initialized and never destroyed.
        match unsafe { libc::pthread_mutex_lock(self.0.get()) } {
            0 => {}
            // It is locked, but its previous owner died while holding it. It
            // protects no data, so there is nothing to repair.
            libc::EOWNERDEAD => {
                // SAFETY: this thread has just locked it.
                check(unsafe { libc::pthread_mutex_consistent(self.0.get()) })?;
            }
            errno => return Err(Errno::from_raw(errno)),
        }
        Ok(Locked(self, PhantomData))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread has locked it.
        unsafe { libc::pthread_mutex_unlock(self.0.0.get()) };
    }
}

/// Converts the result of a pthreads function, which is an error number.
fn check(result: libc::c_int) -> nix::Result<()> {
    match result {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno)),
    }
}
