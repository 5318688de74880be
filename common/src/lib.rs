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
mod admission;
mod command_line;
mod datagram;
mod deadline;
pub mod limits;
pub mod minimal;
mod notice;
mod outcome;
mod pressure;
pub mod protocol;
mod session;
mod socket;

pub use about::{About, Counters};
pub use admission::{Admission, open_descriptors_below};
pub use command_line::{Clients, Config, Model};
pub use datagram::answer_datagram;
pub use deadline::{Deadline, Deadlines};
pub use notice::{Cause, notice, report_cut_off};
pub use outcome::{Unsupported, announce, conclude};
pub use pressure::BackPressure;
pub use session::Session;
pub use socket::{Reserve, bind_datagrams, listen, refuse, unbound};
