//! Faults that no client can cause: system calls that fail, or begin late, on
//! demand.
//!
//! A filter installed before exec forwards the chosen calls to this process,
//! which lets them continue, delays them or makes them fail with an errno, see
//! seccomp_unotify(2). So a fault can begin and end while the server runs, and
//! every call that it affected is counted.

mod handover;

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io, mem, thread};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use handover::{receive_descriptor, send_descriptor};

/// System calls that serve one purpose.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    numbers: &'static [i64],
    /// Returns whether a call with one of these numbers counts.
    counts: fn(&libc::seccomp_notif) -> bool,
}

const fn calls(numbers: &'static [i64]) -> Calls {
    Calls { numbers, counts: |_| true }
}

/// Only calls on sockets count. read(2) and write(2) are used on other
/// descriptors too, an eventfd for example, which do not return such errors.
const fn on_sockets(numbers: &'static [i64]) -> Calls {
    Calls { numbers, counts: is_on_a_socket }
}

/// `fork` and every other call that starts a process or a thread. glibc starts
/// both with clone or clone3.
pub const CLONE: Calls = calls(&[
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
]);

pub const ACCEPT: Calls = calls(&[libc::SYS_accept, libc::SYS_accept4]);

/// Every call that receives from a socket.
pub const RECEIVE: Calls = on_sockets(&[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
]);

/// Every call that sends to a socket except sendmsg, which passes the filter's
/// descriptor to the suite.
pub const SEND: Calls = on_sockets(&[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_sendmmsg,
]);

/// Every call that waits: for descriptors, for a queued signal, for a
/// completion.
pub const WAIT: Calls = calls(&[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_io_uring_enter,
]);

/// The call that creates a ring, without which there is no io_uring.
pub const RING: Calls = calls(&[libc::SYS_io_uring_setup]);

/// The call that provides a group of buffers to a ring.
pub const PROVIDE_BUFFERS: Calls = Calls {
    numbers: &[libc::SYS_io_uring_register],
    // IORING_REGISTER_PBUF_RING, see io_uring_register(2).
    counts: |call| call.data.args[1] == 22,
};

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const AUDIT_ARCH: u32 = 0;

/// System calls of one server that fail or begin late while the fault is on.
#[derive(Debug)]
pub struct Fault {
    calls: Calls,
    effect: Effect,
    /// The number of calls that it is still to affect.
    left: AtomicUsize,
    affected: AtomicUsize,
    asked: AtomicUsize,
}

/// The effect of a fault on a call.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Error(Errno),
    /// The call begins this much later, as if the server had lost the CPU
    /// before it.
    Delay(Duration),
}

impl Fault {
    /// Makes a fault, switched off: `calls` fail with `errno` once it is on.
    pub fn new(calls: Calls, errno: Errno) -> Arc<Self> {
        Self::of(calls, Effect::Error(errno))
    }

    /// Makes a fault, switched off: `calls` begin `by` later once it is on.
    pub fn delay(calls: Calls, by: Duration) -> Arc<Self> {
        Self::of(calls, Effect::Delay(by))
    }

    fn of(calls: Calls, effect: Effect) -> Arc<Self> {
        let [left, affected, asked] = [const { AtomicUsize::new(0) }; 3];
        Arc::new(Self { calls, effect, left, affected, asked })
    }

    /// Affects every call from now on.
    pub fn on(&self) {
        self.affect_next(usize::MAX);
    }

    /// Affects the next `count` calls; later ones pass.
    pub fn affect_next(&self, count: usize) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// Lets every call pass from now on.
    pub fn off(&self) {
        self.affect_next(0);
    }

    /// Returns how many calls were affected.
    pub fn affected(&self) -> usize {
        self.affected.load(Ordering::SeqCst)
    }

