//! The two phases of an input operation: waiting until data has arrived, and
//! copying it from the kernel to the application.

use std::time::Duration;

use super::call::CallStep;
use super::calls::Family;
use super::scene::Recording;
use super::steps::{Deed, Step, defers_copies};

/// A call that takes no longer is not asleep. One that began this shortly
/// before the arrival was not waiting for the data, but found it by chance. The
/// client is silent for much longer.
const SHORT: Duration = Duration::from_millis(5);

/// A span of time: its start and its end.
pub type Span = (Duration, Duration);

/// A step, or one end of a step during which something else happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Whole,
    Enter,
    Return,
}

/// The two phases of the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Phases {
    /// From the first call that returned EAGAIN, or from the call that waited,
    /// to the arrival.
    pub waiting: Span,
    /// The call that copies; without such a call, from the arrival to the
    /// completion.
    pub copying: Span,
    /// The step that ended phase 1: a wait that lasted until the data arrived.
    /// None if nothing waited (nonblocking).
    pub waiter: Option<usize>,
    /// The step that ended phase 2: a call, or a completion.
    pub copier: usize,
    pub place: Place,
    /// The number of receiving calls that returned EAGAIN in phase 1.
    pub empty: usize,
    /// The size of the request in bytes.
    pub bytes: usize,
}

/// The call in which the data is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A receiving call.
    Receive,
    /// io_uring_enter(2), on the thread that makes it.
    Enter,
    /// No call: the kernel copies at any time.
    Kernel,
}

impl Phases {
    /// Returns None if the request was never received.
    pub fn find(Recording { steps, marks }: &Recording) -> Option<Self> {
        let arrival = marks.sending;
        let (copier, bytes) = copier(steps, arrival)?;
        let copy = &steps[copier];
        let spans = |step: &Step| {
            let until = step.until.unwrap_or(Duration::MAX);
            let is_there = step.at + SHORT < arrival && until >= arrival;
            is_there && step.pid == copy.pid
        };
        // The thread that copies waits, or the one that collects completions.
        let waits = |step: &Step| {
            spans(step)
                && (step.tid == copy.tid || copy.call().is_none())
                && step.call().is_some_and(waits_for_data)
        };
        // One thread may wait, and another one may copy.
        let role = copy.call().and_then(CallStep::role);
        let reports = |step: &Step| {
            let call = step.call().filter(|_| spans(step));
            call.is_some_and(|call| call.answers().any(|it| Some(it) == role))
        };
        let waiter = steps.iter().position(waits);
        let waiter = waiter.or_else(|| steps.iter().position(reports));
        let empty: Vec<_> = steps
            .iter()
            .filter(|step| (marks.connecting..arrival).contains(&step.at))
            .filter(|step| step.call().is_some_and(returns_eagain))
            .collect();
        let first_question = empty.first().map(|step| step.at);
        let first_wait = waiter.map(|index| steps[index].at);
        let since = first_question.into_iter().chain(first_wait).min();
        let since = since.unwrap_or(arrival).max(marks.connecting);
        let copying = match (copy.call(), copy.until) {
            (Some(_), Some(until)) => (copy.at.max(arrival), until),
            _ => (arrival, copy.at),
        };
        Some(Self {
            waiting: (since, arrival),
            copying,
            waiter,
            copier,
            place: place(steps, copy),
            empty: empty.len(),
            bytes,
        })
    }
}

fn place(steps: &[Step], copy: &Step) -> Place {
    match &copy.deed {
        Deed::Completed(done) if done.inside && defers_copies(steps) => {
            Place::Enter
        }
        Deed::Completed(_) => Place::Kernel,
        _ => Place::Receive,
    }
}

/// Returns the first step that received bytes of the request, and their number.
pub fn copier(steps: &[Step], arrival: Duration) -> Option<(usize, usize)> {
    let brought = |step: &Step| match &step.deed {
        Deed::Call(call)
            if call.family == Family::Receive && call.is_about_client() =>
        {
            (step.until? >= arrival).then_some(call.result?)
        }
        Deed::Completed(done) => {
            let bytes = i64::try_from(done.answer.bytes()).ok()?;
            (step.at >= arrival).then_some(bytes)
        }
        _ => None,
    };
    let all = steps.iter().enumerate();
    all.filter_map(|(index, step)| {
        let bytes = usize::try_from(brought(step)?).ok()?;
        (bytes > 0).then_some((index, bytes))
    })
    .next()
}

