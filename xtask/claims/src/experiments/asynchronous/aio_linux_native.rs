//! Linux native AIO on a socket: io_submit(2) of a read waits for the data
//! itself. Only its poll operation is asynchronous, and reports readiness.

use std::mem;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use lab::Unsupported;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::time::TimeSpec;

use super::late::{self, LENGTH};
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net::{PATIENCE, connection};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "aio-linux-native",
    claim: "Linux native AIO (io_submit) makes socket I/O asynchronous.",
    section: "circulates",
    criterion: "A read from a blocking socket is submitted, and data is sent \
                20 ms later. True if three quarters of the io_submit calls \
                return in less than half of that time. False if three quarters \
                take more than 90% of it.",
    if_false: History::NeverTrue,
    sources: &["io_submit(2)", "io_getevents(2)", "fs/aio.c, aio_read"],
    explanation: "io_submit calls the read function of the file. Files opened \
                  with O_DIRECT can start a transfer and return; a blocking \
                  socket's function waits for data, so io_submit waits too. \
                  The poll operation of native AIO does return at once, but it \
                  only reports that a receive is possible.",
    run,
    file: file!(),
};

/// Operations of `linux/aio_abi.h`.
const IOCB_CMD_PREAD: u16 = 0;
const IOCB_CMD_POLL: u16 = 5;

/// `struct io_event` of `linux/aio_abi.h`.
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    obj: u64,
    res: i64,
    res2: i64,
}

fn run(effort: Effort) -> Result<Finding> {
    // The kernel may use the buffer until the operation is complete, even if
    // this function returns an error, so the buffer is never freed.
    let buffer = vec![0; LENGTH].leak();
    let queue = Queue::new()?;
    let (mut client, server) = connection()?;
    let (mut reads, mut polls) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(21, 4) {
        buffer.fill(0);
        let operation = read(&server, buffer);
        let (time, ()) =
            late::request(&mut client, || queue.submit(operation))?;
        reads.push(100.0 * time);
        ensure!(queue.event()? == LENGTH as i64, "the read's result");
        ensure!(*buffer == [b'x'; LENGTH], "the read's data");

        let operation = poll(&server);
        let (time, ()) =
            late::request(&mut client, || queue.submit(operation))?;
        polls.push(100.0 * time);
        let events = queue.event()?;
        ensure!(events & i64::from(libc::POLLIN) != 0, "the poll's result");
        let received = recv(server.as_raw_fd(), buffer, MsgFlags::empty())?;
        ensure!(received == LENGTH, "the receive after the poll");
    }
    let (reads, polls) = (Sample::new(reads), Sample::new(polls));
    let name = |what| format!("{what}, of the time until the data is sent");
    Ok(Finding::new(
        judge(&reads),
        [
            Figure::new(&name("io_submit of a read"), "%", reads),
            Figure::new(&name("io_submit of a poll"), "%", polls),
        ],
    ))
}

/// Returns an operation that reads into the buffer.
fn read(socket: &TcpStream, buffer: &mut [u8]) -> libc::iocb {
    let mut operation = operation(socket, IOCB_CMD_PREAD);
    operation.aio_buf = buffer.as_mut_ptr() as u64;
    operation.aio_nbytes = buffer.len() as u64;
    operation
}

/// Returns an operation that waits until the socket is readable.
fn poll(socket: &TcpStream) -> libc::iocb {
    let mut operation = operation(socket, IOCB_CMD_POLL);
    // The events that are awaited.
    operation.aio_buf = libc::POLLIN as u64;
    operation
}

fn operation(socket: &TcpStream, command: u16) -> libc::iocb {
    // SAFETY: an iocb has numbers only, for which zero is valid.
    let mut operation: libc::iocb = unsafe { mem::zeroed() };
    operation.aio_lio_opcode = command;
    operation.aio_fildes = socket.as_raw_fd() as u32;
    operation
}

/// A context of native AIO: `aio_context_t`.
struct Queue(libc::c_ulong);

impl Queue {
    fn new() -> Result<Self> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup stores the context's ID in `id`, which is zero.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, 4, &raw mut id) };
        match Errno::result(made) {
            Ok(_) => Ok(Self(id)),
            Err(error @ (Errno::ENOSYS | Errno::EPERM)) => {
                let why = format!("io_setup: {error}");
                Err(Unsupported::Tool(why).into())
            }
            Err(error) => Err(error).context("io_setup"),
        }
    }

    /// Submits an operation whose buffer is never freed.
    fn submit(&self, mut operation: libc::iocb) -> Result<()> {
        let mut list = [&raw mut operation];
        let list = list.as_mut_ptr();
        let call = libc::SYS_io_submit;
        // SAFETY: the kernel copies the one iocb of the list during the call.
        let submitted = unsafe { libc::syscall(call, self.0, 1, list) };
        let submitted = Errno::result(submitted).context("io_submit")?;
        ensure!(submitted == 1, "io_submit: {submitted} operations");
        Ok(())
    }

    /// Waits for an operation's end, and returns its result.
    fn event(&self) -> Result<i64> {
        let mut event = Event::default();
        let mut patience: libc::timespec = *TimeSpec::from(PATIENCE).as_ref();
        let (event_at, patience) = (&raw mut event, &raw mut patience);
        let call = libc::SYS_io_getevents;
        // SAFETY: there is room for one event, and the timeout is valid.
        let ended =
            unsafe { libc::syscall(call, self.0, 1, 1, event_at, patience) };
        let ended = Errno::result(ended).context("io_getevents")?;
        ensure!(ended == 1, "no completion");
        Ok(event.res)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: io_destroy takes the ID of a context, which is used no more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

/// Judges the time of an io_submit as a percentage of the time until the send.
fn judge(reads: &Sample) -> Answer {
    match (reads.is_below(50.0), reads.is_above(90.0)) {
        (Answer::True, _) => Answer::True,
        (_, Answer::True) => Answer::False,
        _ => Answer::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_that_waits_makes_it_false() {
        let answer = |reads: &[f64]| judge(&Sample::new(reads.to_vec()));
        assert_eq!(answer(&[0.1, 0.3]), Answer::True);
        assert_eq!(answer(&[101.0, 103.0]), Answer::False);
        assert_eq!(answer(&[0.1, 103.0]), Answer::Undecided);
    }
}
