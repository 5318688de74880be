//! Steps as the lines of a timeline, between the client's acts: repeated calls
//! are folded, and the two phases marked.

use std::time::Duration;

use lab::number::some;

use super::copying::Copying;
use super::lines::{Line, LineKind, Phase, Writer, folded, summary};
use super::phases::{Phases, Place};
use super::scene::{Marks, REPLY, REQUEST, Recording};
use super::steps::Step;
use super::values::length;

/// A model's timeline.
#[derive(Debug)]
pub struct Timeline {
    pub start: Duration,
    pub lines: Vec<Line>,
    /// True if several threads did something; otherwise no line names one.
    pub many: bool,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The scene, with start-up and shutdown in one line each, and repetitions
    /// folded.
    Scene,
    /// Every call.
    Raw,
}

impl Timeline {
    pub fn new(
        recording: &Recording,
        copying: Option<Copying>,
        detail: Detail,
    ) -> Self {
        let Recording { steps, marks } = recording;
        let phases = Phases::find(recording);
        let client = client_acts(marks);
        let (shown, before, behind) = scene(steps, marks);
        let all = Vec::from_iter(0..steps.len());
        let (shown, end) = match detail {
            Detail::Raw => (all, Duration::MAX),
            Detail::Scene => (shown, marks.stopping),
        };
        let writer = Writer::new(steps, &shown, phases.as_ref());
        let mut lines = writer.lines(&client, end);
        let many = writer.names.len() > 1;
        if !many {
            lines.iter_mut().for_each(|line| line.who.clear());
        }
        if detail == Detail::Scene {
            lines = folded(&lines);
            lines.insert(0, summary("start-up", &steps[..before]));
            lines.push(summary("shut-down", &steps[behind..]));
        }
        let start = marks.connecting;
        let mut timeline = Self { start, lines, many };
        if let Some(phases) = &phases {
            timeline.explain(phases, copying);
        }
        timeline
    }

    /// Inserts a line at the end of each phase that summarizes it.
    fn explain(&mut self, phases: &Phases, copying: Option<Copying>) {
        let waited = phases.waiting.1.saturating_sub(phases.waiting.0);
        let how = match (phases.waiter, phases.empty) {
            (Some(_), 0) => "asleep".to_owned(),
            (Some(_), many) => format!("asleep, after {}", eagain(many)),
            // On a busy machine the data may arrive before the call.
            (None, 0) => "no call waited".to_owned(),
            (None, many) => format!("never asleep: {}", eagain(many)),
        };
        let waited = format!("{}, {how}", length(waited));
        let bytes = format!("{} bytes", phases.bytes);
        let copied = copying.map_or(bytes, |copying| copying.to_string());
        let copied = match phases.place {
            Place::Receive => copied,
            Place::Enter => format!("inside io_uring_enter: {copied}"),
            Place::Kernel => format!("by the kernel: {copied}"),
        };
        let (arrival, end) = (phases.waiting.1, phases.copying.1);
        let is_arrival =
            |l: &Line| l.kind == LineKind::Client && l.at >= arrival;
        let sent = self.lines.iter().position(is_arrival);
        let is_copy = |l: &Line| l.phase == Some(Phase::Copying);
        let copy = self.lines.iter().rposition(is_copy);
        // From the end, so that the other index stays valid.
        if let Some(place) = copy {
            let text = format!("phase 2, copying: {copied}");
            self.lines.insert(place + 1, note(end, text, Phase::Copying));
        }
        if let Some(place) = sent {
            let text = format!("phase 1, waiting for data: {waited}");
            self.lines.insert(place, note(arrival, text, Phase::Waiting));
        }
    }
}

/// Formats the number of calls that returned EAGAIN.
fn eagain(calls: usize) -> String {
    format!("{} that returned EAGAIN", some(calls, "call"))
}

fn note(at: Duration, text: String, phase: Phase) -> Line {
    Line { phase: Some(phase), ..Line::new(at, LineKind::Phase, text) }
}

/// Returns the client's acts, in order.
fn client_acts(marks: &Marks) -> [Line; 4] {
    let (request, reply) = (REQUEST.escape_ascii(), REPLY.escape_ascii());
    let act = |at, text| Line::new(at, LineKind::Client, text);
    [
        act(marks.connecting, "the client comes".to_owned()),
        act(marks.sending, format!("the client sends \"{request}\"")),
        act(marks.answered, format!("the client has \"{reply}\"")),
        act(marks.closing, "the client goes".to_owned()),
    ]
}

