//! One run: starts a server, loads it, reads its usage, and shuts it down.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Unsupported;
use lab::number::some;
use load::closed::Closed;
use load::connection::{Full, bring};
use load::datagrams::{Datagrams, senders};
use load::interrupt::Interrupted;
use load::mixed::Mixed;
use load::open::Open;
use load::request::Request;
use load::short::Short;
use load::{Measurement, Script};
use nix::sched::CpuSet;
use nix::sys::resource::{Resource, getrlimit};

use super::contender::Contender;
use super::remark::Remark;
use super::results::{Figures, Outcome, SUSTAINED};
use super::serving::{Fate, Serving};
use super::usage::Usage;
use super::workload::{Load, Workload};

/// The length of the warm-up and of the measurement.
#[derive(Clone, Copy, Debug)]
pub struct Spans {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// The processors of the servers and of the load generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processors {
    /// None if there is only one processor, which all programs share.
    pub servers: Option<CpuSet>,
    /// The number of the servers' processors.
    pub count: usize,
    /// The generator's processor.
    pub generator: usize,
}

impl Processors {
    /// Gives the servers the generator's processor, too, if every request
    /// computes: the generator then rests most of the time, and a model with
    /// several threads can show what they gain.
    fn under(mut self, workload: &Workload) -> Self {
        if let Some(servers) = &mut self.servers
            && matches!(workload.request, Request::Spin(_))
            && servers.set(self.generator).is_ok()
        {
            self.count += 1;
        }
        self
    }
}

/// The fewest connections from which the memory per connection is computed.
const ENOUGH_FOR_A_SLOPE: usize = 500;

/// Descriptors for other purposes than connections.
const DESCRIPTORS_SPARE: usize = 64;

/// The fraction of a processor beyond which a generator or a server counts as
/// saturated.
const SATURATED: f64 = 0.95;

/// The most processes for which times in ticks of 10 ms are precise enough.
const PROCESSES_TO_SPLIT: usize = 2;

/// The fraction of the requests that may be sent late without a remark.
const LATE: f64 = 0.001;

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub outcome: Outcome,
    /// The command that started the server, if it was started.
    pub command_line: Option<String>,
}

/// Makes one run against a fresh server. Fails only if interrupted; any other
/// error is an outcome.
pub fn run(
    contender: &Contender,
    workload: &Workload,
    spans: Spans,
    processors: Processors,
) -> Result<Attempt> {
    let processors = processors.under(workload);
    if let Some(why) = contender.declines(workload) {
        let held = contender.most_clients();
        return Ok(Outcome::Cannot { why, held }.into());
    }
    if let Some(why) = lacks_descriptors(workload.held())? {
        return Ok(Outcome::Cannot { why, held: None }.into());
    }
    let started = Serving::start(contender, workload, processors.servers);
    let mut server = match started {
        Ok(server) => server,
        Err(error) => return Ok(Outcome::of_error(&error)?.into()),
    };
    let command_line = Some(server.command_line.clone());
    let outcome = match load(&server, workload, spans, processors) {
        Ok(mut observation) => match server.stop() {
            Ok(switches) => {
                // Its connections cost workers, which exist before them.
                if contender.has_pool() {
                    observation.memory = None;
                }
                let figures =
                    observation.figures(workload, processors, switches);
                Outcome::Measured(figures)
            }
            Err(error) => Outcome::of_error(&error)?,
        },
        Err(error) => Outcome::of_error_and_fate(&error, &server.fate())?,
    };
    Ok(Attempt { outcome, command_line })
}

impl From<Outcome> for Attempt {
    /// Makes the attempt of a run for which no server was started.
    fn from(outcome: Outcome) -> Self {
        Self { outcome, command_line: None }
    }
}

impl Outcome {
    /// Returns the outcome for an error without a running server.
    pub fn of_error(error: &anyhow::Error) -> Result<Self> {
        Self::of_error_and_fate(error, &Fate::default())
    }

    /// Returns the outcome for a server that accepts only `held` connections.
    pub fn full(held: usize, why: &str) -> Self {
        let why = format!("accepted {}; {why}", some(held, "connection"));
        Self::Cannot { why, held: Some(held) }
    }

