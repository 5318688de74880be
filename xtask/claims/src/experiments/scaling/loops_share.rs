//! How connections, and the requests on them, spread over several event loops.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::build;
use lab::model::{Transport, Workspace};
use lab::promises::Answers;
use lab::server::{self, Errors, Server};

use crate::claim::{Answer, Claim, Effort, Figure, Finding, History};
use crate::kit::net::PATIENCE;
use crate::kit::served::Chosen;
use crate::sample::{Sample, percent};

pub const CLAIM: Claim = Claim {
    id: "loops-share-connections",
    claim: "SO_REUSEPORT spreads connections evenly over event loops, while a \
            listener that the loops share with EPOLLEXCLUSIVE gives most of \
            them to few loops.",
    section: "circulates",
    criterion: "400 clients connect to four loops, one after the other, and \
                stay: first to loops that are idle, then to loops that each \
                accepted client keeps busy for 2 ms. Evenly means that the \
                busiest loop gets less than 37.5% of the connections, half \
                more than a fourth. Most to few means that one loop gets more \
                than half. True if both are so whether the loops are idle or \
                busy, and false if in neither case. Otherwise it depends.",
    if_false: History::NeverTrue,
    sources: &[
        "socket(7), SO_REUSEPORT",
        "epoll_ctl(2), EPOLLEXCLUSIVE",
        "fs/eventpoll.c, ep_poll_callback",
        "kernel/sched/wait.c, add_wait_queue_exclusive",
        "M. Majkowski, Why does one NGINX worker take all the load?, \
         Cloudflare, 2017",
    ],
    explanation: "SO_REUSEPORT picks a loop by a hash of the addresses, \
                  whether it is idle or busy. With EPOLLEXCLUSIVE the kernel \
                  wakes the first loop that waits, in the order in which they \
                  have added the listener. If all are idle, that is the one \
                  which has added it first. Busy loops are passed over, so \
                  connections to busy loops spread evenly. Clients that send \
                  equal numbers of requests spread them like connections.",
    run,
    file: file!(),
};

const LOOPS: usize = 4;
const CLIENTS: usize = 400;
/// Requests of each client, once all are connected.
const REQUESTS: usize = 10;
/// The most that the busiest loop gets of what is spread evenly, in percent.
const EVEN: f64 = 150.0 / LOOPS as f64;
/// The least that the busiest loop gets of what is not, in percent.
const MOST: f64 = 50.0;

/// The state of the loops while clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loops {
    Idle,
    Busy,
}

/// The numbers of connections and of requests of each loop.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    connections: [usize; LOOPS],
    requests: [usize; LOOPS],
}

/// How a server spread the connections: the busiest loop's part, in percent.
#[derive(Debug)]
struct Measured {
    /// The model says that its loops get equal numbers.
    is_even: bool,
    busiest: Sample,
}

fn run(effort: Effort) -> Result<Finding> {
    let workspace = Workspace::load()?;
    // A further server with several loops needs no line here.
    let servers = workspace
        .variants()
        .filter(|(_, it)| it.promises.answers == Answers::OneLoop);
    let (mut cases, mut figures) = ([Vec::new(), Vec::new()], Vec::new());
    for (model, variant) in servers {
        for (case, loops) in cases.iter_mut().zip([Loops::Idle, Loops::Busy]) {
            let name = format!("{}, {loops:?}", model.title(variant));
            let name = name.to_lowercase();
            let spreads = (0..effort.pick(9, 3))
                .map(|_| measure(&workspace, (model, variant), loops))
                .collect::<Result<Vec<_>>>()?;
            let part = |of: fn(&Spread) -> &[usize; LOOPS]| {
                let parts = spreads.iter().map(|it| busiest(of(it)));
                Sample::new(parts.collect())
            };
            let connections = part(|it| &it.connections);
            let requests = part(|it| &it.requests);
            let counts = spreads.iter().flat_map(|it| it.connections);
            let counts = Sample::new(counts.map(|it| it as f64).collect());
            figures.extend([
                Figure::new(
                    &format!("busiest loop's connections, {name}"),
                    "%",
                    connections.clone(),
                ),
                Figure::new(&format!("its requests, {name}"), "%", requests),
                Figure::new(
                    &format!("connections per loop, {name}"),
                    "",
                    counts,
                ),
            ]);
            case.push(Measured {
                is_even: variant.promises.uneven.is_none(),
                busiest: connections,
            });
        }
    }
    Ok(Finding::new(judge(&cases), figures))
}

/// Returns the busiest loop's part in percent.
fn busiest(counts: &[usize; LOOPS]) -> f64 {
    let most = counts.iter().max().copied().unwrap_or(0);
    percent(most, counts.iter().sum())
}

