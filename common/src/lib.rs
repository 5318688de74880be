//! Everything that the models share, which is everything but the I/O.
//!
//! A line that names a system call, a descriptor flag, a process, a thread, a
//! task, a signal, an event or the owner of a buffer belongs to a model. A line
//! that names a protocol byte, a command-line flag, a limit, a timeout or a
//! message to the user belongs here.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("these programs show Linux system calls: build them on Linux");

mod about;
mod command_line;
mod connection_limit;
mod datagram;
pub mod limits;
mod log;
pub mod minimal;
mod outcome;
mod pressure;
pub mod protocol;
mod session;
mod socket;
mod timer;

pub use about::{About, Counters};
pub use command_line::{Clients, Config, Model};
pub use connection_limit::{
    ConnectionLimit, descriptors_for_clients, open_descriptors_below,
    workers_with_descriptors,
};
pub use datagram::answer_datagram;
pub use log::{Cause, LogRate, log, report_cut_off, share_rate};
pub use outcome::{Unsupported, announce, conclude};
pub use pressure::BackPressure;
pub use session::Session;
pub use socket::{SpareDescriptor, bind_datagrams, listen, reject, unbound};
pub use timer::{Timeout, Timer, Timers};
