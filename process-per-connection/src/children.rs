//! The parent's children: counting, signalling and reaping them.

use std::collections::HashSet;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// All children that have not been reaped.
#[derive(Default)]
pub struct Children {
    clients: HashSet<Pid>,
    datagrams: Option<Pid>,
    lost_datagrams: bool,
}

impl Children {
    /// Adds a child that serves a client.
    pub fn add_client(&mut self, child: Pid) {
        self.clients.insert(child);
    }

    /// Adds the child that serves datagrams.
    pub fn add_datagrams(&mut self, child: Pid) {
        self.datagrams = Some(child);
    }

    /// Returns the number of clients that are being served.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// True once every child has been reaped.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.datagrams.is_none()
    }

    /// True if the child that serves datagrams has ended.
    pub fn lost_datagrams(&self) -> bool {
        self.lost_datagrams
    }

    /// Reaps every child that has ended. Signals of one kind merge while they
    /// are pending, so one SIGCHLD may stand for many children.
    pub fn reap(&mut self) {
        let any = Pid::from_raw(-1);
        loop {
            match waitpid(any, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => match status.pid() {
                    Some(child) => self.forget(child),
                    None => return,
                },
                Err(Errno::EINTR) => {}
                // ECHILD: there is no child left.
                Err(_) => return,
            }
        }
    }

    /// Asks every child to end its conversation.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Kills all children and waits until they have ended. Returns how many
    /// clients were cut off.
    pub fn kill(&mut self) -> usize {
        let clients = self.clients.len();
        self.signal(Signal::SIGKILL);
        let any = Pid::from_raw(-1);
        while !self.is_empty() {
            match waitpid(any, None) {
                Ok(status) => status.pid().map_or((), |pid| self.forget(pid)),
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        clients
    }

    fn forget(&mut self, child: Pid) {
        if self.datagrams == Some(child) {
            self.datagrams = None;
            self.lost_datagrams = true;
        }
        self.clients.remove(&child);
    }

    /// Sends a signal to every child. A child that has just ended is a zombie
    /// and keeps its process ID, so no other process can receive the signal.
    fn signal(&self, signal: Signal) {
        for &child in self.clients.iter().chain(&self.datagrams) {
            let _ = kill(child, signal);
        }
    }
}
