//! `cargo xtask memory`: what an idle client costs, as the slope between a
//! thousand clients and ten thousand. What a server needs in any case does
//! not count then, and a page more or less does not matter.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::ceilings::Ceilings;
use lab::model::{Model, Workspace};
use lab::{build, process, screen};
use nix::sys::resource::{Resource, getrlimit};
use trace::golden;

use super::case::{Subject, Surroundings, Trial};
use super::client::Client;
use super::scenes::Scenes;
use super::server::Server;
use super::skip::{Skip, skip};
use super::{interrupt, subjects};

/// Flags of `cargo xtask memory`.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Which models: `multiplexing-epoll`, or one variant,
    /// `multiplexing-epoll/edge`; all of them if none is named.
    models: Vec<String>,
}

/// How many clients there are at the first look, and at the second.
const CLIENTS: (usize, usize) = (1_000, 10_000);

/// The same for models that do not hold so many, and why.
const FEWER: &[(&str, (usize, usize), &str)] = &[
    ("multiplexing-select", (100, 1_000), "FD_SETSIZE ends it soon after"),
    ("process-per-connection", (100, 1_000), "each is a process"),
];

/// The most that a client may cost, in KiB; the others say what it is.
const BOUNDS: &[(&str, f64)] = &[
    ("multiplexing-poll", 0.5),
    ("multiplexing-epoll", 0.5),
    ("signal-driven", 0.5),
    ("async-io/io-uring", 0.5),
    ("loop-per-core", 0.5),
    ("task-per-connection", 2.0),
    ("thread-per-connection", 16.0),
];

/// Descriptors for other purposes than clients, on either side.
const DESCRIPTORS_SPARE: usize = 128;

/// Clients who come at a time: see `ceiling` in the suite.
const AT_A_TIME: usize = 64;

/// Measures, prints a line for each variant, and fails if one is over its
/// bound.
pub fn run(flags: &Flags) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    let subjects = subjects(&workspace, &flags.models)?;
    let chosen = |model: &&Model| {
        subjects.iter().any(|subject| subject.model.name == model.name)
    };
    let models: Vec<Model> =
        workspace.models.iter().filter(chosen).cloned().collect();
    build::release(&workspace, &models)?;
    interrupt::prepare()?;
    process::raise_descriptor_limit()?;
    let around = Arc::new(Surroundings {
        seed: 0,
        redis: Err("nobody is judged".to_owned()),
        ceilings: Ceilings::default(),
        golden: golden::folder(&workspace),
        scenes: Scenes::default(),
        recorded: None,
    });
    let width = subjects.iter().map(|s| s.title().len()).max().unwrap_or(0);
    screen::print(
        "Memory of one more idle client that did one PING (proportional set\n\
         size of all the server's processes, without pages of files, from\n\
         1,000 to 10,000 clients):\n",
    )?;
    let mut broken = false;
    for subject in &subjects {
        let title = subject.title();
        let line = match measure(subject, &around) {
            Ok(slope) => {
                broken |= !slope.holds();
                slope.line()
            }
            Err(error) => match error.downcast_ref() {
                Some(Skip(why)) => format!("       -      {why}"),
                None => return Err(error.context(title)),
            },
        };
        screen::print(&format!("{title:width$}  {line}\n"))?;
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What one more client costs.
#[derive(Clone, Debug)]
pub struct Slope {
    /// In KiB.
    pub each: f64,
    /// The most that was promised, in KiB.
    pub most: Option<f64>,
    /// Between which numbers of clients, and why it is fewer than usual.
    pub fewer: Option<((usize, usize), &'static str)>,
}

impl Slope {
    pub fn holds(&self) -> bool {
        self.most.is_none_or(|most| self.each <= most)
    }

    fn line(&self) -> String {
        let mut line = format!("{:8.2} KiB", self.each);
        if let Some(most) = self.most {
            let verdict = if self.holds() { "" } else { ": BROKEN" };
            line += &format!("  at most {most}{verdict}");
        }
        if let Some(((from, to), why)) = self.fewer {
            line += &format!("  from {from} to {to}: {why}");
        }
        line
    }
}

/// What `cargo xtask memory` says of one variant.
pub fn measure(
    subject: &Arc<Subject>,
    around: &Arc<Surroundings>,
) -> Result<Slope> {
    if subject.serves_one() {
        return Err(skip("serves one client at a time"));
    }
    let name = &subject.model.name;
    let fewer = FEWER.iter().find(|(model, ..)| model == name);
    let (from, to) = fewer.map_or(CLIENTS, |(_, clients, _)| *clients);
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = to + DESCRIPTORS_SPARE;
    ensure!(
        limit >= needed as u64,
        skip(format!("takes {needed} descriptors, and ulimit -Hn is {limit}"))
    );
    Ok(Slope {
        each: slope(&Trial::new(subject, around), from, to)?,
        most: bound(subject),
        fewer: fewer.map(|(_, clients, why)| (*clients, *why)),
    })
}

/// The most that an idle client may cost, in KiB, if that was promised.
pub fn bound(subject: &Subject) -> Option<f64> {
    let mut bounds = BOUNDS.iter();
    let found = bounds.find(|(name, _)| subject.is_called(name));
    found.map(|(_, most)| *most)
}

/// Starts a server and holds so many clients, then more: what each of those
/// costs, in KiB.
pub fn slope(trial: &Trial, from: usize, to: usize) -> Result<f64> {
    let server = trial.serve()?;
    let mut clients = Vec::new();
    let mut held = [0; 2];
    for (held, count) in held.iter_mut().zip([from, to]) {
        bring(&server, &mut clients, count)?;
        *held = at_rest(&server);
    }
    drop(clients);
    server.stop()?;
    let [before, after] = held.map(|bytes| bytes as f64);
    Ok((after - before) / (to - from) as f64 / 1024.0)
}

/// Connects clients until there are so many, and lets each do one PING.
fn bring(
    server: &Rc<Server>,
    clients: &mut Vec<Client>,
    count: usize,
) -> Result<()> {
    while clients.len() < count {
        let first = clients.len();
        for _ in first..count.min(first + AT_A_TIME) {
            let mut client = server.connect()?;
            client.send("PING\r\n")?;
            clients.push(client);
        }
        for (client, number) in clients[first..].iter_mut().zip(first..) {
            let served = client
                .was_served()
                .with_context(|| format!("after {number} clients"))?;
            ensure!(served, skip(format!("refuses the next of {number}")));
        }
    }
    Ok(())
}

/// What the server's processes hold once that does not change any more.
fn at_rest(server: &Server) -> u64 {
    let mut before = server.memory();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        let now = server.memory();
        if now == before {
            break;
        }
        before = now;
    }
    before
}
