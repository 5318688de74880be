//! Child processes that end with the experiment.

use std::fs::File;
use std::io::{Read as _, Write as _};

use anyhow::{Context, Result, ensure};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pause, pipe};

/// A child process. It is killed and reaped when it is dropped.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    is_reaped: bool,
}

impl Child {
    /// Forks. The child does the work, and exits with the returned status. It
    /// gets SIGKILL if the experiment ends first. Only a process with a single
    /// thread may call this. The parent drops the work and all that it owns.
    pub fn start(work: impl FnOnce() -> i32) -> Result<Self> {
        let parent = getpid();
        // SAFETY: this process has one thread, so no lock is held by a thread
        // that the child doesn't have.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => {
                Ok(Self { pid: child, is_reaped: false })
            }
            ForkResult::Child => {
                // The parent may have ended before the kernel knew the signal.
                let is_bound = set_pdeathsig(Signal::SIGKILL).is_ok();
                let has_parent = getppid() == parent;
                let status = if is_bound && has_parent { work() } else { 1 };
                // SAFETY: _exit runs no destructors, and doesn't return.
                unsafe { libc::_exit(status) }
            }
        }
    }

    /// Forks a child that only waits for a signal.
    pub fn asleep() -> Result<Self> {
        Self::start(|| {
            pause();
            1
        })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends the children with SIGKILL, and reaps them. All are killed before
    /// the first wait, so that they end together.
    pub fn end_all(children: Vec<Self>) {
        for child in &children {
            let _ = kill(child.pid, Signal::SIGKILL);
        }
        drop(children);
    }

    /// Waits until the child has ended. SIGALRM bounds the wait: it ends the
    /// experiment.
    pub fn wait(mut self) -> Result<WaitStatus> {
        let status = waitpid(self.pid, None).context("waitpid")?;
        self.is_reaped = true;
        Ok(status)
    }

    /// Waits until the child has ended, and fails if its status isn't 0.
    pub fn succeed(self) -> Result<()> {
        let pid = self.pid;
        let status = self.wait()?;
        ensure!(status == WaitStatus::Exited(pid, 0), "child: {status:?}");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// Computes numbers in a child, which sends them through a pipe.
pub fn compute<const N: usize>(
    work: impl FnOnce() -> Result<[u64; N]>,
) -> Result<[u64; N]> {
    let (receiver, sender) = pipe()?;
    let (mut receiver, mut sender) = (File::from(receiver), File::from(sender));
    let child = Child::start(|| {
        let numbers = work().map(|numbers| numbers.map(u64::to_ne_bytes));
        let is_sent = numbers
            .is_ok_and(|bytes| sender.write_all(bytes.as_flattened()).is_ok());
        i32::from(!is_sent)
    })?;
    // Without this the read never sees EOF, because this process could write.
    drop(sender);
    let mut bytes = [[0; 8]; N];
    let received = receiver.read_exact(bytes.as_flattened_mut());
    child.succeed()?;
    received.context("reading the child's numbers")?;
    Ok(bytes.map(u64::from_ne_bytes))
}
