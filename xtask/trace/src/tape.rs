//! Events written by hand, for tests.

use std::time::Duration;

use nix::unistd::Pid;

use super::event::{
    Call, Completion, Event, Memory, Outcome, Signal, Submission, What,
};
use super::scene::Marks;
use super::steps::{Step, steps};

/// The one process of most tests.
pub const MAIN: i32 = 100;

/// Events of one process, written down in the order of time. A scene begins at
/// 0 ms; its request comes at 100 ms.
#[derive(Debug, Default)]
pub struct Tape {
    pub events: Vec<Event>,
}

/// Where in memory an argument points to, and what is there.
pub type Bytes<'a> = &'a [(u8, &'a [u8])];

/// A moment of the scene, in ms.
pub fn at(milliseconds: f64) -> Duration {
    Duration::from_secs_f64((1_000.0 + milliseconds) / 1e3)
}

/// What the client did.
pub fn marks() -> Marks {
    Marks {
        connecting: at(0.0),
        connected: at(0.2),
        sending: at(100.0),
        sent: at(100.1),
        answered: at(102.0),
        closing: at(150.0),
        stopping: at(200.0),
    }
}

fn memory(bytes: Bytes<'_>) -> Memory {
    let all = bytes.iter().map(|(place, bytes)| (*place, (*bytes).into()));
    Memory(all.collect())
}

impl Tape {
    /// The main thread listens (3), has epoll (5), a signalfd (6) and a ring
    /// (7), and has accepted client 1 (4), of which epoll tells with 77.
    pub fn serving() -> Self {
        let stream = libc::SOCK_STREAM as u64;
        let event = epoll_event(libc::EPOLLIN as u32, 77);
        let add = libc::EPOLL_CTL_ADD as u64;
        Self::default()
            .call(-60.0, -59.9, "socket", [2, stream], 3, &[], &[])
            .call(-59.8, -59.7, "listen", [3, 9], 0, &[], &[])
            .call(-59.6, -59.5, "epoll_create1", [], 5, &[], &[])
            .call(-59.4, -59.3, "signalfd4", [], 6, &[], &[])
            .call(-59.2, -59.1, "io_uring_setup", [], 7, &[], &[])
            .call(0.3, 0.4, "accept4", [3], 4, &[], &[])
            .call(0.5, 0.6, "epoll_ctl", [5, add, 4], 0, &[(3, &event)], &[])
    }

    /// Sets up another ring in place of the first, which copies inside
    /// io_uring_enter(2) only.
    pub fn deferring(self) -> Self {
        let mut parameters = vec![0; 120];
        parameters[9] = 0b11_0000;
        let entering: Bytes<'_> = &[(1, &parameters)];
        let none = &[];
        self.call(0.7, 0.8, "io_uring_setup", [8], 7, entering, none)
    }

    pub fn event(mut self, tid: i32, when: f64, what: What) -> Self {
        let (pid, tid) = (Pid::from_raw(MAIN), Pid::from_raw(tid));
        self.events.push(Event { at: at(when), pid, tid, what });
        self
    }

    pub fn enter<const N: usize>(
        self,
        tid: i32,
        when: f64,
        name: &'static str,
        given: [u64; N],
        bytes: Bytes<'_>,
    ) -> Self {
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        let memory = memory(bytes);
        let call = Call { name, number: 0, arguments, memory };
        self.event(tid, when, What::Enter(call))
    }

    pub fn exit(
        self,
        tid: i32,
        when: f64,
        result: i64,
        bytes: Bytes<'_>,
    ) -> Self {
        let outcome = Outcome { result, memory: memory(bytes) };
        self.event(tid, when, What::Exit(outcome))
    }

    /// A call of the main thread, from and until.
    #[expect(clippy::too_many_arguments, reason = "a call has as many parts")]
    pub fn call<const N: usize>(
        self,
        from: f64,
        until: f64,
        name: &'static str,
        given: [u64; N],
        result: i64,
        entering: Bytes<'_>,
        leaving: Bytes<'_>,
    ) -> Self {
        self.enter(MAIN, from, name, given, entering)
            .exit(MAIN, until, result, leaving)
    }

    /// The client's request is received.
    pub fn receive(self, from: f64, until: f64) -> Self {
        let request: Bytes<'_> = &[(1, b"PING\r\n")];
        self.call(from, until, "recvfrom", [4, 0, 16_384], 6, &[], request)
    }

    /// A receiving call that returns EAGAIN.
    pub fn eagain(self, when: f64) -> Self {
        let nothing = -i64::from(libc::EAGAIN);
        let until = when + 0.01;
        self.call(when, until, "recvfrom", [4, 0, 16_384], nothing, &[], &[])
    }

    pub fn submit(self, when: f64, operation: &'static str, fd: i32) -> Self {
        let data = Box::default();
        let submission =
            Submission { operation, fd, length: 0, flags: 0, data };
        self.event(MAIN, when, What::Submitted(submission))
    }

    pub fn complete(
        self,
        when: f64,
        operation: &'static str,
        fd: i32,
        result: i32,
        data: &[u8],
    ) -> Self {
        let completion = Completion {
            operation,
            fd,
            result,
            more: true,
            header: 0,
            data: data.into(),
        };
        self.event(MAIN, when, What::Completed(completion))
    }

    pub fn signal(self, when: f64, number: i32, fd: i32) -> Self {
        let signal = Signal::new(number, 1, fd, 0);
        self.event(MAIN, when, What::Signal(signal))
    }

    pub fn steps(&self) -> Vec<Step> {
        steps(&self.events)
    }

    /// The last call, as the timeline has it.
    pub fn last_call(&self) -> String {
        let steps = self.steps();
        let call = steps.iter().rev().find_map(Step::call).unwrap();
        format!("{}({}) = {}", call.name, call.arguments, call.outcome)
    }
}

/// Whether a test can't be done because tracing is forbidden; then it says that
/// it was skipped, and why.
pub fn is_forbidden(error: &anyhow::Error) -> bool {
    let forbidden = format!("{error:#}").contains("ptrace(2)");
    if forbidden {
        lab::test::skip(format!("{error:#}"));
    }
    forbidden
}

/// A struct epoll_event as this machine has it.
pub fn epoll_event(events: u32, data: u64) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<libc::epoll_event>()];
    bytes[..4].copy_from_slice(&events.to_ne_bytes());
    let at = std::mem::offset_of!(libc::epoll_event, u64);
    bytes[at..at + 8].copy_from_slice(&data.to_ne_bytes());
    bytes
}

/// A struct pollfd.
pub fn pollfd(fd: i32, events: i16, found: i16) -> Vec<u8> {
    let (fd, events, found) =
        (fd.to_ne_bytes(), events.to_ne_bytes(), found.to_ne_bytes());
    [&fd[..], &events, &found].concat()
}

/// A struct timespec.
pub fn timespec(seconds: u64, nanoseconds: u64) -> Vec<u8> {
    [seconds.to_ne_bytes(), nanoseconds.to_ne_bytes()].concat()
}

/// A struct signalfd_siginfo.
pub fn siginfo(number: i32, code: i32, fd: i32) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<libc::signalfd_siginfo>()];
    for (at, word) in [(0, number), (8, code), (20, fd)] {
        bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
