//! The variants: all that differs between level-triggered, edge-triggered and
//! one-shot epoll.

use clap::ValueEnum;
use nix::sys::epoll::EpollFlags;

use common::limits::READ_BUDGET;

use crate::connection::Connection;

/// This model's own flag.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// When epoll reports a socket.
    #[arg(long, value_enum, default_value_t = Trigger::Level)]
    pub trigger: Trigger,
}

/// When epoll reports a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trigger {
    /// Whenever it is ready.
    Level,
    /// When something new has happened.
    Edge,
    /// Once, until it is armed again.
    Oneshot,
}

impl Trigger {
    /// As the command line and INFO have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Edge => "edge",
            Self::Oneshot => "oneshot",
        }
    }

    /// What to be told of a connection.
    pub fn interest(self, connection: &Connection) -> EpollFlags {
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, connection.wants_input());
        interest.set(EpollFlags::EPOLLOUT, connection.has_output());
        match self {
            Self::Level => interest,
            // Everything, once and for all: an edge that nobody listened to
            // would not come again.
            Self::Edge => {
                EpollFlags::EPOLLET | EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
            }
            Self::Oneshot => EpollFlags::EPOLLONESHOT | interest,
        }
    }

    /// True where what is left unread is not reported again: it must be read
    /// until EAGAIN, or remembered.
    pub fn reports_once(self) -> bool {
        self == Self::Edge
    }

    /// True where a socket must be armed after each report. Arming looks at
    /// the socket, so what is left unread is reported again.
    pub fn is_disarmed_by_a_report(self) -> bool {
        self == Self::Oneshot
    }

    /// Bytes after which a visit ends. An edge is followed to EAGAIN, for a
    /// share of the loop's time. Where readiness is reported again, one call
    /// that brings something is enough, and saves the call that would only
    /// say EAGAIN.
    pub fn budget(self) -> usize {
        match self {
            Self::Level | Self::Oneshot => 1,
            Self::Edge => READ_BUDGET,
        }
    }
}
