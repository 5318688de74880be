//! A thread that computes while data arrives: whether it was told meanwhile,
//! whether the data was copied meanwhile, and which thread copied it.
//!
//! Page faults show which thread copies. A page that nothing has touched causes
//! one fault, and the kernel counts it for the thread that copies.

use std::num::NonZeroUsize;
use std::os::unix::net::UnixDatagram;
use std::ptr::NonNull;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};
use std::{fs, hint, slice, thread};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::mman::{
    MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::{SysconfVar, gettid, sysconf};

use crate::claim::{Answer, Copier, Copying, Effort, Figure, Finding};
use crate::kit::net::PATIENCE;
use crate::sample::Sample;

/// How long a thread computes after the data has been sent.
const COMPUTING: Duration = Duration::from_millis(100);

/// The size of a datagram and of its buffer: several pages.
pub const LENGTH: usize = 128 * 1024;

/// The smallest page of Linux. Larger ones make the number of faults smaller,
/// and `Buffer::pages` counts them.
const SMALLEST_PAGE: usize = 4096;

/// The names of the figures that each mechanism has, in this order.
pub const FIGURES: [&str; 4] = [
    "notified while computing (1 is yes)",
    "copied while computing (1 is yes)",
    "page faults of this thread while computing",
    "page faults of this thread in the call that asked",
];

/// Returns two connected datagram sockets: the sender's and the receiver's.
/// Calls on them fail after `PATIENCE`.
pub fn sockets() -> Result<(UnixDatagram, UnixDatagram)> {
    let (sender, receiver) = UnixDatagram::pair().context("socketpair")?;
    sender.set_write_timeout(Some(PATIENCE))?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    Ok((sender, receiver))
}

/// A buffer of `LENGTH` bytes of which only the last page has been touched. It
/// is never unmapped, so an operation in progress can't outlive it.
#[derive(Debug)]
pub struct Buffer(NonNull<u8>);

impl Buffer {
    pub fn new() -> Result<Self> {
        let length = NonZeroUsize::new(LENGTH).context("an empty buffer")?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses where, so nothing else is mapped there.
        let start = unsafe {
            mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE)
        };
        let start = start.context("mmap")?;
        // A huge page would need one fault only.
        let advice = MmapAdvise::MADV_NOHUGEPAGE;
        // SAFETY: the advice is for the new mapping, and keeps its contents.
        let advised = unsafe { madvise(start, LENGTH, advice) };
        // EINVAL: this kernel has no huge pages.
        let _ = advised;
        let buffer = Self(start.cast());
        // SAFETY: the mapping's last byte, which nothing else uses yet.
        unsafe { buffer.last().write_volatile(0) };
        Ok(buffer)
    }

    pub fn start(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    fn last(&self) -> *mut u8 {
        self.start().wrapping_add(LENGTH - 1)
    }

    /// Returns whether a datagram has been copied, to the last byte.
    pub fn is_filled(&self) -> bool {
        // SAFETY: the mapping's last byte. A volatile access to a byte that the
        // kernel may write meanwhile sees the old or the new value.
        unsafe { self.last().read_volatile() == b'x' }
    }

    /// Receives a datagram into this buffer, which no operation in progress may
    /// use.
    pub fn receive(&mut self, receiver: &UnixDatagram) -> Result<()> {
        // SAFETY: `LENGTH` bytes that were mapped as zeros and stay mapped.
        let bytes = unsafe { slice::from_raw_parts_mut(self.start(), LENGTH) };
        let received = receiver.recv(bytes).context("recv")?;
        ensure!(received == LENGTH, "received {received} bytes");
        Ok(())
    }
}

/// Returns how many page faults this thread has had.
fn page_faults() -> Result<i64> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.minor_page_faults())
}

/// The state that this thread finds when it has computed, before it makes any
/// system call.
#[derive(Debug)]
pub struct Computed {
    told: bool,
    copied: bool,
    faults: i64,
}

/// Computes without a system call while another thread sends a datagram and
/// lets `COMPUTING` pass. Then calls `is_told`, which must make no system call
/// either, and looks at the buffer.
pub fn compute(
    sender: &UnixDatagram,
    buffer: &Buffer,
    is_told: impl FnOnce() -> bool,
) -> Result<Computed> {
    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            while !begun.load(SeqCst) {
                thread::yield_now();
            }
            let sent = sender.send(&[b'x'; LENGTH]);
            // The time in which the other thread computes.
            thread::sleep(COMPUTING);
            over.store(true, SeqCst);
            sent
        });
        let before = page_faults();
        begun.store(true, SeqCst);
        while !over.load(SeqCst) {
            hint::spin_loop();
        }
        let (told, copied) = (is_told(), buffer.is_filled());
        let after = page_faults();
        let sent = sending.join().map_err(|_| anyhow!("the sender failed"))?;
        let sent = sent.context("send")?;
        ensure!(sent == LENGTH, "sent {sent} bytes");
        Ok(Computed { told, copied, faults: after? - before? })
    })
}

