//! Rules about every client's descriptor, from accept to close.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use lab::promises::WaitsIn::{Aio, Nothing, Receive};

use super::{ALL_MODELS, BOTH, Rule, TCP, waits_for_readiness};
use crate::call::Answer;
use crate::calls::Family;
use crate::names;
use crate::role::Role;
use crate::scene::Recording;
use crate::steps::Deed;

pub const RULES: &[Rule] = &[
    Rule {
        name: "accepts_with_cloexec",
        applies_to: ALL_MODELS,
        transports: TCP,
        why: "a client's descriptor must not outlive an execve(2), and a flag \
              set later would come too late for a fork between the two",
        check: |scene| accepts_with(scene, libc::SOCK_CLOEXEC),
    },
    Rule {
        name: "accepts_nonblocking",
        applies_to: |it| it.waits_in == Nothing || waits_for_readiness(it),
        transports: TCP,
        why: "a thread that serves others must not block on one client",
        check: |scene| accepts_with(scene, libc::SOCK_NONBLOCK),
    },
    Rule {
        name: "accepts_blocking",
        applies_to: |it| matches!(it.waits_in, Receive | Aio),
        transports: TCP,
        why: "the call that transfers is the one that waits",
        check: accepts_blocking,
    },
    Rule {
        name: "closes_each_client_once",
        applies_to: ALL_MODELS,
        transports: TCP,
        why: "a descriptor that is not closed is lost, and one that is closed \
              twice may be another client's by then",
        check: closes_once,
    },
    Rule {
        name: "uses_no_closed_descriptor",
        applies_to: ALL_MODELS,
        transports: BOTH,
        why: "EBADF means that the program has lost track of its descriptors",
        check: |scene| scene.never(|made| made.call.fails_with(libc::EBADF)),
    },
    Rule {
        name: "one_at_a_time",
        applies_to: |it| it.ceiling.clients == 1,
        transports: TCP,
        why: "a second client waits until the first has left",
        check: one_at_a_time,
    },
    Rule {
        name: "sets_socket_timeouts",
        applies_to: |it| it.waits_in == Receive,
        transports: TCP,
        why: "a blocking receive is limited by the socket's timeout only, \
              which must be set before",
        check: sets_socket_timeouts,
    },
];

fn accepts_with(scene: &Recording, flag: i32) -> Result<()> {
    let flag = flag as u64;
    let mut accepted = false;
    for made in scene.calls() {
        let Some(flags) = made.call.accept_flags() else { continue };
        let (who, name) =
            (scene.describe(&made), names::bits(names::ACCEPT, flag));
        ensure!(flags & flag != 0, "{who}, without {name}");
        accepted = true;
    }
    ensure!(accepted, "no call accepts the client");
    Ok(())
}

fn accepts_blocking(scene: &Recording) -> Result<()> {
    let nonblock = libc::SOCK_NONBLOCK as u64;
    scene.never(|made| {
        made.call.accept_flags().is_some_and(|flags| flags & nonblock != 0)
    })
}

/// Checks that the process that accepts a client closes it once, and that no
/// other process closes its copy twice.
fn closes_once(scene: &Recording) -> Result<()> {
    let mut closed: BTreeMap<_, u32> = BTreeMap::new();
    for step in scene.with_client() {
        let accepted = match &step.deed {
            Deed::Call(call) if call.family == Family::Accept => &call.answer,
            Deed::Completed(done) if done.accepts() => &done.answer,
            _ => continue,
        };
        if let Answer::Descriptor(client) = accepted {
            closed.insert((step.pid, client.to_string()), 0);
        }
    }
    for made in scene.calls().filter(|made| made.call.name == "close") {
        if let Some(client @ Role::Client(_)) = made.call.role() {
            let place = (made.step.pid, client.to_string());
            *closed.entry(place).or_default() += 1;
        }
    }
    ensure!(!closed.is_empty(), "no call accepts the client");
    for ((pid, client), times) in closed {
        let who = scene.who(pid);
        ensure!(times == 1, "{who} closes {client} {times} times");
    }
    Ok(())
}

fn one_at_a_time(scene: &Recording) -> Result<()> {
    let mut serves = false;
    for made in scene.calls() {
        match (made.call.family, made.call.role()) {
            (Family::Accept, _) => {
                ensure!(!serves, "{} meanwhile", scene.describe(&made));
                serves = true;
            }
            (Family::Close, Some(Role::Client(_))) => serves = false,
            _ => {}
        }
    }
    Ok(())
}

fn sets_socket_timeouts(scene: &Recording) -> Result<()> {
    let first = scene.of_client().find(|made| made.is(Family::Receive));
    let before = first.map(|made| made.step.at);
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        let is_set = scene.of_client().any(|made| {
            made.call.name == "setsockopt"
                && made.call.is_about_option(option)
                && before.is_some_and(|at| made.step.at < at)
        });
        let name = names::socket_option(libc::SOL_SOCKET, option);
        ensure!(is_set, "no setsockopt(client, {name}) before it receives");
    }
    Ok(())
}
