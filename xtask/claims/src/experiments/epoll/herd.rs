//! Threads that wait for connections, and how many of them wake up.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use anyhow::{Context, Result, ensure};
use nix::unistd::gettid;
use socket2::{Domain, SockRef, Socket, Type};

use crate::kit::net::PATIENCE;
use crate::sample::Sample;

/// Returns listeners on one port; with SO_REUSEPORT if there are several.
pub fn listeners(count: usize) -> Result<Vec<TcpListener>> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listeners = Vec::new();
    for _ in 0..count {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(count > 1)?;
        socket.bind(&address.into())?;
        socket.listen(128)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The state that the threads share.
#[derive(Debug)]
pub struct Herd {
    /// The threads' IDs; zero before a thread waits for the first time.
    threads: Vec<AtomicI32>,
    accepted: AtomicUsize,
    stopped: AtomicBool,
}

impl Herd {
    pub fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads).map(|_| AtomicI32::new(0)).collect(),
            accepted: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Makes the threads end when their calls return.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
    }

    /// Waits and accepts again and again, in one of the threads. It is no error
    /// if another thread was faster.
    pub fn repeat(
        &self,
        place: usize,
        mut accept: impl FnMut() -> io::Result<()>,
    ) -> Result<()> {
        self.threads[place].store(gettid().as_raw(), SeqCst);
        loop {
            let accepted = accept();
            if self.stopped.load(SeqCst) {
                return Ok(());
            }
            match accepted {
                Ok(()) => drop(self.accepted.fetch_add(1, SeqCst)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Connects to a listener, each time when all threads sleep. Returns how
    /// many times threads woke up for each of the connections.
    pub fn woken_by(
        &self,
        listener: &TcpListener,
        connections: usize,
    ) -> Result<Sample> {
        let mut woken = Vec::new();
        let mut before = self.rest(0)?;
        for connection in 1..=connections {
            let client = TcpStream::connect(listener.local_addr()?)?;
            let after = self.rest(connection)?;
            woken.push((after - before) as f64);
            before = after;
            // A reset leaves no TIME_WAIT behind.
            SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        }
        Ok(Sample::new(woken))
    }

    /// Waits until so many connections are accepted and all threads sleep.
    /// Returns how many times they have gone to sleep.
    fn rest(&self, accepted: usize) -> Result<usize> {
        let start = Instant::now();
        let mut last = None;
        loop {
            let sleeps = self.sleeps()?;
            // A thread is marked as sleeping shortly before it is counted, so
            // two counts must be equal.
            let has_settled = sleeps.is_some() && sleeps == last;
            if has_settled && self.accepted.load(SeqCst) == accepted {
                return sleeps.context("threads sleep");
            }
            ensure!(start.elapsed() < PATIENCE, "the threads didn't settle");
            last = sleeps;
            thread::yield_now();
        }
    }

    /// Returns how many times the threads have gone to sleep, if all sleep.
    fn sleeps(&self) -> Result<Option<usize>> {
        let mut total = 0;
        for thread in &self.threads {
            match sleeps(thread.load(SeqCst))? {
                Some(count) => total += count,
                None => return Ok(None),
            }
        }
        Ok(Some(total))
    }
}

/// Returns how many times a thread has given up the processor to wait, if it
/// sleeps now.
fn sleeps(thread: i32) -> Result<Option<usize>> {
    if thread == 0 {
        return Ok(None);
    }
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status"));
    let status = status.context("a thread's status")?;
    let value = |name| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)).map(str::trim)
    };
    let count = value("voluntary_ctxt_switches:").context("no switches")?;
    let state = value("State:").context("no state")?;
    Ok(if state.starts_with('S') { Some(count.parse()?) } else { None })
}
