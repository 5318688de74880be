//! **Signal-driven I/O, the model alone: the handler.** The kernel sends SIGIO
//! when a datagram arrives. The handler interrupts the program, whatever it is
//! doing, receives the datagram and answers it.
//!
//! A reply that can't be sent is lost. After an error of recvfrom the other
//! datagrams wait for the next signal. Left out, with the function in `src`
//! that has it: a handler that interrupts nothing but one call
//! (`Datagrams::lend`), fairness and errors (`Datagrams::on_readable`),
//! graceful shutdown (`on_signal`), streams.

use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::OnceLock;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction,
};
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, sendto};
use nix::unistd::{getpid, pause};

use common::limits::{MAX_DATAGRAM, MAX_DATAGRAM_REPLY};
use common::{About, announce, answer_datagram};

/// The handler uses it; the main program only sets it.
static SERVICE: OnceLock<Service> = OnceLock::new();

fn main() -> Result<()> {
    let socket = UdpSocket::bind(common::minimal::address()?)?;
    let address = socket.local_addr()?;
    serve(socket)?;
    announce(None, Some(address))?;
    loop {
        // A program would compute here. The handler interrupts it.
        pause();
    }
}

/// Has the kernel send SIGIO when a datagram arrives, and handles it.
fn serve(socket: UdpSocket) -> Result<()> {
    let about = About::new("minimal", "");
    ensure!(SERVICE.set(Service { socket, about }).is_ok(), "serve once");
    let socket = &SERVICE.wait().socket;
    // The handler comes first: by default SIGIO ends the program.
    let handler = SigHandler::Handler(on_readable);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler makes async-signal-safe calls only, see
    // signal-safety(7), takes no lock, and restores errno.
    unsafe { sigaction(Signal::SIGIO, &action) }?;
    let (fd, owner) = (socket.as_raw_fd(), getpid().as_raw());
    // SAFETY: F_SETOWN takes a number.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETOWN, owner) })?;
    fcntl(socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_ASYNC))?;
    // A datagram that arrived before O_ASYNC was set has raised no signal.
    raise(Signal::SIGIO)?;
    Ok(())
}

extern "C" fn on_readable(_: i32) {
    let errno = Errno::last_raw();
    if let Some(service) = SERVICE.get() {
        // One signal may stand for many datagrams.
        while service.answer().is_ok() {}
    }
    Errno::set_raw(errno);
}

struct Service {
    socket: UdpSocket,
    about: About,
}

impl Service {
    /// Receives one datagram and answers it; EAGAIN when there is none.
    fn answer(&self) -> nix::Result<()> {
        let (mut input, mut output) =
            ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM_REPLY]);
        let fd = self.socket.as_raw_fd();
        let (received, peer) = recvfrom::<SockaddrStorage>(fd, &mut input)?;
        let Some(peer) = peer else { return Ok(()) };
        let input = &input[..received];
        let length = answer_datagram(input, &self.about, &mut output);
        if length > 0 {
            let _ = sendto(fd, &output[..length], &peer, MsgFlags::empty());
        }
        Ok(())
    }
}
