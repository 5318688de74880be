//! The variants: when epoll reports a socket, and what `edge` and `oneshot` add
//! to `level`.

use clap::ValueEnum;
use nix::sys::epoll::EpollFlags;

use common::limits::{INPUT_CHUNK, READ_BUDGET};

use crate::connection::{Connection, ReadPolicy};

/// Conditions that a short recv hides: EOF after the data, or an urgent byte,
/// at which the recv has ended (tcp(7)).
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
    /// As long as it is ready.
    Level,
    /// When something new has happened.
    Edge,
    /// Once, until it is re-armed.
    Oneshot,
}

impl Trigger {
    /// Returns the name on the command line and in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Self::Level => "level",
            Self::Edge => "edge",
            Self::Oneshot => "oneshot",
        }
    }

    /// Returns the events to wait for. EPOLLOUT is among them only after a
    /// short write: otherwise a socket is writable nearly always, and each wait
    /// would return at once. EPOLLERR and EPOLLHUP are always reported.
    pub fn interest(self, connection: &Connection) -> EpollFlags {
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, connection.wants_input());
        interest.set(EpollFlags::EPOLLOUT, connection.has_output());
        match self {
            Self::Level => interest,
            // All events, registered once: a missed edge is not repeated.
            // EPOLLOUT does not make each wait return here, because only
            // changes are reported.
            Self::Edge => {
                let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
                EpollFlags::EPOLLET | all | BEHIND_INPUT
            }
            Self::Oneshot => EpollFlags::EPOLLONESHOT | interest,
        }
    }

    /// True if data left unread is not reported again. Then a socket must be
    /// read until EAGAIN, or put on the ready list.
    pub fn reports_once(self) -> bool {
        self == Self::Edge
    }

    /// True if a socket must be re-armed after each report. Re-arming checks
    /// the socket, so data left unread is reported again.
    pub fn is_disarmed_by_a_report(self) -> bool {
        self == Self::Oneshot
    }

    /// Returns how much to read for an event. If readiness is reported again,
    /// one recv is enough, and saves one that would mostly return EAGAIN. After
    /// an edge, the socket is read until it is drained, up to the read budget.
    /// A short recv means that it is drained (epoll(7), "Questions and
    /// answers"), unless EOF or an urgent byte follows.
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
