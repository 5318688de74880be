//! How many operations there can be at a time, and the threads that do them.

use std::ffi::c_void;
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::MetadataExt as _;
use std::ptr;
use std::sync::Mutex;

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit};

use common::Unsupported;

/// Signals of other kinds that may be pending beside the completions.
const SIGNALS_SPARE: usize = 2;

/// Mappings of memory that are no thread's stack.
const MAPPINGS_SPARE: usize = 128;

/// Bytes of a helper's stack, where glibc takes the process's default:
/// RLIMIT_STACK (pthread_create(3)). It reads, writes and sends a signal.
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
const STACK: usize = 64 * 1024;

/// Seconds that a thread stays after its last operation. Each client's thread
/// is busy from one operation to the next, but for moments.
#[cfg(all(target_env = "gnu", target_pointer_width = "64"))]
const IDLE_SECONDS: i32 = 1;

/// The most operations in flight, which is the most clients, and the setting
/// that says so.
pub struct Ceiling {
    pub operations: usize,
    pub setting: &'static str,
}

impl Ceiling {
    /// What the process's and the system's limits allow now.
    pub fn find() -> Result<Self> {
        // Each complete operation is a signal in the queue until it is taken.
        // And a thread that wrote to a client that had left has a SIGPIPE
        // pending, which it blocks, until it ends.
        let signals = soft_limit(Resource::RLIMIT_SIGPENDING)
            .saturating_sub(queued_signals() + SIGNALS_SPARE)
            / 2;
        // One of them is the main thread.
        let threads = soft_limit(Resource::RLIMIT_NPROC).saturating_sub(1);
        // A stack and the guard below it.
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
            let why = format!("no room for a single operation ({setting})");
            return Err(Unsupported { call: "aio_read", why }.into());
        }
        Ok(Self { operations, setting })
    }
}

/// The threads of this process, counted: glibc does not tell when it finds
/// none for an operation.
pub struct Threads(Option<File>);

impl Threads {
    pub fn new() -> Self {
        Self(File::open("/proc/self/task").ok())
    }

    /// How many there are: a folder has a link to itself, one in its parent,
    /// and one in each folder within. Where /proc is not mounted, enough.
    pub fn count(&self) -> usize {
        let count = self.0.as_ref().and_then(|task| {
            let links = task.metadata().ok()?.nlink();
            usize::try_from(links.checked_sub(2)?).ok()
        });
        count.unwrap_or(usize::MAX)
    }
}

/// Returns how many more threads can be made, up to `wanted`: makes them, keeps
/// all until the last one is there, and lets them end.
pub fn threads_to_be_had(wanted: usize) -> usize {
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
        // SAFETY: `thread` has room, and `pass` gets the gate that it expects.
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
        // SAFETY: pthread_create has filled it.
        threads.push(unsafe { thread.assume_init() });
    }
    drop(shut);
    for thread in &threads {
        // SAFETY: the thread is joinable, and is joined once. If it were
        // detached, it would be counted for a while after this.
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
        /// Requests that memory is set aside for; more is found as needed.
        requests: i32,
        unused: [i32; 4],
        idle_seconds: i32,
        reserved: i32,
    }

    // In glibc (aio_init(3), pthread_setattr_default_np(3)), not in libc.
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
    // SAFETY: it reads `init` during the call.
    unsafe { aio_init(&init) };
    // A thread that glibc makes when it is asked for an operation has the
    // smallest stack there is; one that is made by another, because more than
    // one request waits, has the default.
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: it initialises what it is given.
    unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) };
    // SAFETY: the attributes are initialised.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK) };
    // SAFETY: the same. Where it refuses, stacks are larger than they need be.
    unsafe { pthread_setattr_default_np(attributes.as_ptr()) };
    // SAFETY: they were initialised, and are not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    Ok(())
}

#[cfg(not(all(target_env = "gnu", target_pointer_width = "64")))]
pub fn prepare(_threads: usize) -> Result<()> {
    let why = "only the GNU C library can have more threads for operations \
               than it likes, and queues their signals"
        .into();
    Err(Unsupported { call: "aio_init", why }.into())
}

/// Signals queued for this user's processes, all of them together, which is
/// what the limit is of; none where /proc is not mounted.
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

/// A number under /proc/sys; no limit where it is not mounted.
fn sysctl(path: &str) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or(usize::MAX)
}
