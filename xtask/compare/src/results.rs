//! The results: single runs, and rows that combine the runs of one server.

use serde::Serialize;

use super::remark::{self, Remark};
use super::spread::Spread;
use super::workload::Workload;

/// The data behind the summary, the tables and the page.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Facts about the machine, the programs and the commands: name and value,
    /// in display order.
    pub environment: Vec<(String, String)>,
    /// Servers in reading order, yardsticks last.
    pub servers: Vec<Server>,
    /// Workloads in the file's order.
    pub workloads: Vec<Workload>,
    /// Runs in the order in which they were carried out.
    pub runs: Vec<Run>,
    /// Planned runs that an interruption prevented.
    pub missing: usize,
}

/// A server that was measured.
#[derive(Clone, Debug)]
pub struct Server {
    /// `multiplexing-epoll/edge`, `redis-server`, `bare-loop`.
    pub title: String,
    /// A description in one phrase.
    pub summary: String,
    pub group: Group,
}

impl Server {
    pub fn is_model(&self) -> bool {
        self.group != Group::Yardstick
    }
}

/// Servers that are compared with each other, in display order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Models in which one thread does all the work.
    OneThread,
    ManyThreads,
    /// Programs that the models are measured against.
    Yardstick,
}

impl Group {
    pub const fn title(self) -> &'static str {
        match self {
            Self::OneThread => "One thread",
            Self::ManyThreads => "More than one thread",
            Self::Yardstick => "Yardsticks",
        }
    }
}

/// One run of one workload against one server.
#[derive(Clone, Debug)]
pub struct Run {
    pub workload: String,
    pub server: String,
    /// From 1.
    pub number: usize,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Measured(Figures),
    /// The server doesn't support this load: the transport, or the number of
    /// clients.
    Cannot {
        why: String,
        /// The connections that it accepted, if it accepts no more.
        held: Option<usize>,
    },
    /// The run failed: a wrong reply, or a server that ended.
    Failed(String),
}

/// The figures of one run, which `runs.csv` has under the serialized names. A
/// request includes its whole reply; with short connections, it includes
/// connecting and closing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The time in which requests were counted.
    pub seconds: f64,
    pub requests: u64,
    /// Requests per second.
    #[serde(rename = "requests_per_second")]
    pub rate: f64,
    /// Latency in microseconds, from sending (closed loop) or from the due time
    /// (open loop) to the reply's last byte.
    #[serde(rename = "p50_us")]
    pub p50: f64,
    #[serde(rename = "p90_us")]
    pub p90: f64,
    #[serde(rename = "p99_us")]
    pub p99: f64,
    #[serde(rename = "p99_9_us")]
    pub p999: f64,
    /// The server's processor time per request, in microseconds, for all its
    /// threads and processes, by the scheduler's clock.
    #[serde(rename = "server_cpu_us_per_request")]
    pub cpu: f64,
    /// Processor time per request of the second instance without idle
    /// connections that took turns with this one, if there was one.
    #[serde(rename = "server_cpu_us_per_request_without_idle")]
    pub alone: Option<f64>,
    /// Parts of the processor time, by the kernel's accounting. None if many
    /// processes share the work, because the kernel counts in ticks of 10 ms
    /// per process.
    #[serde(rename = "server_user_us_per_request")]
    pub user: Option<f64>,
    #[serde(rename = "server_system_us_per_request")]
    pub system: Option<f64>,
    /// Context switches of the server's threads per request.
    #[serde(rename = "context_switches_per_request")]
    pub switches: f64,
    /// Memory of the server's processes per additional idle connection
    /// (proportional set size), in KiB: the slope from a tenth of the
    /// connections to all. None if there are too few connections.
    #[serde(rename = "process_kib_per_connection")]
    pub memory: Option<f64>,
    /// Kernel memory per additional idle connection, in KiB: slab, stacks, page
    /// tables and socket queues, for both ends of the connection.
    #[serde(rename = "kernel_kib_per_connection")]
    pub kernel: Option<f64>,
    /// Threads and processes of the server during the measurement.
    pub threads: usize,
    pub processes: usize,
    /// The generator's processor time as a fraction of the measured time.
    #[serde(rename = "client_cpu")]
    pub client: f64,
    /// Connections held at the same time.
    pub connections: usize,
    /// Remarks for the reader.
    #[serde(rename = "remark", serialize_with = "remark::serialize")]
    pub remarks: Vec<Remark>,
}

/// The fraction of the due rate from which a server counts as sustaining it.
pub const SUSTAINED: f64 = 0.99;

