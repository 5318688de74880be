//! A scene as a text that is the same on every run, machine and load: for each
//! thread, what it does with its client and where it waits.
//!
//! Calls have the names of their families, descriptors those of their roles.
//! Times, sizes and numbers are omitted, and so is what is unrelated to a
//! client. The client's acts are between the lines, where the thread learns of
//! them. Calls that repeatedly return EAGAIN are listed once, because their
//! number and order vary from run to run.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::model::Transport;
use nix::unistd::Pid;

use super::call::{CallStep, Handover, listed};
use super::calls::Family;
use super::fold::fold;
use super::names;
use super::role::Role;
use super::scene::Marks;
use super::steps::{Deed, Step, threads};

/// Formats a scene, with one part per thread.
pub fn transcript(
    steps: &[Step],
    marks: &Marks,
    transport: Transport,
) -> String {
    let mut text = String::new();
    for (tid, name) in threads(steps) {
        let lines = Writer::new(marks, transport).write(steps, tid, marks);
        if !lines.is_empty() {
            text += &format!("\n{name}\n");
            lines.iter().for_each(|line| text += &format!("{line}\n"));
        }
    }
    text
}

/// Returns whether a step is about a client, or is a wait.
fn tells(step: &Step) -> bool {
    match &step.deed {
        Deed::Call(call) => match call.family {
            Family::Sleep | Family::Signals | Family::Ring => true,
            Family::Process => true,
            _ if moves_a_deadline(call) => false,
            _ => call.roles().any(is_told_of),
        },
        Deed::Signal(..) | Deed::Completed(_) => true,
        Deed::Started(_) | Deed::Ended(_) => true,
        Deed::Executed => false,
    }
}

/// Returns whether a call sets a socket's timeout. How often that is necessary
/// depends on timing.
fn moves_a_deadline(call: &CallStep) -> bool {
    let options = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO];
    options.into_iter().any(|option| call.is_about_option(option))
}

fn is_told_of(role: &Role) -> bool {
    matches!(
        role,
        Role::Listener(_)
            | Role::Client(_)
            | Role::Datagrams(_)
            | Role::Signals(_)
            | Role::Epoll(_)
            | Role::Ring(_)
    )
}

/// Returns whether a call returned EAGAIN.
fn returns_eagain(step: &Step) -> bool {
    step.call().is_some_and(|call| {
        matches!(call.family, Family::Accept | Family::Receive)
            && call.fails_with(libc::EAGAIN)
    })
}

/// Formats the part of one thread.
#[derive(Debug)]
struct Writer {
    lines: Vec<String>,
    /// The client's acts to come, the next one last.
    client: Vec<(Duration, &'static str)>,
    /// When shutdown was requested.
    last: Duration,
    /// True if the thread never waits.
    busy: bool,
}

impl Writer {
    fn new(marks: &Marks, transport: Transport) -> Self {
        let sends = (marks.sending, "-- the client sends its request");
        let client = match transport {
            Transport::Tcp => vec![
                (marks.closing, "-- the client closes"),
                sends,
                (marks.connecting, "-- the client connects"),
            ],
            // This client neither connects nor closes.
            Transport::Udp => vec![sends],
        };
        Self { lines: Vec::new(), client, last: marks.stopping, busy: false }
    }

    fn write(mut self, steps: &[Step], tid: Pid, marks: &Marks) -> Vec<String> {
        let last = self.last;
        let all: Vec<&Step> = steps
            .iter()
            .filter(|step| step.tid == tid && tells(step) && step.at < last)
            .collect();
        self.busy = is_busy(&all);
        let mut shown = &all[beginning(&all, marks.connecting, self.busy)..];
        if self.busy {
            // In which call shutdown finds a busy thread varies.
            let ends = |step: &&&Step| step.until.is_some_and(|it| it < last);
            shown = &shown[..shown.iter().take_while(ends).count()];
        }
        let Some(since) = shown.first().map(|step| step.at) else {
            return self.lines;
        };
        // This thread has not seen the client's earlier acts.
        self.client.retain(|(at, _)| *at >= since);
        let mut at = 0;
        while let Some(step) = shown.get(at) {
            let run =
                shown[at..].iter().take_while(|s| returns_eagain(s)).count();
            if self.busy && run > 0 {
                self.add_eagain(&shown[at..at + run]);
                at += run;
                continue;
            }
            let next = shown.get(at + 1).map(|step| step.at);
            self.step(step, next.unwrap_or(Duration::MAX));
            at += 1;
        }
        let ended = |step: &&Step| matches!(step.deed, Deed::Ended(_));
        if !shown.last().is_some_and(ended) {
            self.client_until(last);
            self.lines.push("-- the server is stopped".to_owned());
        }
        folded(&self.lines)
    }

