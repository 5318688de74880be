//! The planned measurements, their order, and their progress.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::Result;
use camino::Utf8Path;
use indicatif::{HumanDuration, ProgressBar};
use lab::number::some;
use lab::screen;
use load::interrupt::{self, Interrupted};

use super::abreast;
use super::contender::Contender;
use super::raw::{self, RunLog};
use super::results::{Outcome, Results, Run};
use super::trial::{self, Attempt, Processors, Spans};
use super::workload::Workload;

/// The approximate time to start and shut down a server.
const OVERHEAD: Duration = Duration::from_millis(150);

/// The approximate time to open and close a connection.
const PER_CONNECTION: Duration = Duration::from_micros(150);

/// Everything to measure.
#[derive(Debug)]
pub struct Plan {
    pub contenders: Vec<Contender>,
    pub workloads: Vec<Workload>,
    pub runs: usize,
    pub spans: Spans,
    pub order: Order,
}

/// Which servers are measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each server alone, one after the other.
    Alone,
    /// All servers take turns in one run.
    Together,
    /// Each server takes turns with the next one in the list.
    Pairs,
}

/// Servers that are measured together, and their load.
#[derive(Debug)]
struct Step<'a> {
    contenders: &'a [Contender],
    workload: Cow<'a, Workload>,
    number: usize,
}

impl Plan {
    pub fn start(&self, environment: Vec<(String, String)>) -> Results {
        Results {
            environment,
            servers: self.contenders.iter().map(Contender::server).collect(),
            workloads: self.workloads.clone(),
            runs: Vec::new(),
            missing: self.steps().iter().map(|s| s.contenders.len()).sum(),
        }
    }

    /// Formats the size of the comparison, and its estimated duration.
    pub fn announcement(&self) -> String {
        format!(
            "{}, {}, {} runs of {} s each: about {}.\n",
            some(self.contenders.len(), "server"),
            some(self.workloads.len(), "workload"),
            self.runs,
            self.spans.measured.as_secs_f64(),
            HumanDuration(self.estimate())
        )
    }

    fn estimate(&self) -> Duration {
        let one = |contender: &Contender, workload: &Workload| {
            if contender.declines(workload).is_some() {
                return Duration::ZERO;
            }
            let held = u32::try_from(workload.held()).unwrap_or(u32::MAX);
            let Spans { warm_up, measured } = self.spans;
            let twins = self.order == Order::Together && workload.idle > 0;
            let servers = if twins { 2 } else { 1 };
            (OVERHEAD + warm_up + measured) * servers + PER_CONNECTION * held
        };
        let all = |step: &Step<'_>| -> Duration {
            step.contenders.iter().map(|it| one(it, &step.workload)).sum()
        };
        self.steps().iter().map(all).sum()
    }

    /// Orders the steps: runs contain workloads, and workloads contain servers,
    /// so that slow changes of the machine affect all servers equally. Each run
    /// begins with another server, and every other run is reversed: the kernel
    /// may still be cleaning up after the previous server, so no server should
    /// always follow the same one.
    fn steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let together = match self.order {
            Order::Alone => 1,
            Order::Together => self.contenders.len().max(1),
            Order::Pairs => 2,
        };
        let sets: Vec<_> = self.contenders.chunks(together).collect();
        let count = sets.len();
        for number in 1..=self.runs {
            for workload in &self.workloads {
                for step in 0..count {
                    let backwards = number % 2 == 0;
                    let step = if backwards { count - step } else { step };
                    let contenders = sets[(number + step) % count];
                    let workload = self.adapt(workload, contenders);
                    steps.push(Step { contenders, workload, number });
                }
            }
        }
        steps
    }

    /// Reduces the load of a pair to as many connections as both serve. Alone,
    /// a server declines a load that has too many.
    fn adapt<'a>(
        &self,
        workload: &'a Workload,
        contenders: &[Contender],
    ) -> Cow<'a, Workload> {
        let most = contenders.iter().filter_map(Contender::most_clients).min();
        match most {
            Some(most) if self.order == Order::Pairs => {
                let connections = workload.connections.min(most);
                Cow::Owned(Workload { connections, ..workload.clone() })
            }
            _ => Cow::Borrowed(workload),
        }
    }

    /// Carries out all steps. After an interruption, the results and the file
    /// contain the runs before it.
    pub fn carry_out(
        &self,
        results: &mut Results,
        processors: Processors,
        folder: &Utf8Path,
    ) -> Result<()> {
        let raw = RunLog::create(&folder.join(self.file()))?;
        let mut progress = Progress::start(results.missing, self.runs);
        let mut record = Record { began: Instant::now(), raw, results };
        for step in self.steps() {
            if interrupt::is_wanted() {
                break;
            }
            progress.announce(&step);
            let from = record.began.elapsed();
            let Some(attempts) = self.attempt(&step, processors)? else {
                break;
            };
            record.add(&step, from, attempts)?;
            progress.bar.inc(step.contenders.len() as u64);
        }
        progress.bar.finish_and_clear();
        Ok(())
    }

    /// Returns the name of the file for the runs.
    fn file(&self) -> &'static str {
        if self.order == Order::Pairs { raw::PAIRS } else { raw::FILE }
    }

    /// Carries out a step. An error is an outcome of all its servers. Returns
    /// None if interrupted.
    fn attempt(
        &self,
        step: &Step<'_>,
        processors: Processors,
    ) -> Result<Option<Vec<Attempt>>> {
        let Step { contenders, workload, .. } = step;
        let spans = self.spans;
        let attempts = match self.order {
            Order::Alone => {
                trial::run(&contenders[0], workload, spans, processors)
                    .map(|attempt| vec![attempt])
            }
            Order::Together if workload.idle > 0 => {
                let run = abreast::run_with_twins;
                run(contenders, workload, spans, processors)
            }
            _ => abreast::run(contenders, workload, spans, processors),
        };
        match attempts {
            Ok(attempts) => Ok(Some(attempts)),
            Err(error) if error.is::<Interrupted>() => Ok(None),
            Err(error) => {
                let attempt = Attempt::from(Outcome::of_error(&error)?);
                Ok(Some(vec![attempt; contenders.len()]))
            }
        }
    }
}

