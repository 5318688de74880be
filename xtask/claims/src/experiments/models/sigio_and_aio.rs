//! Two signals with different meanings: SIGIO says that a receive can start,
//! the signal of POSIX AIO says that one is complete.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lab::process::{poll_until, wait_readable};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::aio::{Aio as _, AioRead};
use nix::sys::signal::{SigSet, SigevNotify, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getpid;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "sigio-and-aio",
    claim: "SIGIO notifies the process that I/O can start, and the signal of \
            POSIX AIO that it is complete.",
    section: "Socket I/O, asynchronous I/O",
    criterion: "True if after each SIGIO all sent bytes are in the socket and \
                none in the buffer, and after each AIO signal none are in the \
                socket and all in the buffer. False otherwise.",
    if_false: History::NeverTrue,
    sources: &["fcntl(2), O_ASYNC", "aio(7)", "tcp(7), SIOCINQ"],
    explanation: "Both signals free the program from waiting, but only AIO's \
                  also frees it from copying. After SIGIO the program must \
                  still call recv, which copies, so the model is synchronous. \
                  aio_read names the buffer in advance, so the copy is made \
                  before the signal comes, on Linux by a thread of the C \
                  library.",
    run,
    file: file!(),
};

/// Bytes per receive.
const LENGTH: usize = 4000;

/// Where the bytes are when a signal arrives.
#[derive(Clone, Copy, Debug)]
struct Place {
    in_socket: usize,
    in_buffer: usize,
}

nix::ioctl_read_bad!(siocinq, libc::FIONREAD, libc::c_int);

fn run(effort: Effort) -> Result<Finding> {
    let mask = SigSet::from_iter([Signal::SIGIO, Signal::SIGUSR1]);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK)?;
    let (mut ready, mut complete) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(50, 5) {
        ready.push(after_sigio(&signals)?);
        complete.push(after_aio(&signals)?);
    }
    let answer = judge(&ready, &complete);
    let figure = |name, places: Vec<Place>, number: fn(&Place) -> usize| {
        let bytes = places.iter().map(|place| number(place) as f64);
        Figure::new(name, "bytes", Sample::new(bytes.collect()))
    };
    Ok(Finding::new(
        answer,
        [
            figure("in the buffer at SIGIO", ready, |it| it.in_buffer),
            figure("in the buffer at AIO's signal", complete, |it| {
                it.in_buffer
            }),
        ],
    ))
}

/// Looks when SIGIO arrives, then receives.
fn after_sigio(signals: &SignalFd) -> Result<Place> {
    let (mut client, mut server) = net::connection()?;
    let (fd, me) = (server.as_raw_fd(), getpid().as_raw());
    // SAFETY: F_SETOWN takes a number.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETOWN, me) })?;
    fcntl(&server, FcntlArg::F_SETFL(OFlag::O_ASYNC))?;
    let mut buffer = [0; LENGTH];
    client.write_all(&[b'x'; LENGTH])?;
    wait_for(signals, Signal::SIGIO)?;
    let in_socket = unread(&server)?;
    let in_buffer = filled(&buffer);
    server.read_exact(&mut buffer)?;
    ensure!(filled(&buffer) == LENGTH, "recv after SIGIO");
    Ok(Place { in_socket, in_buffer })
}

/// Looks when the signal of an aio_read arrives.
fn after_aio(signals: &SignalFd) -> Result<Place> {
    let (mut client, server) = net::connection()?;
    let mut buffer = [0; LENGTH];
    let signal = Signal::SIGUSR1;
    let notify = SigevNotify::SigevSignal { signal, si_value: 0 };
    let read = AioRead::new(server.as_fd(), 0, &mut buffer, 0, notify);
    let mut read = Box::pin(read);
    read.as_mut().submit().context("aio_read")?;
    client.write_all(&[b'x'; LENGTH])?;
    let arrived = wait_for(signals, Signal::SIGUSR1);
    let in_socket = unread(&server);
    let is_over = read.as_mut().error() != Err(Errno::EINPROGRESS);
    // No error is returned before the operation has ended, because it uses the
    // buffer.
    poll_until("end of aio_read", net::PATIENCE, || {
        Ok(read.as_mut().error() != Err(Errno::EINPROGRESS))
    })?;
    read.as_mut().aio_return().context("aio_return")?;
    drop(read);
    arrived?;
    let in_buffer = if is_over { filled(&buffer) } else { 0 };
    Ok(Place { in_socket: in_socket?, in_buffer })
}

/// Waits for a signal, which must be the next one.
fn wait_for(signals: &SignalFd, awaited: Signal) -> Result<()> {
    let deadline = Instant::now() + net::PATIENCE;
    ensure!(wait_readable(signals, deadline)?, "no {awaited}");
    let signal = signals.read_signal()?.context("no signal")?.ssi_signo;
    ensure!(signal == awaited as u32, "signal {signal}, not {awaited}");
    Ok(())
}

/// Returns the number of bytes in the receive buffer.
fn unread(socket: &TcpStream) -> Result<usize> {
    let mut bytes = 0;
    // SAFETY: FIONREAD stores an int, and `bytes` is one.
    unsafe { siocinq(socket.as_raw_fd(), &raw mut bytes) }?;
    Ok(usize::try_from(bytes)?)
}

fn filled(buffer: &[u8]) -> usize {
    buffer.iter().filter(|&&byte| byte == b'x').count()
}

fn judge(ready: &[Place], complete: &[Place]) -> Answer {
    let can_start = |it: &Place| it.in_socket == LENGTH && it.in_buffer == 0;
    let is_over = |it: &Place| it.in_socket == 0 && it.in_buffer == LENGTH;
    let is_true = ready.iter().all(can_start) && complete.iter().all(is_over);
    Answer::from_bool(is_true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_at_the_wrong_time_makes_it_false() {
        let unread = Place { in_socket: LENGTH, in_buffer: 0 };
        let copied = Place { in_socket: 0, in_buffer: LENGTH };
        assert_eq!(judge(&[unread], &[copied]), Answer::True);
        assert_eq!(judge(&[copied], &[copied]), Answer::False);
        assert_eq!(judge(&[unread], &[copied, unread]), Answer::False);
    }
}
