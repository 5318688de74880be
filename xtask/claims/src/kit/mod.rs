//! Parts that several experiments use: connections, clocks, signals, threads.

pub mod child;
pub mod clock;
pub mod computing;
pub mod cpu;
pub mod namespace;
pub mod net;
pub mod ring;
pub mod signals;
pub mod task;
pub mod tcp;
