//! How a model learns of the data, and in which call it is copied.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::promises::WaitsIn::{IoUringEnter, Signals};

use super::invocation::Invocation;
use super::{BOTH, Rule, TCP, UDP, waits_for_readiness};
use crate::calls::Family;
use crate::figure::{Column, Learning};
use crate::scene::Recording;
use crate::steps::{Deed, Step, defers_copies, is_delivered};

pub const RULES: &[Rule] = &[
    Rule {
        name: "learns_when_its_wait_returns",
        applies_to: |it| waits_for_readiness(it) && it.is_one_thread(),
        transports: TCP,
        why: "a thread learns of a queued signal as it does of an entry in a \
              ready list, when the call it waits in returns",
        check: learns_when_its_wait_returns,
    },
    Rule {
        name: "learns_by_signal",
        applies_to: |it| it.waits_in == Signals,
        transports: BOTH,
        why: "data is received because a signal names its socket",
        check: learns_by_signal,
    },
    Rule {
        name: "handler_runs_inside_the_wait",
        applies_to: |it| it.waits_in == Signals,
        transports: UDP,
        why: "SIGUSR1 is unblocked inside ppoll(2) only, so that its handler \
              interrupts no other code",
        check: handler_runs_inside_the_wait,
    },
    Rule {
        name: "copies_inside_enter",
        applies_to: |it| it.waits_in == IoUringEnter,
        transports: BOTH,
        why: "one call per round waits, copies and reports; no other call \
              receives, and IORING_SETUP_DEFER_TASKRUN leaves the copy to \
              io_uring_enter(2)",
        check: copies_inside_enter,
    },
];

/// Checks the trace, and that the figure shows the same.
fn learns_when_its_wait_returns(scene: &Recording) -> Result<()> {
    let copier = scene.copier()?;
    let wait = scene
        .in_silence()
        .find(|made| made.waits_for_events() && made.step.tid == copier.tid);
    let wait = wait.with_context(|| {
        format!("{} was in no wait when the data came", scene.who(copier.tid))
    })?;
    let returned = wait.step.until.is_some_and(|until| until <= copier.at);
    ensure!(returned, "it receives before {} returns", wait.call.name);
    // Finds a signal about a socket that interrupted the server.
    let handled = scene.with_client().find(|step| {
        let about = step.signal().and_then(|(_, role)| role);
        about.is_some() && is_delivered(&scene.steps, step)
    });
    if let Some(signal) = handled {
        let who = scene.who(signal.tid);
        anyhow::bail!("a handler runs on {who}: its signal is not blocked");
    }
    let column = Column::new("", &with_long_silence(scene));
    let account = column.context("the figure shows no request")?.account;
    let call = wait.call.name;
    let returns =
        matches!(account.learns, Learning::Return(it, _) if it == call);
    ensure!(
        account.waits.main == Some(call) && returns,
        "the figure says otherwise: {}",
        account.sentences().join("; ")
    );
    Ok(())
}

/// Returns the scene with 100 ms more of silence. In the suite, the client is
/// silent for so short a time that the figure would show no wait.
fn with_long_silence(scene: &Recording) -> Recording {
    let sending = scene.marks.sending;
    let earlier = |at: Duration| match at < sending {
        true => at.saturating_sub(Duration::from_millis(100)),
        false => at,
    };
    let mut scene = scene.clone();
    for step in &mut scene.steps {
        step.at = earlier(step.at);
        step.until = step.until.map(earlier);
    }
    scene.marks.connecting = earlier(scene.marks.connecting);
    scene
}

fn learns_by_signal(scene: &Recording) -> Result<()> {
    let copier = scene.copier()?;
    let socket = Invocation::of(copier).and_then(|made| made.call.role());
    let learns = scene.with_client().any(|step| {
        step.signal().is_some_and(|(_, role)| role == socket)
            && (scene.marks.sending..=copier.at).contains(&step.at)
    });
    ensure!(
        learns,
        "{} receives the request, and no signal has named its socket",
        scene.who(copier.tid)
    );
    Ok(())
}

/// Checks all handlers, including that of the signal that the program sends
/// itself at start-up, outside of ppoll(2).
fn handler_runs_inside_the_wait(scene: &Recording) -> Result<()> {
    let is_delivered = |step: &&Step| {
        step.signal().is_some_and(|(it, _)| it.number == libc::SIGUSR1)
            && is_delivered(&scene.steps, step)
    };
    let mut handled = 0;
    for signal in scene.steps.iter().filter(is_delivered) {
        let before = scene
            .steps
            .iter()
            .filter(|step| step.tid == signal.tid && step.at < signal.at);
        let mut calls = before.filter_map(Invocation::of);
        let last = calls.next_back().context("no call is interrupted")?;
        ensure!(
            last.is(Family::Readiness),
            "a signal interrupts {} after {}",
            scene.who(signal.tid),
            last.call.name
        );
        handled += 1;
    }
    ensure!(handled > 0, "no handler runs");
    Ok(())
}

fn copies_inside_enter(scene: &Recording) -> Result<()> {
    ensure!(
        defers_copies(&scene.steps),
        "io_uring_setup is called without IORING_SETUP_DEFER_TASKRUN"
    );
    scene.never(|made| made.is(Family::Receive) && made.is_about_client())?;
    let mut received = 0;
    for step in scene.with_client() {
        let Deed::Completed(done) = &step.deed else { continue };
        if done.receives() {
            ensure!(
                done.inside,
                "{} of {} is complete before io_uring_enter is called",
                done.operation.name,
                done.role
            );
            received += 1;
        }
    }
    ensure!(received > 0, "no receive is completed");
    Ok(())
}
