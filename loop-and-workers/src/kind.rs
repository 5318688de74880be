//! The variants: what a worker does, and how epoll reports a connection to it.

use std::num::NonZero;
use std::thread::available_parallelism;

use clap::ValueEnum;
use nix::sys::epoll::EpollFlags;

use crate::connection::Connection;

/// Sanity limit for `--workers`; a larger number is a typo.
const WORKERS_MOST: i64 = 1024;

/// With one worker, a request that takes long would delay all others.
const WORKERS_LEAST: usize = 2;

/// The flags that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Flags {
    /// The work of the workers: processing only, or receiving and sending too.
    #[arg(long, value_enum, default_value_t = Kind::Compute)]
    pub kind: Kind,
    /// Number of worker threads, and so of requests processed at a time
    /// [default: the cores this process may use, but at least 2].
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..=WORKERS_MOST))]
    workers: Option<u16>,
}

/// The work of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// It processes requests; one thread receives and sends.
    Compute,
    /// It waits for events, receives, processes and sends.
    Io,
}

impl Flags {
    /// Returns the number of workers. A request that computes occupies a core,
    /// so more workers than cores pay off only if requests wait for something.
    pub fn workers(self) -> usize {
        let cores = || available_parallelism().map_or(1, NonZero::get);
        let default = || cores().max(WORKERS_LEAST);
        self.workers.map_or_else(default, usize::from)
    }
}

impl Kind {
    /// Returns the name on the command line and in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::Io => "io",
        }
    }

    /// Returns how a descriptor is reported. In `io`, a report disarms it, so
    /// that one worker at a time acts on it.
    pub fn mode(self) -> EpollFlags {
        match self {
            Self::Compute => EpollFlags::empty(),
            Self::Io => EpollFlags::EPOLLONESHOT,
        }
    }

    /// Returns the events to wait for. EPOLLOUT is among them only after a
    /// short write: otherwise a socket is writable nearly always, and each wait
    /// would return at once. EPOLLERR and EPOLLHUP are always reported.
    pub fn interest(self, connection: &Connection) -> EpollFlags {
        let mut interest = self.mode();
        interest.set(EpollFlags::EPOLLIN, connection.wants_input());
        interest.set(EpollFlags::EPOLLOUT, connection.has_output());
        interest
    }
}
