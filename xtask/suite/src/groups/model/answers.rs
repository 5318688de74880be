//! Which threads and processes answer, and how many.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use lab::promises::Answers::{self, *};

use crate::case::{Case, For, Trial};
use crate::groups::Resources;
use crate::reply::Info;
use crate::server::Server;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("who_answers", who_answers),
        Case::new("who_answers_fifty", fifty).only(For::Many),
        Case::new("who_answers_datagrams", datagrams),
    ]
}

/// The thread that has answered, as INFO reports it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answerer {
    pid: u64,
    tid: u64,
    /// The number of the event loop, where there are several.
    event_loop: Option<u64>,
}

impl Answerer {
    fn of(info: &Info) -> Result<Self> {
        let event_loop = info.text("loop").is_ok().then(|| info.number("loop"));
        Ok(Self {
            pid: info.number("pid")?,
            tid: info.number("tid")?,
            event_loop: event_loop.transpose()?,
        })
    }

    fn expect(&self, answer: Answers, server: &Server) -> Result<()> {
        let ours = u64::try_from(server.pid.as_raw())?;
        let (pid, tid) = (self.pid, self.tid);
        let as_promised = match answer {
            OneThread | FirstThread => pid == ours && tid == ours,
            OwnProcess | PoolProcess | LoopProcess => pid != ours && tid == pid,
            OwnThread | AnyThread | AnyWorker | PoolThread | OneLoop => {
                pid == ours && tid != ours
            }
        };
        ensure!(
            as_promised,
            "promised {answer:?}; server {ours}, seen {self:?}"
        );
        let numbered = self.event_loop.is_some();
        let loops = matches!(answer, OneLoop | LoopProcess);
        ensure!(numbered == loops, "seen {self:?}");
        Ok(())
    }
}

/// Clients connect one after the other, as every model can serve them.
fn who_answers(trial: &Trial) -> Result<()> {
    let promises = trial.subject.promises();
    let answer = promises.answers;
    let server = trial.serve()?;
    for _ in 0..3 {
        let mut client = server.connect()?;
        let first = Answerer::of(&client.info()?)?;
        first.expect(answer, &server)?;
        let second = Answerer::of(&client.info()?)?;
        second.expect(answer, &server)?;
        ensure!(
            second == first || promises.shares_requests(),
            "{first:?}, then for the next request {second:?}"
        );
    }
    Ok(())
}

/// Fifty clients at a time are answered by as many threads or processes as
/// promised.
fn fifty(trial: &Trial) -> Result<()> {
    const CLIENTS: usize = 50;
    let answer = trial.subject.promises().answers;
    let server = trial.serve()?;
    let before = Resources::of(&server)?;
    let mut clients = server.connect_many(CLIENTS)?;
    let mut answerers = BTreeSet::new();
    let mut counted = 0;
    for client in &mut clients {
        let info = client.info()?;
        answerers.insert(Answerer::of(&info)?);
        counted = info.number("clients")?;
    }
    for answerer in &answerers {
        answerer.expect(answer, &server)?;
    }
    let now = Resources::of(&server)?;
    let answered = answerers.len();
    ensure!(
        is_promised(answer, CLIENTS, answered, &before, &now),
        "promised {answer:?}; {answered} have answered, {before:?} before \
         {CLIENTS} clients, then {now:?}"
    );
    if matches!(answer, OwnProcess | PoolProcess | LoopProcess) {
        for process in server.group() {
            ensure!(process.threads == 1, "{process} has several threads");
        }
    }
    if !matches!(answer, OwnProcess | OwnThread | PoolThread | PoolProcess) {
        ensure!(counted == CLIENTS as u64, "INFO counts {counted} clients");
    }
    drop(clients);
    before.again(&server)
}

/// Returns whether as many as promised have answered that many clients, and
/// whether there are as many threads and processes as promised.
fn is_promised(
    answer: Answers,
    clients: usize,
    answerers: usize,
    before: &Resources,
    now: &Resources,
) -> bool {
    let some = before.threads - 1;
    let others = before.processes - 1;
    let (answering, threads, processes) = match answer {
        OneThread => (1..=1, 1..=1, 1),
        FirstThread => (1..=1, 1..=usize::MAX, 1),
        OwnProcess => (clients..=clients, 1..=1, 1 + clients),
        OwnThread => (clients..=clients, 1 + clients..=1 + clients, 1),
        PoolThread => (clients..=clients, before.threads..=before.threads, 1),
        PoolProcess => (clients..=clients, 1..=1, before.processes),
        AnyThread | AnyWorker | OneLoop => {
            (1..=some, before.threads..=before.threads, 1)
        }
        LoopProcess => (1..=others, 1..=1, before.processes),
    };
    answering.contains(&answerers)
        && threads.contains(&now.threads)
        && now.processes == processes
}

/// No process or thread is started for a datagram: one answers them all, or
/// those that exist from the start do.
fn datagrams(trial: &Trial) -> Result<()> {
    trial.needs_datagrams()?;
    let answer = match trial.subject.promises().answers {
        // The first thread, which has the socket.
        AnyWorker => FirstThread,
        answer => answer,
    };
    let server = trial.launch().only_udp("127.0.0.1:0").start()?;
    let held = Resources::of(&server)?;
    let mut answerers = BTreeSet::new();
    for _ in 0..3 {
        let peer = server.peer()?;
        let first = Answerer::of(&peer.info()?)?;
        let second = Answerer::of(&peer.info()?)?;
        // The kernel chooses a loop's socket by the sender's address.
        ensure!(
            second == first || answer == AnyThread,
            "{first:?}, then for the next datagram {second:?}"
        );
        answerers.extend([first, second]);
    }
    let most = match answer {
        AnyThread | OneLoop => held.threads - 1,
        LoopProcess => held.processes - 1,
        _ => 1,
    };
    ensure!(answerers.len() <= most, "answered by {answerers:?}");
    if matches!(answer, OneThread | FirstThread | AnyThread | OneLoop) {
        for answerer in &answerers {
            answerer.expect(answer, &server)?;
        }
    }
    Ok(())
}
