//! A short-lived connection requires one more system call with epoll. With poll
//! it makes the kernel look at every other connection twice.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::Duration;
use std::{io, iter};

use anyhow::{Result, ensure};
use libc::{POLLIN, nfds_t, pollfd};
use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use socket2::SockRef;

use super::watch;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::{clock, net};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "epoll-short-lived",
    claim: "For short-lived connections epoll isn't worth it, because each of \
            them needs epoll_ctl.",
    section: "Uses of select, poll and epoll",
    criterion: "The processor time of a server per connection (accept, one \
                request, close) with epoll is divided by that with poll, with \
                10 and with 1,000 other connections that are idle. True if \
                epoll takes at least 0.8 of the time for both numbers, false \
                if for neither, depends if for one.",
    if_false: History::NeverTrue,
    sources: &["epoll_ctl(2)", "poll(2)", "fs/select.c, do_poll"],
    explanation: "The call of epoll_ctl is a small part of what a connection \
                  costs: accept, recv, send and close cost more, and close \
                  removes the registration. poll saves that call, but goes \
                  through all other connections twice, for the accept and for \
                  the request. So the advantage of epoll depends on the number \
                  of connections and not on their lifetime.",
    run,
    file: file!(),
};

/// Numbers of idle connections.
const FEW: usize = 10;
const MANY: usize = 1_000;

/// The listener, which is watched first, and the idle connections.
#[derive(Debug)]
struct Server {
    listener: TcpListener,
    idle: Vec<(TcpStream, TcpStream)>,
    /// Short-lived connections per measurement.
    count: usize,
}

fn run(effort: Effort) -> Result<Finding> {
    let rounds = effort.pick(21, 3);
    let few = ratio(FEW, 200, rounds)?;
    let many = ratio(MANY, 20, rounds)?;
    Ok(Finding::new(
        judge(&few, &many),
        [
            Figure::new("epoll / poll, 1,000 idle", "times", many),
            Figure::new("epoll / poll, 10 idle", "times", few),
        ],
    ))
}

/// Serves `count` short-lived connections per round. Returns the time with
/// epoll relative to that with poll.
fn ratio(idle: usize, count: usize, rounds: usize) -> Result<Sample> {
    let idle = (0..idle).map(|_| net::connection());
    let idle = idle.collect::<Result<Vec<_>>>()?;
    idle.iter().try_for_each(|(client, _)| reset_on_close(client))?;
    let server = Server { listener: net::listener()?, idle, count };
    let (mut with_epoll, mut with_poll) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        with_epoll.push(server.with_epoll()?);
        with_poll.push(server.with_poll()?);
    }
    Ok(Sample::new(with_epoll).ratio(&Sample::new(with_poll)))
}

impl Server {
    /// Returns the descriptors that are watched all the time.
    fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let idle = self.idle.iter().map(|(_, server)| server.as_fd());
        iter::once(self.listener.as_fd()).chain(idle)
    }

    fn with_epoll(&self) -> Result<f64> {
        let epoll = watch::instance(self.watched(), EpollFlags::empty())?;
        self.mean_cost(|| {
            watch::expect_one(&epoll)?;
            let (stream, _) = self.listener.accept()?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, u64::MAX);
            epoll.add(&stream, event)?;
            watch::expect_one(&epoll)?;
            answer(stream)
        })
    }

    fn with_poll(&self) -> Result<f64> {
        let entry = |fd| pollfd { fd, events: POLLIN, revents: 0 };
        let fds = self.watched().map(|it| it.as_raw_fd());
        // The last entry is for the new connection; poll skips -1.
        let mut array: Vec<_> = fds.chain([-1]).map(entry).collect();
        let last = array.len() - 1;
        self.mean_cost(|| {
            poll_one(&mut array)?;
            let (stream, _) = self.listener.accept()?;
            array[last].fd = stream.as_raw_fd();
            poll_one(&mut array)?;
            array[last].fd = -1;
            answer(stream)
        })
    }

    /// Returns the processor time of `serve` for one connection, in µs.
    fn mean_cost(&self, mut serve: impl FnMut() -> Result<()>) -> Result<f64> {
        let mut spent = Duration::ZERO;
        for _ in 0..self.count {
            let mut client = TcpStream::connect(self.listener.local_addr()?)?;
            client.set_read_timeout(Some(net::PATIENCE))?;
            client.write_all(b"request")?;
            let start = clock::thread_cpu_time()?;
            serve()?;
            spent += clock::thread_cpu_time()? - start;
            client.read_exact(&mut [0; 7])?;
            reset_on_close(&client)?;
        }
        Ok(spent.as_secs_f64() * 1e6 / self.count as f64)
    }
}

/// Waits for exactly one event.
fn poll_one(array: &mut [pollfd]) -> Result<()> {
    let timeout = i32::try_from(net::PATIENCE.as_millis())?;
    let (start, length) = (array.as_mut_ptr(), array.len() as nfds_t);
    // SAFETY: the pointer and the length are those of the array.
    let ready = Errno::result(unsafe { libc::poll(start, length, timeout) })?;
    ensure!(ready == 1, "{ready} descriptors are ready instead of one");
    Ok(())
}

/// Answers a request and closes the connection.
fn answer(mut stream: TcpStream) -> Result<()> {
    let mut buffer = [0; 64];
    let received = stream.read(&mut buffer)?;
    ensure!(received == 7, "{received} bytes received");
    Ok(stream.write_all(&buffer[..received])?)
}

/// Makes the close of a socket a reset, which leaves no TIME_WAIT behind.
fn reset_on_close(client: &TcpStream) -> io::Result<()> {
    SockRef::from(client).set_linger(Some(Duration::ZERO))
}

/// Judges the time with epoll relative to that with poll.
fn judge(few: &Sample, many: &Sample) -> Answer {
    match few.is_below(0.8).or_depends(many.is_below(0.8)) {
        Answer::True => Answer::False,
        Answer::False => Answer::True,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saving_for_one_of_two_numbers_makes_it_depend() {
        let sample = |it: f64| Sample::new(vec![it - 0.1, it, it + 0.1]);
        let answer = |few, many| judge(&sample(few), &sample(many));
        assert_eq!(answer(1.1, 1.1), Answer::True);
        assert_eq!(answer(0.5, 0.2), Answer::False);
        assert_eq!(answer(1.1, 0.2), Answer::Depends);
        assert_eq!(answer(0.8, 0.2), Answer::Undecided);
    }
}
