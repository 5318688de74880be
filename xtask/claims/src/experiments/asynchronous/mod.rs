//! Asynchronous I/O.

mod aio_linux_native;
mod io_uring_fewer_calls;
mod late;
mod native;
mod no_async_network_io;
mod posix_aio_sockets;
mod servers;

use super::Topic;

pub const TOPIC: Topic = Topic {
    title: "Asynchronous I/O",
    claims: &[
        &no_async_network_io::CLAIM,
        &posix_aio_sockets::CLAIM,
        &aio_linux_native::CLAIM,
        &io_uring_fewer_calls::CLAIM,
    ],
    picture: None,
};
