//! The variants: all that differs between level-triggered, edge-triggered and
//! one-shot epoll.

use clap::ValueEnum;
use nix::sys::epoll::EpollFlags;

use common::limits::{INPUT_CHUNK, READ_BUDGET};

use crate::connection::{Connection, ReadPolicy};

/// What a call that brings bytes does not show: the client's end of file
/// behind them, or an urgent byte, at which the call ends (tcp(7)).
pub const BEHIND_INPUT: EpollFlags =
    EpollFlags::EPOLLRDHUP.union(EpollFlags::EPOLLPRI);

/// The flag that only this model has.
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
                let both = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                EpollFlags::EPOLLET | both | BEHIND_INPUT
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

    /// What a visit takes, given what was reported. Where readiness is
    /// reported again, one call that brings something is enough, and saves the
    /// call that would only say EAGAIN. An edge is followed until nothing is
    /// left, for a share of the loop's time. That a call brings less than it
    /// could says so too (epoll(7), "Questions and answers"), unless something
    /// waits behind the bytes.
    pub fn read_policy(self, events: EpollFlags) -> ReadPolicy {
        match self {
            Self::Level | Self::Oneshot => {
                ReadPolicy { budget: 1, drained_below: 0 }
            }
            Self::Edge if events.intersects(BEHIND_INPUT) => {
                ReadPolicy { budget: READ_BUDGET, drained_below: 0 }
            }
            Self::Edge => {
                ReadPolicy { budget: READ_BUDGET, drained_below: INPUT_CHUNK }
            }
        }
    }
}
