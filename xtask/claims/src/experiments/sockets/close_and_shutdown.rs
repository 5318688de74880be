//! close releases a descriptor. Only the close of the last one ends the
//! connection; shutdown ends it whatever descriptors there are.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net;

pub const CLAIM: Claim = Claim {
    id: "close-and-shutdown",
    claim: "close ends the connection.",
    section: "Socket communication, workflow",
    criterion: "A socket is closed that has one descriptor, and one that has a \
                second descriptor by dup, which then sends data. True if the \
                peer's next recv returns EOF in both cases, false if it \
                returns data in both. It depends if it returns EOF in one case \
                only.",
    if_false: History::NeverTrue,
    sources: &["close(2)", "shutdown(2)", "dup(2)"],
    explanation: "Descriptors made by dup or inherited by fork refer to one \
                  socket, and the kernel sends the FIN when the last one is \
                  closed. A server that forks therefore closes the connection \
                  in the parent too. shutdown acts on the socket itself, so it \
                  sends the FIN at once.",
    run,
    file: file!(),
};

/// The next result of the peer's receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Eof,
    Data,
}

fn run(_: Effort) -> Result<Finding> {
    let only = close_of_only_descriptor()?;
    let duplicated = close_of_duplicated_descriptor()?;
    let shut_down = shutdown_of_duplicated_descriptor()?;
    let eof = |next| usize::from(next == Next::Eof);
    Ok(Finding::new(
        judge(only, duplicated),
        [
            Figure::new("EOF after close of one of two", "", eof(duplicated)),
            Figure::new("EOF after close of the only one", "", eof(only)),
            Figure::new("EOF after shutdown of one of two", "", eof(shut_down)),
        ],
    ))
}

fn close_of_only_descriptor() -> Result<Next> {
    let (client, mut server) = net::connection()?;
    drop(client);
    next(&mut server)
}

fn close_of_duplicated_descriptor() -> Result<Next> {
    let (client, mut server) = net::connection()?;
    let mut duplicate = client.try_clone().context("dup")?;
    drop(client);
    // A FIN would precede this byte in the stream, or reset the connection.
    duplicate.write_all(b"x").context("send after the close")?;
    next(&mut server)
}

fn shutdown_of_duplicated_descriptor() -> Result<Next> {
    let (client, mut server) = net::connection()?;
    let _duplicate = client.try_clone().context("dup")?;
    client.shutdown(Shutdown::Write).context("shutdown")?;
    next(&mut server)
}

fn next(server: &mut TcpStream) -> Result<Next> {
    let mut buffer = [0; 2];
    let size = server.read(&mut buffer).context("recv")?;
    ensure!(size < 2, "received {size} bytes");
    Ok(if size == 0 { Next::Eof } else { Next::Data })
}

fn judge(only: Next, duplicated: Next) -> Answer {
    match (only, duplicated) {
        (Next::Eof, Next::Eof) => Answer::True,
        (Next::Data, Next::Data) => Answer::False,
        _ => Answer::Depends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_on_the_number_of_descriptors() {
        assert_eq!(judge(Next::Eof, Next::Eof), Answer::True);
        assert_eq!(judge(Next::Eof, Next::Data), Answer::Depends);
        assert_eq!(judge(Next::Data, Next::Data), Answer::False);
    }
}
