//! Limits: how many operations can be in flight, and the threads that carry
//! them out.

use std::ffi::c_void;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;
use std::ptr;
use std::sync::Mutex;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit};

use common::Unsupported;

/// Signals of other kinds that may be pending besides completion signals.
const SIGNALS_SPARE: usize = 2;

/// Memory mappings that are not stacks of threads.
const MAPPINGS_SPARE: usize = 128;

/// The stack size of a helper thread, instead of the default, RLIMIT_STACK
/// (pthread_create(3)). The thread reads, writes and sends a signal.
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
const STACK: usize = 64 * 1024;

/// Seconds that an idle thread waits for an operation before it ends. A
/// client's thread is idle only for moments, between two operations.
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
const IDLE_SECONDS: i32 = 1;

/// The most operations that can be in flight, which is the client limit, and
/// the setting that imposes it.
pub struct Ceiling {
    pub operations: usize,
    pub setting: &'static str,
}

impl Ceiling {
    /// Finds the lowest of the process's and the system's current limits.
    pub fn find() -> Result<Self> {
        // A completion is a queued signal until it is accepted. And a thread
        // that wrote to a client that had left keeps a SIGPIPE pending until it
        // ends, because it blocks the signal.
        let signals = soft_limit(Resource::RLIMIT_SIGPENDING)
            .saturating_sub(queued_signals() + SIGNALS_SPARE)
            / 2;
        // One of them is the main thread.
        let threads = soft_limit(Resource::RLIMIT_NPROC).saturating_sub(1);
        // Each thread has two mappings: a stack and the guard page below it.
        let stacks = sysctl("/proc/sys/vm/max_map_count")
            .saturating_sub(MAPPINGS_SPARE)
            / 2;
        let ceilings = [
            (signals, "ulimit -i"),
            (threads, "ulimit -u"),
            (sysctl("/proc/sys/kernel/threads-max"), "kernel.threads-max"),
            (sysctl("/proc/sys/kernel/pid_max"), "kernel.pid_max"),
            (stacks, "vm.max_map_count"),
        ];
        let (operations, setting) =
            ceilings.into_iter().min().unwrap_or_default();
        if operations == 0 {
            let why = format!("{setting} allows no operation at all");
            return Err(Unsupported { call: "aio_read", why }.into());
        }
        Ok(Self { operations, setting })
    }
}

/// Counts the threads of this process, because glibc does not report that an
/// operation has no thread.
pub struct Threads(Option<File>);

impl Threads {
    pub fn new() -> Self {
        Self(File::open("/proc/self/task").ok())
    }

    /// Returns the number of threads: a directory has one link from itself, one
    /// from its parent, and one from each directory in it. Without /proc,
    /// returns `usize::MAX`, which is always enough.
    pub fn count(&self) -> usize {
        let count = self.0.as_ref().and_then(|task| {
            let links = task.metadata().ok()?.nlink();
            usize::try_from(links.checked_sub(2)?).ok()
        });
        count.unwrap_or(usize::MAX)
    }
}

/// Returns how many more threads can be created, up to `wanted`, by creating
/// them: all exist at the same time, and then end.
pub fn creatable_threads(wanted: usize) -> usize {
    extern "C" fn pass(gate: *mut c_void) -> *mut c_void {
        // SAFETY: the gate outlives the thread, which is joined.
        let gate = unsafe { &*gate.cast::<Mutex<()>>() };
        drop(gate.lock());
        ptr::null_mut()
    }

    let gate = Mutex::new(());
    let shut = gate.lock();
    let mut threads = Vec::new();
    while threads.len() < wanted {
        let mut thread = MaybeUninit::uninit();
        // SAFETY: `thread` has room for the result, and `pass` expects a gate.
        let created = unsafe {
            libc::pthread_create(
                thread.as_mut_ptr(),
                ptr::null(),
                pass,
                ptr::from_ref(&gate).cast_mut().cast(),
            )
        };
        if created != 0 {
            break;
        }
        // SAFETY: pthread_create has initialised it.
        threads.push(unsafe { thread.assume_init() });
    }
    drop(shut);
    for thread in &threads {
        // SAFETY: the thread is joinable, and is joined once. A detached one
        // would still be counted for a while after this.
        unsafe { libc::pthread_join(*thread, ptr::null_mut()) };
    }
    threads.len()
}

/// Raises glibc's limit of 20 threads (aio_init(3)). Call it before the first
/// operation.
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
pub fn prepare(threads: usize) -> Result<()> {
    /// `struct aioinit` of aio.h.
    #[repr(C)]
    struct AioInit {
        threads: i32,
        /// Requests for which memory is allocated in advance.
        requests: i32,
        unused: [i32; 4],
        idle_seconds: i32,
        reserved: i32,
    }

    // The crate libc does not declare these two functions of glibc
    // (aio_init(3), pthread_setattr_default_np(3)).
    unsafe extern "C" {
        fn aio_init(init: *const AioInit);
        fn pthread_setattr_default_np(attr: *const libc::pthread_attr_t)
        -> i32;
    }

    let init = AioInit {
        threads: i32::try_from(threads).unwrap_or(i32::MAX),
        requests: 0,
        unused: [0; 4],
        idle_seconds: IDLE_SECONDS,
        reserved: 0,
    };
    // SAFETY: the function reads `init` only during the call.
    unsafe { aio_init(&init) };
    // A helper thread that aio_read or aio_write creates has the smallest
    // stack. One that another helper creates, because more than one request
    // waits, has the default size.
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the function initialises `attributes`.
    unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) };
    // SAFETY: the attributes are initialised.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK) };
    // SAFETY: the attributes are initialised. If the call fails, stacks are
    // larger than necessary.
    unsafe { pthread_setattr_default_np(attributes.as_ptr()) };
    // SAFETY: the attributes are initialised, and are not used after this.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    Ok(())
}

#[cfg(not(all(target_env = "gnu", target_pointer_width = "64")))]
pub fn prepare(_threads: usize) -> Result<()> {
    let why = "this variant requires 64-bit glibc, whose aio_init(3) raises \
               the limit of threads for operations"
        .into();
    Err(Unsupported { call: "aio_init", why }.into())
}

/// Returns the number of signals queued for all processes of this user, to
/// which the limit applies; 0 if /proc is not mounted.
fn queued_signals() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigQ:"));
    let queued = line.and_then(|line| line.trim().split('/').next());
    queued.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn soft_limit(resource: Resource) -> usize {
    let soft = getrlimit(resource).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// Reads a number under /proc/sys; without /proc, returns `usize::MAX`.
fn sysctl(path: &str) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(usize::MAX)
}
