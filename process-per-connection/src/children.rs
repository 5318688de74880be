//! The parent's children: counted, told to stop, reaped.

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
    /// Notes a child that serves a client.
    pub fn add_client(&mut self, child: Pid) {
        self.clients.insert(child);
    }

    /// Notes the child that serves datagrams.
    pub fn add_datagrams(&mut self, child: Pid) {
        self.datagrams = Some(child);
    }

    /// How many clients are being served.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// True when every child has ended.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.datagrams.is_none()
    }

    /// True if the child that serves datagrams has ended.
    pub fn lost_datagrams(&self) -> bool {
        self.lost_datagrams
    }

    /// Takes note of every child that has ended: signals of the same kind
    /// merge while they are pending, so one SIGCHLD may stand for many.
    pub fn reap(&mut self) {
        let any = Pid::from_raw(-1);
        loop {
            match waitpid(any, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) => match status.pid() {
                    Some(child) => self.forget(child),
                    None => return,
                },
                Err(Errno::EINTR) => {}
                // ECHILD: there are none left.
                Err(_) => return,
            }
        }
    }

    /// Asks every child to end its conversation.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends every child that is left, and waits until it is gone. Says how
    /// many clients that were.
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

    /// A child that has just ended keeps its number until it is reaped, so
    /// nobody else can be hit.
    fn signal(&self, signal: Signal) {
        for &child in self.clients.iter().chain(&self.datagrams) {
            let _ = kill(child, signal);
        }
    }
}