/// Returns whether a call can wait for data.
fn waits_for_data(call: &CallStep) -> bool {
    match call.family {
        Family::Readiness | Family::Signals | Family::Ring => true,
        Family::Receive => call.is_about_client() && !returns_eagain(call),
        _ => false,
    }
}

/// Returns whether a thread is asleep in a call until that moment or beyond it.
pub fn sleeps_at(step: &Step, moment: Duration) -> bool {
    let until = step.until.unwrap_or(Duration::MAX);
    step.at < moment && until >= moment && until - step.at > SHORT
}

/// Returns whether a receiving call returned EAGAIN.
pub fn returns_eagain(call: &CallStep) -> bool {
    call.family == Family::Receive
        && call.is_about_client()
        && call.fails_with(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::recording;
    use crate::tape::at;

    /// A scene; when the phases begin and end, in ms; whether a thread was
    /// asleep; how many calls returned EAGAIN.
    type Row = (&'static str, [f64; 4], bool, usize);

    #[rustfmt::skip]
    const ROWS: [Row; 9] = [
        // Blocking waits and copies in one call.
        ("main 1 100.4 recvfrom(client 1, 4096) = 6",
            [1.0, 100.0, 100.0, 100.4], true, 0),
        // Nonblocking polls and never sleeps,
        ("main 1      1.1    recvfrom(client 1, 4096) = EAGAIN
          main 50     50.1   recvfrom(client 1, 4096) = EAGAIN
          main 99.995 100.01 recvfrom(client 1, 4096) = EAGAIN
          main 100.2  100.3  recvfrom(client 1, 4096) = 6",
            [1.0, 100.0, 100.2, 100.3], false, 3),
        // and the data may arrive during a call.
        ("main 1    1.1   recvfrom(client 1, 4096) = EAGAIN
          main 99.9 100.3 recvfrom(client 1, 4096) = 6",
            [1.0, 100.0, 100.0, 100.3], false, 1),
        // Multiplexing waits and then copies.
        ("main 2     100.3 epoll_wait(epoll) = 1 client 1
          main 100.5 100.6 recvfrom(client 1, 4096) = 6",
            [2.0, 100.0, 100.5, 100.6], true, 0),
        // One thread waits and another one copies.
        ("thread 1     150   epoll_wait(epoll) = 0
          other  2     100.3 epoll_wait(epoll) = 1 client 1
          main   100.5 100.6 recvfrom(client 1, 4096) = 6",
            [2.0, 100.0, 100.5, 100.6], true, 0),
        // A call after the arrival has not waited.
        ("main 100.5 100.6 recvfrom(client 1, 4096) = 6",
            [100.0, 100.0, 100.5, 100.6], false, 0),
        // Signal-driven receives once and sleeps.
        ("main 1     1.1   recvfrom(client 1, 4096) = EAGAIN
          main 2     100.3 ppoll(signals) = EINTR
          main 100.4 .     signal SIGIO client 1
          main 100.5 100.6 recvfrom(client 1, 4096) = 6",
            [1.0, 100.0, 100.5, 100.6], true, 1),
        // A thread of the library waits and copies.
        ("main   .9  100.6 rt_sigtimedwait() = 34
          thread 1   1.1   pread64(client 1, 1024) = ESPIPE
          thread 1.2 100.4 read(client 1, 1024) = 6",
            [1.2, 100.0, 100.0, 100.4], true, 0),
        // With io_uring, copying lasts until the completion.
        (RING, [2.0, 100.0, 100.0, 100.3], true, 0),
    ];

    #[test]
    fn phases_begin_and_end_with_calls() {
        for (text, times, asleep, empty) in ROWS {
            let phases = Phases::find(&recording(text)).unwrap();
            let (waiting, copying) = (phases.waiting, phases.copying);
            let all = [waiting.0, waiting.1, copying.0, copying.1];
            assert_eq!(all, times.map(at), "{text}");
            assert_eq!(phases.waiter.is_some(), asleep, "{text}");
            assert_eq!((phases.empty, phases.bytes), (empty, 6), "{text}");
        }
    }

    const RING: &str = "
        main 2     100.4 io_uring_enter(ring: recv(client 1)) = 1
        main 100.3 .     completed recv(client 1) = 6";

    #[test]
    fn without_a_request_there_are_no_phases() {
        let text = "
            main 1     1.1   recvfrom(client 1, 4096) = EAGAIN
            main 100.5 100.6 recvfrom(client 1, 4096) = EAGAIN";
        assert_eq!(Phases::find(&recording(text)), None);
    }
}