    /// Distinguishes a limit of the server from a failure, by the error and the
    /// server's state.
    fn of_error_and_fate(error: &anyhow::Error, fate: &Fate) -> Result<Self> {
        ensure!(!error.is::<Interrupted>(), Interrupted);
        if let Some(Full { held, why }) = error.downcast_ref()
            && fate.status.is_none()
        {
            // The server's own message names the errno or the limit.
            let why = fate.last_line.as_ref().unwrap_or(why);
            return Ok(Self::full(*held, why));
        }
        if error.is::<Unsupported>() {
            return Ok(Self::Cannot { why: error.to_string(), held: None });
        }
        Ok(Self::Failed(format!("{error:#}{fate}")))
    }
}

/// Returns the reason if there are too few descriptors to hold this many
/// connections. Each end of a connection needs one, in processes with the same
/// limit.
pub fn lacks_descriptors(held: usize) -> Result<Option<String>> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = held + DESCRIPTORS_SPARE;
    Ok((limit < needed as u64).then(|| {
        format!("requires {needed} descriptors, and ulimit -Hn is {limit}")
    }))
}

/// The raw counts of a run, from which the figures are computed.
#[derive(Debug)]
pub struct Observation {
    pub taken: Measurement,
    pub before: Usage,
    pub after: Usage,
    /// Memory per connection in bytes, in the processes and in the kernel.
    pub memory: Option<(f64, f64)>,
    pub held: usize,
}

/// Opens the connections and applies the load.
fn load(
    server: &Serving,
    workload: &Workload,
    spans: Spans,
    processors: Processors,
) -> Result<Observation> {
    let pipeline = workload.pipeline;
    let script = Script::new(workload.request, pipeline);
    let mut connections = Vec::new();
    let mut memory = None;
    if let Load::Closed | Load::Open | Load::Round = workload.load {
        memory = hold(server, &script, &mut connections, workload.held())?;
    }
    let held = connections.len().max(workload.connections);
    let active = workload.connections.min(connections.len());
    let active = &connections[..active];
    let address = server.address;
    let count = workload.connections;
    let (taken, before) = match workload.load {
        Load::Closed | Load::Round => {
            let busy = workload.busy.unwrap_or(count);
            let mut closed = Closed::new(active, &script, pipeline, busy)?;
            measured(server, spans, |span| closed.run(span))?
        }
        Load::Open => {
            let rate = workload.rate.unwrap_or(1);
            let apart = processors.servers.is_some();
            if let Some(heavy) = workload.heavy {
                let light = workload.request;
                let mut mixed = Mixed::new(active, light, heavy, rate, apart)?;
                measured(server, spans, |span| mixed.run(span))?
            } else {
                let mut open = Open::new(active, &script, rate, apart)?;
                measured(server, spans, |span| open.run(span))?
            }
        }
        Load::Short => {
            let mut short =
                Short::new(address, &script, count, workload.total)?;
            // There is no warm-up, because its threads and processes would
            // have ended, and their context switches would be lost.
            let before = server.usage();
            (short.run(spans.measured)?, before)
        }
        Load::Datagrams => {
            let senders = senders(address, count)?;
            let mut datagrams = Datagrams::new(&senders, &script)?;
            measured(server, spans, |span| datagrams.run(span))?
        }
    };
    ensure!(taken.requests > 0, "no request was answered");
    Ok(Observation { taken, before, after: server.usage(), memory, held })
}

/// Warms up, reads the usage, and measures. No request is outstanding when the
/// usage is read.
fn measured(
    server: &Serving,
    spans: Spans,
    mut run: impl FnMut(Duration) -> Result<Measurement>,
) -> Result<(Measurement, Usage)> {
    run(spans.warm_up)?;
    let before = server.usage();
    Ok((run(spans.measured)?, before))
}

/// Opens `wanted` connections. If there are enough, returns the memory per
/// connection in the server's processes and in the kernel, in bytes, as the
/// slope from a tenth of the connections to all.
pub fn hold(
    server: &Serving,
    script: &Script,
    connections: &mut Vec<TcpStream>,
    wanted: usize,
) -> Result<Option<(f64, f64)>> {
    if wanted < ENOUGH_FOR_A_SLOPE {
        bring(server.address, script, connections, wanted)?;
        return Ok(None);
    }
    let first = wanted / 10;
    bring(server.address, script, connections, first)?;
    let before = server.memory()?;
    bring(server.address, script, connections, wanted)?;
    let after = server.memory()?;
    let each = |before: u64, after: u64| {
        (after as f64 - before as f64) / (wanted - first) as f64
    };
    Ok(Some((
        each(before.processes, after.processes),
        each(before.kernel, after.kernel),
    )))
}

