//! The two phases of an input operation: waiting until data is there, and
//! copying it from the kernel to the application.

use std::time::Duration;

use super::call::CallStep;
use super::calls::Family;
use super::scene::Recording;
use super::steps::{Deed, Step, defers_copies};

/// A call that takes no longer is not asleep, and one that began so shortly
/// before the arrival was not waiting for it: it met it. The client is silent
/// for much longer.
const SHORT: Duration = Duration::from_millis(5);

/// A stretch of time, from and until.
pub type Span = (Duration, Duration);

/// Where the two phases of the request lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Phases {
    /// From the first question for data that found none, or from the call that
    /// waited, to the arrival.
    pub waiting: Span,
    /// The call that copies; without such a call, from the arrival to the
    /// completion.
    pub copying: Span,
    /// The step that ended phase 1: a wait that lasted until the data was
    /// there. None where nothing waited (nonblocking).
    pub waiter: Option<usize>,
    /// The step that ended phase 2: a call, or a completion.
    pub copier: usize,
    pub place: Place,
    /// How many receiving calls returned EAGAIN in phase 1.
    pub empty: usize,
    /// Bytes of the request.
    pub bytes: usize,
}

/// In which call the copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A receiving call.
    Receive,
    /// io_uring_enter(2), on the thread that makes it.
    Enter,
    /// None: the kernel copies at any moment.
    Kernel,
}