/// The completed runs, in the results and in the file.
struct Record<'a> {
    began: Instant,
    raw: RunLog,
    results: &'a mut Results,
}

impl Record<'_> {
    /// Adds a run for each server of a step that began at `from`.
    fn add(
        &mut self,
        step: &Step<'_>,
        from: Duration,
        attempts: Vec<Attempt>,
    ) -> Result<()> {
        let took = (self.began.elapsed() - from).as_secs_f64();
        for (contender, attempt) in step.contenders.iter().zip(attempts) {
            let server = contender.title.clone();
            if let Some(command_line) = attempt.command_line {
                self.results.record_command(&server, command_line);
            }
            let run = Run {
                workload: step.workload.name.clone(),
                server,
                number: step.number,
                outcome: attempt.outcome,
            };
            self.raw.write(&run, from.as_secs_f64(), took)?;
            self.results.runs.push(run);
            self.results.missing -= 1;
        }
        Ok(())
    }
}

/// Shows the progress: a bar in a terminal, otherwise a line for each workload
/// of each run.
struct Progress {
    bar: ProgressBar,
    runs: usize,
    last_line: String,
}

impl Progress {
    fn start(steps: usize, runs: usize) -> Self {
        let bar = screen::progress(steps);
        Self { bar, runs, last_line: String::new() }
    }

    fn announce(&mut self, step: &Step<'_>) {
        let Step { contenders, workload, number } = step;
        let who = match contenders {
            [one] => &one.title,
            [one, _] => &format!("{} and its pair", one.title),
            _ => "all, in turns",
        };
        let name = &workload.name;
        self.bar.set_message(format!("{who}: {name}, run {number}"));
        let line = format!("{name}, run {number} of {}", self.runs);
        if self.bar.is_hidden() && line != self.last_line {
            eprintln!("{line}");
            self.last_line = line;
        }
    }
}

#[cfg(test)]
mod tests {
    use lab::model::Workspace;

    use super::super::{contender, workload};
    use super::*;

    fn plan(models: &[&str], runs: usize) -> Plan {
        let workspace = Workspace::load().unwrap();
        let models: Vec<_> = models.iter().map(|m| (*m).to_owned()).collect();
        let mut contenders =
            contender::contenders(&workspace, &models).unwrap();
        contenders.retain(|contender| contender.model().is_some());
        let mut workloads = workload::all().unwrap();
        workloads.truncate(2);
        let second = Duration::from_secs(1);
        let spans = Spans { warm_up: second / 5, measured: second };
        let order = Order::Alone;
        Plan { contenders, workloads, runs, spans, order }
    }

    #[test]
    fn each_run_has_every_load_on_every_server_once() {
        let plan = plan(&["multiplexing-epoll", "blocking"], 3);
        let mut steps: Vec<_> = plan
            .steps()
            .into_iter()
            .map(|step| {
                let title = step.contenders[0].title.clone();
                (step.number, step.workload.name.clone(), title)
            })
            .collect();
        let runs: Vec<_> = steps.iter().map(|step| step.0).collect();
        assert!(runs.is_sorted(), "runs overlap");
        assert_eq!(steps.len(), 4 * 2 * 3);
        steps.sort();
        steps.dedup();
        assert_eq!(steps.len(), 4 * 2 * 3);
    }

    #[test]
    fn no_server_always_follows_the_same_one() {
        let plan = plan(&[], 7);
        let count = plan.contenders.len();
        let steps = plan.steps();
        let order: Vec<Vec<_>> = steps
            .chunks(count)
            .map(|run| run.iter().map(|s| &s.contenders[0].title).collect())
            .collect();
        // A run has two workloads, of which only the first is checked.
        let order: Vec<_> = order.iter().step_by(2).collect();
        assert_eq!(order.len(), 7);
        for pair in order.windows(2) {
            assert_ne!(pair[0][0], pair[1][0], "two runs begin equally");
        }
        for contender in &plan.contenders {
            let before = order.iter().filter_map(|run| {
                let at = run.iter().position(|it| **it == contender.title)?;
                at.checked_sub(1).map(|before| run[before])
            });
            let mut before: Vec<_> = before.collect();
            before.sort();
            before.dedup();
            assert!(before.len() > 1, "{} follows {before:?}", contender.title);
        }
    }

    #[test]
    fn with_check_all_servers_share_every_run() {
        let mut plan = plan(&["multiplexing-epoll"], 3);
        plan.order = Order::Together;
        let steps = plan.steps();
        assert_eq!(steps.len(), 2 * 3);
        assert!(steps.iter().all(|step| step.contenders.len() == 3));
        assert_eq!(plan.start(Vec::new()).missing, 3 * 2 * 3);
        // A server with idle connections has a second instance without.
        let alone = plan.estimate();
        for workload in &mut plan.workloads {
            workload.idle = 1;
        }
        let turns = Duration::from_millis(1_350) * 3 * 2 * 3;
        let idle = PER_CONNECTION * 3 * 2 * 3;
        assert_eq!(plan.estimate(), alone + turns + idle);
    }

    #[test]
    fn declined_loads_take_no_time() {
        // The second workload has 50 connections, which blocking declines.
        let one = Duration::from_millis(1_350) + PER_CONNECTION;
        assert_eq!(plan(&["blocking"], 4).estimate(), one * 4);
    }
}