impl Observation {
    /// Computes the figures. `all_switches` are the context switches of the
    /// server's whole lifetime.
    pub fn figures(
        &self,
        workload: &Workload,
        processors: Processors,
        all_switches: u64,
    ) -> Figures {
        let Self { taken, before, after, memory, held } = self;
        let seconds = taken.elapsed.as_secs_f64();
        let requests = taken.requests as f64;
        let each = |of: fn(&Usage) -> Duration| {
            let used = of(after).saturating_sub(of(before));
            used.as_secs_f64() * 1e6 / requests
        };
        let latency =
            |quantile| taken.latency.value_at_quantile(quantile) as f64 / 1e3;
        // With short connections, threads and processes have ended, so only
        // the sum at the server's own end includes their context switches.
        let switches = match workload.load {
            Load::Short => all_switches.saturating_sub(before.switches),
            _ => after.switches.saturating_sub(before.switches),
        };
        let splits = after.processes <= PROCESSES_TO_SPLIT;
        let mut figures = Figures {
            seconds,
            requests: taken.requests,
            rate: requests / seconds,
            p50: latency(0.5),
            p90: latency(0.9),
            p99: latency(0.99),
            p999: latency(0.999),
            cpu: each(|usage| usage.cpu),
            alone: None,
            user: splits.then(|| each(|usage| usage.user)),
            system: splits.then(|| each(|usage| usage.system)),
            switches: switches as f64 / requests,
            memory: memory.map(|(processes, _)| processes / 1024.0),
            kernel: memory.map(|(_, kernel)| kernel / 1024.0),
            threads: after.threads,
            processes: after.processes,
            client: taken.client.as_secs_f64() / seconds,
            connections: *held,
            remarks: Vec::new(),
        };
        figures.remarks = self.remarks(workload, processors, &figures);
        figures
    }

    /// Returns the remarks: which side was saturated, and what is missing.
    fn remarks(
        &self,
        workload: &Workload,
        processors: Processors,
        figures: &Figures,
    ) -> Vec<Remark> {
        let mut remarks = Vec::new();
        let threads = self.after.threads.min(processors.count).max(1);
        let server = figures.cpu * figures.rate / 1e6 / threads as f64;
        if workload.load == Load::Open {
            // The generator never sleeps here, so its processor time doesn't
            // show whether it was saturated.
            let part = self.taken.late as f64 / figures.requests as f64;
            if part > LATE {
                remarks.push(Remark::Late { part });
            }
        } else if figures.client > SATURATED && server < SATURATED {
            remarks.push(Remark::Saturated);
        }
        if let Some(due) = workload.rate
            && figures.rate < SUSTAINED * f64::from(due)
        {
            remarks.push(Remark::Behind { rate: figures.rate, due });
        }
        if self.taken.lost > 0 {
            remarks.push(Remark::Lost { datagrams: self.taken.lost });
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;
    use std::thread;

    use load::Recorder;

    use super::*;
    use crate::workload;

    #[test]
    fn failures_are_distinguished_from_limits() {
        let full =
            || Full { held: 3, why: "the next one: -ERR max".to_owned() };
        let said = Fate {
            status: None,
            last_line: Some("no descriptor (EMFILE)".to_owned()),
        };
        let dead =
            Fate { status: Some(ExitStatus::from_raw(11)), last_line: None };
        let cannot =
            |why: &str, held| Outcome::Cannot { why: why.to_owned(), held };
        let outcome = |error: anyhow::Error, fate: &Fate| {
            Outcome::of_error_and_fate(&error, fate).unwrap()
        };
        let why = "accepted 3 connections; no descriptor (EMFILE)";
        assert_eq!(outcome(full().into(), &said), cannot(why, Some(3)));
        let why = "accepted 3 connections; the next one: -ERR max";
        let alive = Fate::default();
        assert_eq!(outcome(full().into(), &alive), cannot(why, Some(3)));
        // A server that has ended is not full.
        let ended = outcome(full().into(), &dead);
        assert!(matches!(ended, Outcome::Failed(_)), "{ended:?}");
        let error = Unsupported::Model("no io_uring: EPERM".to_owned());
        let unsupported = outcome(error.into(), &alive);
        assert_eq!(unsupported, cannot("no io_uring: EPERM", None));
        let wrong = outcome(anyhow::anyhow!("a wrong reply"), &dead);
        let Outcome::Failed(why) = wrong else { panic!() };
        assert!(why.starts_with("a wrong reply; the server ended"), "{why}");
        Outcome::of_error(&Interrupted.into()).unwrap_err();
    }

    /// Runs against a server that answers the first request with PONG, and all
    /// others with `reply`.
    fn outcome(reply: &'static [u8]) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Request::Ping.bytes();
            let mut next: &[u8] = b"+PONG\r\n";
            // Serves until the generator closes the connection.
            while stream.read_exact(&mut request).is_ok()
                && stream.write_all(next).is_ok()
            {
                next = reply;
            }
        });
        let script = format!("echo ready tcp={address}; exec sleep 60");
        let contender = Contender::scripted(&script);
        let workloads = workload::all().unwrap();
        let ping = workloads.iter().find(|w| w.name == "ping-1").unwrap();
        let span = Duration::from_millis(20);
        let spans = Spans { warm_up: span, measured: span };
        let attempt = run(&contender, ping, spans, Processors::default());
        server.join().unwrap();
        attempt.unwrap().outcome
    }

