//! Rules about where a model waits, and where it never does.

use anyhow::{Result, bail, ensure};
use lab::promises::Answers::{OwnProcess, PoolProcess};
use lab::promises::WaitsIn::{
    EpollWait, IoUringEnter, Nothing, Poll, Receive, Select, Signals,
};

use super::invocation::Invocation;
use super::{BOTH, Rule, TCP, waits_for_readiness};
use crate::call::Argument;
use crate::calls::Family;
use crate::role::Role;
use crate::scene::Recording;

pub const RULES: &[Rule] = &[
    Rule {
        name: "waits_in_the_transfer",
        applies_to: |it| it.waits_in == Receive,
        transports: BOTH,
        why: "the receive itself waits, and copies when the data is there",
        check: waits_in_the_transfer,
    },
    Rule {
        name: "never_asks_for_readiness",
        applies_to: |it| {
            it.waits_in == Receive
                && !matches!(it.answers, OwnProcess | PoolProcess)
        },
        transports: BOTH,
        why: "a thread that blocks in its transfers need not ask for readiness",
        check: |scene| scene.never(|made| made.is(Family::Readiness)),
    },
    Rule {
        name: "child_never_asks_for_readiness",
        applies_to: |it| matches!(it.answers, OwnProcess | PoolProcess),
        transports: BOTH,
        why: "a child blocks in its transfers; only the parent, which has \
              no client, asks for readiness",
        check: |scene| {
            scene.never(|made| {
                made.is(Family::Readiness) && made.step.pid != scene.main()
            })
        },
    },
    Rule {
        name: "never_waits",
        applies_to: |it| it.waits_in == Nothing,
        transports: BOTH,
        why: "without --pause-us it polls its sockets, and never sleeps",
        check: never_waits,
    },
    Rule {
        name: "waits_in_select",
        applies_to: |it| it.waits_in == Select,
        transports: BOTH,
        why: "one select(2) waits for all sockets, and nothing else waits",
        check: |scene| waits_in(scene, "select"),
    },
    Rule {
        name: "waits_in_poll",
        applies_to: |it| it.waits_in == Poll,
        transports: BOTH,
        why: "one poll(2) waits for all sockets, and nothing else waits",
        check: |scene| waits_in(scene, "poll"),
    },
    Rule {
        name: "waits_in_epoll",
        applies_to: |it| it.waits_in == EpollWait,
        transports: BOTH,
        why: "one epoll_wait(2) waits for all sockets, and no other call that \
              asks for readiness is made",
        check: |scene| waits_in(scene, "epoll_wait"),
    },
    Rule {
        name: "passes_all_sockets",
        applies_to: |it| matches!(it.waits_in, Select | Poll),
        transports: TCP,
        why: "the kernel keeps no list, so each wait names every socket",
        check: passes_all_sockets,
    },
    Rule {
        name: "waits_for_signals_only",
        applies_to: |it| it.waits_in == Signals,
        transports: BOTH,
        why: "it learns of data by signals, and asks no socket whether it is \
              ready",
        check: waits_for_signals_only,
    },
    Rule {
        name: "never_waits_in_a_transfer",
        applies_to: |it| it.waits_in == IoUringEnter || waits_for_readiness(it),
        transports: BOTH,
        why: "a thread that blocks on one client leaves the others waiting",
        check: |scene| {
            let sending = scene.marks.sending;
            scene.never(|made| is_transfer(made) && made.spans(sending))
        },
    },
];

fn is_transfer(made: &Invocation<'_>) -> bool {
    use Family::{Accept, Receive, Send};
    let transfers = matches!(made.call.family, Accept | Receive | Send);
    transfers && !made.waits_for_events()
}

fn waits_in_the_transfer(scene: &Recording) -> Result<()> {
    let copier = scene.copier()?;
    let made = Invocation::of(copier);
    let waited = made.is_some_and(|made| made.spans(scene.marks.sending));
    ensure!(
        waited,
        "{} was in no receive when the request came; it asked afterwards",
        scene.who(copier.tid)
    );
    Ok(())
}

fn never_waits(scene: &Recording) -> Result<()> {
    scene.never(|made| match made.call.family {
        Family::Readiness | Family::Signals => true,
        Family::Ring | Family::Sleep => true,
        Family::Thread => made.call.arguments.contains(&Argument::FutexWait),
        _ => false,
    })?;
    // A receive that blocks would be the only one.
    let silent = scene.marks.connecting..scene.marks.sending;
    let empty = scene.of_client().filter(|made| {
        made.is(Family::Receive)
            && made.call.fails_with(libc::EAGAIN)
            && silent.contains(&made.step.at)
    });
    let times = empty.count();
    ensure!(
        times >= 3,
        "while the client was silent, {times} receives returned EAGAIN"
    );
    Ok(())
}

/// Checks that a serving thread waits in this call only.
fn waits_in(scene: &Recording, own: &str) -> Result<()> {
    scene.never(|made| {
        let other = made.is(Family::Readiness) && made.call.general != own;
        // A main thread that serves no client may wait for signals in any call.
        let serves = scene.of_client().any(|it| it.step.tid == made.step.tid);
        let elsewhere = made.is(Family::Signals) || made.is(Family::Sleep);
        serves && (other || elsewhere)
    })?;
    let there = scene.in_silence().any(|made| made.call.general == own);
    ensure!(there, "while the client was silent, no thread was in {own}");
    Ok(())
}

fn passes_all_sockets(scene: &Recording) -> Result<()> {
    let mut sockets = vec![&Role::Listener(1)];
    for made in scene.calls() {
        let call = made.call;
        match call.family {
            Family::Accept => sockets.extend(call.answers()),
            Family::Close => sockets.retain(|it| Some(*it) != call.role()),
            Family::Readiness => {
                let is_left_out =
                    |it: &&&Role| !call.roles().any(|role| role == **it);
                if let Some(socket) = sockets.iter().find(is_left_out) {
                    bail!("{}, without {socket}", scene.describe(&made));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn waits_for_signals_only(scene: &Recording) -> Result<()> {
    scene.never(|made| {
        let only = |role: &Role| matches!(role, Role::Signals(_));
        made.is(Family::Readiness) && !made.call.roles().all(only)
    })?;
    ensure!(
        scene.in_silence().any(|made| made.waits_for_events()),
        "while the client was silent, no thread waited for signals"
    );
    Ok(())
}
