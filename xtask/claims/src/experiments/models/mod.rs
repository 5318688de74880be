//! The five I/O models.

mod blocking_and_many;
mod blocking_recv;
mod busy_polling_cpu;
mod busy_polling_latency;
mod nonblocking_recv;
mod sigio_and_aio;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "The five I/O models",
    claims: &[
        &blocking_recv::CLAIM,
        &blocking_and_many::CLAIM,
        &nonblocking_recv::CLAIM,
        &busy_polling_cpu::CLAIM,
        &busy_polling_latency::CLAIM,
        &sigio_and_aio::CLAIM,
    ],
    picture: None,
};
