//! The lower bound for a server: a loop that only receives and sends.
//!
//! It knows the length of a request and the bytes of the reply in advance. It
//! counts received bytes, and sends one reply per complete request from a
//! prepared buffer. It makes only the system calls that no server with epoll
//! can avoid, so it shows the kernel's part of a server's CPU time.

use std::io::{Write, stdout};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use clap::Parser;
use load::request::Request;
use nix::errno::Errno;
use nix::sys::epoll::{
    Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout,
};
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};

/// Bytes per recv(2), as in the models.
const CHUNK: usize = 16 * 1024;

/// Events per epoll_wait(2), as in the models.
const EVENTS: usize = 1_024;

/// Answers requests of a known length with a prepared reply.
#[derive(Debug, Parser)]
struct Flags {
    /// Request that clients send: `ping`, or `echo:BYTES`.
    #[arg(long)]
    request: Request,
    /// Serve datagrams instead of streams.
    #[arg(long)]
    udp: bool,
}

/// Serves until it is killed.
fn main() -> Result<()> {
    let flags = Flags::parse();
    let (request, reply) = (flags.request.bytes(), flags.request.reply());
    if flags.udp {
        return answer_datagrams(&reply);
    }
    let listener = TcpListener::bind("127.0.0.1:0").context("listen")?;
    // Accepted sockets inherit it, as in the models.
    setsockopt(&listener, sockopt::TcpNoDelay, &true)?;
    say(&format!("ready tcp={}", listener.local_addr()?))?;
    serve(&listener, request.len(), &reply)
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("the ready line")
}

/// One client: its stream, and the received bytes of an incomplete request.
type Client = (TcpStream, usize);

fn serve(listener: &TcpListener, request: usize, reply: &[u8]) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let interest = |number: i32| {
        EpollEvent::new(EpollFlags::EPOLLIN, number.cast_unsigned().into())
    };
    epoll.add(listener, interest(listener.as_raw_fd()))?;
    // Indexed by descriptor, because the kernel assigns the lowest free number.
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = [EpollEvent::empty(); EVENTS];
    let mut input = [0; CHUNK];
    // Enough replies for one chunk, and for the request that it completes.
    let replies = reply.repeat(CHUNK.div_ceil(request) + 1);
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            count => count.context("epoll_wait")?,
        };
        for event in &events[..count] {
            let number = event.data() as usize;
            if number == listener.as_raw_fd() as usize {
                let (stream, _) = listener.accept().context("accept")?;
                let number = stream.as_raw_fd();
                epoll.add(&stream, interest(number))?;
                let place = number as usize;
                clients.resize_with(clients.len().max(place + 1), || None);
                clients[place] = Some((stream, 0));
            } else if let Some(Some(client)) = clients.get_mut(number)
                && !answer(client, &mut input, request, reply.len(), &replies)
            {
                clients[number] = None;
            }
        }
    }
}

/// Receives once, and sends the replies. Returns false if the connection has
/// ended for any reason.
fn answer(
    (stream, pending): &mut Client,
    input: &mut [u8],
    request: usize,
    reply: usize,
    replies: &[u8],
) -> bool {
    let stream = stream.as_raw_fd();
    let received = match recv(stream, input, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => return false,
        Ok(received) => received,
        Err(errno) => return errno == Errno::EAGAIN || errno == Errno::EINTR,
    };
    *pending += received;
    let mut rest = &replies[..*pending / request * reply];
    *pending %= request;
    // send(2) may block, but the generator always reads.
    while !rest.is_empty() {
        match send(stream, rest, MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn answer_datagrams(reply: &[u8]) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("bind")?;
    say(&format!("ready udp={}", socket.local_addr()?))?;
    let mut input = [0; CHUNK];
    loop {
        let (_, sender) = socket.recv_from(&mut input).context("recvfrom")?;
        socket.send_to(reply, sender).context("sendto")?;
    }
}