impl Computed {
    /// Makes the system call that asks for the data, and completes the round.
    ///
    /// # Errors
    ///
    /// The data is not in the buffer afterwards.
    pub fn then_ask(
        self,
        buffer: &mut Buffer,
        ask: impl FnOnce(&mut Buffer) -> Result<()>,
    ) -> Result<Round> {
        let before = page_faults()?;
        ask(buffer)?;
        let faults_asking = page_faults()? - before;
        ensure!(buffer.is_filled(), "the data was not copied");
        Ok(Round {
            told: self.told,
            copied: self.copied,
            faults_computing: self.faults,
            faults_asking,
        })
    }
}

/// The measurements of one round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The thread could see that data had arrived, before it made a call.
    pub told: bool,
    /// The data was in the thread's buffer, before it made a call.
    pub copied: bool,
    pub faults_computing: i64,
    pub faults_asking: i64,
}

impl Round {
    /// Returns whether the copy interrupted this thread's computing.
    pub fn is_copied_by_interrupt(&self) -> bool {
        self.copied && is_copy(self.faults_computing)
    }

    /// Returns whether this thread copied in the call that asked.
    pub fn is_copied_in_call(&self) -> bool {
        !self.copied && is_copy(self.faults_asking)
    }

    /// Returns whether another thread copied while this one computed.
    pub fn is_copied_elsewhere(&self) -> bool {
        self.copied && !is_copy(self.faults_computing)
    }
}

/// Returns whether a thread that has caused this many page faults has copied
/// the data: at least half of the faults that the copy causes. A few others
/// happen at any time.
pub fn is_copy(faults: i64) -> bool {
    faults * 2 >= pages()
}

/// Returns how many page faults the copy causes: one per untouched page.
fn pages() -> i64 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    LENGTH as i64 / page.unwrap_or(SMALLEST_PAGE as i64) - 1
}

/// Repeats the measurement.
pub fn rounds<R>(
    effort: Effort,
    round: impl FnMut() -> Result<R>,
) -> Result<Vec<R>> {
    std::iter::repeat_with(round).take(effort.pick(7, 2)).collect()
}

/// Returns whether something is so in most rounds: undecided if fewer than
/// three quarters of the rounds agree.
pub fn in_most<R>(rounds: &[R], holds: impl Fn(&R) -> bool) -> Answer {
    sample(rounds, |round| f64::from(holds(round))).is_above(0.5)
}

/// Returns the values of one quantity in all rounds.
pub fn sample<R>(rounds: &[R], value: impl Fn(&R) -> f64) -> Sample {
    Sample::new(rounds.iter().map(value).collect())
}

/// Returns which thread copies, and when. `other` is the one that copies if the
/// program's thread doesn't. None if the rounds are undecided.
pub fn copying(rounds: &[Round], other: Option<Copier>) -> Option<Copying> {
    let is = |holds: fn(&Round) -> bool| in_most(rounds, holds);
    let told = match is(|round| round.told) {
        Answer::True => true,
        Answer::False => false,
        _ => return None,
    };
    let copier = if is(Round::is_copied_in_call) == Answer::True {
        Copier::InCall
    } else if is(Round::is_copied_by_interrupt) == Answer::True {
        Copier::Interrupted
    } else if is(Round::is_copied_elsewhere) == Answer::True {
        other?
    } else {
        return None;
    };
    Some(Copying { told, copier })
}

/// Makes the finding of a mechanism that copies on the program's thread.
pub fn finding(answer: Answer, rounds: &[Round]) -> Finding {
    let copying = copying(rounds, None);
    Finding { copying, ..Finding::new(answer, figures(rounds)) }
}

/// Makes the finding of a mechanism that copies on another thread. Each round
/// comes with that thread's page faults; `name` is their name.
pub fn finding_of_two(
    answer: Answer,
    rounds: Vec<(Round, i64)>,
    other: Copier,
    name: &str,
) -> Finding {
    let (rounds, faults): (Vec<_>, Vec<_>) = rounds.into_iter().unzip();
    let copies = in_most(&faults, |faults| is_copy(*faults));
    let other = (copies == Answer::True).then_some(other);
    let mut figures = figures(&rounds);
    let faults = sample(&faults, |faults| *faults as f64);
    figures.push(Figure::new(name, "", faults));
    let copying = copying(&rounds, other);
    Finding { copying, ..Finding::new(answer, figures) }
}

/// Returns the figures that each mechanism has.
fn figures(rounds: &[Round]) -> Vec<Figure> {
    let samples = [
        sample(rounds, |round| f64::from(round.told)),
        sample(rounds, |round| f64::from(round.copied)),
        sample(rounds, |round| round.faults_computing as f64),
        sample(rounds, |round| round.faults_asking as f64),
    ];
    let figures = FIGURES.iter().zip(samples);
    figures.map(|(name, sample)| Figure::new(name, "", sample)).collect()
}