    /// Returns whether any such call was made, affected or not. A server that
    /// has io_uring do its work makes none that a filter could see.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > 0
    }

    /// Returns the filter as a BPF program: it forwards the chosen calls and
    /// lets all others pass.
    fn program(&self) -> Vec<libc::sock_filter> {
        const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
        const JUMP_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
        // Offsets of the members of struct seccomp_data.
        const NUMBER: u32 = 0;
        const ARCHITECTURE: u32 = 4;

        let step = |code: u32, k: u32, jt: usize, jf: usize| {
            // Jumps fit into a byte: there are far fewer than 255 steps.
            libc::sock_filter {
                code: code as u16,
                jt: jt as u8,
                jf: jf as u8,
                k,
            }
        };
        let count = self.calls.numbers.len();
        let mut program = vec![
            step(LOAD, ARCHITECTURE, 0, 0),
            step(JUMP_EQUAL, AUDIT_ARCH, 0, count + 1),
            step(LOAD, NUMBER, 0, 0),
        ];
        for (index, call) in self.calls.numbers.iter().enumerate() {
            program.push(step(JUMP_EQUAL, *call as u32, count - index, 0));
        }
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
        program.push(step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0));
        program
    }

    /// Makes the two sides of the fault: the filter, which the new process must
    /// install before exec, and the judge, which decides its calls from then
    /// on.
    pub fn prepare(self: &Arc<Self>) -> Result<(Filter, Judge)> {
        ensure!(
            AUDIT_ARCH != 0,
            crate::skip::skip("no seccomp filter for this architecture")
        );
        let (ours, theirs) = UnixStream::pair().context("socketpair")?;
        let filter = Filter { program: self.program(), handover: theirs };
        let judge = Judge { handover: ours, fault: Arc::clone(self) };
        Ok((filter, judge))
    }

    /// Counts a call and returns whether it is affected.
    fn is_next(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let fewer = |left: usize| match left {
            usize::MAX => Some(left),
            _ => left.checked_sub(1),
        };
        let order = Ordering::SeqCst;
        let affects = self.left.fetch_update(order, order, fewer).is_ok();
        if affects {
            self.affected.fetch_add(1, Ordering::SeqCst);
        }
        affects
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls.numbers;
        write!(f, "{:?} from system calls {calls:?}", self.effect)
    }
}

/// The side of the new process.
#[derive(Debug)]
pub struct Filter {
    program: Vec<libc::sock_filter>,
    handover: UnixStream,
}

impl Filter {
    /// Installs the filter in the calling process and sends its listener to the
    /// judge. Async-signal-safe, because it is called between fork and exec.
    pub fn install(&mut self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.program.len() as u16,
            filter: self.program.as_mut_ptr(),
        };
        // SAFETY: the option takes integers only. Without it, seccomp(2)
        // requires CAP_SYS_ADMIN.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: `program` points to `len` steps that live in `self`, and the
        // kernel copies them before the call returns.
        let listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        // The listener is close-on-exec: after exec only the judge has it.
        send_descriptor(&self.handover, listener as RawFd)
    }
}

/// The side of the suite, which decides.
#[derive(Debug)]
pub struct Judge {
    handover: UnixStream,
    fault: Arc<Fault>,
}

impl Judge {
    /// Decides calls on a thread of its own, until the last process under the
    /// filter has ended.
    pub fn start(self) -> Result<()> {
        let listener = receive_descriptor(&self.handover)
            .context("the filtered process did not send its listener")?;
        thread::Builder::new()
            .name("fault".to_owned())
            .spawn(move || while self.decide(&listener).is_ok() {})
            .context("cannot start a thread")?;
        Ok(())
    }

    fn decide(&self, listener: &OwnedFd) -> Result<()> {
        // SAFETY: `seccomp_notif` has integers only; zero is valid for each.
        let mut call: libc::seccomp_notif = unsafe { mem::zeroed() };
        wait_for_call(listener)?;
        // SAFETY: `listener` is a seccomp listener; `call` is zeroed, as the
        // ioctl requires, and outlives the call.
        match unsafe {
            notification_receive(listener.as_raw_fd(), &raw mut call)
        } {
            // The caller was killed or interrupted meanwhile.
            Err(Errno::ENOENT | Errno::EINTR) => return Ok(()),
            result => result.context("SECCOMP_IOCTL_NOTIF_RECV")?,
        };
        let mut answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        if (self.fault.calls.counts)(&call) && self.fault.is_next() {
            match self.fault.effect {
                Effect::Error(errno) => {
                    answer.flags = 0;
                    answer.error = -(errno as i32);
                }
                Effect::Delay(by) => thread::sleep(by),
            }
        }
        // SAFETY: as above; `answer` is a complete response.
        match unsafe {
            notification_send(listener.as_raw_fd(), &raw mut answer)
        } {
            Err(Errno::ENOENT) => Ok(()),
            result => result.map(drop).context("SECCOMP_IOCTL_NOTIF_SEND"),
        }
    }
}

/// Returns whether a call's first argument is a socket. The caller is blocked
/// until it has the answer, so the descriptor is still the same.
fn is_on_a_socket(call: &libc::seccomp_notif) -> bool {
    let path = format!("/proc/{}/fd/{}", call.pid, call.data.args[0]);
    let target = std::fs::read_link(path).unwrap_or_default();
    target.to_string_lossy().starts_with("socket:")
}

nix::ioctl_readwrite!(notification_receive, b'!', 0, libc::seccomp_notif);
nix::ioctl_readwrite!(notification_send, b'!', 1, libc::seccomp_notif_resp);

/// Waits until there is a call to decide. The receiving ioctl would sleep on
/// after the last filtered process has ended; poll(2) reports that as a
/// hang-up.
fn wait_for_call(listener: &OwnedFd) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    let seen = fds[0].revents().unwrap_or(PollFlags::empty());
    ensure!(
        seen.contains(PollFlags::POLLIN),
        "the filtered processes have ended"
    );
    Ok(())
}
