//! The processor time of a request, with more and more clients: a loop over all
//! of them against a process or a thread for each.

use anyhow::Result;
use lab::number;

use super::limits;
use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::served::{Host, LOOP, PROCESS, Requests, Served, THREAD};
use crate::sample::Sample;

pub const CLAIM: Claim = Claim {
    id: "multiplexing-saves-more",
    claim: "The more clients are connected, the more processor time per \
            request multiplexing saves, compared with a process or a thread \
            per client.",
    section: "How a server serves more, C10K",
    criterion: "50 requests are outstanding at a time, of the same 50 clients \
                or of all in turn, while 100 and while 10,000 clients are \
                connected (1,000 in a short run). The processor time per \
                request of process-per-connection and thread-per-connection is \
                divided by that of multiplexing-epoll with as many clients. \
                Their growth is the ratio with 10,000 divided by that with \
                100. True if it is at least 1.5 for both servers, in both \
                cases. False if it is for neither in either. Otherwise it \
                depends.",
    if_false: History::NeverTrue,
    sources: &["epoll(7)", "clone(2)", "clock_getcpuclockid(3)"],
    explanation: "A thread or a process that waits costs no processor time, \
                  however many there are: the kernel wakes up the one whose \
                  data has arrived. epoll_wait returns the ready sockets only. \
                  So idle clients make a request more expensive in none of the \
                  three. If all clients are active in turn, a request costs \
                  more when there are 10,000, but with multiplexing as well.",
    run,
    file: file!(),
};

/// The number of requests that are outstanding at a time.
const BUSY: usize = 50;

/// The clients that send requests.
const ACTIVE: [&str; 2] = ["50 active", "all in turn"];

fn run(effort: Effort) -> Result<Finding> {
    let numbers = limits::clients(effort)?;
    let [few, _, most] = numbers;
    let host = Host::new(few + most)?;
    let mut base = host.start(host.find(LOOP)?, few)?;
    base.connect(few)?;
    let mut base = base.requests(BUSY, BUSY)?;
    let mut measure = |model| -> Result<_> {
        let mut server = host.start(host.find(model)?, most)?;
        let times = numbers.map(|clients| {
            server.connect(clients)?;
            times(&server, clients, &mut base, effort.pick(9, 3))
        });
        times.into_iter().collect::<Result<Vec<_>>>()
    };
    let epoll = measure(LOOP)?;
    let thread = measure(THREAD)?;
    let process = measure(PROCESS)?;
    let (mut growths, mut figures) = (Vec::new(), Vec::new());
    for (model, times) in [("thread", thread), ("process", process)] {
        for (place, active) in ACTIVE.into_iter().enumerate() {
            let pairs = times.iter().zip(&epoll);
            let ratios =
                pairs.map(|(it, epoll)| it[place].ratio(&epoll[place]));
            let ratios: Vec<_> = ratios.collect();
            let growth = ratios[2].ratio(&ratios[0]);
            let name = format!("growth of {model} / epoll, {active}");
            figures.push(Figure::new(&name, "times", growth.clone()));
            growths.push(growth);
            for (clients, ratio) in numbers.into_iter().zip(ratios) {
                let clients = number::some(clients, "client");
                let name = format!("{model} / epoll, {active}, {clients}");
                figures.push(Figure::new(&name, "times", ratio));
            }
        }
    }
    for (place, active) in ACTIVE.into_iter().enumerate() {
        let growth = epoll[2][place].ratio(&epoll[0][place]);
        let name = format!("growth of epoll, {active}");
        figures.push(Figure::new(&name, "times", growth));
    }
    Ok(Finding::new(judge(&growths), figures))
}

/// Returns the processor time of a request in terms of the base server's, with
/// the same clients active and with all in turn.
fn times(
    server: &Served<'_>,
    clients: usize,
    base: &mut Requests<'_>,
    rounds: usize,
) -> Result<[Sample; 2]> {
    let mut times = |active| -> Result<_> {
        let mut requests = server.requests(active, BUSY)?;
        Sample::collect(rounds, || Ok(requests.micros()? / base.micros()?))
    };
    Ok([times(BUSY)?, times(clients)?])
}

/// Judges by how much the ratios to multiplexing's time have grown.
fn judge(growths: &[Sample]) -> Answer {
    let answers = growths.iter().map(|growth| growth.is_above(1.5));
    Answer::over(&answers.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_depends_if_only_one_ratio_has_grown() {
        let answer = |one: &[f64], other: f64| {
            judge(&[Sample::new(one.to_vec()), other.into()])
        };
        assert_eq!(answer(&[1.6, 1.7], 9.0), Answer::True);
        assert_eq!(answer(&[0.9, 1.0], 0.3), Answer::False);
        assert_eq!(answer(&[0.9, 1.0], 9.0), Answer::Depends);
        assert_eq!(answer(&[0.9, 1.6], 9.0), Answer::Undecided);
    }
}
