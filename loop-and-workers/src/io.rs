//! The variant `io`: all workers wait for events of one epoll instance, and do
//! all the work of one. The main thread has the signals and the timers.
//!
//! One lock is around the bookkeeping: the connections, the timers, the
//! listener. A worker that gets an event takes the conversation out under the
//! lock, works without it, and puts the conversation back under the lock. So
//! the main thread never waits for a request, and races with no worker: if the
//! conversation is there, no worker is using it, and the main thread may close
//! the connection; if it is not, the main thread leaves it alone and notes what
//! the worker is to do when it puts it back (`is_late`, `drain_until`).

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use slotmap::{DefaultKey, KeyData};

use common::limits::{ACCEPTS_PER_ROUND, INPUT_CHUNK};
use common::{About, Config};

use crate::connection::{Conversation, receive};
use crate::datagrams::Datagrams;
use crate::interest::{new_epoll, watch};
use crate::kind::Kind;
use crate::notice::Notice;
use crate::{
    DATAGRAMS, LISTENER, MODEL, NOTICE, SIGNALS, Server, drain, worker,
};

/// The main thread: starts the workers, and has the signals and the timers.
pub fn serve(config: Config, workers: usize) -> Result<()> {
    // The workers inherit which signals are blocked, so that comes first.
    let signals = drain::signals()?;
    let (listener, tcp) = common::listen(&config)?.unzip();
    let (socket, udp) = common::bind_datagrams(&config)?.unzip();
    let own_epoll = new_epoll()?;
    watch(&own_epoll, &signals, EpollFlags::EPOLLIN, SIGNALS)?;
    // Leaked, because the workers use them until the process ends.
    let config: &Config = Box::leak(Box::new(config));
    let epoll: &Epoll = Box::leak(Box::new(new_epoll()?));
    let notice = Notice::new()?;
    watch(&own_epoll, &notice, EpollFlags::EPOLLIN, NOTICE)?;
    let mut server =
        Server::new(config, Kind::Io, epoll, signals, listener, socket)?;
    let shared: &Shared = Box::leak(Box::new(Shared {
        epoll,
        datagrams: Mutex::new(server.datagrams.take()),
        state: Mutex::new(State { server, wakes_at: None }),
        notice,
    }));
    worker::start(workers, || shared.work())?;
    common::announce(tcp, udp)?;
    shared.supervise(&own_epoll)
}

/// The state that all threads share.
struct Shared {
    epoll: &'static Epoll,
    state: Mutex<State>,
    /// Behind a lock of its own, so that a round of datagrams holds up no
    /// stream. `None` once shutdown was requested.
    datagrams: Mutex<Option<Datagrams>>,
    /// Wakes the main thread when a timer expires before it would look.
    notice: Notice,
}

struct State {
    server: Server<'static>,
    /// When the main thread looks at the timers next; `None` for never.
    wakes_at: Option<Instant>,
}

/// A worker's own buffer and description.
struct Worker {
    input: Box<[u8; INPUT_CHUNK]>,
    about: About,
}

/// The part of a connection that a worker takes for an event.
struct Loan {
    /// The worker's own reference, so the descriptor can't be closed, and its
    /// number can't become another client's.
    stream: Arc<OwnedFd>,
    conversation: Conversation,
    wants_input: bool,
    answers_input: bool,
}

/// The result of a worker's transfers.
struct Transfer {
    /// The number of bytes received; 0 is end of file.
    received: Option<usize>,
    completed: usize,
}

