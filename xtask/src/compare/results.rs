//! What was measured: runs as they came, and what several of them say
//! together.

use super::workload::Workload;
use crate::trace::survey::Survey;

/// Everything that the tables, the page and the words are made of.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// What the machine, the programs and the commands were: name and value,
    /// in the order to show them.
    pub environment: Vec<(String, String)>,
    /// In reading order, yardsticks last.
    pub servers: Vec<Server>,
    /// In the file's order.
    pub workloads: Vec<Workload>,
    /// In the order in which they ran.
    pub runs: Vec<Run>,
    /// Runs that were planned and did not take place: somebody interrupted.
    pub missing: usize,
    /// What the models call, or why that is not known; None if nobody looked.
    pub traced: Option<Result<Survey, String>>,
}

/// Who was measured.
#[derive(Clone, Debug)]
pub struct Server {
    /// `multiplexing-epoll/edge`, `redis-server`, `bare-loop`.
    pub title: String,
    /// What it is, in one phrase.
    pub summary: String,
    /// None of the models: what they are measured against.
    pub yardstick: bool,
    /// One thread does all of its work.
    pub one_thread: bool,
}

/// One run of one workload against one server.
#[derive(Clone, Debug)]
pub struct Run {
    pub workload: String,
    pub server: String,
    /// From 1.
    pub number: usize,
    pub outcome: Outcome,
    /// At how many connections it ended, if that is why it can't.
    pub ended_at: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Measured(Figures),
    /// It can't take this load, and why: not a transport it serves, or the
    /// number of clients at which it ended, with the errno.
    Cannot(String),
    /// It went wrong: a wrong reply, a server that died.
    Failed(String),
}

/// What one run came to. A request is one request and its whole reply; with
/// short connections, connecting and closing belong to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// How long requests were counted.
    pub seconds: f64,
    pub requests: f64,
    /// Requests a second.
    pub rate: f64,
    /// Microseconds from sending (closed), or from when it was due (open), to
    /// the reply's last byte.
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    /// The server's processor time a request, in microseconds, all its
    /// threads and processes together, by the scheduler's clock.
    pub cpu: f64,
    /// The same for a second server that took turns with this one, and had
    /// no idle connections. None where there was none.
    pub alone: Option<f64>,
    /// Its parts, by the kernel's accounting. None where many processes share
    /// the work: the kernel shows each one's in ticks of 10 ms.
    pub user: Option<f64>,
    pub system: Option<f64>,
    /// How often the server's threads were switched from, a request.
    pub switches: f64,
    /// Memory that one more idle connection takes of the server's processes
    /// (proportional set size), in KiB: the slope from a tenth of the
    /// connections to all. None where too few connect.
    pub memory: Option<f64>,
    /// The same in the kernel, in KiB: slab, stacks, page tables, of both
    /// ends of the connection.
    pub kernel: Option<f64>,
    /// The server's, while it was measured.
    pub threads: f64,
    pub processes: f64,
    /// What part of one processor the generator used: 0 to 1.
    pub client: f64,
    /// Connections that were held.
    pub connections: f64,
    /// What a reader must know of the row: `load generator saturated`, `only
    /// 18,200 of 20,000 a second`.
    pub remark: Option<String>,
}

/// From this part of the stated rate on, a server sustained it.
pub const SUSTAINED: f64 = 0.99;

/// The median of several runs, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// What all runs of one workload against one server say.
#[derive(Clone, Debug)]
pub enum Row<'a> {
    /// The runs that were measured; never empty.
    Measured(Vec<&'a Figures>),
    Cannot(&'a str),
    Failed(&'a str),
}

impl Results {
    /// How a server was started, once for each command line.
    pub fn record_command(&mut self, server: &str, command_line: String) {
        let name = format!("command of {server}");
        let known = (name, command_line);
        if !self.environment.contains(&known) {
            self.environment.push(known);
        }
    }

    /// None if it never ran. One failure, and the whole row has failed: a
    /// median of the runs that went well would hide it.
    pub fn row(&self, workload: &str, server: &str) -> Option<Row<'_>> {
        let mut figures = Vec::new();
        let runs = self
            .runs
            .iter()
            .filter(|run| run.workload == workload && run.server == server);
        let mut cannot = None;
        for run in runs {
            match &run.outcome {
                Outcome::Measured(run) => figures.push(run),
                Outcome::Cannot(why) => cannot = Some(why),
                Outcome::Failed(why) => return Some(Row::Failed(why)),
            }
        }
        match cannot {
            Some(why) => Some(Row::Cannot(why)),
            None if figures.is_empty() => None,
            None => Some(Row::Measured(figures)),
        }
    }

    /// At how many connections a server ended under a load that it can't take.
    pub fn ended_at(&self, workload: &str, server: &str) -> Option<usize> {
        let mut runs = self
            .runs
            .iter()
            .filter(|run| run.workload == workload && run.server == server);
        runs.find_map(|run| run.ended_at)
    }

    /// One figure's spread, if that was measured.
    pub fn spread(
        &self,
        workload: &str,
        server: &str,
        figure: impl Fn(&Figures) -> Option<f64>,
    ) -> Option<Spread> {
        let Row::Measured(figures) = self.row(workload, server)? else {
            return None;
        };
        Spread::of(figures.into_iter().filter_map(figure).collect())
    }

    /// Whether one thread does all of a server's work.
    pub fn is_one_thread(&self, server: &str) -> bool {
        let mut servers = self.servers.iter();
        servers.any(|known| known.title == server && known.one_thread)
    }
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_several() {
        assert_eq!(Spread::of(vec![]), None);
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert_eq!(Spread::of(vec![1.0, 2.0]).unwrap().median, 1.5);
    }
}