/// The name of a thread of this process, and the page faults that it has had.
#[derive(Debug)]
pub struct Thread {
    id: i32,
    name: String,
    pub faults: i64,
}

/// Returns the threads of this process, from /proc/self/task.
pub fn threads() -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        // The file of a thread that has ended meanwhile can't be read.
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        threads.push(Thread::parse(&stat).context("/proc/self/task/*/stat")?);
    }
    Ok(threads)
}

impl Thread {
    /// Returns whether io_uring has started it. See io_uring/sqpoll.c and
    /// io_uring/io-wq.c for the names.
    pub fn is_of_kernel(&self) -> bool {
        self.name.starts_with("iou-")
    }

    /// Parses `ID (NAME) STATE ...`, see proc_pid_stat(5). A name can have
    /// parentheses itself.
    fn parse(stat: &str) -> Option<Self> {
        let (start, rest) = stat.rsplit_once(')')?;
        let (id, name) = start.split_once(" (")?;
        let id = id.parse().ok()?;
        // Field 10 of the line, minflt, is the eighth after the name.
        let faults = rest.split_whitespace().nth(7)?.parse().ok()?;
        Some(Self { id, name: name.to_owned(), faults })
    }
}

/// Returns another thread that has had the page faults of the copy since
/// `before`, and their number. Returns None if this thread copied, or if the
/// one that copied has ended.
pub fn other_copier(before: &[Thread]) -> Result<Option<Thread>> {
    let had = |id: i32| {
        let same = before.iter().find(|thread| thread.id == id);
        same.map_or(0, |thread| thread.faults)
    };
    let this = gettid().as_raw();
    let others = threads()?.into_iter().filter(|thread| thread.id != this);
    let mut since = others.map(|mut thread| {
        thread.faults -= had(thread.id);
        thread
    });
    Ok(since.find(|thread| is_copy(thread.faults)))
}

/// Computes further until a condition holds, without a system call. Returns
/// false if that takes more than a second: on a busy machine, a thread that
/// copies may have to wait for a processor.
pub fn comes_true(mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() && start.elapsed() < Duration::from_secs(1) {
        hint::spin_loop();
    }
    // This thread may not have run meanwhile either.
    condition()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Returns a round in which this thread copied in the call that asked.
    pub fn in_call() -> Round {
        Round {
            told: false,
            copied: false,
            faults_computing: 1,
            faults_asking: pages(),
        }
    }

    /// Returns a round in which the copy interrupted the computing.
    pub fn by_interrupt() -> Round {
        Round {
            told: true,
            copied: true,
            faults_computing: pages(),
            faults_asking: 0,
        }
    }

    /// Returns a round in which another thread copied.
    pub fn elsewhere() -> Round {
        Round { faults_computing: 1, ..by_interrupt() }
    }

    #[test]
    fn the_page_faults_show_which_thread_copied() {
        let kinds = |round: Round| {
            (
                round.is_copied_in_call(),
                round.is_copied_by_interrupt(),
                round.is_copied_elsewhere(),
            )
        };
        assert_eq!(kinds(in_call()), (true, false, false));
        assert_eq!(kinds(by_interrupt()), (false, true, false));
        assert_eq!(kinds(elsewhere()), (false, false, true));
    }

    #[test]
    fn the_rounds_decide_who_copies() {
        let copier = |rounds: &[Round]| {
            copying(rounds, Some(Copier::Kernel)).map(|it| it.copier)
        };
        assert_eq!(copier(&[in_call(); 7]), Some(Copier::InCall));
        assert_eq!(copier(&[by_interrupt(); 7]), Some(Copier::Interrupted));
        assert_eq!(copier(&[elsewhere(); 7]), Some(Copier::Kernel));
        assert_eq!(copier(&[in_call(), elsewhere()]), None);
        assert_eq!(copying(&[elsewhere(); 7], None), None);
    }

    #[test]
    fn rounds_that_disagree_decide_nothing() {
        let answer = |told: &[bool]| in_most(told, |told| *told);
        assert_eq!(answer(&[true, true, true, false]), Answer::Undecided);
        assert_eq!(answer(&[true, true, true, true, false]), Answer::True);
        assert_eq!(answer(&[false, false, false, true]), Answer::False);
    }

    #[test]
    fn every_mechanism_has_the_four_figures_in_order() {
        let figures = figures(&[in_call()]);
        let names: Vec<_> = figures.iter().map(|it| &it.name).collect();
        assert_eq!(names, FIGURES);
    }

    #[test]
    fn a_thread_may_have_parentheses_in_its_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 42 0 1 0";
        let thread = Thread::parse(stat).unwrap();
        assert_eq!((thread.name.as_str(), thread.faults), ("a) b", 42));
    }
}
