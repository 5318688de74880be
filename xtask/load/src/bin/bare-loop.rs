//! The floor: a loop that receives and sends, and knows nothing.
//!
//! It is told how long a request is and what the reply is, counts the bytes
//! that arrive, and sends as many replies as whole requests came in, from a
//! buffer that was there before. It makes the calls that a server with epoll
//! can't do without, so it shows what the kernel takes of the server's time.

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
use nix::sys::socket::{MsgFlags, recv, send};

/// As much as the models receive at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// As many events as the models take at once.
const EVENTS: usize = 1_024;

/// Receives and sends, and knows nothing else.
#[derive(Debug, Parser)]
struct Flags {
    /// The request that clients send: `ping`, or `echo:BYTES`.
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
    say(&format!("ready tcp={}", listener.local_addr()?))?;
    serve(&listener, request.len(), &reply)
}

fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").context("the ready line")
}

/// One client: its stream, and how much of a request is there.
type Client = (TcpStream, usize);

fn serve(listener: &TcpListener, request: usize, reply: &[u8]) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let interest = |number: i32| {
        EpollEvent::new(EpollFlags::EPOLLIN, number.cast_unsigned().into())
    };
    epoll.add(listener, interest(listener.as_raw_fd()))?;
    // By descriptor, which is a small number.
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut events = [EpollEvent::empty(); EVENTS];
    let mut input = [0; CHUNK];
    // To one chunk, and the request that it completes.
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
                stream.set_nodelay(true)?;
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

/// Receives once and sends once. False at the end of the connection, whatever
/// ended it.
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
    // It waits in send(2) if it must: nobody here reads slowly.
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