/// Returns the steps between the client's connect and shutdown, with the calls
/// that were in progress when it connected; and where start-up ends and
/// shutdown begins.
fn scene(steps: &[Step], marks: &Marks) -> (Vec<usize>, usize, usize) {
    let (first, last) = (marks.connecting, marks.stopping);
    let is_shown = |step: &Step| {
        let waited =
            step.until.is_some_and(|until| until > first && until < last);
        step.at < last && (step.at >= first || waited)
    };
    let all = steps.iter().enumerate();
    let shown = all.filter(|(_, step)| is_shown(step)).map(|(index, _)| index);
    let place = |at| steps.partition_point(|step: &Step| step.at < at);
    (shown.collect(), place(first), place(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::recording;

    fn timeline(text: &str) -> Timeline {
        Timeline::new(&recording(text), None, Detail::Scene)
    }

    fn texts(timeline: &Timeline) -> Vec<String> {
        let text = |line: &Line| {
            let mark = match line.phase {
                None => ' ',
                Some(Phase::Waiting) => '1',
                Some(Phase::Copying) => '2',
            };
            format!("{mark} {}", line.text)
        };
        timeline.lines.iter().map(text).collect()
    }

    /// Generates calls that return EAGAIN.
    fn eagain(from: f64, step: f64, times: u32) -> String {
        let lines = (0..times).map(|round| {
            let at = from + step * f64::from(round);
            let until = at + 0.01;
            format!("main {at} {until} recvfrom(client 1, 9) = EAGAIN\n")
        });
        lines.collect()
    }

    #[test]
    fn a_wait_is_cut_where_the_client_does_something() {
        let timeline = timeline(
            "main -60 -59   epoll_create1() = 5
             main .3  .4    accept4(listener) = 4 client 1
             main .5  .6    epoll_ctl(epoll, add client 1, EPOLLIN) = 0
             main 1   100.4 recvfrom(client 1, 4096) = 6
             main 202 202.1 close(listener) = 0",
        );
        let expected = [
            "  start-up: 1 call",
            "  the client comes",
            "  accept4(listener) = client 1",
            "  epoll_ctl(epoll, add client 1, EPOLLIN) = 0",
            "1 recvfrom(client 1, 4096) …",
            "1 phase 1, waiting for data: 99.0 ms, asleep",
            r#"  the client sends "PING\r\n""#,
            r#"2 … recvfrom = 6 "PING\r\n""#,
            "2 phase 2, copying: 6 bytes",
            r#"  the client has "+PONG\r\n""#,
            "  the client goes",
            "  shut-down: 1 call",
        ];
        assert_eq!(texts(&timeline), expected);
    }

    const RING: &str = "
        main 2     100.4 io_uring_enter(ring: recv(client 1)) = 1
        main 100.3 .     completed recv(client 1) = 6
        main 100.5 .     signal SIGIO client 1";

    #[test]
    fn timelines_have_these_lines_once() {
        let deferring =
            "main -1 -.9 io_uring_setup(8, IORING_SETUP_DEFER_TASKRUN) = 7";
        let early = "
            main 2     2.1 io_uring_enter(ring: recv(client 1)) = 1
            main 100.3 .   completed recv(client 1) = 6
            main 100.3 -   io_uring_enter(ring)";
        let rounds = eagain(1.0, 0.08, 1_204)
            + "main 100.2 100.3 recvfrom(client 1, 9) = 6\n"
            + &eagain(103.0, 1.0, 5);
        let rows: [(&str, &[&str]); 7] = [
            // Rounds are folded up to the data, and again after it.
            (
                &rounds,
                &[
                    "1 1,204 × recvfrom(client 1, 9) = EAGAIN, nothing there",
                    "  5 × recvfrom(client 1, 9) = EAGAIN, nothing there",
                    "1 phase 1, waiting for data: 99.0 ms, never asleep: \
                     1,204 calls that returned EAGAIN",
                ],
            ),
            (
                "main 100.5 100.6 recvfrom(client 1, 9) = 6",
                &["1 phase 1, waiting for data: 0 ns, no call waited"],
            ),
            // A short call during which shutdown begins is not a wait.
            (
                "main 1       100.4   recvfrom(client 1, 9) = 6
                 main 199.999 200.001 recvfrom(client 1, 9) = EAGAIN
                 main 205     -       close(client 1)",
                &["  recvfrom(client 1, 9) = EAGAIN, nothing there"],
            ),
            // Housekeeping calls share one line, and threads have names.
            (
                "main   1   1.1   mmap() = 4096
                 main   1.2 1.3   getpid() = 100
                 main   1.4 1.5   clone3() = 102
                 thread 2   100.4 read(client 1, 9) = 6",
                &["  mmap, getpid", "  clone3() = thread 1"],
            ),
            (
                RING,
                &[
                    "1 io_uring_enter(ring: recv(client 1)) …",
                    r#"2 completed: recv(client 1) = 6 "PING\r\n""#,
                    "2 phase 2, copying: by the kernel: 6 bytes",
                    "  signal SIGIO: client 1 ready",
                ],
            ),
            (
                &format!("{deferring}{RING}"),
                &["2 phase 2, copying: inside io_uring_enter: 6 bytes"],
            ),
            // It was complete before io_uring_enter was called again.
            (
                &format!("{deferring}{early}"),
                &["2 phase 2, copying: by the kernel: 6 bytes"],
            ),
        ];
        for (scene, expected) in rows {
            let texts = texts(&timeline(scene));
            for line in expected {
                let times = texts.iter().filter(|text| text == line).count();
                assert_eq!(times, 1, "{line} in {texts:#?}");
            }
        }
    }

    #[test]
    fn raw_shows_every_call() {
        let request = "main 100.2 100.3 recvfrom(client 1, 9) = 6";
        let recording = recording(&(eagain(1.0, 1.0, 9) + request));
        let texts = texts(&Timeline::new(&recording, None, Detail::Raw));
        let calls = texts.iter().filter(|text| text.contains("recvfrom("));
        assert_eq!(calls.count(), 9 + 1, "{texts:#?}");
    }
}
