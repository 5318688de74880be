//! The processor time of a request: a loop over all clients against a process
//! or a thread per client.

use anyhow::Result;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::served::{Condition, Host, LOOP, PROCESS, THREAD};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "multiplexing-saves-time",
    claim: "A request costs less processor time with multiplexing than with a \
            process or a thread per client.",
    section: "I/O multiplexing",
    criterion: "1,000 clients are connected to process-per-connection, to \
                thread-per-connection and to multiplexing-epoll, and 50 of \
                them send small requests, 50 at a time or one at a time. True \
                if the first two servers use at least 1.5 times as much \
                processor time per request as the third, both with 50 \
                requests at a time and with one. False if neither does with \
                either. Otherwise it depends.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "clone(2)", "clock_getcpuclockid(3)"],
    explanation: "A thread or a process that waits in recv must be woken up \
                  and switched to for each request. A loop is woken up once \
                  for all requests that have arrived, so if many come at a \
                  time, each costs half as much or less. If they come one at a \
                  time, the loop is woken up for each as well, and saves \
                  little or nothing.",
    run,
    file: file!(),
};

/// The servers, the one with multiplexing last.
const MODELS: [Condition; 3] = [PROCESS, THREAD, LOOP];

const CLIENTS: usize = 1_000;
/// The number of clients that send requests.
const ACTIVE: usize = 50;

/// How many requests are outstanding at a time.
const BUSY: [usize; 2] = [ACTIVE, 1];

fn run(effort: Effort) -> Result<Finding> {
    let clients = effort.pick(CLIENTS, 100);
    let host = Host::new(MODELS.len() * clients)?;
    let mut servers = Vec::new();
    for model in MODELS {
        let mut server = host.start(host.find(model)?, clients)?;
        server.connect(clients)?;
        servers.push(server);
    }
    let (mut ratios, mut figures) = (Vec::new(), Vec::new());
    for busy in BUSY {
        let requests = servers.iter().map(|it| it.requests(ACTIVE, busy));
        let mut requests = requests.collect::<Result<Vec<_>>>()?;
        let mut times = [const { Vec::new() }; MODELS.len()];
        for _ in 0..effort.pick(21, 5) {
            for (times, requests) in times.iter_mut().zip(&mut requests) {
                times.push(requests.micros()?);
            }
        }
        let [process, thread, epoll] = times.map(Sample::new);
        for (name, time) in [("process", process), ("thread", thread)] {
            let ratio = time.ratio(&epoll);
            let name = format!("{name} / epoll, {busy} at a time");
            figures.push(Figure::new(&name, "times", ratio.clone()));
            ratios.push(ratio);
        }
        let name = format!("epoll, {busy} at a time");
        figures.push(Figure::new(&name, "µs", epoll));
    }
    Ok(Finding::new(judge(&ratios), figures))
}

/// Judges the processor time in terms of multiplexing's, under each condition.
fn judge(ratios: &[Sample]) -> Answer {
    let answers = ratios.iter().map(|ratio| ratio.is_above(1.5));
    Answer::over(&answers.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_if_multiplexing_saves_time_in_some_cases_only() {
        let answer = |one: &[f64], other: f64| {
            judge(&[Sample::new(one.to_vec()), other.into()])
        };
        assert_eq!(answer(&[1.6, 1.7], 3.0), Answer::True);
        assert_eq!(answer(&[0.8, 1.1], 0.9), Answer::False);
        assert_eq!(answer(&[0.8, 1.1], 3.0), Answer::Depends);
        assert_eq!(answer(&[0.8, 1.7], 3.0), Answer::Undecided);
    }
}
