//! The results: runs as they came, and what several of them say together.

use serde::Serialize;

use super::remark::{self, Remark};
use super::spread::Spread;
use super::workload::Workload;

/// Everything that the summary, the tables and the page are made of.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Facts of the machine, the programs and the commands: name and value, in
    /// the order to show them.
    pub environment: Vec<(String, String)>,
    /// In reading order, yardsticks last.
    pub servers: Vec<Server>,
    /// In the file's order.
    pub workloads: Vec<Workload>,
    /// In the order in which they ran.
    pub runs: Vec<Run>,
    /// Runs that were planned and did not take place: somebody interrupted.
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

/// Servers that are compared with each other, in the order to show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Models of which one thread does all the work.
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
    /// The server can't serve this load: not this transport, or not as many
    /// clients.
    Cannot {
        why: String,
        /// The connections that it accepted, if it accepts no more.
        held: Option<usize>,
    },
    /// The run went wrong: a wrong reply, a server that died.
    Failed(String),
}

/// The figures of one run: a line of `runs.csv` has them under these names. A
/// request is one request and its whole reply; with short connections,
/// connecting and closing belong to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The time in which requests were counted.
    pub seconds: f64,
    pub requests: u64,
    /// Requests a second.
    #[serde(rename = "requests_per_second")]
    pub rate: f64,
    /// Latency: microseconds from sending (closed), or from when it was due
    /// (open), to the reply's last byte.
    #[serde(rename = "p50_us")]
    pub p50: f64,
    #[serde(rename = "p90_us")]
    pub p90: f64,
    #[serde(rename = "p99_us")]
    pub p99: f64,
    #[serde(rename = "p99_9_us")]
    pub p999: f64,
    /// The server's processor time a request, in microseconds, all its
    /// threads and processes together, by the scheduler's clock.
    #[serde(rename = "server_cpu_us_per_request")]
    pub cpu: f64,
    /// Processor time a request of a second server that took turns with this
    /// one, and had no idle connections. None where there was none.
    #[serde(rename = "server_cpu_us_per_request_without_idle")]
    pub alone: Option<f64>,
    /// Parts of the processor time, by the kernel's accounting. None where
    /// many processes share the work: the kernel shows each one's in ticks of
    /// 10 ms.
    #[serde(rename = "server_user_us_per_request")]
    pub user: Option<f64>,
    #[serde(rename = "server_system_us_per_request")]
    pub system: Option<f64>,
    /// Context switches of the server's threads, a request.
    #[serde(rename = "context_switches_per_request")]
    pub switches: f64,
    /// Memory that one more idle connection takes of the server's processes
    /// (proportional set size), in KiB: the slope from a tenth of the
    /// connections to all. None where too few connect.
    #[serde(rename = "process_kib_per_connection")]
    pub memory: Option<f64>,
    /// Memory that one more takes in the kernel, in KiB: slab, stacks, page
    /// tables, of both ends of the connection.
    #[serde(rename = "kernel_kib_per_connection")]
    pub kernel: Option<f64>,
    /// Threads and processes of the server, while it was measured.
    pub threads: usize,
    pub processes: usize,
    /// The part of one processor that the generator used: 0 to 1.
    #[serde(rename = "client_cpu")]
    pub client: f64,
    /// Connections that were held.
    pub connections: usize,
    /// Remarks that a reader must know.
    #[serde(rename = "remark", serialize_with = "remark::serialize")]
    pub remarks: Vec<Remark>,
}

/// From this part of the stated rate on, a server sustained it.
pub const SUSTAINED: f64 = 0.99;

/// The runs of one workload against one server, taken together.
#[derive(Clone, Debug)]
pub enum Finding<'a> {
    /// The runs that were measured; never empty.
    Measured(Vec<&'a Figures>),
    Cannot {
        why: &'a str,
        /// The connections that the server accepted, if it accepts no more.
        held: Option<usize>,
    },
    Failed(&'a str),
}

impl Finding<'_> {
    /// Says why there are no figures. None where there are some.
    pub fn why(&self) -> Option<String> {
        match self {
            Self::Measured(_) => None,
            Self::Cannot { why, .. } => Some(format!("can't: {why}")),
            Self::Failed(why) => Some(format!("failed: {why}")),
        }
    }
}

impl Results {
    /// Notes how a server was started, once for each command line.
    pub fn record_command(&mut self, server: &str, command_line: String) {
        let name = format!("command of {server}");
        let known = (name, command_line);
        if !self.environment.contains(&known) {
            self.environment.push(known);
        }
    }

    /// The runs of one workload against one server, in order.
    pub fn runs_of(
        &self,
        workload: &str,
        server: &str,
    ) -> impl Iterator<Item = &Run> {
        let is_of =
            move |run: &&Run| run.workload == workload && run.server == server;
        self.runs.iter().filter(is_of)
    }

    /// Takes the runs together. None if there was none. One failure, and the
    /// whole row has failed: a median of the runs that went well would hide
    /// it.
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

    /// Lists every row there is: its workload, its server, and the finding.
    pub fn rows(&self) -> impl Iterator<Item = (&str, &str, Finding<'_>)> {
        let workloads = self.workloads.iter().map(|w| w.name.as_str());
        let servers = || self.servers.iter().map(|s| s.title.as_str());
        let pairs = workloads.flat_map(move |w| servers().map(move |s| (w, s)));
        pairs.filter_map(|(w, s)| Some((w, s, self.row(w, s)?)))
    }

    /// Takes the spread of one figure, if that was measured.
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

    /// The group of a server that was measured.
    pub fn group(&self, server: &str) -> Group {
        let mut servers = self.servers.iter();
        let known = servers.find(|known| known.title == server);
        known.map_or(Group::ManyThreads, |known| known.group)
    }

    /// Lists the servers of each group; empty groups are left out.
    pub fn groups(&self) -> Vec<(Group, Vec<&str>)> {
        let all = [Group::OneThread, Group::ManyThreads, Group::Yardstick];
        let groups = all.into_iter().map(|group| {
            let servers = self.servers.iter().filter(|s| s.group == group);
            (group, servers.map(|server| server.title.as_str()).collect())
        });
        groups.filter(|(_, it): &(_, Vec<_>)| !it.is_empty()).collect()
    }
}
