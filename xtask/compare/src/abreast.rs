//! Measures several servers in one run, in short turns, for `--check`.
//!
//! Other work on the machine comes and goes within fractions of a second, and
//! changes the cost of a request by more than `--check` allows. If the servers
//! take turns of hundredths of a second, it disturbs all of them equally.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use load::closed::Closed;
use load::connection::bring;
use load::interrupt::{self, Interrupted};
use load::{Measurement, Script};

use super::contender::Contender;
use super::results::Outcome;
use super::serving::Serving;
use super::trial::{Attempt, Observation, Processors, Spans};
use super::usage::Usage;
use super::workload::Workload;

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
    taken: Option<Measurement>,
    /// The usage during its own turns.
    usage: Usage,
}

/// Starts all servers, loads them in turns until each has been measured for its
/// time, and shuts them down. With idle connections, each server instead takes
/// turns with a second instance that has none. Fails if any server fails.
///
/// The workload must be a closed loop.
pub fn run(
    contenders: &[Contender],
    workload: &Workload,
    spans: Spans,
    processors: Processors,
) -> Result<Vec<Attempt>> {
    let start =
        |contender, workload| Runner::start(contender, workload, processors);
    let finish = |runner: Runner<'_>| runner.finish(processors);
    if workload.idle == 0 {
        let all = contenders.iter().map(|it| start(it, workload));
        let mut all: Vec<_> = all.collect::<Result<_>>()?;
        take_turns(&mut all, spans)?;
        return all.into_iter().map(finish).collect();
    }
    let without = Workload { idle: 0, ..workload.clone() };
    let with_twin = |contender| {
        let mut pair =
            [start(contender, workload)?, start(contender, &without)?];
        take_turns(&mut pair, spans)?;
        let [with, without] = pair.map(finish);
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
        runner.closed(spans.warm_up)?;
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
            taken: None,
            usage: Usage::default(),
        };
        let Self { server, script, connections, .. } = &mut runner;
        let brought =
            bring(server.address, script, connections, workload.held());
        match brought {
            Ok(()) => Ok(runner),
            Err(error) => Err(runner.failed(error)),
        }
    }

    fn take_turn(&mut self) -> Result<()> {
        let before = self.server.usage();
        let taken = self.closed(TURN)?;
        self.usage.grow(before, self.server.usage());
        self.taken = Some(match self.taken.take() {
            Some(earlier) => earlier.and(&taken)?,
            None => taken,
        });
        Ok(())
    }

    fn closed(&mut self, span: Duration) -> Result<Measurement> {
        let Self { workload, script, connections, .. } = self;
        let active = &connections[..workload.connections];
        let closed =
            Closed::new(active, script, workload.pipeline, active.len());
        let taken = closed.and_then(|mut closed| closed.run(span));
        taken.map_err(|error| self.failed(error))
    }

    /// Adds the server's name and state to an error.
    fn failed(&mut self, error: anyhow::Error) -> anyhow::Error {
        if error.is::<Interrupted>() {
            return error;
        }
        anyhow!("{}: {error:#}{}", self.title, self.server.fate())
    }

    fn finish(self, processors: Processors) -> Result<Attempt> {
        let Self { workload, server, taken, usage, .. } = self;
        let command_line = Some(server.command_line.clone());
        server.stop().with_context(|| self.title.to_owned())?;
        let observation = Observation {
            taken: taken.context("no turn")?,
            before: Usage::default(),
            after: usage,
            memory: None,
            held: workload.held(),
        };
        let figures = observation.figures(workload, processors, usage.switches);
        Ok(Attempt { outcome: Outcome::Measured(figures), command_line })
    }
}
