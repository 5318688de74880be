//! Runs cases on threads, several at a time, and gathers how they ended.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nix::sys::resource::{Resource, getrlimit};

use super::case::{Outcome, Phase, Step, Subject, Surroundings, Trial};
use super::groups::GROUPS;
use super::report::{Report, Row};
use super::skip::Skip;

/// Descriptors for a case that asks for none: what two servers and some
/// hundred clients take.
const ORDINARY: usize = 512;

/// Makes all cases of all subjects whose names contain `filter`.
pub fn steps(subjects: &[Arc<Subject>], filter: Option<&str>) -> Vec<Step> {
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
    steps.retain(|step| filter.is_none_or(|f| step.name().contains(f)));
    steps
}

/// Runs the steps, `jobs` at a time.
pub fn run<'a>(
    steps: &'a [Step],
    jobs: usize,
    around: &Arc<Surroundings>,
) -> Result<Report<'a>> {
    let (cases, seed) = (steps.len(), around.seed);
    println!(
        "{cases} cases, {jobs} at a time, random streams from seed {seed}"
    );
    let bar = bar(cases);
    let started = Instant::now();
    let mut report = Report::new(steps);
    for (phase, jobs) in [(Phase::Together, jobs.max(1)), (Phase::Alone, 1)] {
        run_phase(in_order(steps, phase), jobs, around, &bar, |row| {
            bar.inc(1);
            if let Outcome::Failed(story) = &row.outcome {
                bar.suspend(|| show_failure(row.step, story));
            }
            report.add(row);
        })?;
    }
    bar.finish_and_clear();
    report.took = started.elapsed();
    Ok(report)
}

/// The steps of a phase in the order in which they begin: crowds first, for
/// they take longest, then each case on every subject, so that what runs side
/// by side are different models. Several that never wait would leave no
/// processor to each other.
fn in_order(steps: &[Step], phase: Phase) -> Vec<&Step> {
    let mut turns = BTreeMap::new();
    let mut ordered = Vec::new();
    for step in steps {
        if step.case.phase_for(&step.subject) == phase {
            let turn = turns.entry(step.subject.title()).or_insert(0);
            *turn += 1;
            ordered.push((Reverse(step.case.crowd), *turn, step));
        }
    }
    ordered.sort_by_key(|(crowd, turn, _)| (*crowd, *turn));
    ordered.into_iter().map(|(.., step)| step).collect()
}

/// Runs steps on `jobs` threads. All crowds together get the descriptors that
/// this process has to spare: a step with a crowd begins when there are enough
/// for it, and others overtake it.
fn run_phase<'a>(
    mut waiting: Vec<&'a Step>,
    jobs: usize,
    around: &Arc<Surroundings>,
    bar: &ProgressBar,
    mut add: impl FnMut(Row<'a>),
) -> Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = limit.saturating_sub(jobs * ORDINARY);
    let (begin, begun) = mpsc::channel::<&Step>();
    let begun = Mutex::new(begun);
    let next = || begun.lock().unwrap_or_else(PoisonError::into_inner).recv();
    thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        for _ in 0..jobs {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                while let Ok(step) = next() {
                    let _ = sender.send(attempt(step, room, around));
                }
            });
        }
        // A crowd that never fits needs none: it is skipped.
        let needs = |step: &Step| step.case.crowd.min(room);
        let (mut running, mut free) = (Vec::new(), room);
        loop {
            while running.len() < jobs
                && let Some(index) =
                    waiting.iter().position(|step| needs(step) <= free)
            {
                let step = waiting.remove(index);
                free -= needs(step);
                running.push(step);
                begin.send(step).ok().context("no thread is left")?;
            }
            if running.is_empty() {
                drop(begin);
                return Ok(());
            }
            let names: Vec<_> = running.iter().map(|it| it.name()).collect();
            bar.set_message(names.join(", "));
            let row = ended.recv().context("no thread is left")?;
            free += needs(row.step);
            running.retain(|step| !std::ptr::eq(*step, row.step));
            add(row);
        }
    })
}

/// Runs one step. Whatever happens in it, its servers are gone afterwards.
fn attempt<'a>(
    step: &'a Step,
    room: usize,
    around: &Arc<Surroundings>,
) -> Row<'a> {
    let started = Instant::now();
    let crowd = step.case.crowd;
    let outcome = if crowd > room {
        Outcome::Skipped(format!(
            "takes {crowd} clients, and the limit of open files (ulimit -Hn) \
             leaves room for {room}"
        ))
    } else {
        run_case(step, &Trial::new(&step.subject, around))
    };
    Row { step, outcome, took: started.elapsed() }
}

fn run_case(step: &Step, trial: &Trial) -> Outcome {
    let result = panic::catch_unwind(AssertUnwindSafe(|| step.case.run(trial)));
    let error = match result {
        Ok(Ok(())) => return Outcome::Passed,
        Ok(Err(error)) => error,
        Err(_) => anyhow::anyhow!("the case itself panicked"),
    };
    match error.downcast_ref() {
        Some(Skip(reason)) => Outcome::Skipped(reason.clone()),
        None => Outcome::Failed(story(step, trial, &error)),
    }
}

/// Tells what a person needs to understand a failure and to see it again.
fn story(step: &Step, trial: &Trial, error: &anyhow::Error) -> String {
    /// Enough for any story.
    const MOST_LINES: usize = 200;

    let mut story = format!("{error:#}\n");
    for server in trial.servers.all() {
        // What it is about to say belongs to the story.
        thread::sleep(Duration::from_millis(20));
        story += &format!("server: {}\n", server.command_line);
        story += &format!("        {}\n", server.fate());
        let said = server.stderr().text();
        let surplus = said.lines().count().saturating_sub(MOST_LINES);
        for line in said.lines().skip(surplus) {
            story += &format!("stderr: {line}\n");
        }
    }
    story + &format!("again:  {}", step.command_line())
}

fn show_failure(step: &Step, story: &str) {
    println!("FAILED {}", step.name());
    for line in story.lines() {
        println!("    {line}");
    }
    println!();
}

/// One line at the bottom of the terminal: what is running, and what is left.
fn bar(steps: usize) -> ProgressBar {
    // Hidden by indicatif itself where standard error is no terminal.
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    let style = ProgressStyle::with_template("{pos}/{len} {wide_msg}");
    bar.set_style(style.unwrap_or(ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