    /// Adds the client's acts before this moment.
    fn client_until(&mut self, moment: Duration) {
        while let Some((_, text)) = self.client.pop_if(|(at, _)| *at < moment) {
            self.lines.push(text.to_owned());
        }
    }

    /// Adds calls in a row that returned EAGAIN: each once, because which is
    /// the first and which the last varies.
    fn add_eagain(&mut self, run: &[&Step]) {
        let calls = run.iter().filter_map(|step| step.call());
        let asked: BTreeSet<_> =
            calls.map(|call| format!("{} = EAGAIN", words(call))).collect();
        self.lines.push(AGAIN.to_owned());
        let asked = asked.into_iter().map(|line| format!("        {line}"));
        self.lines.extend(asked);
    }

    /// Adds a step, on one line unless something happens while it lasts. In
    /// that case its result is on a line below.
    fn step(&mut self, step: &Step, next: Duration) {
        let call = match &step.deed {
            Deed::Call(call) => call,
            deed => {
                self.client_until(step.at);
                let line = format!("    {}", event(deed));
                // The number of signals for one cause varies.
                if self.lines.last() != Some(&line) {
                    self.lines.push(line);
                }
                return;
            }
        };
        let until = step.until.filter(|until| *until < self.last);
        let end = until.unwrap_or(self.last);
        // A busy thread is in some call whenever something happens.
        self.client_until(if self.busy { end } else { step.at });
        let text = words(call);
        let meanwhile = self.client.last().is_some_and(|(at, _)| *at < end);
        let outcome = until.map_or(String::new(), |_| outcome(call));
        if !meanwhile && next >= end {
            let outcome = prefix(" = ", &outcome);
            return self.lines.push(format!("    {text}{outcome}"));
        }
        self.lines.push(format!("    {text}"));
        self.client_until(end.min(next));
        if next >= end && !outcome.is_empty() {
            self.lines.push(format!("        = {outcome}"));
        }
    }
}

/// Folds rounds into one, because their number varies or depends on timing.
fn folded(lines: &[String]) -> Vec<String> {
    let is_told = |line: &&String| line.starts_with(' ');
    let keys: Vec<_> =
        lines.iter().map(|line| Some(line).filter(is_told)).collect();
    let mut folded = Vec::new();
    for piece in fold(&keys) {
        let lines = &lines[piece.range];
        let round = &lines[..lines.len() / piece.rounds];
        if piece.rounds == 1 {
            folded.extend_from_slice(round);
        } else {
            folded.push(AGAIN.to_owned());
            folded.extend(round.iter().map(|line| format!("    {line}")));
        }
    }
    folded
}

/// The line above what is repeated.
const AGAIN: &str = "    again and again:";

/// Returns where a thread's part begins: with the call in which it was when the
/// client connected; for a busy thread, with the calls that returned EAGAIN
/// before that.
fn beginning(steps: &[&Step], first: Duration, busy: bool) -> usize {
    let lasts = |step: &&Step| {
        let until = step.until.unwrap_or(Duration::MAX);
        step.at >= first || (step.call().is_some() && until > first)
    };
    let begun = steps.iter().position(lasts).unwrap_or(steps.len());
    let before = steps[..begun].iter().rev();
    begun - before.take_while(|step| busy && returns_eagain(step)).count()
}

/// A thread that makes this many calls in a row that return EAGAIN never waits.
const BUSY: usize = 9;

fn is_busy(steps: &[&Step]) -> bool {
    steps.windows(BUSY).any(|some| some.iter().all(|step| returns_eagain(step)))
}

fn prefix(prefix: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{prefix}{text}") }
}

/// Formats a call and what it is about, the same on every machine.
pub fn words(call: &CallStep) -> String {
    let mut about: Vec<_> = call.roles().map(Role::to_string).collect();
    match call.family {
        // A set has no order.
        Family::Readiness if call.general == "select" => about.sort(),
        Family::Register
        | Family::Close
        | Family::Housekeeping
        | Family::Other => about = vec![call.about()],
        Family::Process => about.clear(),
        _ => {}
    }
    about.extend(call.submitted.iter().map(handed_over));
    let dont_wait = call.is_nonblocking().then_some("MSG_DONTWAIT");
    let flags = match call.family {
        Family::Accept => accept_flags(call.accept_flags().unwrap_or(0)),
        _ => prefix(", ", dont_wait.unwrap_or_default()),
    };
    let about = listed(about.into_iter());
    format!("{}({about}{flags}){}", call.general, limit(call))
}

fn handed_over(handover: &Handover) -> String {
    let (name, role) = (handover.operation.name, &handover.role);
    match (handover.operation.family, role) {
        (_, Role::Unknown(_)) => name.to_owned(),
        (Family::Accept, role) => {
            format!("{name}({role}{})", accept_flags(handover.flags.into()))
        }
        (_, role) => format!("{name}({role})"),
    }
}

/// Formats the flags of an accepted descriptor, with a comma in front.
fn accept_flags(set: u64) -> String {
    match names::bits(names::ACCEPT, set).as_str() {
        "0" => String::new(),
        flags => format!(", {flags}"),
    }
}

/// Describes the timeout of a wait.
fn limit(call: &CallStep) -> &'static str {
    match call.patience() {
        None => "",
        Some(Duration::ZERO) => ", without waiting",
        Some(_) => ", with a limit",
    }
}