impl Phases {
    /// None where the request was never received.
    pub fn find(Recording { steps, marks }: &Recording) -> Option<Self> {
        let arrival = marks.sending;
        let (copier, bytes) = copier(steps, arrival)?;
        let copy = &steps[copier];
        // The thread that copies waits, or the one that collects completions.
        let waits = |step: &Step| {
            let until = step.until.unwrap_or(Duration::MAX);
            step.at + SHORT < arrival
                && until >= arrival
                && step.pid == copy.pid
                && (step.tid == copy.tid || copy.call().is_none())
                && step.call().is_some_and(waits_for_data)
        };
        // One thread may wait, and another one copy.
        let role = copy.call().and_then(CallStep::role);
        let reports = |step: &Step| {
            let spans = step.at + SHORT < arrival
                && step.until.is_some_and(|until| until >= arrival);
            let call = step.call().filter(|_| spans && step.pid == copy.pid);
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

/// The first step that has brought bytes of the request, and how many.
fn copier(steps: &[Step], arrival: Duration) -> Option<(usize, usize)> {
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

/// Whether a call can wait until data is there.
fn waits_for_data(call: &CallStep) -> bool {
    match call.family {
        Family::Readiness | Family::Signals | Family::Ring => true,
        Family::Receive => call.is_about_client() && !returns_eagain(call),
        _ => false,
    }
}

/// Whether a thread sleeps in a call at that moment, and is woken then.
pub fn sleeps_at(step: &Step, moment: Duration) -> bool {
    let until = step.until.unwrap_or(Duration::MAX);
    step.at < moment && until >= moment && until - step.at > SHORT
}

/// Whether a receiving call found no data.
pub fn returns_eagain(call: &CallStep) -> bool {
    call.family == Family::Receive
        && call.is_about_client()
        && call.fails_with(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tape::{MAIN, Tape, at, epoll_event};

    /// What was found: where the phases begin and end, in ms; whether somebody
    /// was asleep; how many calls returned EAGAIN.
    fn found(tape: &Tape) -> ([f64; 4], bool, usize) {
        let phases = Phases::find(&tape.recording()).unwrap();
        let (waiting, copying) = (phases.waiting, phases.copying);
        let all = [waiting.0, waiting.1, copying.0, copying.1];
        let start = at(0.0).as_secs_f64();
        let all = all
            .map(|it| ((it.as_secs_f64() - start) * 1e3 * 1e3).round() / 1e3);
        assert_eq!(phases.bytes, 6);
        (all, phases.waiter.is_some(), phases.empty)
    }

    #[test]
    fn blocking_waits_and_copies_in_one_call() {
        let tape = Tape::serving().receive(1.0, 100.4);
        assert_eq!(found(&tape), ([1.0, 100.0, 100.0, 100.4], true, 0));
    }

    #[test]
    fn nonblocking_asks_and_never_sleeps() {
        let tape = Tape::serving()
            .eagain(1.0)
            .eagain(50.0)
            .eagain(99.995)
            .receive(100.2, 100.3);
        assert_eq!(found(&tape), ([1.0, 100.0, 100.2, 100.3], false, 3));
    }

    #[test]
    fn nonblocking_may_meet_the_data_in_a_call() {
        let tape = Tape::serving().eagain(1.0).receive(99.9, 100.3);
        assert_eq!(found(&tape), ([1.0, 100.0, 100.0, 100.3], false, 1));
    }

    #[test]
    fn multiplexing_waits_and_then_copies() {
        let event = epoll_event(libc::EPOLLIN as u32, 77);
        let tape = Tape::serving()
            .call(2.0, 100.3, "epoll_wait", [5], 1, &[], &[(1, &event)])
            .receive(100.5, 100.6);
        assert_eq!(found(&tape), ([2.0, 100.0, 100.5, 100.6], true, 0));
    }

    #[test]
    fn one_thread_waits_and_another_copies() {
        let event = epoll_event(libc::EPOLLIN as u32, 77);
        let tape = Tape::serving()
            .enter(101, 1.0, "epoll_wait", [5], &[])
            .enter(102, 2.0, "epoll_wait", [5], &[])
            .exit(102, 100.3, 1, &[(1, &event)])
            .receive(100.5, 100.6)
            .exit(101, 150.0, 0, &[]);
        assert_eq!(found(&tape), ([2.0, 100.0, 100.5, 100.6], true, 0));
    }

    #[test]
    fn who_asks_too_late_has_not_waited() {
        let tape = Tape::serving().receive(100.5, 100.6);
        assert_eq!(found(&tape), ([100.0, 100.0, 100.5, 100.6], false, 0));
    }

    #[test]
    fn signal_driven_receives_once_and_sleeps() {
        let tape = Tape::serving()
            .eagain(1.0)
            .call(2.0, 100.3, "ppoll", [0, 0], -514, &[], &[])
            .signal(100.4, libc::SIGIO, 4)
            .receive(100.5, 100.6);
        assert_eq!(found(&tape), ([1.0, 100.0, 100.5, 100.6], true, 1));
    }

    fn completed(tape: Tape) -> Tape {
        tape.enter(MAIN, 2.0, "io_uring_enter", [7, 1, 1], &[])
            .submit(2.0, "recv", 4)
            .complete(100.3, "recv", 4, 6, b"PING\r\n")
            .exit(MAIN, 100.4, 1, &[])
    }

    #[test]
    fn io_uring_copies_until_the_completion() {
        let tape = completed(Tape::serving());
        assert_eq!(found(&tape), ([2.0, 100.0, 100.0, 100.3], true, 0));
    }

    #[test]
    fn a_ring_that_defers_copies_in_the_call() {
        let place =
            |tape: &Tape| Phases::find(&tape.recording()).unwrap().place;
        assert_eq!(place(&completed(Tape::serving())), Place::Kernel);
        let deferring = completed(Tape::serving().deferring());
        assert_eq!(place(&deferring), Place::Enter);
        // Completed before io_uring_enter was called again.
        let early = Tape::serving()
            .deferring()
            .enter(MAIN, 2.0, "io_uring_enter", [7, 1, 0], &[])
            .submit(2.0, "recv", 4)
            .exit(MAIN, 2.1, 1, &[])
            .complete(100.3, "recv", 4, 6, b"PING\r\n")
            .enter(MAIN, 100.3, "io_uring_enter", [7, 0, 1], &[]);
        assert_eq!(place(&early), Place::Kernel);
        let called = Tape::serving().receive(100.5, 100.6);
        assert_eq!(place(&called), Place::Receive);
    }

    #[test]
    fn a_thread_of_the_library_waits_and_copies() {
        let nothing = -i64::from(libc::ESPIPE);
        let tape = Tape::serving()
            .enter(MAIN, 0.9, "rt_sigtimedwait", [], &[])
            .enter(101, 1.0, "pread64", [4, 0, 1_024], &[])
            .exit(101, 1.1, nothing, &[])
            .enter(101, 1.2, "read", [4, 0, 1_024], &[])
            .exit(101, 100.4, 6, &[(1, b"PING\r\n")])
            .exit(MAIN, 100.6, 34, &[]);
        assert_eq!(found(&tape), ([1.2, 100.0, 100.0, 100.4], true, 0));
    }

    #[test]
    fn without_a_request_there_are_no_phases() {
        let tape = Tape::serving().eagain(1.0).eagain(100.5);
        assert_eq!(Phases::find(&tape.recording()), None);
    }
}