/// Starts a server, connects the clients, and sends requests.
fn measure(
    workspace: &Workspace,
    chosen: Chosen<'_>,
    loops: Loops,
) -> Result<Spread> {
    let (_server, address) = start(workspace, chosen)?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = Client::connect(address)?;
        match loops {
            // Its loop waits again, or nearly so, when the next one comes.
            Loops::Idle => client.info().map(drop)?,
            Loops::Busy => client.send(b"DEBUG SLEEP 0.002\r\n")?,
        }
        clients.push(client);
    }
    let mut spread = Spread::default();
    let mut before = [0; LOOPS];
    for client in &mut clients {
        if loops == Loops::Busy {
            client.expect("+OK")?;
        }
        let (number, requests) = client.info()?;
        spread.connections[number] += 1;
        before[number] = requests;
    }
    for client in &mut clients {
        client.send(&b"PING\r\n".repeat(REQUESTS))?;
        for _ in 0..REQUESTS {
            client.expect("+PONG")?;
        }
    }
    for client in &mut clients {
        let (number, requests) = client.info()?;
        // Each client's INFO is a request, too.
        spread.requests[number] = requests - before[number];
    }
    Ok(spread)
}

/// Starts a server with four loops, on all processors.
fn start(
    workspace: &Workspace,
    (model, variant): Chosen<'_>,
) -> Result<(Server, SocketAddr)> {
    let loops = LOOPS.to_string();
    let mut arguments = variant.args.clone();
    let flags = ["--tcp", "127.0.0.1:0", "--loops", &loops];
    arguments.extend(flags.map(str::to_owned));
    arguments.push("--enable-debug-command".to_owned());
    let program = build::binary(workspace, model);
    let errors = Errors::new()?;
    let command = server::command(&program, &arguments, &errors)?;
    let mut server = Server::spawn(command, errors)?;
    let address = server.wait_until_ready()?.address(Transport::Tcp)?;
    Ok((server, address))
}

#[derive(Debug)]
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // A reset leaves no TIME_WAIT, so that ports don't run out.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(Self(BufReader::with_capacity(1024, stream)))
    }

    fn send(&mut self, requests: &[u8]) -> Result<()> {
        self.0.get_mut().write_all(requests).context("sending")
    }

    fn expect(&mut self, reply: &str) -> Result<()> {
        let line = self.line()?;
        ensure!(line == reply, "{line:?} instead of {reply:?}");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("receiving")?;
        Ok(line.trim_end().to_owned())
    }

    /// Returns the number of the loop that answers, and how many requests it
    /// has answered before.
    fn info(&mut self) -> Result<(usize, usize)> {
        self.send(b"INFO\r\n")?;
        let length = self.line()?;
        let length: usize =
            length.strip_prefix('$').context("INFO")?.parse()?;
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text)?;
        let text = String::from_utf8(text)?;
        let number = |name| -> Result<usize> {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name));
            Ok(value.context(name)?.parse()?)
        };
        let number = (number("loop:")?, number("requests:")?);
        ensure!(number.0 < LOOPS, "there is no loop {}", number.0);
        Ok(number)
    }
}

/// Judges the servers with idle loops, and with busy ones.
fn judge([idle, busy]: &[Vec<Measured>; 2]) -> Answer {
    let spread = |servers: &[Measured]| {
        let answers = servers.iter().map(|it| match it.is_even {
            true => it.busiest.is_below(EVEN),
            false => it.busiest.is_above(MOST),
        });
        let answers: Vec<_> = answers.collect();
        if answers.contains(&Answer::False) {
            return Answer::False;
        }
        Answer::over(&answers)
    };
    spread(idle).or_depends(spread(busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a case from the busiest loop's parts in two servers.
    fn case(reuseport: &[f64], shared: &[f64]) -> Vec<Measured> {
        [(true, reuseport), (false, shared)]
            .map(|(is_even, parts)| Measured {
                is_even,
                busiest: Sample::new(parts.to_vec()),
            })
            .into()
    }

    #[test]
    fn both_servers_decide_with_idle_and_with_busy_loops() {
        let as_claimed = || case(&[27.0, 30.0], &[90.0, 100.0]);
        let both_even = || case(&[27.0, 30.0], &[26.0, 30.0]);
        let both_uneven = || case(&[80.0, 90.0], &[90.0, 100.0]);
        let noisy = || case(&[27.0, 30.0], &[30.0, 80.0]);
        let answer = |idle, busy| judge(&[idle, busy]);
        assert_eq!(answer(as_claimed(), as_claimed()), Answer::True);
        assert_eq!(answer(both_even(), both_uneven()), Answer::False);
        assert_eq!(answer(as_claimed(), both_even()), Answer::Depends);
        assert_eq!(answer(as_claimed(), noisy()), Answer::Undecided);
        assert_eq!(answer(noisy(), both_even()), Answer::Undecided);
    }

    #[test]
    fn the_busiest_loop_has_a_part_of_the_sum() {
        assert_eq!(busiest(&[100, 100, 100, 100]), 25.0);
        assert_eq!(busiest(&[0, 300, 100, 0]), 75.0);
    }
}
