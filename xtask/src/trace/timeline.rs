//! Steps as the lines of a timeline: what the client did in between, repeated
//! calls folded, the two phases marked.

use std::time::Duration;

use super::copying::Copying;
use super::lines::{Line, LineKind, Phase, Writer, entries, names};
use super::phases::{Phases, Place};
use super::scene::{Marks, REPLY, REQUEST, Recording};
use super::steps::Step;
use super::values::length;
use crate::compare::number::count;

/// A model's timeline.
#[derive(Debug)]
pub struct Timeline {
    pub start: Duration,
    pub lines: Vec<Line>,
    /// Whether several threads did something; otherwise no line says who.
    pub many: bool,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The scene; start-up and shut-down in a line each, nothing twice.
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
        let client = client_marks(marks);
        let (shown, before, behind) = match detail {
            Detail::Raw => ((0..steps.len()).collect(), 0, 0),
            Detail::Scene => scene(steps, marks),
        };
        let writer = Writer {
            steps,
            names: names(steps, &shown),
            client: &client,
            phases: phases.as_ref(),
        };
        let end = match detail {
            Detail::Raw => Duration::MAX,
            Detail::Scene => marks.stopping,
        };
        let entries = entries(steps, &shown, &client, end);
        let mut lines = Vec::new();
        if detail == Detail::Scene {
            lines.push(writer.summary("start-up", &steps[..before]));
            for piece in writer.pieces(&entries) {
                writer.write(&piece, &entries, &mut lines);
            }
            lines.push(writer.summary("shut-down", &steps[behind..]));
        } else {
            let all = entries.iter().map(|entry| writer.line(*entry));
            lines.extend(all);
        }
        let many = writer.names.len() > 1;
        if !many {
            lines.iter_mut().for_each(|line| line.who.clear());
        }
        let start = marks.connecting;
        let mut timeline = Self { start, lines, many };
        if let Some(phases) = &phases {
            timeline.explain(phases, copying);
        }
        timeline
    }

    /// Puts a line where each phase ends, that says what it was.
    fn explain(&mut self, phases: &Phases, copying: Option<Copying>) {
        let waited = phases.waiting.1.saturating_sub(phases.waiting.0);
        let how = match (phases.waiter, phases.empty) {
            (Some(_), 0) => "asleep".to_owned(),
            (Some(_), many) => format!("asleep, after {}", eagain(many)),
            // On a busy machine the data may come before the call for it.
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
        // From behind, so that places stay what they are.
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

/// Receiving calls that found no data.
fn eagain(calls: usize) -> String {
    match calls {
        1 => "1 call that returned EAGAIN".to_owned(),
        many => format!("{} calls that returned EAGAIN", count(many as f64)),
    }
}

fn note(at: Duration, text: String, phase: Phase) -> Line {
    Line { phase: Some(phase), ..Line::new(at, LineKind::Phase, text) }
}

/// What the client did, in order.
fn client_marks(marks: &Marks) -> [(Duration, String); 4] {
    [
        (marks.connecting, "the client comes".to_owned()),
        (
            marks.sending,
            format!("the client sends \"{}\"", REQUEST.escape_ascii()),
        ),
        (
            marks.answered,
            format!("the client has \"{}\"", REPLY.escape_ascii()),
        ),
        (marks.closing, "the client goes".to_owned()),
    ]
}

/// The steps between the client's coming and the stop, with the calls that
/// were waiting when it came; and where start-up ends and shut-down begins.
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
    use crate::trace::tape::{MAIN, Tape};

    fn texts(tape: &Tape, detail: Detail) -> Vec<String> {
        let timeline = Timeline::new(&tape.recording(), None, detail);
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

    #[test]
    fn a_wait_is_cut_where_the_client_does_something() {
        let tape = Tape::serving().receive(1.0, 100.4).call(
            202.0,
            202.1,
            "close",
            [3],
            0,
            &[],
            &[],
        );
        assert_eq!(
            texts(&tape, Detail::Scene),
            [
                "  start-up: 5 calls",
                "  the client comes",
                "  accept4(listener) = client 1",
                "  epoll_ctl(epoll, add client 1, EPOLLIN) = 0",
                "1 recvfrom(client 1, 16384) …",
                "1 phase 1, waiting for data: 99.0 ms, asleep",
                r#"  the client sends "PING\r\n""#,
                r#"2 … recvfrom = 6 "PING\r\n""#,
                "2 phase 2, copying: 6 bytes",
                r#"  the client has "+PONG\r\n""#,
                "  the client goes",
                "  shut-down: 1 calls",
            ]
        );
    }

    #[test]
    fn rounds_are_folded_up_to_the_data_and_go_on_behind_it() {
        let mut tape = Tape::serving();
        for round in 0..1_204 {
            tape = tape.eagain(1.0 + f64::from(round) * 0.08);
        }
        tape = tape.receive(100.2, 100.3);
        for round in 0..5 {
            tape = tape.eagain(103.0 + f64::from(round));
        }
        let texts = texts(&tape, Detail::Scene);
        let folded = |count: &str, mark: char| {
            let text = "recvfrom(client 1, 16384) = EAGAIN, nothing there";
            let text = format!("{mark} {count} × {text}");
            texts.iter().filter(|line| **line == text).count()
        };
        assert_eq!(folded("1,204", '1'), 1, "{texts:#?}");
        assert_eq!(folded("5", ' '), 1, "{texts:#?}");
        let never = "100 ms, never asleep: 1,204 calls that returned EAGAIN";
        let never = never.replace("100 ms", "99.0 ms");
        assert!(texts.iter().any(|line| line.ends_with(&never)), "{texts:#?}");
    }

    #[test]
    fn a_late_receive_is_not_called_a_wait() {
        let tape = Tape::serving().receive(100.5, 100.6);
        let texts = texts(&tape, Detail::Scene);
        let waited = texts.iter().find(|text| text.contains("phase 1"));
        assert!(waited.unwrap().contains("no call waited"), "{texts:#?}");
    }

    #[test]
    fn a_short_call_that_the_stop_meets_does_not_wait() {
        let tape = Tape::serving().receive(1.0, 100.4).eagain(199.999).enter(
            MAIN,
            205.0,
            "close",
            [3],
            &[],
        );
        let texts = texts(&tape, Detail::Scene);
        let expected = "  recvfrom(client 1, 16384) = EAGAIN, nothing there";
        assert_eq!(texts[texts.len() - 2], expected, "{texts:#?}");
    }

    #[test]
    fn raw_shows_every_call() {
        let mut tape = Tape::serving();
        for round in 0..9 {
            tape = tape.eagain(1.0 + f64::from(round));
        }
        let tape = tape.receive(100.2, 100.3);
        let texts = texts(&tape, Detail::Raw);
        let calls = texts.iter().filter(|text| text.contains('(')).count();
        assert_eq!(calls, 7 + 9 + 1, "{texts:#?}");
    }

    #[test]
    fn housekeeping_is_one_line_and_threads_have_names() {
        let tape = Tape::serving()
            .call(1.0, 1.1, "mmap", [], 4_096, &[], &[])
            .call(1.2, 1.3, "mprotect", [], 0, &[], &[])
            .call(1.4, 1.5, "clone3", [], 101, &[], &[])
            .enter(101, 2.0, "read", [4, 0, 9], &[])
            .exit(101, 100.4, 6, &[(1, b"PING\r\n")]);
        let timeline = Timeline::new(&tape.recording(), None, Detail::Scene);
        let quiet: Vec<_> =
            timeline.lines.iter().filter(|l| l.text.contains("mm")).collect();
        assert_eq!(quiet.len(), 1);
        assert_eq!(quiet[0].text, "mmap, mprotect");
        let clones = |line: &&Line| line.text == "clone3() = thread 1";
        let clones = timeline.lines.iter().find(clones).unwrap();
        assert_eq!(clones.who, "main");
        assert!(timeline.many);
    }

    #[test]
    fn phase_2_says_who_copies_without_a_receiving_call() {
        for (tape, expected) in [
            (Tape::serving(), "by the kernel: 6 bytes"),
            (Tape::serving().deferring(), "inside io_uring_enter: 6 bytes"),
        ] {
            let tape = tape
                .enter(MAIN, 2.0, "io_uring_enter", [7, 1, 1], &[])
                .submit(2.0, "recv", 4)
                .complete(100.3, "recv", 4, 6, b"PING\r\n")
                .exit(MAIN, 100.4, 1, &[]);
            let texts = texts(&tape, Detail::Scene);
            let expected = format!("2 phase 2, copying: {expected}");
            assert!(texts.contains(&expected), "{texts:#?}");
        }
    }

    #[test]
    fn completions_and_signals_are_events() {
        let tape = Tape::serving()
            .enter(MAIN, 2.0, "io_uring_enter", [7, 1, 1], &[])
            .submit(2.0, "recv", 4)
            .complete(100.3, "recv", 4, 6, b"PING\r\n")
            .exit(MAIN, 100.4, 1, &[])
            .signal(100.5, libc::SIGIO, 4);
        let texts = texts(&tape, Detail::Scene);
        for expected in [
            "1 io_uring_enter(ring: recv(client 1)) …",
            r#"2 completed: recv(client 1) = 6 "PING\r\n""#,
            "  signal SIGIO: client 1 ready",
        ] {
            assert!(texts.iter().any(|it| it == expected), "{texts:#?}");
        }
    }
}
