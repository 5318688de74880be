//! Models as servers of many clients: the processor time of their requests, and
//! the memory of their clients.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::model::{Model, Transport, Variant, Workspace};
use lab::promises::{Answers, Promises, WaitsIn};
use lab::server::{self, Errors, Server};
use lab::{Unsupported, build, process};
use load::Script;
use load::closed::Closed;
use load::connection::{Full, bring};
use load::request::Request;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, getpid, gettid};
use socket2::SockRef;

use super::{memory, task};
use crate::sample::Sample;

/// The length of one measurement of processor time.
const SPAN: Duration = Duration::from_millis(10);

/// How long a server is watched that has nothing to do.
const IDLE: Duration = Duration::from_millis(100);

/// The number of steps in which clients are connected to measure memory.
const STEPS: usize = 3;

/// The time after which an experiment connects no more clients: SIGALRM would
/// end it before they are measured.
const TIME_LIMIT: Duration = Duration::from_secs(45);

/// Clients that are connected between two looks at the clock.
const AT_A_TIME: usize = 500;

/// Descriptors for other purposes than clients.
const SPARE: usize = 100;

/// Selects models by their promises.
pub type Condition = fn(&Promises) -> bool;

/// One thread serves all clients with epoll.
pub const LOOP: Condition =
    |it| it.waits_in == WaitsIn::EpollWait && it.answers == Answers::OneThread;
/// A thread or a process serves each client.
pub const THREAD: Condition = |it| it.answers == Answers::OwnThread;
pub const PROCESS: Condition = |it| it.answers == Answers::OwnProcess;

/// A variant of a model.
pub type Chosen<'a> = (&'a Model, &'a Variant);

/// Returns the first variant of a model that meets this condition.
pub fn find(workspace: &Workspace, condition: Condition) -> Result<Chosen<'_>> {
    let mut variants = workspace.variants();
    let found = variants.find(|(_, variant)| condition(&variant.promises));
    found.context("no model promises what the experiment compares")
}

/// Starts the servers of an experiment.
#[derive(Debug)]
pub struct Host {
    pub workspace: Workspace,
    script: Script,
    deadline: Instant,
    /// The processors of the clients and of the servers.
    processors: [usize; 2],
}

impl Host {
    /// Prepares for this number of clients, and fails if it is not allowed.
    pub fn new(clients: usize) -> Result<Self> {
        let limit = getrlimit(Resource::RLIMIT_NOFILE)?.0;
        let why = format!("{limit} descriptors don't suffice for {clients}");
        let needed = (clients + SPARE) as u64;
        ensure!(limit >= needed, Unsupported::Tool(why));
        // The children of a server that is killed become this process's.
        set_child_subreaper(true).context("PR_SET_CHILD_SUBREAPER")?;
        let processors = process::allowed_processors(getpid(), gettid())?;
        let first = *processors.first().context("no processor")?;
        let last = *processors.last().unwrap_or(&first);
        Ok(Self {
            workspace: Workspace::load()?,
            script: Script::new(Request::Ping, 1),
            deadline: Instant::now() + TIME_LIMIT,
            processors: [first, last],
        })
    }

    /// Returns the first variant of a model that meets this condition.
    pub fn find(&self, condition: Condition) -> Result<Chosen<'_>> {
        find(&self.workspace, condition)
    }

    /// Starts a model for up to `limit` clients. The servers share one
    /// processor, and the clients have another if there is one.
    pub fn start(
        &self,
        (model, variant): Chosen<'_>,
        limit: usize,
    ) -> Result<Served<'_>> {
        let mut arguments = [&variant.args[..], &model.idle_flags].concat();
        arguments.extend(model.pool_flags(limit));
        let limit = limit.to_string();
        let options = ["--tcp", "127.0.0.1:0", "--max-connections", &limit];
        arguments.extend(options.map(str::to_owned));
        let program = build::binary(&self.workspace, model);
        let errors = Errors::new()?;
        let command = server::command(&program, &arguments, &errors)?;
        let [ours, theirs] = self.processors;
        // A process inherits the processor of the thread that creates it.
        task::run_on(theirs)?;
        let server = Server::spawn(command, errors);
        task::run_on(ours)?;
        let mut server = server?;
        let ready = server.wait_until_ready();
        let ready = ready.with_context(|| model.title(variant))?;
        Ok(Served {
            clients: Vec::new(),
            server,
            address: ready.address(Transport::Tcp)?,
            host: self,
        })
    }
}

/// A server with clients.
#[derive(Debug)]
pub struct Served<'a> {
    clients: Vec<TcpStream>,
    server: Server,
    address: SocketAddr,
    host: &'a Host,
}

