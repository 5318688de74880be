//! Statements about the kernel, one per test: what happens to data that arrives
//! while a thread computes, and which thread copies it.
//!
//! Page faults show which thread copies. Untouched memory causes one fault per
//! page, and the kernel counts them for the thread that copies.

#![expect(clippy::unwrap_used, reason = "a helper's failure is the test's")]

use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};
use std::{io, mem, ptr, thread};

use io_uring::types::Fd;
use io_uring::{IoUring, opcode};
use lab::test::skip;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll, ppoll};
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::select::{FdSet, select};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction,
};
use nix::sys::signalfd::SignalFd;
use nix::sys::time::TimeVal;
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, getpid, gettid};

/// How long a thread computes after the data has been sent.
const COMPUTING: Duration = Duration::from_millis(100);

/// The longest wait for another thread, which may get no CPU on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// The size of a datagram and of its buffer: several pages.
const LENGTH: usize = 128 * 1024;

/// Computes without a system call while another thread sends a datagram and
/// lets `COMPUTING` pass. Then calls `look`, before this thread makes any
/// system call, and returns its result.
fn compute<T>(sender: &UnixDatagram, look: impl FnOnce() -> T) -> T {
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !begun.load(SeqCst) {
                thread::yield_now();
            }
            let sent = sender.send(&[b'x'; LENGTH]);
            thread::sleep(COMPUTING);
            over.store(true, SeqCst);
            assert_eq!(sent.unwrap(), LENGTH);
        });
        begun.store(true, SeqCst);
        while !over.load(SeqCst) {
            std::hint::spin_loop();
        }
        look()
    })
}

/// Computes until a condition holds. Returns false if that takes too long.
fn comes_true(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !condition() && start.elapsed() < PATIENCE {
        std::hint::spin_loop();
    }
    condition()
}

/// A buffer of which only the last page has been touched.
struct Buffer {
    start: *mut u8,
}

impl Buffer {
    fn new() -> Self {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping, which is never unmapped.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), LENGTH, access, kind, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: the advice is for the mapping just made.
        unsafe { libc::madvise(start, LENGTH, libc::MADV_NOHUGEPAGE) };
        let buffer = Self { start: start.cast() };
        // SAFETY: the mapping's last byte.
        unsafe { buffer.last().write_volatile(0) };
        buffer
    }

    fn last(&self) -> *mut u8 {
        self.start.wrapping_add(LENGTH - 1)
    }

    /// Returns whether a datagram has been copied, to the last byte.
    fn is_filled(&self) -> bool {
        // SAFETY: the mapping's last byte.
        unsafe { self.last().read_volatile() == b'x' }
    }

    /// Returns the number of page faults that one copy causes.
    fn pages() -> i64 {
        // SAFETY: sysconf takes and returns numbers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        LENGTH as i64 / page - 1
    }
}

/// Returns the number of page faults of this thread so far.
fn faults() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    usage.minor_page_faults()
}

fn pair() -> (UnixDatagram, UnixDatagram) {
    UnixDatagram::pair().unwrap()
}

#[test]
fn data_stays_in_the_socket_until_a_call_asks() {
    let (sender, receiver) = pair();
    compute(&sender, || ());
    let mut asked = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut asked, PollTimeout::ZERO), Ok(1));
    let mut set = FdSet::new();
    set.insert(receiver.as_fd());
    let mut now = TimeVal::seconds(0);
    assert_eq!(select(None, &mut set, None, None, &mut now), Ok(1));
    assert_eq!(receiver.recv(&mut [0; LENGTH]).unwrap(), LENGTH);
}

/// Returns how many events epoll_wait reports with a timeout of 0 if the data
/// arrived before the call.
fn reported(trigger: EpollFlags) -> usize {
    let (sender, receiver) = pair();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let event = EpollEvent::new(EpollFlags::EPOLLIN | trigger, 7);
    epoll.add(&receiver, event).unwrap();
    let mut events = [EpollEvent::empty(); 2];
    let before = epoll.wait(&mut events, EpollTimeout::ZERO).unwrap();
    assert_eq!(before, 0, "reported before anything was sent");
    compute(&sender, || ());
    epoll.wait(&mut events, EpollTimeout::ZERO).unwrap()
}

#[test]
fn epoll_reports_an_edge_that_no_call_waited_for() {
    assert_eq!(reported(EpollFlags::EPOLLET), 1);
}

#[test]
fn epoll_reports_a_level_that_no_call_waited_for() {
    assert_eq!(reported(EpollFlags::empty()), 1);
}

