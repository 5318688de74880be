//! The promises that a model declares in its manifest. The suite, the rules and
//! the bounds check these promises, so they contain no model's name.

use std::fmt;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

/// The table `[package.metadata.model.promises]`, with a variant's overrides.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Promises {
    pub answers: Answers,
    pub waits_in: WaitsIn,
    /// Given only for calls that wait for readiness.
    pub reports: Option<Reports>,
    /// The flag that sets which loop gets the next client. Given only for
    /// models in which one thread accepts for several loops.
    pub hands_over: Option<String>,
    /// The most memory that one more idle client may cost, in KiB. Given only
    /// for models that serve many clients.
    pub idle_kib: Option<f64>,
    pub ceiling: Ceiling,
    /// The locks around accept that it can be started with, by the flag
    /// `--accept-lock`.
    #[serde(default)]
    pub accept_locks: Vec<String>,
    /// Whether `compare --check` bounds its CPU time by the bare loop's.
    pub near_bare_loop: bool,
    /// The reason why its calls have no fixed order. If there is none, its
    /// transcripts are compared.
    pub unordered: Option<String>,
    /// The reason why its loops don't get equal numbers of clients. If there is
    /// none, they do. Given only for models in which one of several loops
    /// answers.
    pub uneven: Option<String>,
}

/// The thread or process that answers a client.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// The server's only thread.
    OneThread,
    /// The first thread. A library runs other threads, which only wait and
    /// copy, and which start and end with the clients.
    FirstThread,
    /// A process for each client.
    OwnProcess,
    /// A thread for each client.
    OwnThread,
    /// Any thread of a pool that exists from the start.
    AnyThread,
    /// Any thread of a pool that exists from the start. The first thread
    /// receives and sends for all clients, and answers datagrams itself.
    AnyWorker,
    /// A thread of a pool that exists from the start, which serves no other
    /// client until this one leaves.
    PoolThread,
    /// A process of a pool that exists from the start, which serves no other
    /// client until this one leaves.
    PoolProcess,
    /// One of several event loops, always the same for a client.
    OneLoop,
    /// One of several event loops, each a process of its own that exists from
    /// the start, always the same for a client.
    LoopProcess,
}

/// The call in which the answering thread sleeps until it has something to do.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum WaitsIn {
    /// The receive call itself.
    Receive,
    /// No call: the thread tries to receive from each socket in turn.
    Nothing,
    Select,
    Poll,
    EpollWait,
    /// A call that fetches queued signals.
    Signals,
    IoUringEnter,
    /// A call that fetches completions of POSIX AIO.
    Aio,
}

/// The condition under which the kernel reports a socket.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Reports {
    /// The socket is ready.
    Level,
    /// The socket has become ready since the last report.
    Edge,
    /// The socket is ready, and was re-armed since the last report.
    Oneshot,
}

/// The value of [`Ceiling::ends`] if one more client waits until another one
/// leaves, instead of being rejected.
pub const NEXT_WAITS: &str = "the next waits";

/// The hard limit of descriptors under which clients are counted.
pub const DESCRIPTORS: usize = 4_096;

/// The number of clients served at the same time under `ulimit -n 4096`, with a
/// `--max-connections` beyond that.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    pub clients: usize,
    /// The errno that the next client causes, or a limit without an errno.
    pub ends: String,
    /// The limit of the machine behind `ends`, if it is one. Then all `clients`
    /// were served, and the machine decides how many more could be.
    pub machine: Option<String>,
    /// Flags that make the number independent of the machine.
    pub flags: Option<String>,
}

impl Promises {
    /// Checks which keys are given together, which the types can't express.
    pub fn check(&self, serves_many: bool) -> Result<()> {
        let readiness = self.waits_in.is_for_readiness();
        match (readiness, self.reports) {
            (true, None) => bail!(
                "`reports` is missing: \"level\", \"edge\" or \"oneshot\""
            ),
            (false, Some(_)) => bail!(
                "`reports` is for calls that wait for readiness, which {:?} \
                 doesn't",
                self.waits_in
            ),
            _ => {}
        }
        ensure!(
            self.idle_kib.is_some() == serves_many,
            "`idle_kib`, the most memory that one more idle client may cost in \
             KiB, is required for models with `clients = \"many\"`, and for \
             them only"
        );
        ensure!(
            self.uneven.is_none() || self.answers == Answers::OneLoop,
            "`uneven` is for models in which one of several loops answers"
        );
        Ok(())
    }

    /// Returns whether a client beyond the ceiling is rejected.
    pub fn rejects_the_next(&self) -> bool {
        self.ceiling.ends != NEXT_WAITS
    }

    /// Returns whether any free thread of a pool answers a request, so that a
    /// request that takes long holds up its own client only.
    pub fn shares_requests(&self) -> bool {
        matches!(self.answers, Answers::AnyThread | Answers::AnyWorker)
    }

    /// Returns whether there are several event loops.
    pub fn has_loops(&self) -> bool {
        matches!(self.answers, Answers::OneLoop | Answers::LoopProcess)
    }

    /// Returns whether one thread does all the work.
    pub fn is_one_thread(&self) -> bool {
        self.answers == Answers::OneThread
    }
}

impl Ceiling {
    /// Formats the line of the manifest that declares it.
    pub fn declaration(&self) -> String {
        let Self { clients, ends, machine, flags } = self;
        let mut keys = format!("clients = {clients}, ends = {ends:?}");
        for (key, value) in [("machine", machine), ("flags", flags)] {
            if let Some(value) = value {
                keys += &format!(", {key} = {value:?}");
            }
        }
        format!("ceiling = {{ {keys} }}")
    }
}

impl WaitsIn {
    /// Returns whether the call reports ready sockets.
    pub fn is_for_readiness(self) -> bool {
        use WaitsIn::*;
        matches!(self, Select | Poll | EpollWait | Signals)
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, ends, machine, .. } = self;
        let more = if machine.is_some() { "+" } else { "" };
        write!(f, "{clients}{more}, {ends}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_declared_as_it_is_parsed() {
        #[derive(Deserialize)]
        struct Declared {
            ceiling: Ceiling,
        }
        let some = |text: &str| Some(text.to_owned());
        let full = Ceiling {
            clients: 7,
            ends: "the \"end\"".to_owned(),
            machine: some("RLIMIT_NPROC"),
            flags: some("--loops 2"),
        };
        let bare = Ceiling { machine: None, flags: None, ..full.clone() };
        for ceiling in [full, bare] {
            let text = ceiling.declaration();
            let declared: Declared = toml::from_str(&text).unwrap();
            assert_eq!(declared.ceiling, ceiling);
        }
    }

    #[test]
    fn a_lower_bound_is_marked() {
        let mut ceiling = Ceiling {
            clients: 4_090,
            ends: "EMFILE".to_owned(),
            machine: None,
            flags: None,
        };
        assert_eq!(ceiling.to_string(), "4090, EMFILE");
        ceiling.machine = Some("pids.max".to_owned());
        assert_eq!(ceiling.to_string(), "4090+, EMFILE");
    }
}
