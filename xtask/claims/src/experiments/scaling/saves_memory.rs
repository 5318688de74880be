//! The memory of a client: a loop over all clients against a process or a
//! thread per client.

use anyhow::Result;
use lab::number;

use super::limits;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::served::{Host, LOOP, PROCESS, THREAD};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "multiplexing-saves-memory",
    claim: "A client needs less memory with multiplexing than with a process \
            or a thread of its own.",
    section: "How a server serves more, C10K",
    criterion: "The memory of the server's processes and of the kernel is \
                read in three steps from 100 to 1,000 clients, and in three \
                from there to 10,000 (to 400 and 1,000 in a short run). The \
                kernel's part includes the clients' sockets. True if \
                process-per-connection and thread-per-connection add at least \
                twice as much per client as multiplexing-epoll does in the \
                median, in both ranges. False if neither does in either. \
                Otherwise it depends.",
    if_false: History::NeverTrue,
    sources: &["proc(5)", "clone(2)", "epoll(7)"],
    explanation: "To a loop, a client is a socket, a registration with epoll \
                  and an entry in a table. A thread has two stacks in \
                  addition, one of them in the kernel. A process also has page \
                  tables, and copies of the pages that it has written. Here \
                  10,000 clients need 60 MiB in a loop, 400 MiB with threads \
                  and 1.4 GiB with processes, which is less than most machines \
                  have.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let numbers = limits::clients(effort)?;
    let [few, more, most] = numbers;
    let host = Host::new(most)?;
    let measure = |model| -> Result<_> {
        let mut server = host.start(host.find(model)?, most)?;
        server.connect(few)?;
        Ok([server.memory_per_client(more)?, server.memory_per_client(most)?])
    };
    let epoll = measure(LOOP)?;
    let thread = measure(THREAD)?;
    let process = measure(PROCESS)?;
    let mut figures = Vec::new();
    for (model, steps) in
        [("epoll", &epoll), ("thread", &thread), ("process", &process)]
    {
        for (range, steps) in numbers.windows(2).zip(steps) {
            let from = number::count(range[0] as f64);
            let to = number::some(range[1], "client");
            let name = format!("{model}, from {from} to {to}");
            figures.push(Figure::new(&name, "KiB", steps.clone()));
        }
    }
    let others = [thread, process].concat();
    Ok(Finding::new(judge(&epoll, &others), figures))
}

/// Judges the memory of a client by the median of multiplexing's.
fn judge(epoll: &[Sample], others: &[Sample]) -> Answer {
    let epoll = epoll.iter().flat_map(Sample::values).copied();
    let epoll = Sample::new(epoll.collect()).median();
    let answers = others.iter().map(|memory| memory.is_above(2.0 * epoll));
    Answer::over(&answers.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_if_only_one_model_needs_more() {
        let answer = |one: &[f64], other: f64| {
            let others = [Sample::new(one.to_vec()), other.into()];
            judge(&[Sample::new(vec![-9.0, 6.0]), 6.0.into()], &others)
        };
        assert_eq!(answer(&[30.0, 40.0], 90.0), Answer::True);
        assert_eq!(answer(&[6.0, 9.0], 11.0), Answer::False);
        assert_eq!(answer(&[6.0, 9.0], 90.0), Answer::Depends);
        assert_eq!(answer(&[6.0, 40.0], 90.0), Answer::Undecided);
    }
}