/// Commands of fcntl(2) for the signal of a descriptor, and its receiver. libc
/// has them for some platforms only.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// Kinds of `f_owner_ex`: signals go to a thread, or to a process.
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;

/// Makes a socket send a signal, to this thread or to the process.
fn arm(socket: &UnixDatagram, signal: i32, kind: i32) -> nix::Result<()> {
    let fd = socket.as_raw_fd();
    let id = if kind == F_OWNER_TID { gettid() } else { getpid() };
    // `struct f_owner_ex`.
    let owner: [i32; 2] = [kind, id.as_raw()];
    // SAFETY: F_SETOWN_EX reads an f_owner_ex.
    Errno::result(unsafe { libc::fcntl(fd, F_SETOWN_EX, &owner) })?;
    // SAFETY: F_SETSIG takes a number.
    Errno::result(unsafe { libc::fcntl(fd, F_SETSIG, signal) })?;
    let flags = OFlag::O_NONBLOCK | OFlag::O_ASYNC;
    fcntl(socket, FcntlArg::F_SETFL(flags)).map(drop)
}

/// The number of signals handled, by signal number.
static HANDLED: [AtomicUsize; 65] = [const { AtomicUsize::new(0) }; 65];

extern "C" fn count(signal: i32) {
    HANDLED[signal as usize].fetch_add(1, SeqCst);
}

/// Installs a handler that counts a signal.
fn handle(signal: Signal) {
    let handler = SigHandler::Handler(count);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler adds to a counter and does nothing else.
    unsafe { sigaction(signal, &action) }.unwrap();
}

fn handled(signal: Signal) -> usize {
    HANDLED[signal as usize].load(SeqCst)
}

#[test]
fn a_blocked_signal_waits_until_the_signalfd_is_read() {
    let signal = Signal::SIGUSR1;
    handle(signal);
    let mask = SigSet::from(signal);
    mask.thread_block().unwrap();
    let (sender, receiver) = pair();
    arm(&receiver, signal as i32, F_OWNER_TID).unwrap();
    let signals = SignalFd::new(&mask).unwrap();
    assert_eq!(compute(&sender, || handled(signal)), 0);
    let learned = signals.read_signal().unwrap().unwrap();
    assert_eq!(learned.ssi_fd, receiver.as_raw_fd());
    assert_eq!(handled(signal), 0);
}

#[test]
fn a_signal_that_is_not_blocked_interrupts_computing() {
    let signal = Signal::SIGUSR2;
    handle(signal);
    let (sender, receiver) = pair();
    arm(&receiver, signal as i32, F_OWNER_TID).unwrap();
    assert_eq!(compute(&sender, || handled(signal)), 1);
}

#[test]
fn a_signal_that_only_ppoll_unblocks_is_handled_in_ppoll() {
    let signal = Signal::SIGWINCH;
    handle(signal);
    SigSet::from(signal).thread_block().unwrap();
    let mut unblocked = SigSet::thread_get_mask().unwrap();
    unblocked.remove(signal);
    let (sender, receiver) = pair();
    arm(&receiver, signal as i32, F_OWNER_TID).unwrap();
    assert_eq!(compute(&sender, || handled(signal)), 0);
    let interrupted = ppoll(&mut [], None, Some(unblocked));
    assert_eq!(interrupted, Err(Errno::EINTR));
    assert_eq!(handled(signal), 1);
}

/// Returns a real-time signal, of which several can be queued.
fn queued() -> i32 {
    libc::SIGRTMIN()
}

/// Sends a SIGTERM to the process, then has a socket send three signals to
/// `kind`. Returns them in the order in which the signalfd is read.
fn order(kind: i32) -> nix::Result<[i32; 4]> {
    let mut mask = *SigSet::from(Signal::SIGTERM).as_ref();
    // SAFETY: a valid set and a valid signal.
    unsafe { libc::sigaddset(&mut mask, queued()) };
    // SAFETY: the set was initialized above.
    let mask = unsafe { SigSet::from_sigset_t_unchecked(mask) };
    mask.thread_block()?;
    let signals = SignalFd::new(&mask)?;
    let (sender, receiver) = UnixDatagram::pair().map_err(|_| Errno::EIO)?;
    arm(&receiver, queued(), kind)?;
    kill(getpid(), Signal::SIGTERM)?;
    for _ in 0..3 {
        sender.send(b"x").map_err(|_| Errno::EIO)?;
    }
    let mut order = [0; 4];
    for place in &mut order {
        let signal = signals.read_signal()?.ok_or(Errno::EAGAIN)?;
        *place = signal.ssi_signo as i32;
    }
    Ok(order)
}

