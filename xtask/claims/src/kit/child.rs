//! Child processes, made by fork(2).

use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::panic;
use std::panic::AssertUnwindSafe;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// Runs `work` in a child process and returns its numbers, with the child's
/// pid. The child is reaped.
pub fn run<const N: usize>(
    work: impl FnOnce() -> Result<[f64; N]>,
) -> Result<([f64; N], Pid)> {
    let (mut reader, writer) = pipe().context("pipe")?;
    let child = start(|| send(work, writer))?;
    let numbers = receive(&mut reader);
    let end = waitpid(child, None).context("waitpid")?;
    ensure!(end == WaitStatus::Exited(child, 0), "the child ended: {end:?}");
    Ok((numbers?, child))
}

/// Starts a child that exits with 0 if `work` succeeds. The caller reaps it.
pub fn start(work: impl FnOnce() -> Result<()>) -> Result<Pid> {
    // SAFETY: experiments fork while they have one thread only, so the child
    // may call any function. It ends by _exit.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let done = panic::catch_unwind(AssertUnwindSafe(work));
            let is_done = matches!(done, Ok(Ok(())));
            // SAFETY: ends this process and runs no handler of the parent.
            unsafe { libc::_exit(i32::from(!is_done)) }
        }
    }
}

fn send<const N: usize>(
    work: impl FnOnce() -> Result<[f64; N]>,
    mut writer: PipeWriter,
) -> Result<()> {
    for number in work()? {
        writer.write_all(&number.to_ne_bytes())?;
    }
    Ok(())
}

fn receive<const N: usize>(reader: &mut PipeReader) -> Result<[f64; N]> {
    let mut numbers = [0.0; N];
    for number in &mut numbers {
        let mut bytes = [0; 8];
        if reader.read_exact(&mut bytes).is_err() {
            bail!("the child failed");
        }
        *number = f64::from_ne_bytes(bytes);
    }
    Ok(numbers)
}
