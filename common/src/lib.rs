//! What the models share: everything but the I/O.
//!
//! A line that names a system call, a descriptor flag, a process, a thread, a
//! task, a signal, an event or the owner of a buffer belongs to a model. A line
//! that names a protocol byte, a command-line flag, a limit, a deadline or a
//! message to the user belongs here.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("these programs show Linux system calls: build them on Linux");

mod about;
mod datagram;
pub mod protocol;
mod session;

pub use about::{About, Counters};
pub use datagram::answer_datagram;
pub use session::Session;
