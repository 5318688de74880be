//! The parent's children: starting again, signalling and reaping them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use common::limits::RESTART_INTERVAL;
use common::{Cause, log};

use super::clients::Clients;

/// All children that have not been reaped, and the workers that are missing.
#[derive(Default)]
pub struct Children {
    /// The workers, and when each was started.
    workers: HashMap<Pid, Instant>,
    /// When the missing workers may be started, the earliest first.
    missing: BinaryHeap<Reverse<Instant>>,
    datagrams: Option<Pid>,
    lost_datagrams: bool,
    /// True once the children were told to end.
    ending: bool,
}

impl Children {
    /// Adds a worker that has just been started.
    pub fn add_worker(&mut self, child: Pid) {
        self.workers.insert(child, Instant::now());
    }

    /// Adds the child that serves datagrams.
    pub fn add_datagrams(&mut self, child: Pid) {
        self.datagrams = Some(child);
    }

    /// Schedules the start of a worker.
    pub fn start_at(&mut self, time: Instant) {
        self.missing.push(Reverse(time));
    }

    /// Returns when the next worker is to be started, if one is missing.
    pub fn next_start(&self) -> Option<Instant> {
        self.missing.peek().map(|time| time.0)
    }

    /// Returns whether a worker is to be started now, and counts it as started.
    pub fn start_now(&mut self) -> bool {
        let due = self.next_start().is_some_and(|time| time <= Instant::now());
        due && self.missing.pop().is_some()
    }

    /// True once every child has been reaped.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.datagrams.is_none()
    }

    /// True if the child that serves datagrams has ended.
    pub fn lost_datagrams(&self) -> bool {
        self.lost_datagrams
    }

    /// Reaps every child that has ended. Signals of one kind merge while they
    /// are pending, so one SIGCHLD may stand for many children.
    pub fn reap(&mut self, clients: &Clients) {
        let any = Pid::from_raw(-1);
        loop {
            match waitpid(any, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return,
                Ok(status) => self.forget(status, clients),
                Err(Errno::EINTR) => {}
                // ECHILD: there is no child left.
                Err(_) => return,
            }
        }
    }

    /// Asks every child to end its conversation.
    pub fn terminate(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Kills all children and waits until they have ended.
    pub fn kill(&mut self, clients: &Clients) {
        self.end(Signal::SIGKILL);
        let any = Pid::from_raw(-1);
        while !self.is_empty() {
            match waitpid(any, None) {
                Ok(status) => self.forget(status, clients),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
    }

    /// Removes a child that has ended, with its client. A worker is replaced:
    /// at once, or if it has died soon after its start, later.
    fn forget(&mut self, status: WaitStatus, clients: &Clients) {
        let Some(child) = status.pid() else { return };
        if self.datagrams == Some(child) {
            self.datagrams = None;
            self.lost_datagrams = true;
        }
        clients.release(child);
        if let Some(started) = self.workers.remove(&child)
            && !self.ending
        {
            let how = describe(status);
            log(
                Cause::Worker,
                format_args!("worker {child} {how}; starting another"),
            );
            self.start_at(started + RESTART_INTERVAL);
        }
    }

    /// Sends a signal to every child. A child that has just ended is a zombie
    /// and keeps its process ID, so no other process can receive the signal.
    fn end(&mut self, signal: Signal) {
        self.ending = true;
        self.missing.clear();
        for &child in self.workers.keys().chain(&self.datagrams) {
            let _ = kill(child, signal);
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("has exited with code {code}"),
        WaitStatus::Signaled(_, signal, _) => format!("was killed by {signal}"),
        _ => "has ended".to_owned(),
    }
}
