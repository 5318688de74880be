//! Measures several servers in one run, in short turns.
//!
//! Other work on the machine comes and goes within fractions of a second, and
//! changes the cost of a request by more than the differences that count here.
//! If the servers take turns of hundredths of a second, it disturbs all of them
//! equally.

use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use load::closed::Closed;
use load::datagrams::{Datagrams, senders};
use load::interrupt::{self, Interrupted};
use load::short::Short;
use load::{Measurement, Script};

use super::contender::Contender;
use super::results::Outcome;
use super::serving::Serving;
use super::trial::{
    Attempt, Observation, Processors, Spans, hold, lacks_descriptors,
};
use super::usage::Usage;
use super::workload::{Load, Workload};

/// The length of a turn, in which thousands of requests fit.
const TURN: Duration = Duration::from_millis(20);

/// One server, the connections to it, and its figures so far.
#[derive(Debug)]
struct Runner<'a> {
    title: &'a str,
    workload: &'a Workload,
    server: Serving,
    script: Script,
    connections: Vec<TcpStream>,
    senders: Vec<UdpSocket>,
    memory: Option<(f64, f64)>,
    taken: Option<Measurement>,
    /// The usage during its own turns.
    usage: Usage,
}

/// Starts all servers, loads them in turns until each has been measured for its
/// time, and shuts them down. Fails if any server fails. Measures none if one
/// doesn't support the load.
pub fn run(
    contenders: &[Contender],
    workload: &Workload,
    spans: Spans,
    processors: Processors,
) -> Result<Vec<Attempt>> {
    let declined = contenders.iter().find_map(|it| it.declines(workload));
    let lacks = lacks_descriptors(workload.held() * contenders.len())?;
    if let Some(why) = declined.or(lacks) {
        let attempt = Attempt::from(Outcome::Cannot { why, held: None });
        return Ok(vec![attempt; contenders.len()]);
    }
    let all = contenders.iter();
    let all = all.map(|it| Runner::start(it, workload, processors));
    let mut all: Vec<_> = all.collect::<Result<_>>()?;
    take_turns(&mut all, spans)?;
    all.into_iter().map(|it| it.finish(processors)).collect()
}

/// Loads each server in turns with a second instance of it that has no idle
/// connections.
pub fn run_with_twins(
    contenders: &[Contender],
    workload: &Workload,
    spans: Spans,
    processors: Processors,
) -> Result<Vec<Attempt>> {
    let without = Workload { idle: 0, ..workload.clone() };
    let with_twin = |contender| {
        let start = |workload| Runner::start(contender, workload, processors);
        let mut pair = [start(workload)?, start(&without)?];
        take_turns(&mut pair, spans)?;
        let [with, without] = pair.map(|runner| runner.finish(processors));
        let (mut attempt, without) = (with?, without?);
        if let (Outcome::Measured(with), Outcome::Measured(without)) =
            (&mut attempt.outcome, &without.outcome)
        {
            with.alone = Some(without.cpu);
        }
        Ok(attempt)
    };
    contenders.iter().map(with_twin).collect()
}

fn take_turns(runners: &mut [Runner<'_>], spans: Spans) -> Result<()> {
    for runner in runners.iter_mut() {
        runner.load(spans.warm_up)?;
    }
    let turns = spans.measured.as_nanos().div_ceil(TURN.as_nanos());
    for turn in 0..turns {
        interrupt::check()?;
        // Alternate the order, so that no server always follows the same one.
        if turn % 2 == 0 {
            runners.iter_mut().try_for_each(Runner::take_turn)?;
        } else {
            runners.iter_mut().rev().try_for_each(Runner::take_turn)?;
        }
    }
    Ok(())
}

impl<'a> Runner<'a> {
    fn start(
        contender: &'a Contender,
        workload: &'a Workload,
        processors: Processors,
    ) -> Result<Self> {
        let server = Serving::start(contender, workload, processors.servers)?;
        let script = Script::new(workload.request, workload.pipeline);
        let mut runner = Self {
            title: &contender.title,
            workload,
            server,
            script,
            connections: Vec::new(),
            senders: Vec::new(),
            memory: None,
            taken: None,
            usage: Usage::default(),
        };
        match runner.connect() {
            Ok(()) => Ok(runner),
            Err(error) => Err(runner.failed(error)),
        }
    }

    /// Opens the connections of the load.
    fn connect(&mut self) -> Result<()> {
        let Self { workload, server, script, connections, .. } = self;
        match workload.load {
            Load::Closed | Load::Round => {
                self.memory =
                    hold(server, script, connections, workload.held())?;
            }
            Load::Datagrams => {
                self.senders = senders(server.address, workload.connections)?;
            }
            Load::Short => {}
            Load::Open => bail!("an open load can't be measured in turns"),
        }
        Ok(())
    }

    fn take_turn(&mut self) -> Result<()> {
        let before = self.server.usage();
        let taken = self.load(TURN)?;
        self.usage.grow(before, self.server.usage());
        self.taken = Some(match self.taken.take() {
            Some(earlier) => earlier.and(&taken)?,
            None => taken,
        });
        Ok(())
    }

    /// Applies the load for this long.
    fn load(&mut self, span: Duration) -> Result<Measurement> {
        self.driven(span).map_err(|error| self.failed(error))
    }

    fn driven(&self, span: Duration) -> Result<Measurement> {
        let Self { workload, server, script, connections, .. } = self;
        let count = workload.connections;
        match workload.load {
            Load::Short => {
                let most = workload.total;
                Short::new(server.address, script, count, most)?.run(span)
            }
            Load::Datagrams => Datagrams::new(&self.senders, script)?.run(span),
            _ => {
                let (active, busy) = (&connections[..count], workload.busy);
                let (pipeline, busy) =
                    (workload.pipeline, busy.unwrap_or(count));
                Closed::new(active, script, pipeline, busy)?.run(span)
            }
        }
    }

    /// Adds the server's name and state to an error.
    fn failed(&mut self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Interrupted>() {
            return error;
        }
        anyhow!("{}: {error:#}{}", self.title, self.server.fate())
    }

    fn finish(self, processors: Processors) -> Result<Attempt> {
        let Self { workload, server, memory, taken, usage, .. } = self;
        let command_line = Some(server.command_line.clone());
        server.stop().with_context(|| self.title.to_owned())?;
        let observation = Observation {
            taken: taken.context("no turn")?,
            before: Usage::default(),
            after: usage,
            memory,
            held: workload.held(),
        };
        let figures = observation.figures(workload, processors, usage.switches);
        Ok(Attempt { outcome: Outcome::Measured(figures), command_line })
    }
}