impl Served<'_> {
    /// Connects clients until there are `wanted`, each with one request
    /// answered.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] if the server can't serve as many on this machine, or if
    /// other programs leave it too little time.
    pub fn connect(&mut self, wanted: usize) -> Result<()> {
        let Self { clients, address, host, .. } = self;
        while clients.len() < wanted {
            let held = clients.len();
            let why = format!("the machine is busy: {held} clients in time");
            let is_in_time = Instant::now() < host.deadline;
            ensure!(is_in_time, Unsupported::Tool(why));
            let next = wanted.min(held + AT_A_TIME);
            let brought = bring(*address, &host.script, clients, next);
            brought.map_err(|error| match error.is::<Full>() {
                true => Unsupported::Tool(format!("{error:#}")).into(),
                false => error,
            })?;
            for client in &clients[held..] {
                // A reset leaves no TIME_WAIT, whose memory would be counted.
                SockRef::from(client).set_linger(Some(Duration::ZERO))?;
            }
        }
        Ok(())
    }

    /// Connects clients in steps until there are `wanted`, and returns the
    /// memory that each step adds per client, in KiB.
    pub fn memory_per_client(&mut self, wanted: usize) -> Result<Sample> {
        let step = (wanted - self.clients.len()) / STEPS;
        let mut before = self.memory()?;
        Sample::collect(STEPS, || {
            self.connect(self.clients.len() + step)?;
            let after = self.memory()?;
            let added = after - before;
            before = after;
            Ok(added / step as f64)
        })
    }

    /// Returns the memory of the server's processes and of the kernel, in KiB.
    /// The kernel's includes the clients' ends.
    fn memory(&self) -> Result<f64> {
        let kernel = memory::of_tasks()? + memory::of_tcp()?;
        let leader = self.server.leader();
        Ok(kernel + process::group_memory(leader) as f64 / 1024.0)
    }

    /// Prepares requests of the first `active` clients, of which `busy` at a
    /// time wait for a reply.
    pub fn requests(&self, active: usize, busy: usize) -> Result<Requests<'_>> {
        let active = &self.clients[..active];
        let processes = process::group(self.server.leader());
        let clocks = processes.iter().map(|it| clock_getcpuclockid(it.pid));
        let mut requests = Requests {
            closed: Closed::new(active, &self.host.script, 1, busy)?,
            clocks: clocks.collect::<Result<_, _>>()?,
        };
        requests.warm_up(active.len())?;
        Ok(requests)
    }
}

impl Drop for Served<'_> {
    /// Kills the server, and reaps all its processes. SIGALRM bounds the waits:
    /// it ends the experiment.
    fn drop(&mut self) {
        let leader = self.server.leader();
        let _ = killpg(leader, Signal::SIGKILL);
        while waitpid(Pid::from_raw(-leader.as_raw()), None).is_ok() {}
    }
}

/// Requests to a server.
#[derive(Debug)]
pub struct Requests<'a> {
    closed: Closed<'a>,
    /// The clocks of the server's processes.
    clocks: Vec<ClockId>,
}

impl Requests<'_> {
    /// Sends requests, and returns the server's processor time for one of them,
    /// in µs.
    pub fn micros(&mut self) -> Result<f64> {
        let before = self.processor_time()?;
        let measured = self.closed.run(SPAN)?;
        let used = self.processor_time()? - before;
        ensure!(measured.requests > 0, "no time for a request");
        Ok(used.as_secs_f64() * 1e6 / measured.requests as f64)
    }

    /// Returns the processor time that the server uses per second while there
    /// are no requests, in µs.
    pub fn idle_micros(&self) -> Result<f64> {
        let before = self.processor_time()?;
        let start = Instant::now();
        // The time in which the server has nothing to do.
        thread::sleep(IDLE);
        let used = self.processor_time()? - before;
        Ok(used.as_secs_f64() * 1e6 / start.elapsed().as_secs_f64())
    }

    /// Sends requests until each client has had one, and keeps the clocks that
    /// have advanced: to read thousands of others would empty the caches.
    fn warm_up(&mut self, active: usize) -> Result<()> {
        let before = self.times()?;
        let mut sent = 0;
        while sent < active {
            sent += self.closed.run(SPAN)?.requests as usize;
        }
        let mut advanced =
            before.iter().zip(self.times()?).map(|(a, b)| *a < b);
        self.clocks.retain(|_| advanced.next() == Some(true));
        Ok(())
    }

    fn processor_time(&self) -> Result<Duration> {
        Ok(self.times()?.iter().sum())
    }

    /// Reads the clocks.
    fn times(&self) -> Result<Vec<Duration>> {
        let times = self.clocks.iter().map(|clock| clock.now());
        let times = times.map(|time| time.map(Duration::from));
        times.collect::<Result<_, _>>().context("a process of the server ended")
    }
}
