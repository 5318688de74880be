//! Runs cases on threads, several at a time, and collects their outcomes.

use std::cmp::Reverse;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use lab::screen;
use nix::sys::resource::{Resource, getrlimit};

use super::case::{Outcome, Step, Surroundings, Trial};
use super::groups::GROUPS;
use super::report::{Report, Row};
use super::skip::Skip;
use super::subject::Subject;

/// The descriptors reserved for a case without a crowd: enough for two servers
/// and some hundred clients.
const ORDINARY: usize = 512;

/// The descriptors reserved for a case that mostly waits and runs meanwhile: it
/// has fifty clients at most.
const WAITING: usize = 128;

/// Returns the steps of all subjects whose full names contain `filter`.
pub fn steps(subjects: &[Arc<Subject>], filter: Option<&str>) -> Vec<Step> {
    let mut steps = Vec::new();
    for subject in subjects {
        let mut number = 0;
        for (group, cases) in GROUPS {
            for case in cases().into_iter().filter(|case| case.is_for(subject))
            {
                let subject = Arc::clone(subject);
                steps.push(Step { subject, group, case, number });
                number += 1;
            }
        }
    }
    steps.retain(|step| filter.is_none_or(|f| step.name().contains(f)));
    steps
}

/// Runs the steps, `jobs` at a time, and afterwards those that must run alone.
/// Cases that mostly wait run meanwhile, half as many at a time: on the threads
/// of the others they would leave processors idle.
pub fn run<'a>(
    steps: &'a [Step],
    jobs: usize,
    around: &Arc<Surroundings>,
) -> Result<Report<'a>> {
    let (cases, seed) = (steps.len(), around.seed);
    println!(
        "{cases} cases, {jobs} at a time, random streams from seed {seed}"
    );
    let bar = screen::progress(cases);
    let started = Instant::now();
    let jobs = jobs.max(1);
    let (alone, together): (Vec<_>, Vec<_>) =
        steps.iter().partition(|step| step.is_alone());
    let (waits, mut works): (Vec<_>, Vec<_>) =
        together.into_iter().partition(|step| step.case.waits && jobs > 1);
    // Crowds come first, because they take longest. Then each case runs on
    // every subject, so that different models run side by side: several that
    // never wait would leave no CPU to each other.
    works.sort_by_key(|step| (Reverse(step.case.crowd), step.number));
    let phase = |steps, jobs| run_phase(steps, jobs, around, &bar);
    let mut rows = thread::scope(|scope| {
        let waiting = scope.spawn(|| phase(waits, jobs.div_ceil(2)));
        let mut rows = phase(works, jobs)?;
        rows.extend(waiting.join().ok().context("the suite panicked")??);
        anyhow::Ok(rows)
    })?;
    rows.extend(phase(alone, 1)?);
    bar.finish_and_clear();
    Ok(Report { rows, took: started.elapsed() })
}

/// The steps not yet started, and the descriptors that no crowd uses.
struct Queue<'a> {
    waiting: Vec<&'a Step>,
    free: usize,
}

/// Runs steps on `jobs` threads. All crowds share the descriptors that this
/// process can spare: a step with a crowd starts when there are enough for it,
/// and other steps may overtake it.
fn run_phase<'a>(
    waiting: Vec<&'a Step>,
    jobs: usize,
    around: &Arc<Surroundings>,
    bar: &ProgressBar,
) -> Result<Vec<Row<'a>>> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = limit.saturating_sub(jobs * (ORDINARY + WAITING));
    // A crowd that never fits starts when all are free, and is skipped.
    let needs = |step: &Step| step.case.crowd.min(room);
    let queue = Mutex::new(Queue { waiting, free: room });
    let freed = Condvar::new();
    let lock = || queue.lock().unwrap_or_else(PoisonError::into_inner);
    let next = || {
        let mut queue = lock();
        while !queue.waiting.is_empty() {
            let fits = |step: &&Step| needs(step) <= queue.free;
            if let Some(index) = queue.waiting.iter().position(fits) {
                let step = queue.waiting.remove(index);
                queue.free -= needs(step);
                return Some(step);
            }
            queue = freed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        None
    };
    let work = || {
        let mut rows = Vec::new();
        while let Some(step) = next() {
            bar.set_message(step.name());
            let row = attempt(step, room, around);
            if let Outcome::Failed(story) = &row.outcome {
                bar.suspend(|| show_failure(step, story));
            }
            bar.inc(1);
            rows.push(row);
            lock().free += needs(step);
            freed.notify_all();
        }
        rows
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut rows = Vec::new();
        for thread in threads {
            let theirs = thread.join().ok().context("the suite panicked")?;
            rows.extend(theirs);
        }
        Ok(rows)
    })
}

/// Runs one step. Its servers have ended afterwards, even if it fails.
fn attempt<'a>(
    step: &'a Step,
    room: usize,
    around: &Arc<Surroundings>,
) -> Row<'a> {
    let started = Instant::now();
    let crowd = step.case.crowd;
    let outcome = if crowd > room {
        Outcome::Skipped(format!(
            "needs {crowd} clients, but the open file limit (ulimit -Hn) \
             leaves room for {room}"
        ))
    } else {
        run_case(step, &Trial::new(&step.subject, around, crowd))
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

/// Formats what a person needs to understand a failure and to repeat it.
fn story(step: &Step, trial: &Trial, error: &anyhow::Error) -> String {
    /// Enough for any failure.
    const MOST_LINES: usize = 200;

    let mut story = format!("{error:#}\n");
    for server in trial.servers.all() {
        // Waits for a message that the server is about to write.
        thread::sleep(Duration::from_millis(20));
        story += &format!("server: {}\n", server.command_line);
        story += &format!("        {}\n", server.fate());
        let said = server.stderr.text();
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
