//! Rules about what a model registers with the kernel, and submits to it.

use anyhow::{Result, ensure};
use lab::promises::Reports::{Edge, Level, Oneshot};
use lab::promises::WaitsIn::IoUringEnter;
use lab::promises::{Promises, Reports, WaitsIn};
use nix::unistd::Pid;

use super::invocation::Invocation;
use super::{BOTH, Rule, TCP};
use crate::call::Registration;
use crate::calls::Family;
use crate::role::Role;
use crate::scene::Recording;
use crate::steps::Deed;

pub const RULES: &[Rule] = &[
    Rule {
        name: "registers_once",
        applies_to: |it| in_epoll(it, Level) || in_epoll(it, Edge),
        transports: TCP,
        why: "a socket is added to epoll once, and is never re-armed",
        check: registers_once,
    },
    Rule {
        name: "registers_for_levels",
        applies_to: |it| in_epoll(it, Level),
        transports: TCP,
        why: "a socket is reported whenever it is ready",
        check: |scene| {
            let other = libc::EPOLLET | libc::EPOLLONESHOT;
            scene.never(|made| {
                registration(made).is_some_and(|how| how.asks_for(other))
            })
        },
    },
    Rule {
        name: "registers_for_edges",
        applies_to: |it| in_epoll(it, Edge),
        transports: TCP,
        why: "a socket is reported when something new has happened",
        check: |scene| {
            scene.never(|made| {
                registration(made)
                    .is_some_and(|how| !how.asks_for(libc::EPOLLET))
            })
        },
    },
    Rule {
        name: "rearms_after_each_report",
        applies_to: |it| in_epoll(it, Oneshot),
        transports: TCP,
        why: "a report disarms the socket: without another epoll_ctl(2) it \
              would be the last",
        check: rearms,
    },
    Rule {
        name: "reads_until_empty",
        applies_to: |it| it.reports == Some(Edge),
        transports: TCP,
        why: "what is left unread is not reported again",
        check: reads_until_empty,
    },
    Rule {
        name: "transfers_are_operations",
        applies_to: |it| it.waits_in == IoUringEnter,
        transports: BOTH,
        why: "accept, receive and send are operations of the ring; no system \
              call of these names is made",
        check: transfers_are_operations,
    },
    Rule {
        name: "one_call_per_round",
        applies_to: |it| it.waits_in == IoUringEnter,
        transports: BOTH,
        why: "io_uring_enter(2) submits operations and waits for completions; \
              between a request and its reply no other call is made",
        check: one_call_per_round,
    },
    Rule {
        name: "one_receive_for_all",
        applies_to: |it| it.waits_in == IoUringEnter,
        transports: BOTH,
        why: "a multishot receive is submitted once",
        check: one_receive,
    },
];

fn in_epoll(promises: &Promises, reports: Reports) -> bool {
    promises.waits_in == WaitsIn::EpollWait && promises.reports == Some(reports)
}

/// Returns how the call registers a client: it adds it to the interest list, or
/// modifies its entry.
fn registration<'a>(made: &Invocation<'a>) -> Option<&'a Registration> {
    let how = made.call.registration()?;
    let is_client = matches!(how.role, Role::Client(_));
    (is_client && how.operation != libc::EPOLL_CTL_DEL).then_some(how)
}

fn registers_once(scene: &Recording) -> Result<()> {
    let calls = scene.calls();
    let all: Vec<_> = calls.filter(|it| registration(it).is_some()).collect();
    ensure!(!all.is_empty(), "no epoll_ctl adds the client");
    if let Some(again) = all.get(1) {
        anyhow::bail!("{} again", scene.describe(again));
    }
    Ok(())
}

fn rearms(scene: &Recording) -> Result<()> {
    let mut disarmed: Vec<(Pid, &Role)> = Vec::new();
    let mut reports = 0;
    for (moment, made) in in_order(scene) {
        let (call, thread) = (made.call, made.step.tid);
        if let Some(how) = registration(&made) {
            ensure!(
                how.asks_for(libc::EPOLLONESHOT),
                "{}, without EPOLLONESHOT",
                scene.describe(&made)
            );
            disarmed.retain(|(_, role)| **role != how.role);
        } else if call.family == Family::Close {
            disarmed.retain(|(_, role)| Some(*role) != call.role());
        } else if moment == Moment::Waits {
            let own = disarmed.iter().find(|(reported, _)| *reported == thread);
            if let Some((_, client)) = own {
                anyhow::bail!("{client} was reported and not armed again");
            }
        } else if moment == Moment::Reports {
            let clients = call.answers().filter(|it| it.carries_requests());
            disarmed.extend(clients.map(|client| (thread, client)));
            reports += disarmed.len();
        }
    }
    ensure!(reports > 0, "the client was never reported");
    Ok(())
}

/// The beginning or the end of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// A call that waits for readiness begins.
    Waits,
    /// Such a call returns.
    Reports,
    /// Another call begins.
    Begins,
}

/// Returns the calls in the order in which they take effect, which that of
/// their beginnings is not if several threads wait at the same time.
fn in_order(scene: &Recording) -> Vec<(Moment, Invocation<'_>)> {
    let mut moments = Vec::new();
    for made in scene.calls() {
        let at = made.step.at;
        if !made.is(Family::Readiness) {
            moments.push((at, Moment::Begins, made));
            continue;
        }
        moments.push((at, Moment::Waits, made));
        let until = made.step.until;
        moments.extend(until.map(|until| (until, Moment::Reports, made)));
    }
    moments.sort_by_key(|(at, ..)| *at);
    moments.into_iter().map(|(_, moment, made)| (moment, made)).collect()
}

/// Checks that the last receive before a wait returned less than it had room
/// for.
fn reads_until_empty(scene: &Recording) -> Result<()> {
    let copier = scene.copier()?.tid;
    let mut full = None;
    for made in scene.calls().filter(|made| made.step.tid == copier) {
        if made.is(Family::Receive) && made.is_about_client() {
            let room = made.call.room();
            let count = made.call.answer.bytes();
            full = room.filter(|room| *room == count);
        } else if let Some(room) = full.filter(|_| made.is(Family::Readiness)) {
            anyhow::bail!(
                "a receive has brought all {room} bytes that it had room for, \
                 and {} without another",
                scene.describe(&made)
            );
        }
    }
    Ok(())
}

fn transfers_are_operations(scene: &Recording) -> Result<()> {
    scene.never(|made| {
        let about = made.call.role();
        let listens = matches!(about, Some(Role::Listener(_)));
        let transfers =
            matches!(made.call.family, Family::Receive | Family::Send);
        transfers && made.is_about_client()
            || made.is(Family::Accept) && listens
    })?;
    let copier = scene.copier()?;
    ensure!(
        matches!(copier.deed, Deed::Completed(_)),
        "{} receives the request itself",
        scene.who(copier.tid)
    );
    Ok(())
}

fn one_call_per_round(scene: &Recording) -> Result<()> {
    let (first, last) = (scene.marks.sending, scene.marks.answered);
    scene.never(|made| {
        (first..last).contains(&made.step.at) && !made.is(Family::Ring)
    })
}

fn one_receive(scene: &Recording) -> Result<()> {
    let handed = scene.calls().flat_map(|made| &made.call.submitted);
    let receives = handed.filter(|it| {
        it.operation.family == Family::Receive && it.role.carries_requests()
    });
    let times = receives.count();
    ensure!(times == 1, "it was submitted {times} times");
    Ok(())
}
