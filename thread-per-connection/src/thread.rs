//! Creates detached threads with a small stack, using pthread_create(3).
//!
//! std::thread also maps an alternate signal stack (sigaltstack(2)) for each
//! thread, for the handler that reports a stack overflow, and ends the whole
//! process if that mapping fails. Here only the new connection is rejected.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use nix::errno::Errno;
use nix::libc;

/// Size in bytes of a thread's stack. A conversation's largest frames are that
/// of the input buffer, 4 KiB, and those of the C library. A page of the stack
/// uses memory only once it is touched.
const STACK: usize = 64 * 1024;

/// The work of a thread. It is boxed twice, because pthread_create(3) passes on
/// one thin pointer.
type Work = Box<dyn FnOnce() + Send>;

/// Runs `work` on a new thread. If none can be created, drops `work` and
/// returns the error: EAGAIN if a limit of threads or memory is reached.
pub fn create(work: Work) -> nix::Result<()> {
    let attributes = Attributes::small_and_detached()?;
    let work = Box::into_raw(Box::new(work));
    let mut thread = MaybeUninit::uninit();
    // SAFETY: `thread` and `attributes` are valid for the call, and `run`
    // takes over `work`, which is Send, if the call succeeds.
    let code = unsafe {
        libc::pthread_create(
            thread.as_mut_ptr(),
            &attributes.0,
            run,
            work.cast::<c_void>(),
        )
    };
    if let Err(errno) = check(code) {
        // SAFETY: `work` came from Box::into_raw, and no thread has it.
        drop(unsafe { Box::from_raw(work) });
        return Err(errno);
    }
    Ok(())
}

extern "C" fn run(work: *mut c_void) -> *mut c_void {
    // SAFETY: `create` made it from a Box and gave it to this thread alone.
    let work = unsafe { Box::from_raw(work.cast::<Work>()) };
    // Unwinding out of a function that C calls would end the process. Here a
    // panic ends one client only; the panic hook has reported it.
    let _ = catch_unwind(AssertUnwindSafe(work));
    ptr::null_mut()
}

struct Attributes(libc::pthread_attr_t);

impl Attributes {
    fn small_and_detached() -> nix::Result<Self> {
        let mut new = MaybeUninit::uninit();
        // SAFETY: pthread_attr_init initialises what it is given.
        check(unsafe { libc::pthread_attr_init(new.as_mut_ptr()) })?;
        // SAFETY: it has just been initialised.
        let mut new = Self(unsafe { new.assume_init() });
        let stack = STACK.max(libc::PTHREAD_STACK_MIN);
        // SAFETY: the attributes are initialised, the size is large enough.
        check(unsafe { libc::pthread_attr_setstacksize(&mut new.0, stack) })?;
        let detached = libc::PTHREAD_CREATE_DETACHED;
        // SAFETY: the attributes are initialised.
        check(unsafe {
            libc::pthread_attr_setdetachstate(&mut new.0, detached)
        })?;
        Ok(new)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they were initialised, and are not used any more.
        unsafe { libc::pthread_attr_destroy(&mut self.0) };
    }
}

/// The pthread functions return the errno rather than set it.
fn check(code: i32) -> nix::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(Errno::from_raw(code)),
    }
}
