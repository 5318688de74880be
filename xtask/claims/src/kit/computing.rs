//! A thread that computes while data arrives: was it told, was the data copied,
//! and by which thread?
//!
//! Page faults show which thread copies: untouched memory causes one fault per
//! page, and the kernel counts them for the thread that copies (getrusage(2),
//! RUSAGE_THREAD).

use std::num::NonZeroUsize;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use std::{hint, thread};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::mman::{
    MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous,
};
use nix::sys::resource::{UsageWho, getrusage};

use crate::claim::{Answer, Figure};
use crate::sample::Sample;

/// How long the thread computes after the data has been sent.
const COMPUTING: Duration = Duration::from_millis(100);

/// The size of a datagram and of its buffer, in bytes: several pages.
pub const LENGTH: usize = 128 * 1024;

/// The fate of data that arrived while the thread computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The thread could know of the data without a system call.
    pub told: bool,
    /// The data was in the thread's buffer before the thread asked for it.
    pub copied: bool,
    /// The thread's page faults while it computed.
    pub faults_computing: i64,
    /// The thread's page faults in the calls that asked for the data.
    pub faults_asking: i64,
}

impl Observation {
    /// Whether this thread copied while it computed.
    pub fn copied_here(self) -> bool {
        self.copied && self.faults_computing >= pages()
    }

    /// Whether another thread copied while this one computed.
    pub fn copied_elsewhere(self) -> bool {
        self.copied && self.faults_computing < pages()
    }

    /// Whether this thread copied in the calls that asked.
    pub fn copied_when_asked(self) -> bool {
        !self.copied && self.faults_asking >= pages()
    }
}

/// Computes without a system call while another thread sends a datagram and
/// lets `COMPUTING` pass. Checks then, still without a system call, whether
/// this thread was `told` and whether the buffer is filled. Calls `ask` last,
/// which must fill the buffer if it is not.
pub fn observe(
    sender: &UnixDatagram,
    buffer: &Buffer,
    told: impl FnOnce() -> bool,
    ask: impl FnOnce() -> Result<()>,
) -> Result<Observation> {
    let start = faults()?;
    let (told, copied) = compute(sender, || (told(), buffer.is_filled()))?;
    let computed = faults()?;
    ask().context("asking for the data")?;
    let asked = faults()?;
    ensure!(buffer.is_filled(), "the data never came into the buffer");
    Ok(Observation {
        told,
        copied,
        faults_computing: computed - start,
        faults_asking: asked - computed,
    })
}

fn compute<T>(sender: &UnixDatagram, look: impl FnOnce() -> T) -> Result<T> {
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !begun.load(SeqCst) {
                thread::yield_now();
            }
            let sent = sender.send(&[b'x'; LENGTH]);
            thread::sleep(COMPUTING);
            over.store(true, SeqCst);
            sent
        });
        begun.store(true, SeqCst);
        while !over.load(SeqCst) {
            hint::spin_loop();
        }
        let seen = look();
        let sent = sending.join().expect("it does not panic");
        ensure!(sent.context("sending")? == LENGTH, "a short datagram");
        Ok(seen)
    })
}

/// A buffer of which only the last page has been touched. It is never unmapped,
/// so that an operation in progress can't outlive it.
#[derive(Debug)]
pub struct Buffer {
    start: *mut u8,
}

impl Buffer {
    pub fn new() -> Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let length = NonZeroUsize::new(LENGTH).context("no length")?;
        // SAFETY: a new mapping, which replaces no other.
        let start = unsafe {
            mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE)
        }
        .context("mmap")?;
        // SAFETY: the advice is for the mapping just made.
        unsafe { madvise(start, LENGTH, MmapAdvise::MADV_NOHUGEPAGE) }
            .context("madvise")?;
        let buffer = Self { start: start.as_ptr().cast() };
        // SAFETY: the mapping's last byte.
        unsafe { buffer.last().write_volatile(0) };
        Ok(buffer)
    }

    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start
    }

    /// Receives a datagram into the buffer.
    pub fn receive(&self, socket: &UnixDatagram) -> Result<()> {
        let fd = socket.as_raw_fd();
        // SAFETY: the mapping has LENGTH bytes and is never unmapped.
        let received = unsafe { libc::recv(fd, self.start.cast(), LENGTH, 0) };
        let received = Errno::result(received).context("recv")?;
        ensure!(received == LENGTH as isize, "received {received} bytes");
        Ok(())
    }

    fn last(&self) -> *mut u8 {
        self.start.wrapping_add(LENGTH - 1)
    }

    /// Returns whether a datagram has been copied, to the last byte.
    pub fn is_filled(&self) -> bool {
        // SAFETY: the mapping's last byte.
        unsafe { self.last().read_volatile() == b'x' }
    }
}

/// Returns the number of page faults that one copy causes.
pub fn pages() -> i64 {
    // SAFETY: sysconf takes and returns numbers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    LENGTH as i64 / page - 1
}

/// Returns the number of page faults of this thread so far.
fn faults() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage")?;
    Ok(usage.minor_page_faults())
}

pub fn pair() -> Result<(UnixDatagram, UnixDatagram)> {
    UnixDatagram::pair().context("socketpair")
}

/// Returns the figures of several observations, the same for each mechanism.
pub fn figures(observations: &[Observation]) -> [Figure; 4] {
    let figure = |name, value: fn(&Observation) -> f64| {
        let values = observations.iter().map(value).collect();
        Figure::new(name, "", Sample::new(values))
    };
    [
        figure("told while it computed", |it| f64::from(u8::from(it.told))),
        figure("copied while it computed", |it| f64::from(u8::from(it.copied))),
        figure("page faults of its thread while it computed", |it| {
            it.faults_computing as f64
        }),
        figure("page faults of its thread when it asked", |it| {
            it.faults_asking as f64
        }),
    ]
}

/// Judges a condition that must be the same in all runs: undecided if it is
/// not.
pub fn in_all(
    runs: &[Observation],
    condition: impl Fn(&Observation) -> bool,
) -> Answer {
    let fulfilled = runs.iter().filter(|run| condition(run)).count();
    match fulfilled {
        0 => Answer::False,
        count if count == runs.len() => Answer::True,
        _ => Answer::Undecided,
    }
}

/// Makes observations for tests: one each of a copy when asked, a copy on this
/// thread while it computed, and a copy elsewhere.
#[cfg(test)]
pub mod made_up {
    use super::{Observation, pages};

    pub fn when_asked() -> Observation {
        Observation { faults_asking: pages(), ..Observation::default() }
    }

    pub fn here() -> Observation {
        Observation {
            told: true,
            copied: true,
            faults_computing: pages(),
            faults_asking: 0,
        }
    }

    pub fn elsewhere() -> Observation {
        Observation { faults_computing: 3, ..here() }
    }
}
