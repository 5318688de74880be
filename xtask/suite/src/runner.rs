//! Runs cases on threads, several at a time, and gathers how they ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::case::{Outcome, Phase, Step, Subject, Surroundings, Trial};
use super::groups::GROUPS;
use super::progress::Progress;
use super::queue::Queue;
use super::report::{Report, Row};
use super::skip::Skip;

/// Everything to be run.
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    /// All cases of all subjects whose names contain `filter`.
    pub fn new(subjects: &[Arc<Subject>], filter: Option<&str>) -> Self {
        let mut steps = Vec::new();
        for subject in subjects {
            for (group, cases) in GROUPS {
                let cases = cases().into_iter().filter(|c| c.is_for(subject));
                steps.extend(cases.map(|case| Step {
                    subject: Arc::clone(subject),
                    group,
                    case,
                }));
            }
        }
        let chosen =
            |step: &Step| filter.is_none_or(|f| step.name().contains(f));
        steps.retain(chosen);
        Self { steps }
    }

    pub fn list(&self) -> ExitCode {
        for step in &self.steps {
            println!("{}", step.name());
        }
        ExitCode::SUCCESS
    }

    /// The steps of a phase in the order in which they begin: crowds first,
    /// for they take longest, then each case on every subject, so that what
    /// runs side by side are different models. Several that never wait would
    /// leave no processor to each other.
    fn of_phase(&self, phase: Phase) -> VecDeque<&Step> {
        let mut seen = BTreeMap::new();
        let mut steps: Vec<_> = self
            .steps
            .iter()
            .filter(|step| step.case.phase_for(&step.subject) == phase)
            .map(|step| {
                let turn = seen.entry(step.subject.title()).or_insert(0);
                *turn += 1;
                (Reverse(step.case.crowd), *turn, step)
            })
            .collect();
        steps.sort_by_key(|(crowd, turn, _)| (*crowd, *turn));
        steps.into_iter().map(|(.., step)| step).collect()
    }
}

/// Runs the plan on `jobs` threads.
pub fn run(
    plan: &Plan,
    jobs: usize,
    around: &Arc<Surroundings>,
) -> Result<Report> {
    let (cases, seed) = (plan.steps.len(), around.seed);
    println!(
        "{cases} cases, {jobs} at a time, random streams from seed {seed}"
    );
    let progress = Progress::new(cases);
    let started = Instant::now();
    let mut report = Report::new(&plan.steps);
    for (phase, jobs) in [(Phase::Together, jobs), (Phase::Alone, 1)] {
        let queue = Queue::new(plan.of_phase(phase), jobs)?;
        let (sender, ended) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                let sender = sender.clone();
                scope.spawn(|| work(&queue, around, &progress, sender));
            }
            drop(sender);
            for row in ended {
                progress.ended(&row);
                report.add(row);
            }
        });
    }
    progress.close();
    report.took = started.elapsed();
    Ok(report)
}

fn work(
    queue: &Queue<'_>,
    around: &Arc<Surroundings>,
    progress: &Progress,
    sender: mpsc::Sender<Row>,
) {
    while let Some(step) = queue.next() {
        progress.started(step);
        let started = Instant::now();
        let outcome = match queue.lacks(step) {
            Some(lack) => Outcome::Skipped(lack),
            None => attempt(step, around),
        };
        let took = started.elapsed();
        queue.ended(step);
        let row = Row { step: step.clone(), outcome, took };
        if sender.send(row).is_err() {
            return;
        }
    }
}

/// Runs one step. Whatever happens in it, its servers are gone afterwards.
fn attempt(step: &Step, around: &Arc<Surroundings>) -> Outcome {
    let trial = Trial::new(&step.subject, around);
    let result =
        panic::catch_unwind(AssertUnwindSafe(|| step.case.run(&trial)));
    let error = match result {
        Ok(Ok(())) => return Outcome::Passed,
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("the case itself panicked"),
    };
    match error.downcast_ref() {
        Some(Skip(reason)) => Outcome::Skipped(reason.clone()),
        None => Outcome::Failed(story(step, &trial, &error)),
    }
}

/// What a person needs to understand a failure and to see it again.
fn story(step: &Step, trial: &Trial, error: &anyhow::Error) -> String {
    let mut story = format!("{error:#}\n");
    for server in trial.servers.all() {
        // What it is about to say belongs to the story.
        thread::sleep(Duration::from_millis(20));
        story += &format!("server: {}\n", server.command_line);
        story += &format!("        {}\n", server.fate());
        for line in server.stderr().text().lines() {
            story += &format!("stderr: {line}\n");
        }
    }
    story + &format!("again:  {}", step.command_line())
}
