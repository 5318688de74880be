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

use super::Topic;

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
};
