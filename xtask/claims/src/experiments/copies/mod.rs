//! Experiments in which data arrives while a thread computes: they show which
//! thread copies, and when.

mod blocked_signal;
mod epoll_edge;
mod epoll_level;
mod io_uring;
mod io_uring_defer;
mod io_uring_sqpoll;
mod poll;
mod posix_aio;
mod ppoll_handler;
mod ring;
mod select;
mod sigio;
mod sigio_handler;
mod signals_thread_first;

use super::{Picture, Topic};
use crate::claim::Claim;

pub const TOPIC: Topic = Topic {
    title: "Who copies, and on whose time",
    claims: &[
        &select::CLAIM,
        &poll::CLAIM,
        &epoll_level::CLAIM,
        &epoll_edge::CLAIM,
        &sigio_handler::CLAIM,
        &blocked_signal::CLAIM,
        &ppoll_handler::CLAIM,
        &signals_thread_first::CLAIM,
        &posix_aio::CLAIM,
        &io_uring::CLAIM,
        &io_uring_defer::CLAIM,
        &io_uring_sqpoll::CLAIM,
    ],
    picture: Some(PICTURE),
};

/// The figure of the mechanisms.
pub const PICTURE: Picture = Picture {
    title: "Data arrives while the program computes: who copies, and when",
    file: "computing.svg",
};

/// A way to receive data, in the figure of what happens while the program
/// computes.
#[derive(Debug)]
pub struct Mechanism {
    pub name: &'static str,
    /// The calls with which the program asks for the data afterwards, if it
    /// must.
    pub asks: &'static [&'static str],
    pub claim: &'static Claim,
}

/// The mechanisms in the figure's order.
pub const MECHANISMS: [Mechanism; 11] = {
    use mechanism as m;
    [
        m("select", &["select", "recv"], &select::CLAIM),
        m("poll", &["poll", "recv"], &poll::CLAIM),
        m("epoll, level-triggered", EPOLL, &epoll_level::CLAIM),
        m("epoll, edge-triggered", EPOLL, &epoll_edge::CLAIM),
        m("blocked signal", &["read", "recv"], &blocked_signal::CLAIM),
        m("signal unblocked by ppoll", PPOLL, &ppoll_handler::CLAIM),
        m("signal that runs a handler", &[], &sigio_handler::CLAIM),
        m("io_uring, DEFER_TASKRUN", ENTER, &io_uring_defer::CLAIM),
        m("io_uring, no flags", &[], &io_uring::CLAIM),
        m("io_uring, SQPOLL", &[], &io_uring_sqpoll::CLAIM),
        m("POSIX AIO", &[], &posix_aio::CLAIM),
    ]
};

const EPOLL: &[&str] = &["epoll_wait", "recv"];
// The handler calls recv, and ppoll returns after it.
const PPOLL: &[&str] = &["ppoll", "recv in it"];
const ENTER: &[&str] = &["io_uring_enter"];

const fn mechanism(
    name: &'static str,
    asks: &'static [&'static str],
    claim: &'static Claim,
) -> Mechanism {
    Mechanism { name, asks, claim }
}