/// The combined runs of one workload against one server.
#[derive(Clone, Debug)]
pub enum Finding<'a> {
    /// All runs were measured; never empty.
    Measured(Vec<&'a Figures>),
    Cannot {
        why: &'a str,
        /// The connections that the server accepted, if it accepts no more.
        held: Option<usize>,
    },
    Failed(&'a str),
}

impl Finding<'_> {
    /// Returns the reason why there are no figures. None if there are some.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Measured(_) => None,
            Self::Cannot { why, .. } => Some(format!("can't: {why}")),
            Self::Failed(why) => Some(format!("failed: {why}")),
        }
    }
}

impl Results {
    /// Records the command line of a server, each one once.
    pub fn record_command(&mut self, server: &str, command_line: String) {
        let name = format!("command of {server}");
        let known = (name, command_line);
        if !self.environment.contains(&known) {
            self.environment.push(known);
        }
    }

    /// Returns the runs of one workload against one server, in order.
    pub fn runs_of(
        &self,
        workload: &str,
        server: &str,
    ) -> impl Iterator<Item = &Run> {
        let is_of =
            move |run: &&Run| run.workload == workload && run.server == server;
        self.runs.iter().filter(is_of)
    }

    /// Combines the runs. Returns None if there was none. One failed run fails
    /// the whole row, because a median of the other runs would hide it.
    pub fn row(&self, workload: &str, server: &str) -> Option<Finding<'_>> {
        let mut figures = Vec::new();
        let mut cannot = None;
        for run in self.runs_of(workload, server) {
            match &run.outcome {
                Outcome::Measured(run) => figures.push(run),
                Outcome::Cannot { why, held } => {
                    cannot = Some(Finding::Cannot { why, held: *held });
                }
                Outcome::Failed(why) => return Some(Finding::Failed(why)),
            }
        }
        let measured =
            (!figures.is_empty()).then_some(Finding::Measured(figures));
        cannot.or(measured)
    }

    /// Returns every row: its workload, its server, and the finding.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, Finding<'_>)> {
        let workloads = self.workloads.iter().map(|w| w.name.as_str());
        let servers = || self.servers.iter().map(|s| s.title.as_str());
        let pairs = workloads.flat_map(move |w| servers().map(move |s| (w, s)));
        pairs.filter_map(|(w, s)| Some((w, s, self.row(w, s)?)))
    }

    /// Returns the spread of one figure, if it was measured.
    pub fn spread(
        &self,
        workload: &str,
        server: &str,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> Option<Spread> {
        let Finding::Measured(figures) = self.row(workload, server)? else {
            return None;
        };
        Spread::of(figures.into_iter().filter_map(figure).collect())
    }

    /// Divides a figure of one server by that of another, run by run. None
    /// unless all runs of both were measured.
    pub fn ratio(
        &self,
        workload: &str,
        over: &str,
        under: &str,
        figure: fn(&Figures) -> f64,
    ) -> Option<Spread> {
        let over = self.figures(workload, over)?;
        let under = self.figures(workload, under)?;
        let pairs = over.into_iter().zip(under);
        Spread::of(pairs.map(|(a, b)| figure(a) / figure(b)).collect())
    }

    /// Returns the figures of all runs, in order. None unless all of them were
    /// measured.
    pub fn figures(
        &self,
        workload: &str,
        server: &str,
    ) -> Option<Vec<&Figures>> {
        let last = self.runs.iter().map(|run| run.number).max()?;
        let runs = self.runs_of(workload, server);
        let figures = runs.map(|run| match &run.outcome {
            Outcome::Measured(figures) => Some(figures),
            _ => None,
        });
        let figures: Vec<_> = figures.collect::<Option<_>>()?;
        (figures.len() == last).then_some(figures)
    }

    /// Returns the group of a server.
    pub fn group(&self, server: &str) -> Group {
        let mut servers = self.servers.iter();
        let known = servers.find(|known| known.title == server);
        known.map_or(Group::ManyThreads, |known| known.group)
    }

    /// Returns the servers of each group, without empty groups.
    pub fn groups(&self) -> Vec<(Group, Vec<&str>)> {
        let all = [Group::OneThread, Group::ManyThreads, Group::Yardstick];
        let groups = all.into_iter().map(|group| {
            let servers = self.servers.iter().filter(|s| s.group == group);
            (group, servers.map(|server| server.title.as_str()).collect())
        });
        groups.filter(|(_, it): &(_, Vec<_>)| !it.is_empty()).collect()
    }
}
