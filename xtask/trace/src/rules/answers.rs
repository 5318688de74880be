//! Rules about which thread or process answers.

use anyhow::{Context, Result, bail, ensure};
use lab::promises::Answers::{
    AnyThread, AnyWorker, FirstThread, LoopProcess, OneLoop, OneThread,
    OwnProcess, OwnThread, PoolProcess, PoolThread,
};
use lab::promises::WaitsIn::Aio;
use nix::unistd::Pid;

use super::invocation::Invocation;
use super::{BOTH, Rule, TCP};
use crate::calls::Family;
use crate::event::SI_ASYNCIO;
use crate::role::Role;
use crate::scene::Recording;
use crate::steps::Step;

pub const RULES: &[Rule] = &[
    Rule {
        name: "starts_no_other",
        applies_to: |it| it.answers == OneThread,
        transports: BOTH,
        why: "one thread does it all",
        check: starts_no_other,
    },
    Rule {
        name: "answers_from_a_child",
        applies_to: |it| matches!(it.answers, OwnProcess | PoolProcess),
        transports: BOTH,
        why: "each client has a process to itself, and the parent has none",
        check: |scene| answers_apart(scene, |step| step.pid),
    },
    Rule {
        name: "answers_from_a_loop_process",
        applies_to: |it| it.answers == LoopProcess,
        transports: BOTH,
        why: "the loops are processes, and their parent serves no client",
        check: |scene| answers_apart(scene, |step| step.pid),
    },
    Rule {
        name: "passes_the_client_and_closes_its_copy",
        applies_to: |it| it.answers == LoopProcess,
        transports: TCP,
        why: "a client's socket stays open while any process has a copy, so \
              the client of an acceptor that kept one would never get EOF",
        check: passes_and_closes,
    },
    Rule {
        name: "parent_and_child_close_copies",
        applies_to: |it| it.answers == OwnProcess,
        transports: TCP,
        why: "a child that kept the listener would keep the port, and a parent \
              that kept the stream would keep the client from getting EOF",
        check: parent_and_child_close_copies,
    },
    Rule {
        name: "worker_accepts",
        applies_to: |it| it.answers == PoolProcess,
        transports: TCP,
        why: "a worker process accepts its clients itself; a descriptor that \
              another has accepted would not be valid in it",
        check: worker_accepts,
    },
    Rule {
        name: "reaps_its_children",
        applies_to: |it| it.answers == OwnProcess,
        transports: TCP,
        why: "a child that is not waited for remains a zombie",
        check: reaps_its_children,
    },
    Rule {
        name: "answers_from_its_own_thread",
        applies_to: |it| matches!(it.answers, OwnThread | PoolThread),
        transports: BOTH,
        why: "each client has a thread to itself, which is not the main one",
        check: answers_from_its_own_thread,
    },
    Rule {
        name: "main_thread_only_accepts",
        applies_to: |it| {
            matches!(it.answers, AnyThread | OneLoop | LoopProcess)
        },
        transports: BOTH,
        why: "the main thread serves no client",
        check: main_transfers_nothing,
    },
    Rule {
        name: "main_thread_transfers",
        applies_to: |it| it.answers == AnyWorker,
        transports: BOTH,
        why: "one thread receives and sends for all clients; a worker uses no \
              socket",
        check: |scene| {
            scene.never(|made| made.step.tid != scene.main() && transfers(made))
        },
    },
    Rule {
        name: "worker_reports_its_answer",
        applies_to: |it| it.answers == AnyWorker,
        transports: TCP,
        why: "a worker answers the request, and wakes the thread that sends \
              the reply",
        check: worker_reports,
    },
    Rule {
        name: "client_stays_with_its_loop",
        applies_to: |it| it.answers == OneLoop,
        transports: BOTH,
        why: "no loop ever hands a client to another",
        check: stays_with_its_loop,
    },
    Rule {
        name: "loop_accepts_its_clients",
        applies_to: |it| it.answers == OneLoop && it.hands_over.is_none(),
        transports: TCP,
        why: "the loops share the work without a thread that distributes it",
        check: |scene| only_accepts_in(scene, scene.copier()?.tid),
    },
    Rule {
        name: "main_thread_accepts",
        applies_to: |it| it.hands_over.is_some(),
        transports: TCP,
        why: "one thread accepts, so that it can choose the loop",
        check: |scene| only_accepts_in(scene, scene.main()),
    },
    Rule {
        name: "main_thread_copies_nothing",
        applies_to: |it| it.answers == FirstThread,
        transports: TCP,
        why: "aio_read(3) and aio_write(3) are carried out by the C library's \
              threads",
        check: main_transfers_nothing,
    },
    Rule {
        name: "learns_by_completion",
        applies_to: |it| it.waits_in == Aio,
        transports: TCP,
        why: "the main thread learns of the data by a completion, once another \
              thread has copied it",
        check: learns_by_completion,
    },
];

