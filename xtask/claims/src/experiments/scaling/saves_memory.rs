//! The memory of a client: a loop over all clients against a process or a
//! thread per client.

use anyhow::Result;
use lab::number;

use super::limits;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::served::Host;
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
                twice as much per client as multiplexing-epoll, in both \
                ranges. False if neither does in either. Otherwise it depends.",
    if_false: History::NeverTrue,
    sources: &["proc(5)", "clone(2)", "epoll(7)"],
    explanation: "To be measured.",
    run,
    file: file!(),
};

fn run(effort: Effort) -> Result<Finding> {
    let numbers = limits::clients(effort)?;
    let [few, more, most] = numbers;
    let host = Host::new(most)?;
    let measure = |model| -> Result<_> {
        let mut server = host.start(model, most)?;
        server.connect(few)?;
        Ok([server.memory_per_client(more)?, server.memory_per_client(most)?])
    };
    let epoll = measure("multiplexing-epoll")?;
    let thread = measure("thread-per-connection")?;
    let process = measure("process-per-connection")?;
    let (mut ratios, mut figures) = (Vec::new(), Vec::new());
    let models =
        [("epoll", &epoll), ("thread", &thread), ("process", &process)];
    for (model, memory) in models {
        for place in [0, 1] {
            let from = number::count(numbers[place] as f64);
            let to = number::some(numbers[place + 1], "client");
            let name = format!("{model}, from {from} to {to}");
            figures.push(Figure::new(&name, "KiB", memory[place].clone()));
            if model != "epoll" {
                ratios.push(memory[place].ratio(&epoll[place]));
            }
        }
    }
    Ok(Finding::new(judge(&ratios), figures))
}

/// Judges the memory of a client in terms of multiplexing's.
fn judge(ratios: &[Sample]) -> Answer {
    let answers = ratios.iter().map(|ratio| ratio.is_above(2.0));
    Answer::over(&answers.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_if_only_one_model_needs_more() {
        let answer = |one: &[f64], other: f64| {
            judge(&[Sample::new(one.to_vec()), other.into()])
        };
        assert_eq!(answer(&[3.0, 4.0], 9.0), Answer::True);
        assert_eq!(answer(&[0.9, 1.0], 1.9), Answer::False);
        assert_eq!(answer(&[0.9, 1.0], 9.0), Answer::Depends);
        assert_eq!(answer(&[0.9, 4.0], 9.0), Answer::Undecided);
    }
}