/// Formats the result of a call, the same on every run. Empty if it is obvious.
fn outcome(call: &CallStep) -> String {
    let result = call.result.unwrap_or(0);
    match call.family {
        _ if result < 0 => names::errno_name(result),
        Family::Receive if result == 0 => "end of file".to_owned(),
        Family::Receive => match call.role() {
            Some(Role::Signals(_)) => "signals".to_owned(),
            _ => "data".to_owned(),
        },
        Family::Readiness if result == 0 => "time is up".to_owned(),
        Family::Readiness | Family::Accept => {
            listed(call.answers().map(Role::to_string))
        }
        _ => String::new(),
    }
}

/// Formats a step that is not a call.
fn event(deed: &Deed) -> String {
    match deed {
        Deed::Completed(done) => {
            let come = match (done.operation.family, done.result) {
                (_, ..0) | (Family::Accept, _) => done.outcome(),
                (Family::Receive, 0) => "end of file".to_owned(),
                (Family::Receive, _) => "data".to_owned(),
                _ => String::new(),
            };
            let come = prefix(" = ", &come);
            format!("completed: {}({}){come}", done.operation.name, done.role)
        }
        Deed::Signal(signal, Some(role)) => format!("{signal} of {role}"),
        Deed::Signal(signal, None) => signal.to_string(),
        Deed::Started(true) => "a new process".to_owned(),
        Deed::Started(false) => "a new thread".to_owned(),
        Deed::Ended(_) => "ends".to_owned(),
        Deed::Call(call) => words(call),
        Deed::Executed => String::new(),
    }
}

