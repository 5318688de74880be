use ::compare::results::{Run, Server};
use ::compare::sample;
use ::compare::workload;

use super::*;

/// Results put together by hand: models `a`, `b`, ... and a `bare-loop`.
#[derive(Default)]
struct Made(Results);

impl Made {
    fn new() -> Self {
        let workloads = workload::all().unwrap();
        Self(Results { workloads, ..Results::default() })
    }

    fn outcome(mut self, name: &str, server: &str, outcome: Outcome) -> Self {
        if !self.0.servers.iter().any(|known| known.title == server) {
            self.0.servers.push(Server {
                title: server.to_owned(),
                summary: String::new(),
                yardstick: server == "bare-loop",
                one_thread: true,
            });
        }
        let number = self.0.runs.len() + 1;
        let (workload, server) = (name.to_owned(), server.to_owned());
        let ended_at = None;
        let run = Run { workload, server, number, outcome, ended_at };
        self.0.runs.push(run);
        self
    }

    /// One run for each value.
    fn runs(
        mut self,
        name: &str,
        server: &str,
        values: &[f64],
        set: fn(&mut Figures, f64),
    ) -> Self {
        for value in values {
            let mut figures = Figures::default();
            set(&mut figures, *value);
            self = self.outcome(name, server, Outcome::Measured(figures));
        }
        self
    }

    fn cpu(self, name: &str, server: &str, values: &[f64]) -> Self {
        self.runs(name, server, values, |figures, value| figures.cpu = value)
    }

    fn cannot(self, name: &str, server: &str, why: &str) -> Self {
        self.outcome(name, server, Outcome::Cannot(why.to_owned()))
    }

    fn failed(self, name: &str, server: &str, why: &str) -> Self {
        self.outcome(name, server, Outcome::Failed(why.to_owned()))
    }

    /// What is said on a topic.
    fn said(&self, topic: &str) -> String {
        let said = summary(&self.0).into_iter();
        let said = said.filter(|said| said.topic == topic);
        said.map(|said| said.text).collect()
    }
}

#[test]
fn processor_time() {
    let topic = "Processor time";
    let made = Made::new();
    assert_eq!(made.said(topic), "");
    let made = made.cpu("ping-50", "a", &[3.0, 3.1, 3.2]);
    assert_eq!(
        made.said(topic),
        "With 50 connections, a request takes 3.10 µs on a."
    );
    let made = made.cpu("ping-50", "b", &[3.15, 3.3, 3.4]);
    assert_eq!(
        made.said(topic),
        "With 50 connections, a request takes from 3.10 µs on a to 3.30 µs \
         on b, which is no measurable difference."
    );
    let made = made
        .cpu("ping-50", "c", &[30.0, 31.0, 32.0])
        .cpu("ping-50", "d", &[29.0, 29.5, 30.5])
        .cpu("ping-50", "bare-loop", &[0.1, 0.1, 0.1]);
    assert_eq!(
        made.said(topic),
        "With 50 connections, a request takes from 3.10 µs on a (no \
         measurable difference to b) to 31.0 µs on c (no measurable \
         difference to d): 10 times as much."
    );
}

#[test]
fn without_fifty_connections_the_nearest_number_is_taken() {
    let mut made = Made::new().cpu("ping-1", "a", &[3.0, 3.0, 3.0]);
    made.0.workloads.retain(|workload| workload.name == "ping-1");
    assert_eq!(
        made.said("Processor time"),
        "With 1 connection, a request takes 3.00 µs on a."
    );
}

#[test]
fn distance_to_the_yardsticks() {
    let made = Made::new().cpu("ping-50", "bare-loop", &[3.0, 3.0, 3.1]);
    assert_eq!(made.said("Yardsticks"), "");
    for (model, said) in [
        ([3.2, 3.3, 3.4], "bare-loop takes 3.00 µs a request, a 10 % more."),
        (
            [2.0, 3.0, 4.0],
            "bare-loop takes 3.00 µs a request, which is no measurable \
             difference to a.",
        ),
        (
            [1.0, 1.0, 1.0],
            "bare-loop takes 3.00 µs a request, 3.0 times as much as a.",
        ),
        (
            [2.9, 2.9, 2.95],
            "bare-loop takes 3.00 µs a request, 3 % more than a.",
        ),
        (
            [2.92, 2.93, 2.94],
            "bare-loop takes 3.00 µs a request, which is no measurable \
             difference to a.",
        ),
    ] {
        let made = Made::new()
            .cpu("ping-50", "bare-loop", &[3.0, 3.0, 3.1])
            .cpu("ping-50", "a", &model);
        assert_eq!(made.said("Yardsticks"), said);
    }
}