fn transfers(made: &Invocation<'_>) -> bool {
    let copies = made.is(Family::Receive) || made.is(Family::Send);
    copies && made.is_about_client()
}

fn starts_no_other(scene: &Recording) -> Result<()> {
    let (main, all) = (scene.main(), &scene.steps);
    if let Some(step) = all.iter().find(|step| step.tid != main) {
        bail!("there is {} beside it", scene.who(step.tid));
    }
    Ok(())
}

/// Checks that one process, or thread, that is not the main one receives and
/// sends.
fn answers_apart(scene: &Recording, id: fn(&Step) -> Pid) -> Result<()> {
    scene.never(|made| id(made.step) == scene.main() && transfers(made))?;
    let (copier, reply) = (scene.copier()?, scene.reply()?);
    ensure!(
        id(copier) == id(reply.step),
        "{} receives, and {}",
        scene.who(copier.tid),
        scene.describe(&reply)
    );
    Ok(())
}

fn parent_and_child_close_copies(scene: &Recording) -> Result<()> {
    let child = scene.copier()?.pid;
    let first = scene.of_client().find(|it| it.is(Family::Receive));
    let first = first.map(|made| made.step.at);
    let closes = |made: &Invocation<'_>| made.call.name == "close";
    let listener = scene.calls().any(|made| {
        let before = first.is_some_and(|first| made.step.at < first);
        let listens = matches!(made.call.role(), Some(Role::Listener(_)));
        closes(&made) && listens && made.step.pid == child && before
    });
    ensure!(
        listener,
        "{} does not close the listener before it receives",
        scene.who(child)
    );
    let stream = scene.of_client().any(|made| {
        let before = made.step.at < scene.marks.sending;
        closes(&made) && made.step.pid == scene.main() && before
    });
    ensure!(stream, "main does not close the stream that the child has");
    Ok(())
}

fn worker_accepts(scene: &Recording) -> Result<()> {
    let worker = scene.copier()?.pid;
    scene.never(|made| {
        let accepts = made.is(Family::Accept) && made.call.returns_at_least(0);
        accepts && made.step.pid != worker
    })
}

fn reaps_its_children(scene: &Recording) -> Result<()> {
    let reaped = scene.calls().any(|made| {
        made.call.name == "wait4"
            && made.step.pid == scene.main()
            && made.call.returns_at_least(1)
    });
    ensure!(reaped, "the parent never waits for the child");
    Ok(())
}

fn answers_from_its_own_thread(scene: &Recording) -> Result<()> {
    let copier = scene.copier()?;
    ensure!(copier.pid == scene.main(), "{} receives", scene.who(copier.tid));
    answers_apart(scene, |step| step.tid)
}

fn main_transfers_nothing(scene: &Recording) -> Result<()> {
    scene.never(|made| made.step.tid == scene.main() && transfers(made))
}

/// Checks that a thread that did not receive the request writes to an eventfd
/// before the reply is sent.
fn worker_reports(scene: &Recording) -> Result<()> {
    let (copied, reply) = (scene.copier()?, scene.reply()?);
    let reported = scene.calls().any(|made| {
        made.is(Family::Send)
            && matches!(made.call.role(), Some(Role::Event(_)))
            && made.step.tid != copied.tid
            && (copied.at..reply.step.at).contains(&made.step.at)
    });
    ensure!(reported, "no worker reports between the request and the reply");
    Ok(())
}

fn stays_with_its_loop(scene: &Recording) -> Result<()> {
    let home = scene.copier()?.tid;
    scene.never(|made| made.is_about_client() && made.step.tid != home)
}

/// Checks that no other thread accepts a connection.
fn only_accepts_in(scene: &Recording, thread: Pid) -> Result<()> {
    scene.never(|made| {
        let accepts = made.is(Family::Accept) && made.call.returns_at_least(0);
        accepts && made.step.tid != thread
    })
}

fn passes_and_closes(scene: &Recording) -> Result<()> {
    let main = |made: &Invocation<'_>| made.step.pid == scene.main();
    let passes = |made: &Invocation<'_>| main(made) && made.call.passes();
    let passed = scene.calls().find(passes).context("main passes no client")?;
    let closes = scene.of_client().any(|made| {
        let after = made.step.at > passed.step.at;
        let before = made.step.at < scene.marks.sending;
        main(&made) && made.call.name == "close" && after && before
    });
    ensure!(closes, "main does not close the client that it has passed on");
    Ok(())
}

fn learns_by_completion(scene: &Recording) -> Result<()> {
    let copied = scene.copier()?.until;
    let learns = scene.with_client().any(|step| {
        step.signal().is_some_and(|(signal, _)| signal.code == SI_ASYNCIO)
            && step.tid == scene.main()
            && copied.is_some_and(|copied| step.at > copied)
    });
    ensure!(learns, "no signal has reported the completion to main");
    Ok(())
}