/// For examples of whole transcripts, see the files in `golden`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::script;
    use crate::tape::marks;

    fn over_tcp(text: &str) -> String {
        transcript(&script(text), &marks(), Transport::Tcp)
    }

    const WAITS: &str = "
        main -60 -59 mmap() = 5
        main -50 1   epoll_wait(epoll) = 1 listener
        main 2   3   accept4(listener) SOCK_CLOEXEC|SOCK_NONBLOCK = 4 client 1
        main 3.1 3.2 getpid() = 100
        main 4   5   epoll_ctl(epoll, add client 1, EPOLLIN) = 0
        main 6   101 epoll_wait(epoll; at most 300 s) = 1 client 1
        main 102 103 recvfrom(client 1, 4096) = 6
        main 104 105 sendto(client 1, 7) = 7
        main 106 151 epoll_wait(epoll; at most 299 s) = 1 client 1
        main 152 153 recvfrom(client 1, 4096) = 0
        main 154 155 close(client 1) = 0
        main 156 201 epoll_wait(epoll) = 1 signals
        main 202 203 read(signals, 128) = 128";

    fn makes_a_difference(from: &str, to: &str) -> bool {
        assert!(WAITS.contains(from), "{from}");
        over_tcp(&WAITS.replace(from, to)) != over_tcp(WAITS)
    }

    #[test]
    fn what_differs_from_machine_to_machine_makes_no_difference() {
        for (from, to) in [
            ("epoll_wait", "epoll_pwait"),
            ("at most 300 s", "at most 301 s"),
            ("4096", "16384"),
            ("main 3.1 3.2 getpid() = 100", ""),
            (
                "main 3.1 3.2 getpid()",
                "main 3.1 3.2 \
              setsockopt(client 1, SO_RCVTIMEO)",
            ),
            ("recvfrom(client 1, 4096)", "read(client 1, 4096)"),
            ("sendto", "write"),
            ("= 7", "= 9"),
            ("104 105", "120 130"),
        ] {
            assert!(!makes_a_difference(from, to), "{from} -> {to}");
        }
    }

    #[test]
    fn what_a_model_does_otherwise_makes_a_difference() {
        for (from, to) in [
            ("SOCK_CLOEXEC|", ""),
            ("EPOLLIN", "EPOLLIN|EPOLLET"),
            ("; at most 300 s", ""),
            ("; at most 300 s", "; without waiting"),
            ("main 3.1 3.2 getpid()", "main 3.1 3.2 recvfrom(client 1)"),
            ("epoll_wait", "ppoll"),
            ("close(client 1)", "shutdown(client 1, SHUT_WR)"),
            ("main 104", "child 104"),
        ] {
            assert!(makes_a_difference(from, to), "{from} -> {to}");
        }
    }

    /// Generates a thread whose calls return EAGAIN all the time: without the
    /// `first` ones, with `rounds` calls while the client is silent, and with
    /// `silent` more at the moment when it sends.
    fn busy(first: usize, rounds: usize, silent: usize) -> String {
        let accept = "accept4(listener) SOCK_CLOEXEC = EAGAIN";
        let signals = "read(signals, 128) = EAGAIN";
        let client = "recvfrom(client 1, 4096) = EAGAIN";
        let mut text = String::new();
        let mut put = |from: f64, step: f64, calls: &[&str], count: usize| {
            for place in 0..count {
                let at = from + step * place as f64;
                let call = calls[place % calls.len()];
                text += &format!("main {at} {} {call}\n", at + step / 2.0);
            }
        };
        let new_client = "accept4(listener) SOCK_CLOEXEC = 4 client 1";
        let at = -40.0 + 2.0 * first as f64;
        put(at, 2.0, &[accept, signals], 20 - first);
        put(-0.5, 2.0, &[new_client], 1);
        put(2.0, 0.5, &[accept, signals, client], rounds);
        put(99.9, 0.05, &[signals, accept][..silent.max(1)], silent);
        put(101.0, 1.0, &["recvfrom(client 1, 4096) = 6"], 1);
        put(102.0, 1.0, &["sendto(client 1, 7) = 7"], 1);
        put(104.0, 0.5, &[client, accept, signals], rounds + 1);
        put(160.0, 1.0, &["recvfrom(client 1, 4096) = 0"], 1);
        put(161.0, 1.0, &["close(client 1) = 0"], 1);
        put(163.0, 2.0, &[signals, accept], 20);
        text
    }

    #[test]
    fn calls_that_return_eagain_are_folded_wherever_they_begin_and_end() {
        let expected = over_tcp(&busy(0, 12, 0));
        assert_eq!(expected.matches(AGAIN).count(), 4, "{expected}");
        for (first, rounds, silent) in [(1, 30, 1), (2, 50, 2), (5, 13, 2)] {
            let text = over_tcp(&busy(first, rounds, silent));
            assert_eq!(text, expected, "{first} {rounds} {silent}");
        }
    }

    #[test]
    fn rounds_are_there_once() {
        let round = "recvfrom(client 1) = 6\nmain 2 3 sendto(client 1) = 7\n";
        let script = |times| {
            let rounds = format!("main 1 2 {round}").repeat(times);
            format!("{rounds}main 4 5 close(client 1) = 0")
        };
        let thrice = over_tcp(&script(3));
        assert_eq!(thrice.matches("receive").count(), 1, "{thrice}");
        for times in [4, 500] {
            assert_eq!(over_tcp(&script(times)), thrice);
        }
        let twice = over_tcp(&script(2));
        assert_eq!(twice.matches("receive").count(), 2, "{twice}");
    }
}