#[test]
fn idle_connections() {
    let topic = "1,000 idle connections";
    let made = Made::new().cpu("ping-50", "a", &[3.0, 3.1, 3.2]).cpu(
        "idle-1000",
        "a",
        &[3.1, 3.2, 3.3],
    );
    assert_eq!(made.said(topic), "No measurable difference to a.");
    assert_eq!(made.said("10,000 idle connections"), "");
    let made = made
        .cpu("ping-50", "b", &[3.0, 3.0, 3.0])
        .cpu("idle-1000", "b", &[60.0, 60.0, 60.0])
        .cpu("ping-50", "c", &[3.0, 3.0, 3.0])
        .cpu("idle-1000", "c", &[3.3, 3.3, 3.3])
        .cpu("ping-50", "d", &[4.0, 4.0, 4.0])
        .cpu("idle-1000", "d", &[3.0, 3.0, 3.0])
        .cannot("idle-1000", "e", "one client");
    assert_eq!(
        made.said(topic),
        "Compared with none, a request takes 20 times as much on b, 10 % \
         more on c and 25 % less on d. No measurable difference to a. Not \
         measured: e (one client)."
    );
}

#[test]
fn small_differences_are_summed_up() {
    let mut made = Made::new();
    for (server, factor) in [
        ("a", 9.0),
        ("b", 1.04),
        ("c", 1.3),
        ("d", 1.1),
        ("e", 1.2),
        ("f", 1.02),
    ] {
        made = made.cpu("ping-50", server, &[3.0, 3.0, 3.0]).cpu(
            "idle-1000",
            server,
            &[3.0 * factor; 3],
        );
    }
    assert_eq!(
        made.said("1,000 idle connections"),
        "Compared with none, a request takes 9.0 times as much on a and 4 % \
         more to 30 % more on 4 others. No measurable difference to f."
    );
}

#[test]
fn nobody_minds_idle_connections() {
    let mut made = Made::new();
    for server in ["a", "b"] {
        made = made.cpu("ping-50", server, &[3.0, 3.1, 3.2]).cpu(
            "idle-1000",
            server,
            &[3.0, 3.1, 3.2],
        );
    }
    assert_eq!(
        made.said("1,000 idle connections"),
        "No measurable difference to any model."
    );
}

#[test]
fn pipelining() {
    let topic = "Pipelining";
    let made = Made::new().cpu("ping-50", "a", &[4.0, 4.0, 4.0]).cpu(
        "pipeline-64",
        "a",
        &[0.2, 0.2, 0.2],
    );
    assert_eq!(
        made.said(topic),
        "Of what a request takes on its own, one of 64 sent at a time takes \
         5.00 % on a."
    );
    let made = made
        .cpu("ping-50", "b", &[4.0, 4.0, 4.0])
        .cpu("pipeline-64", "b", &[2.0, 2.0, 2.0])
        .cpu("ping-50", "c", &[4.0, 4.0, 4.0])
        .cpu("pipeline-64", "c", &[3.0, 4.0, 5.0]);
    assert_eq!(
        made.said(topic),
        "Of what a request takes on its own, one of 64 sent at a time takes \
         from 5.00 % on a to 50.0 % on b. No measurable difference to c."
    );
}

#[test]
fn memory_of_a_connection() {
    let memory = |made: Made, server: &str, kib: &[f64]| {
        made.runs("idle-1000", server, kib, |figures, value| {
            figures.memory = Some(value);
            figures.kernel = Some(10.0);
        })
    };
    let made = memory(Made::new(), "a", &[0.5, 0.5, 0.6]);
    assert_eq!(
        made.said("Memory"),
        "One more idle connection takes 10.5 KiB on a, processes and kernel \
         together, both ends of it."
    );
    let made = memory(made, "b", &[60.0, 61.0, 62.0]);
    assert!(
        made.said("Memory").contains("from 10.5 KiB on a to 71.0 KiB on b")
    );
}

#[test]
fn ten_thousand_clients() {
    let topic = "C10K";
    let held = |made: Made, server: &str, number: f64| {
        made.runs("c10k", server, &[number], |figures, value| {
            figures.connections = value;
        })
    };
    let why = "ended at 1,018 clients: FD_SETSIZE";
    assert_eq!(Made::new().said(topic), "");
    for (made, said) in [
        (
            held(Made::new(), "a", 10_000.0),
            "The model measured held 10,000 clients.",
        ),
        (
            held(Made::new(), "a", 9_000.0),
            "The model measured did not hold 10,000 clients. a held 9,000.",
        ),
        (
            held(held(Made::new(), "a", 10_000.0), "b", 10_000.0),
            "All 2 models held 10,000 clients.",
        ),
        (
            held(Made::new(), "a", 10_000.0).cannot("c10k", "b", why),
            "1 of 2 models held 10,000 clients. b: ended at 1,018 clients: \
             FD_SETSIZE.",
        ),
        (
            Made::new().cannot("c10k", "a", why).cannot("c10k", "b", "no"),
            "None of 2 models held 10,000 clients. a: ended at 1,018 \
             clients: FD_SETSIZE. b: no.",
        ),
    ] {
        // A failure to measure says nothing, and so do yardsticks.
        let made = held(made, "bare-loop", 3.0);
        let runs = made.said(topic);
        assert_eq!(runs, said);
    }
}