    #[test]
    fn a_wrong_reply_fails_the_run() {
        let right = outcome(b"+PONG\r\n");
        assert!(matches!(right, Outcome::Measured(_)), "{right:?}");
        let wrong = outcome(b"+PONK\r\n");
        let Outcome::Failed(why) = wrong else { panic!("{wrong:?}") };
        assert!(why.starts_with("a wrong reply: \"K"), "{why}");
    }

    /// Returns the remarks on one second in which the generator and the server
    /// used these fractions of a processor.
    fn remarks(
        load: &str,
        client: f64,
        server: f64,
        late: u64,
        lost: u64,
    ) -> Vec<Remark> {
        let mut taken = Recorder::start().unwrap().finish().unwrap();
        taken.elapsed = Duration::from_secs(1);
        taken.requests = 19_000;
        taken.client = Duration::from_secs_f64(client);
        (taken.late, taken.lost) = (late, lost);
        let before = Usage::default();
        let cpu = Duration::from_secs_f64(server);
        let after = Usage { cpu, threads: 1, ..before };
        let observation =
            Observation { taken, before, after, memory: None, held: 50 };
        let workloads = workload::all().unwrap();
        let workload = workloads.iter().find(|w| w.name == load).unwrap();
        let processors = Processors { count: 1, ..Processors::default() };
        observation.figures(workload, processors, 0).remarks
    }

    #[test]
    fn servers_that_compute_have_the_generators_processor_too() {
        let mut servers = CpuSet::new();
        servers.set(0).unwrap();
        let apart =
            Processors { servers: Some(servers), count: 1, generator: 1 };
        let workloads = workload::all().unwrap();
        let count = |name: &str| {
            let workload = workloads.iter().find(|w| w.name == name).unwrap();
            let Processors { servers, count, .. } = apart.under(workload);
            (servers.unwrap().is_set(1).unwrap(), count)
        };
        assert_eq!(count("spin-20"), (true, 2));
        assert_eq!(count("ping-50"), (false, 1));
        // There the generator never rests.
        assert_eq!(count("mixed"), (false, 1));
    }

    #[test]
    fn saturation_is_remarked() {
        let saturated = [Remark::Saturated];
        assert_eq!(remarks("ping-50", 0.97, 0.80, 0, 0), saturated);
        assert_eq!(remarks("ping-50", 0.97, 0.96, 0, 0), []);
        assert_eq!(remarks("ping-50", 0.90, 0.50, 0, 0), []);
        // In an open loop, late requests count, not saturation.
        let behind = Remark::Behind { rate: 19_000.0, due: 20_000 };
        assert_eq!(remarks("latency", 1.0, 0.3, 19, 0), [behind]);
        let late = Remark::Late { part: 0.01 };
        assert_eq!(remarks("latency", 1.0, 0.3, 190, 0), [late, behind]);
        let lost = Remark::Lost { datagrams: 2 };
        assert_eq!(remarks("udp", 0.90, 0.50, 0, 2), [lost]);
    }
}
