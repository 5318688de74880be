//! A client of a server under test. It sends exactly the bytes that a case
//! specifies, and checks every byte it receives.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab::process;
use nix::poll::PollFlags;
use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::bytes::{difference, show};
use super::reply::{Info, Reply};

/// The reply to a connection that is rejected.
pub const REJECTION: &str = "-ERR max number of clients reached\r\n";

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("connecting to {address}"))?;
        Self::new(stream)
    }

    /// Connects a client whose receive window is a few kilobytes, so that the
    /// server gets short writes. The window is negotiated while connecting, so
    /// SO_RCVBUF must be set before.
    pub fn with_small_window(address: SocketAddr) -> Result<Self> {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None)
                .context("socket")?;
        socket.set_recv_buffer_size(4096).context("SO_RCVBUF")?;
        socket
            .connect(&address.into())
            .with_context(|| format!("connecting to {address}"))?;
        Self::new(socket.into())
    }

    /// Enlarges the receive buffer to that of other clients. The window grows
    /// to 64 KiB at most, because its scale was negotiated with the small
    /// buffer.
    pub fn widen(&mut self) -> Result<&mut Self> {
        let socket = SockRef::from(&self.stream);
        socket.set_recv_buffer_size(1 << 20).context("SO_RCVBUF")?;
        Ok(self)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true).context("TCP_NODELAY")?;
        stream.set_read_timeout(Some(PATIENCE)).context("SO_RCVTIMEO")?;
        stream.set_write_timeout(Some(PATIENCE)).context("SO_SNDTIMEO")?;
        Ok(Self { stream })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<&mut Self> {
        let bytes = bytes.as_ref();
        self.stream
            .write_all(bytes)
            .with_context(|| format!("sending {}", show(bytes)))?;
        Ok(self)
    }

    /// Sends the bytes in pieces of the sizes that `size` returns.
    pub fn send_in_pieces(
        &mut self,
        mut bytes: &[u8],
        mut size: impl FnMut() -> usize,
    ) -> Result<&mut Self> {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at(size().min(bytes.len()));
            self.send(piece)?;
            bytes = rest;
        }
        Ok(self)
    }

    /// Sends one byte every 50 ms, until the server has closed the connection.
    pub fn dribble(&mut self) -> Result<()> {
        let started = Instant::now();
        while self.send("x").is_ok() {
            let waited = started.elapsed();
            ensure!(waited < PATIENCE, "still open after {waited:?}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Sends as much as the kernel accepts, without blocking.
    pub fn send_what_fits(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.set_nonblocking(true)?;
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.stream.set_nonblocking(false)?;
        Ok(sent)
    }

    /// Reads as many bytes as `expected` has, and compares them.
    pub fn expect(&mut self, expected: impl AsRef<[u8]>) -> Result<&mut Self> {
        let expected = expected.as_ref();
        let mut seen = Vec::with_capacity(expected.len());
        let mut stream = (&self.stream).take(expected.len() as u64);
        let trouble = match stream.read_to_end(&mut seen) {
            Err(error) => explain(&error) + ": ",
            Ok(count) if count < expected.len() => {
                "EOF came early: ".to_owned()
            }
            Ok(_) => String::new(),
        };
        ensure!(seen == expected, "{trouble}{}", difference(expected, &seen));
        Ok(self)
    }

    pub fn read_exactly(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.stream
            .read_exact(buffer)
            .map_err(|error| anyhow!("expected a reply: {}", explain(&error)))
    }

    /// Reads up to 64 bytes; returns none at EOF.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut seen = vec![0; 64];
        let count = self.stream.read(&mut seen)?;
        seen.truncate(count);
        Ok(seen)
    }

    /// Checks that the server sends nothing more and has closed the connection
    /// with a FIN, not with a reset.
    pub fn expect_end(&mut self) -> Result<&mut Self> {
        let seen = self.next().map_err(no_end)?;
        ensure!(seen.is_empty(), "expected EOF, seen {}", show(&seen));
        self.expect_no_reset()
    }

    /// Checks that no reset has followed the FIN, as it does when a server
    /// closes with unread input. Once EOF was read, read(2) does not report it.
    pub fn expect_no_reset(&mut self) -> Result<&mut Self> {
        match self.stream.take_error().context("SO_ERROR")? {
            None => Ok(self),
            Some(error) => bail!("EOF was followed by a reset: {error}"),
        }
    }

    /// Waits until the connection has ended, by EOF or by a reset.
    pub fn expect_gone(&mut self) -> Result<&mut Self> {
        let seen = match self.next() {
            Err(error) if is_reset(&error) => Vec::new(),
            seen => seen.map_err(no_end)?,
        };
        ensure!(seen.is_empty(), "expected no reply, seen {}", show(&seen));
        Ok(self)
    }

    /// Duplicates the connection, for another thread.
    pub fn twin(&self) -> Result<Self> {
        let stream = self.stream.try_clone().context("dup")?;
        Ok(Self { stream })
    }

    /// Sends one byte out of band.
    pub fn send_urgent(&mut self, byte: u8) -> Result<&mut Self> {
        let sent = SockRef::from(&self.stream)
            .send_out_of_band(&[byte])
            .context("sending an urgent byte")?;
        ensure!(sent == 1, "the urgent byte was not sent");
        Ok(self)
    }

    /// Waits until the server's kernel has acknowledged everything that was
    /// sent.
    pub fn wait_until_arrived(&mut self) -> Result<&mut Self> {
        process::poll_until("the requests to arrive", PATIENCE, || {
            Ok(outstanding(&self.stream)? == 0)
        })?;
        Ok(self)
    }

    /// Waits until the requests of all clients have arrived. All must have been
    /// sent before, because the kernel of a server that does not read may delay
    /// each acknowledgement by 40 ms.
    pub fn wait_until_all_arrived(clients: &mut [Self]) -> Result<()> {
        for client in clients {
            client.wait_until_arrived()?;
        }
        Ok(())
    }

    /// Waits until everything has been acknowledged, or until nothing more has
    /// been for 50 ms because the server has stopped reading.
    pub fn wait_until_settled(&mut self) -> Result<&mut Self> {
        let (mut before, mut since) =
            (outstanding(&self.stream)?, Instant::now());
        while before > 0 && since.elapsed() < Duration::from_millis(50) {
            thread::sleep(Duration::from_millis(2));
            let now = outstanding(&self.stream)?;
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        Ok(self)
    }

    /// Returns whether the kernel accepts no more bytes for this long.
    pub fn is_stuck(&self, patience: Duration) -> Result<bool> {
        process::wait_for(
            &self.stream,
            PollFlags::POLLOUT,
            Instant::now() + patience,
        )
        .map(|writable| !writable)
    }

    /// Checks that the server neither sends anything nor closes the connection
    /// for this long.
    pub fn expect_silence(&mut self, time: Duration) -> Result<&mut Self> {
        if process::wait_readable(&self.stream, Instant::now() + time)? {
            bail!("expected silence, seen {}", show(&self.next()?));
        }
        Ok(self)
    }

    /// Sends `request` and reads `expected` at the same time, as a client must
    /// if its replies exceed the socket buffers.
    pub fn exchange(
        &mut self,
        request: impl AsRef<[u8]> + Send,
        expected: impl AsRef<[u8]>,
    ) -> Result<&mut Self> {
        let mut writer = self.twin()?;
        let (sent, received) = thread::scope(|scope| {
            let sent = scope.spawn(|| writer.send(request).map(drop));
            let received = self.expect(expected).map(drop);
            if received.is_err() {
                // No thread reads any more, so end the writer, too.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            (sent.join(), received)
        });
        received?;
        sent.unwrap_or_else(|_| bail!("the sending thread panicked"))?;
        Ok(self)
    }

    /// Shuts down the sending direction.
    pub fn half_close(&mut self) -> Result<&mut Self> {
        self.stream.shutdown(Shutdown::Write).context("shutdown")?;
        Ok(self)
    }

    /// Half-closes and waits for EOF from the server, which then has nothing
    /// left to do for this client but to close.
    pub fn leave(mut self) -> Result<()> {
        self.half_close()?.expect_end()?;
        Ok(())
    }

    /// Resets the connection, so that the server gets ECONNRESET. Closing with
    /// a SO_LINGER of zero sends the reset.
    pub fn reset(self) -> Result<()> {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .context("SO_LINGER")
    }

    /// Reads one reply of any kind.
    pub fn reply(&mut self) -> Result<Reply> {
        Reply::read(&mut self.stream)
    }

    /// Sends INFO and checks the form of the reply.
    pub fn info(&mut self) -> Result<Info> {
        self.send("INFO\r\n")?;
        Info::from_reply(&self.reply()?)
    }

    /// Checks that the server still serves this client.
    pub fn ping(&mut self) -> Result<&mut Self> {
        self.send("PING\r\n")?.expect("+PONG\r\n")
    }

    /// Reads the reply to a new client's PING. Returns true if the client is
    /// served, false if it is rejected; anything else is an error.
    pub fn was_served(&mut self) -> Result<bool> {
        let mut first = [0];
        self.read_exactly(&mut first)?;
        match first[0] {
            b'+' => self.expect("PONG\r\n").map(|_| true),
            b'-' => self.expect(&REJECTION[1..]).map(|_| false),
            other => bail!("neither a reply nor a rejection: {other:#x}"),
        }
    }

    /// Sends PING from all clients and checks the replies, 64 clients at a
    /// time: a server that scans all clients for each event then does so less
    /// often.
    pub fn ping_all(clients: &mut [Self]) -> Result<()> {
        for (group, some) in clients.chunks_mut(64).enumerate() {
            for client in some.iter_mut() {
                client.send("PING\r\n")?;
            }
            for (number, client) in some.iter_mut().enumerate() {
                let name = || format!("client {}", 64 * group + number);
                client.expect("+PONG\r\n").with_context(name)?;
            }
        }
        Ok(())
    }

    /// Checks the reply to the request that each client has sent already, then
    /// that all are still served.
    pub fn ping_rest(clients: &mut [Self]) -> Result<()> {
        for (number, client) in clients.iter_mut().enumerate() {
            let name = || format!("client {number}");
            client.expect("+PONG\r\n").with_context(name)?;
        }
        Self::ping_all(clients)
    }

    /// Sends `request` repeatedly, reading nothing, until the kernel has
    /// accepted no bytes for 200 ms because the server has stopped reading.
    /// Returns the number of bytes sent. Gives up at `MOST_STUFFED` if the
    /// server goes on reading. Calls `check` with the number of bytes sent so
    /// far.
    pub fn stuff(
        &mut self,
        request: &[u8],
        mut check: impl FnMut(usize) -> Result<()>,
    ) -> Result<usize> {
        /// Several times what the socket buffers of both sides hold.
        const MOST_STUFFED: usize = 32 << 20;

        let block = request.repeat(1 + 65_536 / request.len());
        let (mut total, mut offset) = (0, 0);
        while total < MOST_STUFFED {
            let count = self.send_what_fits(&block[offset..])?;
            if count == 0 && self.is_stuck(Duration::from_millis(200))? {
                break;
            }
            total += count;
            offset = (offset + count) % block.len();
            check(total)?;
        }
        Ok(total)
    }
}

/// Counts the bytes that were sent and are not yet acknowledged (TCP), or not
/// yet read by the peer (Unix socket).
pub fn outstanding(socket: &impl AsRawFd) -> Result<i32> {
    let mut bytes = 0;
    // SAFETY: the socket is open, and the integer outlives the call.
    unsafe { unacknowledged(socket.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

nix::ioctl_read_bad!(
    /// Counts the bytes that the peer has not acknowledged, see tcp(7).
    unacknowledged,
    libc::TIOCOUTQ,
    libc::c_int
);

/// Returns whether an error means that the connection was reset.
pub fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn no_end(error: io::Error) -> anyhow::Error {
    anyhow!("expected EOF: {}", explain(&error))
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("nothing arrived within {PATIENCE:?}")
        }
        ErrorKind::ConnectionReset => {
            "the server reset the connection".to_owned()
        }
        _ => error.to_string(),
    }
}