#[test]
fn the_stated_rate() {
    let at = |made: Made, server: &str, rate: f64, p99: &[f64]| {
        let mut made = made;
        for value in p99 {
            let figures = Figures { rate, p99: *value, ..Figures::default() };
            made = made.outcome("latency", server, Outcome::Measured(figures));
        }
        made
    };
    let made = at(Made::new(), "a", 20_000.0, &[80.0, 81.0, 82.0]);
    assert_eq!(
        made.said("Latency"),
        "a sustained 20,000 requests a second. At that rate p99 is 81.0 µs \
         on a."
    );
    let made = at(made, "b", 19_990.0, &[200.0, 210.0, 220.0]);
    assert_eq!(
        made.said("Latency"),
        "2 of 2 models sustained 20,000 requests a second. At that rate p99 \
         is from 81.0 µs on a to 210 µs on b."
    );
    let made = at(made, "c", 18_200.0, &[9e5, 9e5, 9e5]);
    assert_eq!(
        made.said("Latency"),
        "2 of 3 models sustained 20,000 requests a second. That was too much \
         for c (18,200). At that rate p99 is from 81.0 µs on a to 210 µs on b."
    );
    let made = made
        .failed("latency", "d", "it died")
        .cannot("latency", "e", "one client")
        .failed("latency", "bare-loop", "it died");
    assert_eq!(
        made.said("Latency"),
        "2 of 4 models sustained 20,000 requests a second. That was too much \
         for c (18,200). Failed: d. Not measured: e (one client). At that \
         rate p99 is from 81.0 µs on a to 210 µs on b."
    );
    let made = at(Made::new(), "c", 18_200.0, &[9e5]);
    assert_eq!(
        made.said("Latency"),
        "20,000 requests a second were not sustained. That was too much for \
         c (18,200)."
    );
    let made = made.failed("latency", "d", "it died");
    assert_eq!(
        made.said("Latency"),
        "None of 2 models sustained 20,000 requests a second. That was too \
         much for c (18,200). Failed: d."
    );
    let made = Made::new().cpu("ping-50", "a", &[3.0]);
    assert_eq!(made.said("Latency"), "");
    let made = made.cannot("latency", "a", "one client");
    assert_eq!(made.said("Latency"), "Not measured: a (one client).");
}

#[test]
fn the_generator_as_the_limit() {
    let saturated = |made: Made, server: &str| {
        made.runs("ping-50", server, &[3.0, 3.0], |figures, value| {
            figures.cpu = value;
            figures.remark = Some("load generator saturated".to_owned());
        })
    };
    let beside_unmarked = |number: usize| {
        let made = Made::new().cpu("ping-50", "b", &vec![3.0; number]);
        saturated(made, "b").said("Load generator")
    };
    let made = Made::new().cpu("ping-50", "a", &[3.0, 3.0]);
    assert_eq!(made.said("Load generator"), "");
    let rest = "it was the limit and not the server, which could have \
                answered more requests a second.";
    assert_eq!(
        saturated(made, "b").said("Load generator"),
        format!("In 1 of 2 rows, {rest}")
    );
    assert_eq!(
        saturated(Made::new(), "b").said("Load generator"),
        format!("In the one row measured, {rest}")
    );
    // Two runs are marked, of three, four and five.
    assert_eq!(beside_unmarked(1), format!("In the one row measured, {rest}"));
    assert_eq!(beside_unmarked(2), "");
    assert_eq!(beside_unmarked(3), "");
}

#[test]
fn what_went_wrong() {
    let mut made = Made::new().failed("ping-50", "a", "it died");
    assert_eq!(made.said("Result"), "Nothing was measured.");
    assert_eq!(made.said("Failed"), "a in ping-50: it died.");
    assert_eq!(made.said("Processor time"), "");
    made.0.missing = 1;
    assert_eq!(made.said("Caution"), "1 run of the plan did not take place.");
    let mut made = made.cpu("ping-50", "b", &[3.0]);
    made.0.missing = 2;
    assert_eq!(
        made.said("Caution"),
        "1 row rests on a single run: a difference there may be chance. 2 \
         runs of the plan did not take place."
    );
    assert_eq!(made.said("Result"), "");
}

#[test]
fn many_failures_are_counted() {
    let mut made = Made::new();
    for server in ["a", "b", "c", "d", "e", "f"] {
        made = made.failed("ping-50", server, "it died");
    }
    assert!(made.said("Failed").ends_with("f in ping-50: it died."));
    let made = made.failed("ping-50", "g", "it died");
    let said = made.said("Failed");
    let end = "e in ping-50: it died. 2 more rows failed; the tables say why.";
    assert!(said.ends_with(end), "{said}");
}

#[test]
fn sentences_are_whole() {
    let all = [sample::full(), sample::quick(), Results::default()];
    for said in all.iter().flat_map(summary) {
        assert!(said.text.ends_with('.'), "{said}");
        for part in ["  ", "..", " ,", "NaN", "inf "] {
            assert!(!said.text.contains(part), "{part:?} in {said}");
        }
    }
}
