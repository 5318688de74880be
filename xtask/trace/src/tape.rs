//! Events written by hand, for tests.

use std::time::Duration;

use lab::Unsupported;
use nix::unistd::Pid;

use super::event::{Call, Event, EventKind, Memory, Outcome};
use super::scene::Marks;
use super::steps::{Step, steps};

/// The one process of most tests.
pub const MAIN: i32 = 100;

/// Events of one process, one millisecond apart.
#[derive(Debug, Default)]
pub struct Tape {
    events: Vec<Event>,
}

/// The position of an argument, and the memory that it points to.
pub type Bytes<'a> = &'a [(u8, &'a [u8])];

/// Returns a moment of the scene, given in ms.
pub fn at(milliseconds: f64) -> Duration {
    Duration::from_secs_f64((1_000.0 + milliseconds) / 1e3)
}

/// Returns the times of the client's acts.
pub fn marks() -> Marks {
    Marks {
        connecting: at(0.0),
        sending: at(100.0),
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
    /// Returns a tape whose main thread listens (3), has an epoll instance (5),
    /// a signalfd (6) and a ring (7), and has accepted client 1 (4), which
    /// epoll reports as 77.
    pub fn serving() -> Self {
        let stream = libc::SOCK_STREAM as u64;
        let event = epoll_event(libc::EPOLLIN as u32, 77);
        let add = libc::EPOLL_CTL_ADD as u64;
        Self::default()
            .call("socket", [2, stream], 3, &[], &[])
            .call("listen", [3, 9], 0, &[], &[])
            .call("epoll_create1", [], 5, &[], &[])
            .call("signalfd4", [], 6, &[], &[])
            .call("io_uring_setup", [], 7, &[], &[])
            .call("accept4", [3], 4, &[], &[])
            .call("epoll_ctl", [5, add, 4], 0, &[(3, &event)], &[])
    }

    fn event(mut self, what: EventKind) -> Self {
        let pid = Pid::from_raw(MAIN);
        let at = at(self.events.len() as f64);
        self.events.push(Event { at, pid, tid: pid, what });
        self
    }

    /// Adds a call with the memory that the kernel reads and fills.
    pub fn call<const N: usize>(
        self,
        name: &'static str,
        given: [u64; N],
        result: i64,
        entering: Bytes<'_>,
        leaving: Bytes<'_>,
    ) -> Self {
        let mut arguments = [0; 6];
        arguments[..N].copy_from_slice(&given);
        let call = Call { name, arguments, memory: memory(entering) };
        let outcome = Outcome { result, memory: memory(leaving) };
        self.event(EventKind::Enter(call)).event(EventKind::Exit(outcome))
    }

    /// Formats the last call as in the timeline.
    pub fn last_call(&self) -> String {
        let steps = steps(&self.events);
        let call = steps.iter().rev().find_map(Step::call).unwrap();
        format!("{}({}) = {}", call.name, call.in_brackets(), call.outcome())
    }
}

/// Returns whether a test can't run because tracing is forbidden, and if so,
/// reports that it is skipped, and why.
pub fn is_forbidden(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref();
    let forbidden = matches!(refusal, Some(Unsupported::Tool(_)));
    if forbidden {
        lab::test::skip(format!("{error:#}"));
    }
    forbidden
}

/// Makes a struct epoll_event in the layout of this machine.
pub fn epoll_event(events: u32, data: u64) -> Vec<u8> {
    let mut bytes = vec![0; size_of::<libc::epoll_event>()];
    bytes[..4].copy_from_slice(&events.to_ne_bytes());
    let at = std::mem::offset_of!(libc::epoll_event, u64);
    bytes[at..at + 8].copy_from_slice(&data.to_ne_bytes());
    bytes
}

/// Makes a struct pollfd.
pub fn pollfd(fd: i32, events: i16, found: i16) -> Vec<u8> {
    let (fd, events, found) =
        (fd.to_ne_bytes(), events.to_ne_bytes(), found.to_ne_bytes());
    [&fd[..], &events, &found].concat()
}