/// Calls `order` in a child process, where no other thread takes the SIGTERM,
/// and checks what it returns.
fn expect_order_in_child(kind: i32, expected: [i32; 4]) {
    // SAFETY: the child makes system calls and exits.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let as_expected = order(kind) == Ok(expected);
            // SAFETY: ends the process, and runs no handler of the parent.
            unsafe { libc::_exit(as_expected.into()) }
        }
        ForkResult::Parent { child } => {
            let end = WaitStatus::Exited(child, true.into());
            assert_eq!(waitpid(child, None), Ok(end), "not {expected:?}");
        }
    }
}

#[test]
fn signals_for_the_thread_come_before_those_for_the_process() {
    let (term, queued) = (Signal::SIGTERM as i32, queued());
    expect_order_in_child(F_OWNER_TID, [queued, queued, queued, term]);
    // Within one pending set, the lowest number comes first.
    expect_order_in_child(F_OWNER_PID, [term, queued, queued, queued]);
}

/// Submits a receive. Returns None if the kernel denies such a ring.
fn receiving(
    ring: io::Result<IoUring>,
    receiver: &UnixDatagram,
    buffer: &Buffer,
) -> Option<IoUring> {
    let mut ring = match ring {
        Ok(ring) => ring,
        Err(error) => {
            skip(format!("io_uring_setup: {error}"));
            return None;
        }
    };
    let fd = Fd(receiver.as_raw_fd());
    let receive = opcode::Recv::new(fd, buffer.start, LENGTH as u32).build();
    // SAFETY: the buffer is never unmapped.
    unsafe { ring.submission().push(&receive) }.unwrap();
    ring.submit().unwrap();
    Some(ring)
}

/// Checks that another thread copies while this one computes.
fn expect_copy_elsewhere(sender: &UnixDatagram, buffer: &Buffer) {
    let before = faults();
    assert!(compute(sender, || comes_true(|| buffer.is_filled())));
    let copied = faults() - before;
    assert!(copied < Buffer::pages(), "{copied} faults on this thread");
}

#[test]
fn io_uring_with_defer_taskrun_copies_in_the_next_enter() {
    let ring =
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8);
    let ((sender, receiver), buffer) = (pair(), Buffer::new());
    let Some(mut ring) = receiving(ring, &receiver, &buffer) else { return };
    let before = faults();
    let seen =
        compute(&sender, || (ring.completion().len(), buffer.is_filled()));
    assert_eq!(seen, (0, false), "copied before io_uring_enter");
    let entering = faults();
    ring.submit_and_wait(1).unwrap();
    let copied = faults() - entering;
    assert_eq!(ring.completion().len(), 1);
    assert!(buffer.is_filled());
    assert!(copied >= Buffer::pages(), "{copied} faults in io_uring_enter");
    assert!(entering - before < Buffer::pages(), "faults while it computed");
}

#[test]
fn io_uring_without_flags_interrupts_computing_to_copy() {
    let ((sender, receiver), buffer) = (pair(), Buffer::new());
    let ring = IoUring::new(8);
    let Some(mut ring) = receiving(ring, &receiver, &buffer) else { return };
    let before = faults();
    let seen =
        compute(&sender, || (ring.completion().len(), buffer.is_filled()));
    assert_eq!(seen, (1, true));
    let copied = faults() - before;
    assert!(copied >= Buffer::pages(), "{copied} faults: on another thread");
}

#[test]
fn io_uring_with_sqpoll_copies_on_a_thread_of_the_kernel() {
    let ring = IoUring::builder().setup_sqpoll(50).build(8);
    let ((sender, receiver), buffer) = (pair(), Buffer::new());
    let Some(_ring) = receiving(ring, &receiver, &buffer) else { return };
    expect_copy_elsewhere(&sender, &buffer);
}

#[cfg(target_env = "gnu")]
#[test]
fn posix_aio_copies_on_a_thread_of_the_c_library() {
    let ((sender, receiver), buffer) = (pair(), Buffer::new());
    // SAFETY: `aiocb` has numbers and pointers only; zero is valid for each.
    let operation: libc::aiocb = unsafe { mem::zeroed() };
    // It must stay in place while the operation is in progress.
    let operation = Box::leak(Box::new(operation));
    operation.aio_fildes = receiver.as_raw_fd();
    operation.aio_buf = buffer.start.cast();
    operation.aio_nbytes = LENGTH;
    operation.aio_sigevent.sigev_notify = libc::SIGEV_NONE;
    // SAFETY: operation and buffer are never freed.
    assert_eq!(unsafe { libc::aio_read(operation) }, 0);
    expect_copy_elsewhere(&sender, &buffer);
}
