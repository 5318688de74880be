//! `cargo xtask trace`: a model's system calls, as it makes them.

pub mod event;
mod memory;
pub mod tracer;