impl Shared {
    /// The work of a worker: one event after the other. It asks for one event
    /// at a time, because further ones would wait for it even if other workers
    /// are idle.
    fn work(&self) -> Result<()> {
        let about = About::new(MODEL.name, Kind::Io.name());
        let mut worker = Worker { input: Box::new([0; INPUT_CHUNK]), about };
        let mut events = [EpollEvent::empty()];
        loop {
            match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(1..) => {}
                Ok(0) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("epoll_wait"),
            }
            match events[0].data() {
                LISTENER => self.update(|server| {
                    server.accept_pending(ACCEPTS_PER_ROUND)?;
                    match server.paused_until {
                        Some(_) => Ok(()),
                        None => server.watch_listener(EpollFlags::EPOLLIN),
                    }
                })?,
                DATAGRAMS => self.on_datagrams(&mut worker)?,
                key => {
                    let key = KeyData::from_ffi(key).into();
                    self.handle_event(key, events[0].events(), &mut worker)?;
                }
            }
        }
    }

    /// Handles an event of a connection. Between the two locked parts, this
    /// worker alone has the conversation and uses the stream, because the
    /// report has disarmed it.
    fn handle_event(
        &self,
        key: DefaultKey,
        events: EpollFlags,
        worker: &mut Worker,
    ) -> Result<()> {
        let Some(mut loan) = self.lend(key, worker) else { return Ok(()) };
        let empty_before = worker.about.counters.empty_calls;
        let done = catch_unwind(AssertUnwindSafe(|| {
            worker.transfer(&mut loan, events)
        }));
        let empty = worker.about.counters.empty_calls - empty_before;
        // Before `close`, which closes the descriptor then.
        let Loan { stream, conversation, .. } = loan;
        drop(stream);
        self.update(|server| {
            server.about.counters.empty_calls += empty;
            match done {
                Ok(done) => server.take_back(key, conversation, done),
                // A panic ends one client; the panic hook has reported it.
                Err(_) => server.close(key),
            }
            Ok(())
        })
    }

    /// Takes what an event needs. When the drain begins, the main thread
    /// re-arms connections, also one whose event a worker has just got. A
    /// second worker may then get an event of it, and finds nothing to take.
    /// That event is not lost: the first worker re-arms the socket, and epoll
    /// checks it again.
    fn lend(&self, key: DefaultKey, worker: &mut Worker) -> Option<Loan> {
        let mut state = lock(&self.state);
        let server = &mut state.server;
        let connection = server.connections.get_mut(key)?;
        worker.about.counters = server.about.counters;
        let wants_input = connection.wants_input();
        Some(Loan {
            stream: Arc::clone(&connection.stream),
            answers_input: connection.answers_input(),
            wants_input,
            conversation: connection.lend()?,
        })
    }

    /// Answers datagrams. The socket is re-armed under its lock, so it is open.
    fn on_datagrams(&self, worker: &mut Worker) -> Result<()> {
        worker.about.counters = lock(&self.state).server.about.counters;
        let before = worker.about.counters;
        if let Some(datagrams) = &mut *lock(&self.datagrams) {
            datagrams.on_readable(&mut worker.about);
            let interest = EpollFlags::EPOLLIN | Kind::Io.mode();
            let mut event = EpollEvent::new(interest, DATAGRAMS);
            self.epoll
                .modify(&datagrams.socket, &mut event)
                .context("epoll_ctl(MOD)")?;
        }
        let after = worker.about.counters;
        self.update(|server| {
            let all = &mut server.about.counters;
            all.datagrams += after.datagrams - before.datagrams;
            all.datagrams_dropped +=
                after.datagrams_dropped - before.datagrams_dropped;
            all.empty_calls += after.empty_calls - before.empty_calls;
            Ok(())
        })
    }

    /// Changes the state, and wakes the main thread if it must look earlier
    /// than it would.
    fn update(
        &self,
        change: impl FnOnce(&mut Server<'_>) -> Result<()>,
    ) -> Result<()> {
        let State { server, wakes_at } = &mut *lock(&self.state);
        server.now = Instant::now();
        change(server)?;
        server.resume()?;
        let moment = server.next_moment();
        let is_earlier =
            moment.is_some_and(|it| wakes_at.is_none_or(|at| it < at));
        if is_earlier {
            *wakes_at = moment;
            self.notice.send();
        }
        Ok(())
    }

    /// The work of the main thread: signals, timers, and the drain. It never
    /// waits for a client or for a request, because no worker holds the state's
    /// lock while it processes one. Once, when the drain begins, it waits for
    /// the worker that answers datagrams, and answers the rest itself.
    fn supervise(&self, own_epoll: &Epoll) -> Result<()> {
        let mut events = [EpollEvent::empty(); 2];
        loop {
            let timeout = {
                let State { server, wakes_at } = &mut *lock(&self.state);
                if server.has_finished() {
                    common::report_cut_off(server.connections.len());
                    return Ok(());
                }
                *wakes_at = server.next_moment();
                server.timeout()
            };
            let ready = match own_epoll.wait(&mut events, timeout) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("epoll_wait"),
            };
            let server = &mut lock(&self.state).server;
            server.now = Instant::now();
            for event in &events[..ready] {
                match event.data() {
                    SIGNALS => {
                        server.on_signal()?;
                        self.end_datagrams(server);
                    }
                    _ => self.notice.clear()?,
                }
            }
            server.close_timed_out();
            server.close_acknowledged();
            server.resume()?;
        }
    }

    /// Answers the datagrams that have arrived, and closes the socket.
    fn end_datagrams(&self, server: &mut Server<'_>) {
        if let Some(mut datagrams) = lock(&self.datagrams).take() {
            datagrams.on_readable(&mut server.about);
        }
    }
}

impl Worker {
    /// Does what the event allows: sends, receives, answers, sends.
    fn transfer(
        &mut self,
        loan: &mut Loan,
        events: EpollFlags,
    ) -> nix::Result<Transfer> {
        let failure = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        let Loan { stream, conversation, .. } = loan;
        let mut done = Transfer { received: None, completed: 0 };
        if events.intersects(EpollFlags::EPOLLOUT | failure) {
            conversation.flush(stream)?;
        }
        let readable = events.intersects(EpollFlags::EPOLLIN | failure);
        if readable && loan.wants_input {
            let input = &mut self.input[..];
            done.received = receive(stream, input, &mut self.about)?;
        }
        if let Some(received @ 1..) = done.received
            && loan.answers_input
        {
            let input = &self.input[..received];
            done.completed = conversation.answer(input, &self.about);
            conversation.flush(stream)?;
        }
        Ok(done)
    }
}

impl Server<'_> {
    /// Takes a conversation back, and re-arms its connection.
    fn take_back(
        &mut self,
        key: DefaultKey,
        conversation: Conversation,
        done: nix::Result<Transfer>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let outcome = done.and_then(|done| {
            connection.note(done.received);
            connection.take_back(conversation, done.completed, &mut self.about);
            // Shutdown was requested while the worker had it.
            if self.drain_until.is_some() {
                connection.begin_drain()?;
            }
            connection.flush_and_advance()
        });
        self.apply_outcome(key, outcome);
    }
}

/// Locks, even after a panic: a worker that panics under a lock ends the
/// process.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
