//! The variant `processes`: the parent process accepts, and starts, reaps and
//! replaces the loop processes.

use std::os::fd::OwnedFd;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction,
};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use common::limits::RESTART_INTERVAL;
use common::{Cause, Config, log};

use crate::acceptor::Acceptor;
use crate::cores::{Cores, Flags, Kind};
use crate::drain::next;
use crate::hand_over::Outbox;
use crate::shared::Shared;
use crate::sockets::{Bound, Sockets};
use crate::{Server, run};

/// The parent process accepts and supervises. Each loop process returns from
/// here when it has drained.
pub fn serve(
    config: Config,
    flags: Flags,
    cores: Cores,
    bound: Bound,
) -> Result<()> {
    let parent = getpid();
    let Bound { tcp, udp, listener, datagrams } = bound;
    let outboxes = datagrams.iter().map(|_| Outbox::Closed).collect();
    let acceptor =
        Acceptor::new(config, flags, signals()?, listener, outboxes)?;
    let shared = acceptor.shared;
    let mut processes = Processes::new(acceptor, cores, datagrams);
    if let Some(child) = processes.start_all()? {
        drop(processes);
        return child.serve(shared, parent);
    }
    common::announce(tcp, udp)?;
    while !processes.have_ended() {
        if processes.acceptor.wait(processes.next_moment())? {
            processes.on_signals()?;
        }
        if let Some(child) = processes.replace() {
            drop(processes);
            return child.serve(shared, parent);
        }
        processes.acceptor.accept_pending()?;
    }
    processes.kill();
    // Those that a process has not closed are still counted.
    common::report_cut_off(shared.clients());
    Ok(())
}

/// Blocks the parent's signals and returns the signalfd that they are read
/// from. The loop processes inherit the mask, and never unblock the signals: a
/// terminal sends SIGINT to them too, but the parent decides.
fn signals() -> Result<SignalFd> {
    // The process that started the server may have left SIGCHLD ignored, which
    // exec(2) keeps. The kernel would then reap the children itself, and
    // waitpid would find none.
    let default =
        SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no handler.
    unsafe { sigaction(Signal::SIGCHLD, &default) }
        .context("cannot restore the default action of SIGCHLD")?;
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("signalfd")
}

/// The parent's state. A loop process drops its copy, which closes the
/// listener, the spare descriptor, and what belongs to the other loops.
struct Processes {
    acceptor: Acceptor,
    cores: Cores,
    slots: Vec<Slot>,
    /// Set once shutdown is requested: when the drain timeout ends.
    drain_until: Option<Instant>,
}

/// The place of one loop. Its process may change.
struct Slot {
    process: Option<Pid>,
    /// When the next process may be started.
    start_at: Instant,
    /// Kept open, so that a process inherits the socket of the one before.
    datagrams: Option<OwnedFd>,
}

/// The part of the state that only the new process has.
struct Child {
    number: usize,
    sockets: Sockets,
}

impl Child {
    /// Runs the loop, in the new process. The kernel kills it when the parent
    /// dies.
    fn serve(self, shared: &Shared, parent: Pid) -> Result<()> {
        prctl::set_pdeathsig(Signal::SIGKILL).context("prctl")?;
        // If the parent died before prctl, no signal is sent (prctl(2)).
        ensure!(getppid() == parent, "the parent has died");
        run(Server::new(shared, self.number, self.sockets)).map(drop)
    }
}

impl Processes {
    fn new(
        acceptor: Acceptor,
        cores: Cores,
        datagrams: Vec<Option<OwnedFd>>,
    ) -> Self {
        let now = Instant::now();
        let slot = |datagrams| Slot { process: None, start_at: now, datagrams };
        let slots = datagrams.into_iter().map(slot).collect();
        Self { acceptor, cores, slots, drain_until: None }
    }

    /// Starts all loops. Returns in each of them, too.
    fn start_all(&mut self) -> Result<Option<Child>> {
        for number in 0..self.slots.len() {
            let child = self
                .start(number)
                .with_context(|| format!("cannot start loop {number}"))?;
            if child.is_some() {
                return Ok(child);
            }
        }
        Ok(None)
    }

    /// Replaces the processes that have died, each after a pause if it died
    /// soon. Returns in each new one, too.
    fn replace(&mut self) -> Option<Child> {
        if self.drain_until.is_some() {
            return None;
        }
        for number in 0..self.slots.len() {
            let slot = &self.slots[number];
            if slot.process.is_some() || slot.start_at > Instant::now() {
                continue;
            }
            match self.start(number) {
                Ok(None) => {}
                Ok(child) => return child,
                Err(error) => log(
                    Cause::Worker,
                    format_args!("cannot start loop {number}: {error:#}"),
                ),
            }
        }
        None
    }

