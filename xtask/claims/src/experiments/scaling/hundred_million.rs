//! The number of machines for 100 million clients that are online, from the
//! memory of an idle client and the processor time of its requests, for each
//! model that serves many clients.

use std::thread;

use anyhow::{Result, ensure};
use lab::Unsupported;
use lab::model::Clients;

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::memory;
use crate::kit::served::{Chosen, Host};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "hundred-million-clients",
    claim: "100 million clients that are online need 100,000 servers.",
    section: "How a server serves more, C10K",
    criterion: "Machines like this one are counted for each model that serves \
                many clients, with half of their memory and processor time for \
                the clients, 1 KiB of data per client, and one small request \
                per client and minute. A machine runs servers of 1,000 clients \
                each, to which requests come one at a time. The memory \
                includes the clients' sockets. The model nonblocking pauses \
                for 5 ms after each round. True if each model needs at least \
                half of the machines that are claimed, and false if none does. \
                Otherwise it depends on the model.",
    if_false: History::NeverTrue,
    sources: &["proc(5)", "tcp(7)", "clock_getcpuclockid(3)"],
    explanation: "100,000 servers would have 1,000 clients each. Where an idle \
                  client costs only memory, some dozens of machines suffice, \
                  and with a thread or a process per client several hundred or \
                  a thousand. Models that look at all clients whenever they \
                  wake up need thousands, or with nonblocking tens of \
                  thousands, because of the processor time. A real service \
                  also encrypts and does work per request, and needs machines \
                  for that.",
    run,
    file: file!(),
};

const CLIENTS: f64 = 1e8;
/// The clients of one server, fewer than FD_SETSIZE.
const PER_SERVER: usize = 1_000;
/// Those of them that connect before memory is read, and that send requests.
const FIRST: usize = 100;
/// A client's data in the server's memory, in KiB: an assumption.
const DATA: f64 = 1.0;
/// Requests per client and second: an assumption.
const REQUESTS: f64 = 1.0 / 60.0;
/// The part of a machine that is for its clients: an assumption.
const PART: f64 = 0.5;

/// The resources of a machine, or those that a client needs.
#[derive(Clone, Copy, Debug)]
struct Resources {
    /// In KiB.
    memory: f64,
    /// Processor time per second, in µs.
    time: f64,
}

fn run(effort: Effort) -> Result<Finding> {
    let processors = thread::available_parallelism()?.get() as f64;
    let machine = Resources {
        memory: memory::of_machine("MemTotal")?,
        time: processors * 1e6,
    };
    let host = Host::new(PER_SERVER)?;
    let (mut models, mut figures) = (Vec::new(), Vec::new());
    for (model, variant) in host.workspace.variants() {
        // A pool's memory is in its workers, which exist before the clients.
        if model.clients == Clients::One || model.pool.is_some() {
            continue;
        }
        let title = model.title(variant);
        let needs = match measure(&host, (model, variant), effort) {
            // This machine can't run the model, or not with as many clients.
            Err(error) if error.is::<Unsupported>() => continue,
            needs => needs?,
        };
        let machines = needs.into_iter().map(|it| machines(machine, it));
        let machines = Sample::new(machines.collect());
        figures.push(Figure::new(
            &format!("machines with {title}"),
            "",
            machines.clone(),
        ));
        models.push(machines);
    }
    let medians: Vec<_> = models.iter().map(Sample::median).collect();
    ensure!(
        !models.is_empty(),
        Unsupported::Tool("no model runs here".to_owned())
    );
    let name = "machines for 100 million clients, by model";
    figures.insert(0, Figure::new(name, "", Sample::new(medians)));
    figures.push(Figure::new("memory of a machine", "KiB", machine.memory));
    figures.push(Figure::new("processors of a machine", "", processors));
    Ok(Finding::new(judge(&models), figures))
}

/// Returns what a client of a model needs, each time that it is measured.
fn measure(
    host: &Host,
    model: Chosen<'_>,
    effort: Effort,
) -> Result<Vec<Resources>> {
    let mut server = host.start(model, PER_SERVER)?;
    server.connect(FIRST)?;
    let memory = server.memory_per_client(PER_SERVER)?.median() + DATA;
    let mut requests = server.requests(FIRST, 1)?;
    let idle = requests.idle_micros()? / PER_SERVER as f64;
    let times = Sample::collect(effort.pick(9, 3), || requests.micros())?;
    let times = times.values().iter();
    let needs = times
        .map(|request| Resources { memory, time: idle + REQUESTS * request });
    Ok(needs.collect())
}

/// Returns the number of machines whose memory and processors suffice.
fn machines(machine: Resources, client: Resources) -> f64 {
    let by_memory = client.memory / machine.memory;
    let by_time = client.time / machine.time;
    (CLIENTS * by_memory.max(by_time) / PART).round()
}

/// Judges the machines that each model needs.
fn judge(models: &[Sample]) -> Answer {
    let answers = models.iter().map(|machines| {
        // A half of what is claimed.
        machines.is_above(50_000.0)
    });
    Answer::over(&answers.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Resources = Resources { memory: 16e6, time: 4e6 };

    #[test]
    fn the_scarcer_resource_decides_the_number_of_machines() {
        let machines =
            |memory, time| machines(MACHINE, Resources { memory, time });
        assert_eq!(machines(8.0, 0.1), 100.0);
        assert_eq!(machines(8.0, 20.0), 1_000.0);
    }

    #[test]
    fn an_expensive_model_makes_it_depend() {
        let answer = |one: &[f64], other: f64| {
            judge(&[Sample::new(one.to_vec()), other.into()])
        };
        assert_eq!(answer(&[30.0, 40.0], 7_000.0), Answer::False);
        assert_eq!(answer(&[30.0, 40.0], 90_000.0), Answer::Depends);
        assert_eq!(answer(&[60_000.0, 70_000.0], 90_000.0), Answer::True);
        assert_eq!(answer(&[30.0, 70_000.0], 40.0), Answer::Undecided);
    }
}