    /// Starts the process of a loop. Its sockets are made before the fork, so
    /// that an error is the parent's.
    fn start(&mut self, number: usize) -> Result<Option<Child>> {
        let slot = &mut self.slots[number];
        slot.start_at = Instant::now() + RESTART_INTERVAL;
        let datagrams = slot.datagrams.as_ref().map(OwnedFd::try_clone);
        let datagrams = datagrams.transpose().context("dup")?;
        let (sockets, outbox) = Sockets::watched(Kind::Processes, datagrams)?;
        // A child inherits its parent's affinity (sched_setaffinity(2)).
        self.cores.pin(number)?;
        // SAFETY: this process has one thread, so the child may do whatever
        // the parent may.
        let forked = unsafe { fork() };
        if let Ok(ForkResult::Child) = forked {
            return Ok(Some(Child { number, sockets }));
        }
        self.cores.unpin()?;
        if let ForkResult::Parent { child } = forked.context("fork")? {
            slot.process = Some(child);
            self.acceptor.connect(number, outbox);
        }
        Ok(None)
    }

    /// Handles the pending signals. SIGCHLD reports that a process has ended.
    /// The first SIGTERM or SIGINT starts the drain. A second one ends the
    /// server at once, as a failure.
    fn on_signals(&mut self) -> Result<()> {
        while let Some(info) = next(&self.acceptor.signals)? {
            if info.ssi_signo == Signal::SIGCHLD as u32 {
                continue;
            }
            if self.drain_until.is_some() {
                self.kill();
                bail!("stopped by a second signal");
            }
            let timeout = self.acceptor.shared.config.drain_timeout;
            self.drain_until = Some(Instant::now() + timeout);
            self.acceptor.stop()?;
            for slot in &mut self.slots {
                slot.datagrams = None;
            }
        }
        self.reap();
        Ok(())
    }

    /// Reaps every process that has ended. Signals of one kind merge while they
    /// are pending, so one SIGCHLD may stand for several.
    fn reap(&mut self) {
        let any = Pid::from_raw(-1);
        loop {
            match waitpid(any, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return,
                Ok(status) => self.on_end(status),
                Err(Errno::EINTR) => {}
                // ECHILD: there is no child left.
                Err(_) => return,
            }
        }
    }

    /// Notes that a process has ended. Only during the drain is it supposed to.
    /// The kernel has closed the sockets of its clients, also of those in its
    /// queue: they see end of file, or a reset if they had sent something that
    /// was not read.
    fn on_end(&mut self, status: WaitStatus) {
        let mut slots = self.slots.iter_mut().enumerate();
        let ended = slots.find(|(_, slot)| slot.process == status.pid());
        let Some((number, slot)) = ended else { return };
        slot.process = None;
        if self.drain_until.is_none() {
            log(
                Cause::Worker,
                format_args!("loop {number} has died: {}", how(status)),
            );
            self.acceptor.disconnect(number);
        }
    }

    /// The next moment at which something is to be done without an event.
    fn next_moment(&self) -> Option<Instant> {
        if self.drain_until.is_some() {
            return self.drain_until;
        }
        let dead = self.slots.iter().filter(|slot| slot.process.is_none());
        dead.map(|slot| slot.start_at).min()
    }

    /// True when the drain is over: no process is left, or its time is up.
    fn have_ended(&self) -> bool {
        self.drain_until.is_some_and(|until| {
            let mut slots = self.slots.iter();
            slots.all(|slot| slot.process.is_none()) || until <= Instant::now()
        })
    }

    /// Kills all processes and waits until they have ended. A process that has
    /// just ended is a zombie and keeps its process ID, so no other can receive
    /// the signal.
    fn kill(&mut self) {
        for process in self.slots.iter().filter_map(|slot| slot.process) {
            let _ = kill(process, Signal::SIGKILL);
        }
        for slot in &mut self.slots {
            let Some(process) = slot.process.take() else { continue };
            while waitpid(process, None) == Err(Errno::EINTR) {}
        }
    }
}

/// Describes how a process has ended.
fn how(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(pid, code) => {
            format!("process {pid} exited with code {code}")
        }
        WaitStatus::Signaled(pid, signal, _) => {
            format!("process {pid} was killed by {signal}")
        }
        other => format!("{other:?}"),
    }
}
